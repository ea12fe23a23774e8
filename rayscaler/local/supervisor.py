"""What a worker's supervisor (`rayscaler/rejoin.py`) is told at its start, and tells at its socket and by its exit. Starts nothing."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayscaler import rejoin
from rayscaler.model.instance import Phase

PEEK_S = 0.5
"""For a supervisor to say where it stands; it takes a millisecond."""
RETRY_S = 0.02
"""Between two tries to reach a socket: a supervisor makes it within 0.1 s of its start."""
LAST_WORD_S = 0.1
"""For what an ended supervisor told to be read."""
PHASES = {"running": Phase.REGISTERING}
"""What a state means for the instance; in all others there is no node yet, or none any more."""


@dataclass(frozen=True)
class Status:
    """Where a supervisor stands, in its own words."""

    state: str
    detail: str

    @property
    def is_settled(self) -> bool:
        """Whether it is up, or waits for a head: then it needs no slot."""
        return self.state in {"running", "waiting"}

    @property
    def phase(self) -> Phase:
        """The instance's phase."""
        return PHASES.get(self.state, Phase.STARTING)


def argv(command: Sequence[str], *, gcs: str, socket_path: Path, lock_path: Path | None) -> list[str]:
    """Return the command line of a supervisor for a worker's command."""
    lock = [] if lock_path is None else ["--lock", str(lock_path)]
    flags = ["--gcs", gcs, "--socket", str(socket_path), *lock]
    return [sys.executable, "-I", "-S", rejoin.__file__, "worker", *flags, "--", *command]


def peek(socket_path: Path) -> Status | None:
    """Ask a supervisor where it stands, at once; None if it does not say."""
    with contextlib.suppress(OSError, ValueError, KeyError), socket.socket(socket.AF_UNIX) as line, _near(socket_path) as near:
        line.settimeout(PEEK_S)
        line.connect(near)
        return _status(line.makefile("rb").readline())
    return None


async def follow(socket_path: Path) -> AsyncGenerator[Status, None]:
    """Yield where a supervisor stands, now and at each change; begins when it answers, ends with it."""
    while True:
        with contextlib.suppress(OSError), _near(socket_path) as near:
            reader, writer = await asyncio.open_unix_connection(near)
            break
        await asyncio.sleep(RETRY_S)
    try:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                yield _status(line)
    finally:
        writer.close()


def _status(line: bytes) -> Status:
    document = json.loads(line)
    return Status(document["state"], document["detail"])


@contextlib.contextmanager
def _near(path: Path) -> Iterator[str]:
    """Name a socket by way of its directory: a socket's own path has 107 characters at most."""
    directory = os.open(path.parent, os.O_PATH)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
