"""One start of a plugin: its process, its greeting, its output, its end. Knows nothing of a second one: host.py does.

A child is started here, or adopted: found running, as an earlier process of rayscaler left it.
"""

import asyncio
import fcntl
import os
import shutil
import signal
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from rayscaler.errors import Denied, Unavailable
from rayscaler.plugin import calls, connection, greeting, handshake
from rayscaler.plugin.faults import Failure, Fault
from rayscaler.plugin.output import PIECE_BYTES, Intake, Lines
from rayscaler.plugin.place import Place, Record, program
from rayscaler.processes import Identity, SystemProcesses, end, readable

T = TypeVar("T")

NOT_INHERITED = ("PLUGIN_CLIENT_CERT", "PLUGIN_MULTIPLEX_GRPC", "PLUGIN_UNIX_SOCKET_GROUP")
"""What a host above us may have told us as its plugin, and would mean something else, or what is not spoken, to ours."""
PORTS = {"PLUGIN_MIN_PORT": "10000", "PLUGIN_MAX_PORT": "25000"}
"""Where a plugin that cannot have a unix socket listens; go-plugin's own hosts say the same."""
BY_HAND = "These are not meant to be executed directly"
"""What go-plugin says where the cookie is not its own."""
PIPE_BYTES = 1 << 20
"""What a plugin may print while there is no service to read it, before its prints wait: the most that the kernel gives to anybody."""
LAST_WORDS_S = 0.5
"""How long the pipes of a dead plugin are read on: what it left in them is there at once, unless its own children hold them open."""


