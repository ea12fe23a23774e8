"""Workers as /proc shows them: the processes that lead their sessions, from the first look to the last. Knows nothing of rayscaler's state."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from rayscaler.errors import Unavailable
from rayscaler.processes import Identity, SystemProcesses

INSTANCE = b"RAY_CLOUD_INSTANCE_ID="
HEAD = "head"


@dataclass
class Process:
    """The process that leads a worker's session; wall seconds of the first and the last look that found it."""

    identity: Identity
    instance_id: str
    seen_at: float
    last_seen_at: float
    is_alive: bool = True


class Workers:
    """All workers with `mark` (NAME=value) in their environment that were ever seen, by instance id."""

    def __init__(self, mark: str) -> None:
        self.mark = mark
        self.seen: dict[str, Process] = {}
        self._machine = SystemProcesses()
        self._strangers: set[int] = set()

    def look(self) -> None:
        """Look into /proc."""
        now = time.time()
        pids = all_pids()
        self._strangers &= pids
        for pid in pids - self._strangers - {each.identity.pid for each in self.alive()}:
            self._meet(pid, now)
        for each in self.alive():
            each.is_alive = self._machine.is_alive(each.identity)
            if each.is_alive:
                each.last_seen_at = now

    def _meet(self, pid: int, now: float) -> None:
        environ = environ_of(pid)
        if environ and self.mark.encode() not in environ:
            self._strangers.add(pid)  # one with our mark may be about to become a worker: it has its parent's environment until then
            return
        found = [each[len(INSTANCE) :].decode() for each in environ if each.startswith(INSTANCE)]
        with contextlib.suppress(OSError, Unavailable):
            if found and found[0] != HEAD and os.getsid(pid) == pid:
                self.seen.setdefault(found[0], Process(self._machine.identify(pid, self.mark), found[0], now, now))

    def alive(self) -> list[Process]:
        """Return those that the last look found."""
        return [each for each in self.seen.values() if each.is_alive]


def marked(mark: str) -> dict[int, str]:
    """Return the processes that run with `mark` in their environment, with their command lines."""
    return {pid: _command_line(pid) for pid in sorted(all_pids()) if pid != os.getpid() and mark.encode() in environ_of(pid)}


def all_pids() -> set[int]:
    """Return every pid there is."""
    return {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}


def environ_of(pid: int) -> list[bytes]:
    """Return a process's environment; empty if it is gone or dead, or another user's."""
    with contextlib.suppress(OSError):
        return [each for each in (Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0") if each]
    return []


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""
