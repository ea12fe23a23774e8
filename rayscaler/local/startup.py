"""How `ray start` tells that it is up: by a line in its log. Knows that line and the log's tail, nothing of flags."""

import asyncio
from enum import StrEnum
from pathlib import Path

from rayscaler.processes import Identity, Processes

STARTED_LINE = b"Ray runtime started."
"""What `ray start` prints once its processes run."""
POLL_S = 0.05
"""Between two looks at the log; a file tells nobody when it grows, short of inotify."""
TAIL_CHARS = 2000
"""How much of a log goes into an error: enough for a traceback's end."""


class Startup(StrEnum):
    """How a start went."""

    STARTED = "started"
    EXITED = "exited"
    OVERDUE = "overdue"


async def follow(processes: Processes, identity: Identity, log_path: Path, *, deadline_s: float | None, offset: int = 0) -> Startup:
    """Wait until a `ray start` says that it is up, ends, or has taken too long; the log counts from `offset` on."""
    ended = asyncio.ensure_future(processes.wait(identity))
    try:
        async with asyncio.timeout(deadline_s):
            while not has_started(log_path, offset):
                if ended.done():
                    return Startup.EXITED
                await asyncio.wait({ended}, timeout=POLL_S)
            return Startup.STARTED
    except TimeoutError:
        return Startup.OVERDUE
    finally:
        ended.cancel()
        # Not `await ended`: its CancelledError could not be told from our own.
        await asyncio.wait({ended})


def has_started(log_path: Path, offset: int = 0) -> bool:
    """Whether the log says, from `offset` on, that Ray is up."""
    return STARTED_LINE in _read(log_path, offset)


def size(log_path: Path) -> int:
    """Return how long a log is; 0 if there is none."""
    return log_path.stat().st_size if log_path.exists() else 0


def tail(log_path: Path, offset: int = 0) -> str:
    """Return the end of a log, for people."""
    return text(log_path, offset)[-TAIL_CHARS:].strip() or "(the log is empty)"


def text(log_path: Path, offset: int = 0) -> str:
    """Return a log from `offset` on."""
    return _read(log_path, offset).decode(errors="replace")


def _read(log_path: Path, offset: int) -> bytes:
    try:
        with log_path.open("rb") as log:
            log.seek(offset)
            return log.read()
    except FileNotFoundError:
        return b""
