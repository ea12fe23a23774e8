"""The door to the machine's processes: start, recognise, signal, await. Knows Linux's /proc and pidfds, nothing of Ray.

A process is known by pid, start time and boot, never by the pid alone. Every signal goes through a pidfd that was checked
after it was opened, so a recycled pid is never hit. All of this is stateless: whatever object asks, the answer is the same.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rayscaler.errors import Denied, Unavailable
from rayscaler.tasks import stop_gracefully

PROC = Path("/proc")
BOOT_ID = PROC / "sys/kernel/random/boot_id"
STATE, SESSION, STARTED = 0, 3, 19
"""Fields 3, 6 and 22 of /proc/<pid>/stat, counted after the command's closing bracket."""
DEAD_STATES = frozenset("ZX")
"""States of a process that runs no more and only waits to be collected."""
DEFAULT_SIGNALS = (signal.SIGPIPE, signal.SIGXFSZ)
"""Python ignores these for itself; a child gets the usual behaviour back."""


@dataclass(frozen=True)
class Identity:
    """A process that leads a session of its own. `started` is in clock ticks after the boot `boot_id`.

    `mark` (NAME=value, or "") stands in the environment of everything it starts: it tells its stragglers from a stranger's
    session of the same number once the process itself is gone.
    """

    pid: int
    started: int
    boot_id: str
    mark: str = ""


class Processes(Protocol):
    """What the local executor and the local head need of the machine."""

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path, mark: str = "") -> Identity:
        """Start a process as the leader of a session of its own, its output appended to `log_path`; `mark` must be in `env`."""
        ...

    def find(self, mark: str) -> Identity | None:
        """Return the process that leads a session and has `mark` in its environment: one that was spawned but not noted down."""
        ...

    def is_alive(self, identity: Identity) -> bool:
        """Whether exactly this process runs."""
        ...

    def signal_leader(self, identity: Identity, number: signal.Signals) -> bool:
        """Signal the process itself; return False if it runs no more."""
        ...

    def signal_group(self, identity: Identity, number: signal.Signals) -> int:
        """Signal every process of its session; return to how many."""
        ...

    def session_members(self, identity: Identity) -> tuple[int, ...]:
        """Return the pids that run in its session, the leader's too; stragglers stay after the leader died."""
        ...

    async def wait(self, identity: Identity) -> int | None:
        """Wait for the end of the process; return its exit code (negative: signal) or None if it is not our child."""
        ...

    async def wait_session(self, identity: Identity) -> None:
        """Wait until nothing runs in its session."""
        ...

    def reap(self, identity: Identity) -> None:
        """Forget an ended child. Until then its pid, and with it its session's number, is not given to another."""
        ...


async def end(processes: Processes, identity: Identity, grace_s: float, *, ask: Callable[[], None] | None = None) -> bool:
    """End a process and its whole session: SIGTERM to the leader, or `ask`, `grace_s`, then SIGKILL to all; return whether asking was enough.

    Only the leader is asked: `ray start` drains its node on SIGTERM, while a raylet that gets the signal itself just goes.
    """
    enough = await stop_gracefully(
        ask=ask or (lambda: _ask(processes, identity)),
        wait=lambda: processes.wait(identity),
        force=lambda: _kill_group(processes, identity),
        grace_s=grace_s,
    )
    await end_stragglers(processes, identity)
    return enough


async def end_stragglers(processes: Processes, identity: Identity) -> None:
    """Kill what a dead leader left in its session, and collect the leader."""
    while processes.signal_group(identity, signal.SIGKILL):
        await processes.wait_session(identity)
    processes.reap(identity)


