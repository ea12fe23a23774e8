"""A supervisor as its spawner sees it: its states, its descendants, its exit code."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rayscaler import rejoin
from rayscaler.local import startup
from rayscaler.processes import SystemProcesses, end

PATIENCE_S = 50.0
STEADY = 15
"""So many equal counts in a row are steady."""


class Supervised:
    """One supervisor in a session of its own."""

    def __init__(self, directory: Path, mode: str, argv: Sequence[str], env: Mapping[str, str] | None = None, **options: str) -> None:
        self.log_path = directory / "log"
        self._processes = SystemProcesses()
        self._socket_path = directory / "s"
        options = {"socket": str(self._socket_path), **options}
        flags = [word for name, value in options.items() for word in (f"--{name}", value)]
        self.identity = self._processes.spawn(
            [sys.executable, "-I", "-S", rejoin.__file__, mode, *flags, "--", *argv], env=env or dict(os.environ), log_path=self.log_path
        )
        self.pid = self.identity.pid
        self.states: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._is_connected = False
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_unix_connection(str(self._socket_path))
                self._is_connected = True
                break
            await asyncio.sleep(0.01)
        try:
            with contextlib.suppress(ConnectionError):
                while line := await reader.readline():
                    async with self._news:
                        self.states.append(json.loads(line))
                        self._news.notify_all()
        finally:
            writer.close()

    async def until(self, state: str, starts: int | None = None, after: int = 0) -> dict[str, Any]:
        """Wait for a state that was told as number `after` or later; return it."""
        try:
            async with asyncio.timeout(PATIENCE_S), self._news:
                while True:
                    for said in self.states[after:]:
                        if said["state"] == state and starts in (None, said["starts"]):
                            return said
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"no {state} {starts or ''}: {self.states}\n{self.log()}") from None

    async def ended(self) -> int | None:
        """Wait for its end, and for all that it has told until then; return its exit code."""
        async with asyncio.timeout(PATIENCE_S):
            code = await self._processes.wait(self.identity)
            if self._is_connected:
                await asyncio.wait({self._reading})
            return code

    def tell(self, number: signal.Signals) -> None:
        self._processes.signal_leader(self.identity, number)

    def log(self) -> str:
        return startup.text(self.log_path)

    @property
    def now(self) -> str:
        return self.states[-1]["state"]

    def names(self) -> list[str]:
        """Return name and state of every descendant, for instance "raylet S"."""
        return [f"{name} {state}" for name, state, _ in tree(self.pid).values()]

    def zombies(self) -> list[str]:
        return [name for name in self.names() if name.endswith(" Z")]

    def pid_of(self, name: str) -> int:
        """Return the process of a name that runs; its own children have the same until they become what they are started for."""
        named = {pid: parent for pid, (each, state, parent) in tree(self.pid).items() if each == name and state not in "ZX"}
        (found,) = [pid for pid, parent in named.items() if parent not in named]
        return found

    def rss_kib(self) -> int:
        (line,) = [line for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1])

    async def open_files(self) -> int:
        """Return how many files it has open, once that has not changed for a while: its threads open and close some after it has told."""
        seen: list[int] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(set(seen[-STEADY:])) != 1 or len(seen) < STEADY:
                seen.append(len(os.listdir(f"/proc/{self.pid}/fd")))  # noqa: PTH208 - /proc waits for nothing
                await asyncio.sleep(0.02)
        return seen[-1]

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait({self._reading})
        below = tree(self.pid)
        await end(self._processes, self.identity, 0.0)
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


async def soon(is_so: Callable[[], bool]) -> None:
    """Wait until something is so of which nobody tells."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if is_so():
                return
            await asyncio.sleep(0.01)


def tree(root: int) -> dict[int, tuple[str, str, int]]:
    """Return name, state and parent of every descendant."""
    rows = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                name, _, rest = (entry / "stat").read_text().partition("(")[2].rpartition(") ")
                rows[int(entry.name)] = (name, rest.split()[0], int(rest.split()[1]))
    level, found = {root}, {}
    while level:
        level = {pid for pid, row in rows.items() if row[2] in level}
        found |= {pid: rows[pid] for pid in level}
    return found
