"""Kept parts: commands that supervisors (`rejoin.py keep`) run until they are ended. Started, found again, asked, ended here.

Knows files and processes, nothing of clusters. One directory holds the parts that belong together: <name>.json says who keeps a part,
<name>.log has all that it printed, <name>.sock is where its supervisor answers.
"""

import asyncio
import errno
import fcntl
import json
import os
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Self

from rayscaler import rejoin
from rayscaler.errors import Busy, Unavailable
from rayscaler.local import startup
from rayscaler.processes import PROC, Identity, SystemProcesses, end, end_stragglers

MARK = "RAYSCALER_PART"
"""Variable that tells a part's stragglers from a stranger's session: the path of its log."""
ASK_S = 2.0
"""Deadline of one question to a supervisor; it answers in a millisecond."""
KEPT_LOG_BYTES = 16 << 20
"""A log beyond this makes way when its part is started anew; the one before it stays as <name>.log.1."""


@dataclass(frozen=True)
class Part:
    """A part as it was started: `argv` is its supervisor's; `facts` are the starter's own, to be found again.

    `log_offset` is where its output begins in the log. `identity` is the supervisor's, None from the intent until it runs.
    """

    name: str
    argv: tuple[str, ...]
    facts: Mapping[str, str] = field(default_factory=dict)
    log_offset: int = 0
    identity: Identity | None = None


@dataclass(frozen=True)
class Answer:
    """What a supervisor says of its command: where it stands, how often it was started, its pid (0 while none runs)."""

    state: str
    starts: int
    pid: int
    detail: str

    @classmethod
    def of(cls, line: bytes) -> Self:
        """Read a supervisor's line; raises ValueError, KeyError or TypeError for anything else."""
        said = json.loads(line)
        return cls(str(said["state"]), int(said["starts"]), int(said["pid"]), str(said["detail"]))