async def readable(fd: int) -> None:
    """Wait until a descriptor can be read; that of a process can once it has ended."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


def _ask(processes: Processes, identity: Identity) -> None:
    processes.signal_leader(identity, signal.SIGTERM)


def _kill_group(processes: Processes, identity: Identity) -> None:
    processes.signal_group(identity, signal.SIGKILL)


class SystemProcesses:
    """The machine's processes."""

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path, mark: str = "") -> Identity:
        """Start a process as the leader of a session of its own, its output appended to `log_path`; `mark` must be in `env`."""
        append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        actions = [(os.POSIX_SPAWN_OPEN, 1, log_path, append, 0o600), (os.POSIX_SPAWN_DUP2, 1, 2)]
        return self._spawn(argv, env, actions, log_path.parent, mark)

    def spawn_into(self, argv: Sequence[str], *, env: Mapping[str, str], stdout: Path, stderr: Path, mark: str = "") -> Identity:
        """Start a process likewise, its output into two named pipes.

        It holds both ends: so it is not killed by its next line when whoever reads goes, and another one can read on.
        """
        both = os.O_RDWR | os.O_APPEND
        actions = [(os.POSIX_SPAWN_OPEN, 1, stdout, both, 0), (os.POSIX_SPAWN_OPEN, 2, stderr, both, 0)]
        return self._spawn(argv, env, actions, stdout.parent, mark)

    def spawn_beside(self, argv: Sequence[str], *, env: Mapping[str, str], socket: int) -> Identity:
        """Start a process likewise, with a socket as its input and our own output: it is there for us, and ends with us."""
        return self._spawn(argv, env, [(os.POSIX_SPAWN_DUP2, socket, 0)], Path(argv[0]).parent, "")

    def _spawn(self, argv: Sequence[str], env: Mapping[str, str], actions: list[tuple[Any, ...]], directory: Path, mark: str) -> Identity:
        try:
            pid = os.posix_spawn(
                argv[0],
                list(argv),
                env,
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0), *actions],
                setsid=True,
                setsigmask=(),
                setsigdef=DEFAULT_SIGNALS,
            )
        except PermissionError as error:
            raise Denied(f"{argv[0]} may not be started: {error.strerror}; check its rights and those of {directory}") from error
        except OSError as error:
            raise Unavailable(f"{argv[0]} does not start: {error.strerror}") from error
        return self.identify(pid, mark)

    def identify(self, pid: int, mark: str = "") -> Identity:
        """Return who a child of ours is; not before it was collected can its pid be another's."""
        stat = _stat(pid)
        if stat is None:
            raise Unavailable(f"/proc does not show pid {pid}; is /proc mounted?")
        return Identity(pid, int(stat[STARTED]), _boot_id(), mark)

    def find(self, mark: str) -> Identity | None:
        """Return the process that leads a session and has `mark` in its environment: one that was spawned but not noted down."""
        for pid in _pids():
            stat = _stat(pid)
            if stat is not None and int(stat[SESSION]) == pid and stat[STATE] not in DEAD_STATES and _has_mark(pid, mark):
                return Identity(pid, int(stat[STARTED]), _boot_id(), mark)
        return None

    def is_alive(self, identity: Identity) -> bool:
        """Whether exactly this process runs; one that ended and was not collected does not."""
        stat = _own_stat(identity)
        return stat is not None and stat[STATE] not in DEAD_STATES

    def signal_leader(self, identity: Identity, number: signal.Signals) -> bool:
        """Signal the process itself; return False if it runs no more."""
        with _pidfd(identity.pid) as fd:
            return fd is not None and self.is_alive(identity) and _send(fd, number)

    def signal_group(self, identity: Identity, number: signal.Signals) -> int:
        """Signal every process of its session; return to how many."""
        sent = 0
        for pid in self.session_members(identity):
            with _pidfd(pid) as fd:
                sent += fd is not None and _is_member(pid, identity) and _send(fd, number)
        return sent

    def session_members(self, identity: Identity) -> tuple[int, ...]:
        """Return the pids that run in its session, the leader's too; none if that number has another leader now.

        While one member lives the kernel gives the session's number to nobody else; later it may. So without the leader
        only those count that carry its mark.
        """
        if identity.boot_id != _boot_id():
            return ()
        leader = _stat(identity.pid)
        if leader is not None and int(leader[STARTED]) != identity.started:
            return ()
        mark = identity.mark if leader is None else ""
        return tuple(sorted(pid for pid in _pids() if _is_member(pid, identity) and _has_mark(pid, mark)))

    async def wait(self, identity: Identity) -> int | None:
        """Wait for the end of the process; return its exit code (negative: signal) or None if it is not our child."""
        with _pidfd(identity.pid) as fd:
            if fd is None or _own_stat(identity) is None:
                return None
            await readable(fd)
            return _exit_code(fd)

    async def wait_session(self, identity: Identity) -> None:
        """Wait until nothing runs in its session."""
        while members := self.session_members(identity):
            for pid in members:
                with _pidfd(pid) as fd:
                    if fd is not None and _is_member(pid, identity):
                        await readable(fd)

    def reap(self, identity: Identity) -> None:
        """Forget an ended child. Until then its pid, and with it its session's number, is not given to another."""
        if _own_stat(identity) is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(identity.pid, os.WNOHANG)


def _boot_id() -> str:
    return BOOT_ID.read_text().strip()


def _stat(pid: int) -> list[str] | None:
    """Read /proc/<pid>/stat from the state on; None if there is no such process."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()


def _pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _has_mark(pid: int, mark: str) -> bool:
    """Whether a process started with NAME=value in its environment; every process has the empty mark."""
    if not mark:
        return True
    try:
        return mark.encode() in (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _own_stat(identity: Identity) -> list[str] | None:
    """Read the stat of exactly this process, be it dead and not yet collected."""
    stat = _stat(identity.pid)
    if stat is None or int(stat[STARTED]) != identity.started or identity.boot_id != _boot_id():
        return None
    return stat


def _is_member(pid: int, identity: Identity) -> bool:
    stat = _stat(pid)
    if stat is None or stat[STATE] in DEAD_STATES:
        return False
    return int(stat[SESSION]) == identity.pid and int(stat[STARTED]) >= identity.started


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int | None]:
    """Hold a process fast: what is checked after this is true of what is signalled through it."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _send(fd: int, number: signal.Signals) -> bool:
    try:
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    return True


def _exit_code(fd: int) -> int | None:
    """Look at how a child ended without collecting it, so that every waiter can."""
    try:
        ended = os.waitid(os.P_PIDFD, fd, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    if ended is None:
        return None
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
