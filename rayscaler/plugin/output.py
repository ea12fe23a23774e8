"""What a plugin prints, taken into our log line by line: bounded, without control characters, and slowed where it floods.

Knows bytes, lines and the log; neither processes nor gRPC.
"""

import asyncio
import json
from collections import deque
from typing import Any

import structlog

from rayscaler.clock import Clock

log = structlog.get_logger(__name__)

LINE_BYTES = 8192
"""What is longer is cut: a Go stack's longest line has a few hundred."""
TAIL_LINES = 20
"""Lines kept for who asks why a plugin ended: the end of a traceback."""
TAIL_CHARS = 300
"""Of each of those."""
LINES_PER_S = 200
"""More are counted, not told."""
BYTES_PER_S = 1 << 20
"""More are not even read before the second is over: whoever floods waits on its own pipe."""
PIECE_BYTES = 16384
"""Read at once, so that a flood takes no more than a millisecond from others."""
LEVELS = {"trace": "debug", "debug": "debug", "info": "info", "warn": "warning", "error": "error"}
"""hclog's names and ours."""


def readable(raw: bytes) -> str:
    """Return what may be shown to people of what a plugin said: no control character reaches a terminal or forges a line."""
    return "".join(each if each.isprintable() else "�" for each in raw.decode(errors="replace").replace("\t", " "))


class Lines:
    """Cuts pieces of any length into lines, and what is too long off them."""

    def __init__(self, most: int = LINE_BYTES) -> None:
        self._most = most
        self._begun = b""

    def feed(self, piece: bytes) -> list[bytes]:
        """Return the lines that `piece` ends, without their ends; empty ones are left out."""
        *ended, begun = piece.split(b"\n")
        if not ended:
            self._begun = (self._begun + begun)[: self._most]
            return []
        first, *others = ended
        lines = [(self._begun + first)[: self._most], *(each[: self._most] for each in others)]
        self._begun = begun[: self._most]
        return [each.rstrip(b"\r") for each in lines if each.strip()]

    def rest(self) -> list[bytes]:
        """Return the last line, if its end never came."""
        begun, self._begun = self._begun, b""
        return [begun] if begun.strip() else []


class Intake:
    """Everything one plugin prints, on whatever way it comes."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = name
        self._clock = clock
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._second_at = clock.mono()
        self._bytes = 0
        self._told = 0
        self._untold = 0

    def tail(self) -> str:
        """Return the last lines, for people; "" if there were none."""
        return "\n".join(self._tail)

    def forget(self) -> None:
        """Begin anew: another process prints from now on."""
        self._tail.clear()

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Log lines of `stream`, all but those beyond LINES_PER_S."""
        for raw in lines:
            level, line = _understood(raw)
            self._tail.append(line[:TAIL_CHARS])
            self._count_on()
            if self._told >= LINES_PER_S:
                self._untold += 1
                continue
            self._told += 1
            getattr(log, level)("plugin.output", plugin=self._name, stream=stream, line=line)

    async def bear(self, size: int) -> None:
        """Count bytes that were read, and wait out the second if there were too many."""
        self._count_on()
        self._bytes += size
        if self._bytes > BYTES_PER_S:
            await asyncio.sleep(max(self._second_at + 1.0 - self._clock.mono(), 0.0))

    def _count_on(self) -> None:
        now = self._clock.mono()
        if now - self._second_at < 1.0:
            return
        if self._untold:
            log.warning("plugin.output_left_out", plugin=self._name, lines=self._untold)
        self._second_at, self._bytes, self._told, self._untold = now, 0, 0, 0


def _understood(raw: bytes) -> tuple[str, str]:
    """Return a line's level and text: hclog writes JSON, anything else is taken as it is."""
    fields = _hclog(raw)
    if fields is None:
        return "info", readable(raw)
    level = LEVELS.get(str(fields.pop("@level", "")), "info")
    module, message = fields.pop("@module", ""), fields.pop("@message", "")
    fields.pop("@timestamp", None)
    more = "".join(f" {name}={value}" for name, value in fields.items())
    return level, readable(f"{module}: {message}{more}".removeprefix(": ").encode(errors="replace"))


def _hclog(raw: bytes) -> dict[str, Any] | None:
    if not raw.startswith(b"{"):
        return None
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    return fields if isinstance(fields, dict) and "@message" in fields else None
