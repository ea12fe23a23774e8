"""Shows something again and again until Ctrl-C. An unreachable service does not end it: the last picture stays, with a word since when."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rayscaler.errors import Unavailable


class Picture:
    """What was shown last, and since when nothing newer could be had."""

    def __init__(self, draw: Callable[[], RenderableType]) -> None:
        self._draw = draw
        self._last: RenderableType | None = None
        self._away_since = ""

    def renewed(self) -> RenderableType:
        """Return the newest picture, or the last one with the reason why there is none; other errors than Unavailable are raised."""
        try:
            self._last = self._draw()
        except Unavailable as error:
            self._away_since = self._away_since or f"{datetime.now(UTC).astimezone():%H:%M:%S}"
            told = Text(f"unreachable since {self._away_since}: {error}", "red")
            return told if self._last is None else Group(told, Text("as it was seen last:"), self._last)
        self._away_since = ""
        return self._last


def watch(draw: Callable[[], RenderableType], console: Console, every_s: float) -> None:
    """Show `draw()` every `every_s` seconds, for ever: in place at a terminal, one after the other elsewhere."""
    picture = Picture(draw)
    if not console.is_terminal:
        while True:
            console.print(picture.renewed())
            time.sleep(every_s)  # the pace that was asked for; Ctrl-C ends it
    with Live(console=console, auto_refresh=False, screen=True) as live:
        while True:
            live.update(picture.renewed(), refresh=True)
            time.sleep(every_s)  # the pace that was asked for; Ctrl-C ends it