class Child:
    """A running plugin. `is_new` is one that has yet to say where it listens."""

    def __init__(self, place: Place, record: Record, *, processes: SystemProcesses, intake: Intake, is_new: bool) -> None:
        self._place = place
        self._record = record
        self._processes = processes
        self._intake = intake
        self._first = b""
        self._greeting: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if not is_new:
            self._greeting.set_result(b"")
        self._readers: list[asyncio.Task[None]] = []
        self._stdio: asyncio.Task[None] | None = None
        self.channel: grpc.aio.Channel | None = None
        """Open once it has said where it listens."""

    @property
    def identity(self) -> Identity:
        """Its process."""
        if self._record.identity is None:
            raise Failure(Fault.HOST, "nothing was started")
        return self._record.identity

    async def wait(self) -> int | None:
        """Wait for its end; return the exit code, None if it was adopted."""
        return await self._processes.wait(self.identity)

    def read(self, pipes: Mapping[str, int]) -> None:
        """Take what it prints into these descriptors, by the name of the stream, and close them in the end."""
        for stream, fd in pipes.items():
            self._readers.append(asyncio.create_task(self._read(stream, fd), name=f"{stream} of plugin {self._place.directory.name}"))

    async def greet(self) -> None:
        """Wait until it says where it listens, and note that down; raises Failure. Whoever calls has the deadline."""
        ended = asyncio.ensure_future(self.wait())
        either: set[asyncio.Future[Any]] = {ended, self._greeting}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not self._greeting.done():
                await self._last_words()
            if not self._greeting.done():
                raise self._exited(ended.result())
        finally:
            ended.cancel()
        said = greeting.read(self._greeting.result(), self._record.sockets)
        self._record = replace(self._record, target=said.target)
        self._place.write(self._record)

    async def until_serving(self, max_message_bytes: int, *, within_s: float, health_s: float) -> grpc.aio.Channel:
        """Wait until it has said where it listens, and is in good health; `health_s` is for one answer. Returns the channel, raises Failure."""
        try:
            async with asyncio.timeout(within_s):
                if not self._record.target:
                    await self.greet()
                channel = self._connect(max_message_bytes)
                health = await self.unless_ended(calls.until_healthy(channel, health_s))
        except TimeoutError:
            if self.channel is None:
                advice = "print CORE|APP|NETWORK|ADDRESS|PROTOCOL as the first line, and flush it; what takes longer can be done while Probe says so"
                raise self.failure(Fault.SILENT_AT_START, f"it did not say within {within_s:g} s where it listens; {advice}") from None
            raise self.failure(Fault.UNHEALTHY, f"it said where it listens and was not healthy within {within_s:g} s") from None
        if not health.is_served:
            advice = f"add that to its server, and set {handshake.HEALTH_SERVICE!r} to SERVING"
            raise self.failure(
                Fault.NO_HEALTH, f"it does not serve grpc.health.v1 for the service {handshake.HEALTH_SERVICE!r} ({health.wrong}); {advice}"
            )
        return channel

    async def unless_ended(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`; raises Failure if the plugin ends first."""
        doing, ended = asyncio.create_task(work), asyncio.create_task(self.wait())
        try:
            await asyncio.wait({doing, ended}, return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise self.failure(Fault.CRASHED, f"it {how_ended(ended.result())} unasked; put right what it complains of")
        finally:
            doing.cancel()
            ended.cancel()
            await asyncio.gather(doing, ended, return_exceptions=True)

    def _connect(self, max_message_bytes: int) -> grpc.aio.Channel:
        """Open the channel to where it listens, and take what go-plugin streams of its output: until then a print of the plugin may wait."""
        self.channel = connection.open_channel(self._record.target, max_message_bytes)
        self._stdio = asyncio.create_task(self._stream(self.channel), name=f"stdio of plugin {self._place.directory.name}")
        return self.channel

    async def end(self, grace_s: float) -> bool:
        """Ask it to end, wait, force it, and remove what it had on disk; return whether asking was enough."""
        asking: list[asyncio.Task[None]] = []
        name = f"end of plugin {self._place.directory.name}"
        enough = await end(
            self._processes, self.identity, grace_s, ask=lambda: asking.append(asyncio.create_task(self._ask(grace_s), name=name))
        )
        await self._last_words()
        await self.let_go(*asking)
        self._place.remove(self._record)
        return enough

    async def let_go(self, *others: asyncio.Task[None]) -> None:
        """Stop reading and close the channel; the process, if there still is one, is left alone."""
        tasks = [*self._readers, *others, *([] if self._stdio is None else [self._stdio])]
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.channel is not None:
            # Calls under way fail by themselves where the process is gone; cut off by us they would be taken for cancelled tasks.
            await self.channel.close(grace=LAST_WORDS_S)

    def failure(self, fault: Fault, detail: str) -> Failure:
        """Return a failure of this plugin, with what it printed last."""
        return Failure(fault, detail, self._intake.tail())

    async def _ask(self, timeout_s: float) -> None:
        if self.channel is None or not await calls.shut_down(self.channel, timeout_s):
            self._processes.signal_leader(self.identity, signal.SIGTERM)

    def _exited(self, code: int | None) -> Failure:
        how = how_ended(code)
        if BY_HAND in self._intake.tail():
            return self.failure(
                Fault.WRONG_COOKIE,
                f"it {how}, for it does not know {handshake.COOKIE_KEY}={handshake.COOKIE_VALUE}; set these as MagicCookieKey and MagicCookieValue "
                "in its HandshakeConfig",
            )
        return self.failure(Fault.EXITED_AT_START, f"it {how} before it said where it listens; put right what it complains of")

    async def _last_words(self) -> None:
        unread = [each for each in self._readers if not each.done()]
        if unread:
            await asyncio.wait(unread, timeout=LAST_WORDS_S)

    async def _read(self, stream: str, fd: int) -> None:
        lines = Lines()
        try:
            while piece := await _piece(fd):
                said = piece if stream == "stderr" or self._greeting.done() else self._after_greeting(piece)
                self._intake.take(stream, lines.feed(said))
                await self._intake.bear(len(piece))
        finally:
            os.close(fd)
            self._intake.take(stream, lines.feed(self._first) if stream == "stdout" else [])
            self._intake.take(stream, lines.rest())

    def _after_greeting(self, piece: bytes) -> bytes:
        """Look for the end of the first line; return what comes after it."""
        self._first += piece
        line, newline, rest = self._first.partition(b"\n")
        if not newline and len(line) <= greeting.MAX_LINE_BYTES:
            return b""
        self._first = b""
        self._greeting.set_result(line)
        return rest

    async def _stream(self, channel: grpc.aio.Channel) -> None:
        by_stream = {stream: Lines() for stream in calls.STREAMS.values()}
        async for stream, data in calls.stdio(channel):
            for start in range(0, len(data), PIECE_BYTES):
                self._intake.take(stream, by_stream[stream].feed(data[start : start + PIECE_BYTES]))
                await self._intake.bear(min(PIECE_BYTES, len(data) - start))


async def start(place: Place, argv: Sequence[str], *, processes: SystemProcesses, intake: Intake) -> Child:
    """Start a plugin; raises Failure."""
    found = shutil.which(argv[0])
    if found is None:
        raise Failure(Fault.NO_PROGRAM, f"there is no program {argv[0]!r} that may be run; install it, or put its path in executor.exec")
    sockets = place.prepare()
    record = Record(program(argv), sockets)
    place.write(record)
    intake.forget()
    pipes = _pipes(place)
    try:
        identity = processes.spawn_into(
            [found, *argv[1:]], env=environment(os.environ, place, sockets), stdout=place.stdout, stderr=place.stderr, mark=place.mark
        )
    except (Denied, Unavailable) as error:
        for fd in pipes.values():
            os.close(fd)
        raise Failure(Fault.NO_PROGRAM, str(error)) from error
    child = Child(place, replace(record, identity=identity), processes=processes, intake=intake, is_new=True)
    child.read(pipes)
    try:
        place.write(replace(record, identity=identity))
    except Failure:
        await child.end(0.0)
        raise
    return child


async def adopt(place: Place, argv: Sequence[str], *, processes: SystemProcesses, intake: Intake, grace_s: float) -> Child | None:
    """Return a plugin of this command that an earlier process of rayscaler left running and ready for calls; end any other one in this place."""
    if not place.directory.exists():  # nothing was ever begun here; a look at all processes takes its time
        return None
    record = place.read()
    identity = processes.find(place.mark) if record is None or record.identity is None else record.identity
    if identity is None:
        place.remove(record)
        return None
    if record is None:
        record = Record("", place.directory / "s")
    child = Child(place, replace(record, identity=identity), processes=processes, intake=intake, is_new=False)
    if processes.is_alive(identity) and record.target and record.program == program(argv):
        with suppress(OSError):  # no pipes: it is not taken
            child.read(_pipes(place))
            return child
    await child.end(grace_s)
    return None


def environment(base: Mapping[str, str], place: Place, sockets: Path) -> dict[str, str]:
    """Return the environment of a plugin: ours, what go-plugin's hosts say, and the mark by which it is found again."""
    inherited = {name: value for name, value in base.items() if name not in NOT_INHERITED}
    name, _, value = place.mark.partition("=")
    return {
        **inherited,
        **PORTS,
        handshake.COOKIE_KEY: handshake.COOKIE_VALUE,
        handshake.VERSIONS_KEY: str(handshake.APP_VERSION),
        "PLUGIN_UNIX_SOCKET_DIR": str(sockets),
        name: value,
    }


def how_ended(code: int | None) -> str:
    """Say how a process ended."""
    if code is None:
        return "ended"
    return f"exited with code {code}" if code >= 0 else f"was ended by signal {-code} ({signal.Signals(-code).name})"


def _pipes(place: Place) -> dict[str, int]:
    """Open a place's pipes, before there is a process that could print and end unread."""
    pipes = {pipe.name: os.open(pipe, os.O_RDONLY | os.O_NONBLOCK) for pipe in (place.stdout, place.stderr)}
    for fd in pipes.values():
        with suppress(OSError):  # a user may have only so many pages in pipes; then it is what the kernel gives
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return pipes


async def _piece(fd: int) -> bytes:
    """Read what there is once there is something; nothing once nobody has the pipe open any more."""
    while True:
        try:
            return os.read(fd, PIECE_BYTES)
        except BlockingIOError:
            await readable(fd)