class Parts:
    """The parts of one directory."""

    def __init__(self, processes: SystemProcesses, directory: Path) -> None:
        self._processes = processes
        self.directory = directory.absolute()

    def log_path(self, name: str) -> Path:
        """Return where a part's output goes."""
        return self.directory / f"{name}.log"

    def names(self) -> list[str]:
        """Return the parts that were started and not forgotten."""
        return sorted(path.stem for path in self.directory.glob("*.json"))

    def find(self, name: str) -> Part | None:
        """Return a part as it was started, also one whose starter died before it noted who it is; None if there is none."""
        part = self._read(name)
        if part is None or part.identity is not None:
            return part
        identity = self._unnoted(part)
        return part if identity is None else self._write(replace(part, identity=identity))

    def kept(self, name: str) -> Part | None:
        """Return a part whose supervisor runs: then its command runs too, or will again. None otherwise."""
        part = self.find(name)
        return part if part is not None and part.identity is not None and self._processes.is_alive(part.identity) else None

    def members(self, part: Part) -> tuple[int, ...]:
        """Return the pids of all that runs in its session."""
        return () if part.identity is None else self._processes.session_members(part.identity)

    def command(self, name: str, command: Sequence[str]) -> tuple[str, ...]:
        """Return the command line of the supervisor that keeps `command`: isolated from the user's Python settings."""
        return (sys.executable, "-I", "-S", rejoin.__file__, "keep", "--socket", str(self._socket_path(name)), "--", *command)

    async def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str], facts: Mapping[str, str]) -> Identity:
        """Start a part and return its supervisor; what a killed one of the same name has left is ended first.

        The intent is noted before the process is there, its identity after: whatever dies in between, `find` finds it.
        """
        await self._end_stragglers(name)
        self._make_room(name)
        log_path = self.log_path(name)
        part = self._write(Part(name, self.command(name, command), dict(facts), startup.size(log_path)))
        environ = {**env, MARK: str(log_path)}
        identity = self._processes.spawn(part.argv, env=environ, log_path=log_path, mark=self._mark(name))
        self._write(replace(part, identity=identity))
        return identity

    async def end(self, name: str, grace_s: float) -> None:
        """End a part and everything in its session: asked first, killed after `grace_s`. Its record stays until `forget`."""
        part = self.find(name)
        if part is not None and part.identity is not None:
            await end(self._processes, part.identity, grace_s)

    def forget(self, name: str) -> None:
        """Remove a part's record; its log stays."""
        self._socket_path(name).unlink(missing_ok=True)
        self._record_path(name).unlink(missing_ok=True)

    async def ask(self, name: str) -> Answer | None:
        """Ask a part's supervisor how its command does; None while it does not answer."""
        with suppress(OSError, TimeoutError, ValueError, KeyError, TypeError):
            async with asyncio.timeout(ASK_S):
                return Answer.of(await self._line(name))
        return None

    async def _line(self, name: str) -> bytes:
        directory = os.open(self.directory, os.O_RDONLY)
        try:
            # A unix socket's path has at most 107 bytes; by way of the directory's descriptor it is always short.
            reader, writer = await asyncio.open_unix_connection(f"{PROC}/self/fd/{directory}/{self._socket_path(name).name}")
        finally:
            os.close(directory)
        try:
            return await reader.readline()
        finally:
            writer.close()

    async def _end_stragglers(self, name: str) -> None:
        part = self.find(name)
        if part is not None and part.identity is not None:
            await end_stragglers(self._processes, part.identity)

    def _unnoted(self, part: Part) -> Identity | None:
        """Find a supervisor that was spawned but not noted down: its command line, with the socket's path in it, is no other's.

        A mark in the environment would not do: all that a part starts inherits it, sessions of their own included.
        """
        line = b"".join(os.fsencode(word) + b"\0" for word in part.argv)
        for entry in PROC.iterdir():
            with suppress(OSError, Unavailable):
                if entry.name.isdigit() and (entry / "cmdline").read_bytes() == line and os.getsid(int(entry.name)) == int(entry.name):
                    return self._processes.identify(int(entry.name), self._mark(part.name))
        return None

    def _make_room(self, name: str) -> None:
        log_path = self.log_path(name)
        if startup.size(log_path) > KEPT_LOG_BYTES:
            log_path.replace(log_path.with_suffix(".log.1"))

    def _mark(self, name: str) -> str:
        return f"{MARK}={self.log_path(name)}"

    def _record_path(self, name: str) -> Path:
        return self.directory / f"{name}.json"

    def _socket_path(self, name: str) -> Path:
        return self.directory / f"{name}.sock"

    def _read(self, name: str) -> Part | None:
        path = self._record_path(name)
        try:
            document = json.loads(path.read_text())
            identity = document["identity"]
            known = None if identity is None else Identity(**identity)
            return Part(name, tuple(document["argv"]), document["facts"], document["log_offset"], known)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise Unavailable(f"{path} is not readable as a record ({error}); end its process by hand and remove the file") from error

    def _write(self, part: Part) -> Part:
        document = asdict(part)
        write_whole(self._record_path(part.name), json.dumps(document, indent=1))
        return part


def write_whole(path: Path, text: str) -> None:
    """Put a text in place of the former one: a crash leaves the old or the new. Raises Unavailable."""
    draft = path.with_name(f"{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}; make room or set another state directory") from error


@contextmanager
def only_one(path: Path, holder: str = "another `rayscaler up` or `rayscaler down`") -> Iterator[None]:
    """Hold a lock file against other processes; raises Busy while another holds it. The kernel frees it with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise Unavailable(f"{path} cannot be opened: {error.strerror}; check its rights or set another state directory") from error
    try:
        _lock(fd, path, holder)
        yield
    finally:
        os.close(fd)


def _lock(fd: int, path: Path, holder: str) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Busy(f"{path}: {holder} holds it; wait for its end, or give this one another --state-dir") from error


def is_taken(host: str, port: int) -> bool:
    """Whether somebody listens at a TCP address of this machine already; what past connections left there does not count."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
