"""How `up` and `down` show themselves: a live table at a terminal, a line per change elsewhere, nothing but the result with --json."""

import time
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class View:
    """Rows by name, each with what is going on there now."""

    def __init__(self, *, as_json: bool) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._rows: dict[str, tuple[str, bool]] = {}
        self._spinners: dict[str, Spinner] = {}
        self._started = time.monotonic()
        self._is_quiet = as_json
        is_live = self._console.is_terminal and not as_json
        self._live = Live(self, console=self._console, refresh_per_second=8) if is_live else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __rich__(self) -> Table:
        """Return the rows as they are now."""
        table = Table.grid(padding=(0, 1))
        for name, (text, is_done) in self._rows.items():
            mark = Text("✓", style="green") if is_done else self._spinners.setdefault(name, Spinner("dots"))
            table.add_row(mark, Text(name, style="bold"), text)
        table.add_row("", Text(f"{self.elapsed_s:.1f} s", style="dim"), "")
        return table

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._started

    def show(self, name: str, text: str, *, is_done: bool = False) -> None:
        """Say where one part stands."""
        if self._rows.get(name) == (text, is_done):
            return
        self._rows[name] = (text, is_done)
        if self._live is None and not self._is_quiet:
            self._console.print(Text(f"{self.elapsed_s:6.1f} s  {name:8} {text}"), soft_wrap=True)
