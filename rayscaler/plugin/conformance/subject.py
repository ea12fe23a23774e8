"""Who is tested: a plugin at an address, or one that is started here, and killed, and started again."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Protocol

import grpc.aio

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import SystemClock
from rayscaler.errors import Unavailable
from rayscaler.plugin import calls, child, handshake
from rayscaler.plugin.child import Child
from rayscaler.plugin.conformance.check import Breach
from rayscaler.plugin.connection import Address
from rayscaler.plugin.faults import Failure, Fault
from rayscaler.plugin.output import Intake
from rayscaler.plugin.place import Place
from rayscaler.plugin.session import PATH
from rayscaler.processes import SystemProcesses
from rayscaler.settings import TlsFiles

START_S = 60.0
"""From the start of a plugin until it is healthy (X44), and from then on until it can take calls."""
READY_AGAIN_S = 0.2
"""Between two questions whether it can."""
ENDED_S = 10.0
"""So long an end is waited for before it is forced: well beyond the 5 s of X47, to tell how long it takes."""
KEPT_BYTES = 16 << 20
"""Of what a plugin prints."""
RULE_OF = {
    Fault.AUTO_MTLS: "X46",
    Fault.WRONG_ADDRESS: "X49",
    Fault.NO_HEALTH: "X43",
    Fault.UNHEALTHY: "X43",
    Fault.WRONG_COOKIE: "X45",
    Fault.NO_PROGRAM: "",
    Fault.HOST: "",
}
"""Which rule a fault at the start breaks; all others break that of the handshake."""


class How(StrEnum):
    """How a plugin is ended."""

    KILL = "SIGKILL"
    TERM = "SIGTERM"
    SHUTDOWN = "Shutdown"


class Subject(Protocol):
    """The plugin under test."""

    peer: str
    can_restart: bool
    is_started: bool
    address: str

    async def channel(self) -> grpc.aio.Channel:
        """Return a channel to it; starts it if it does not run. Raises Breach where it cannot be had."""
        ...

    async def restart(self, how: How) -> float:
        """End it and start it again; return the seconds that it took to end."""
        ...

    async def close(self) -> None:
        """Let go of it, and end it if it was started here."""
        ...


class AtAddress:
    """A plugin that others run."""

    can_restart = False
    is_started = False

    def __init__(self, address: str, *, max_message_bytes: int, tls: TlsFiles) -> None:
        """Raises Denied or Unavailable where the files are not there that an address is dialled with."""
        self.address = address
        self.peer = address
        self.tls = tls
        self._connection = Address(address, max_message_bytes=max_message_bytes, tls=tls)
        self._connection.credentials()

    async def channel(self) -> grpc.aio.Channel:
        """Return the one channel."""
        return await self._connection.channel()

    async def restart(self, how: How) -> float:
        """Refuse: others run it."""
        raise Unavailable(f"{self.peer} is not ours to end by {how}")

    async def close(self) -> None:
        """Close the channel."""
        await self._connection.close()


class Printed(Intake):
    """Keeps what a plugin prints, and logs none of it."""

    def __init__(self) -> None:
        super().__init__("tested", SystemClock())
        self.text = bytearray()

    def take(self, stream: str, lines: list[bytes]) -> None:
        """Keep lines, the last ones."""
        del stream
        for each in lines:
            self.text += each + b"\n"
        del self.text[:-KEPT_BYTES]

    def tail(self) -> str:
        """Return the last lines."""
        return "\n".join(bytes(self.text[-2000:]).decode(errors="replace").splitlines()[-5:])

    def forget(self) -> None:
        """Keep what an earlier life has printed: it counts as well."""


class Command:
    """A plugin that is started here, as rayscaler starts it."""

    can_restart = True
    is_started = True
    address = ""

    def __init__(self, argv: Sequence[str], directory: Path, max_message_bytes: int) -> None:
        self.peer = " ".join(argv)
        self.argv = tuple(argv)
        self.printed = Printed()
        self._place = Place(directory, "tested")
        self._processes = SystemProcesses()
        self._max_message_bytes = max_message_bytes
        self._child: Child | None = None

    async def channel(self) -> grpc.aio.Channel:
        """Return the channel to it, started if it does not run."""
        if self._child is None or self._child.channel is None or not self._processes.is_alive(self._child.identity):
            await self._end()
            await self._start()
        if self._child is None or self._child.channel is None:
            raise Unavailable(f"{self.peer} does not run")
        return self._child.channel

    async def restart(self, how: How) -> float:
        """End it, and start it again: at once, as after a crash."""
        await self.channel()
        took_s = await self._ended(how)
        await self._end()
        await self._start()
        return took_s

    async def close(self) -> None:
        """End it."""
        await self._end()

    async def without_cookie(self, within_s: float) -> str:
        """Start it as somebody would by hand; return what it printed to stdout."""
        env = {name: value for name, value in os.environ.items() if name not in (handshake.COOKIE_KEY, handshake.VERSIONS_KEY)}
        made = await asyncio.create_subprocess_exec(
            *self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env, start_new_session=True
        )
        said = asyncio.create_task(made.communicate(), name="what a plugin says without its cookie")
        done, _ = await asyncio.wait({said}, timeout=within_s)
        if not done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(made.pid, signal.SIGKILL)
        out, _ = await said
        return out.decode(errors="replace")

    async def _start(self) -> None:
        try:
            self._child = await child.start(self._place, self.argv, processes=self._processes, intake=self.printed)
            channel = await self._child.until_serving(self._max_message_bytes, within_s=START_S, health_s=START_S)
        except Failure as failure:
            raise Breach(RULE_OF.get(failure.fault, "X44"), f"{failure}; it printed last: {self.printed.tail()}") from failure
        await _until_ready(channel)

    async def _ended(self, how: How) -> float:
        if self._child is None or self._child.channel is None:
            return 0.0
        began = time.monotonic()
        if how is How.SHUTDOWN:
            if not await calls.shut_down(self._child.channel, ENDED_S):
                raise Breach("X47", f"{handshake.SHUTDOWN} is not served")
        elif how is How.TERM:
            self._processes.signal_leader(self._child.identity, signal.SIGTERM)
        else:
            self._processes.signal_group(self._child.identity, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ENDED_S):
                await self._child.wait()
        return time.monotonic() - began

    async def _end(self) -> None:
        if self._child is not None:
            await self._child.end(5.0)
            self._child = None


async def _until_ready(channel: grpc.aio.Channel) -> None:
    """Wait while a plugin says that it cannot take calls yet, as its caller does; what is wrong with that is for the checks to say."""
    probe = channel.unary_unary(f"{PATH}/Probe", pb.ProbeRequest.SerializeToString, pb.ProbeResponse.FromString)
    with contextlib.suppress(TimeoutError, grpc.aio.AioRpcError):
        async with asyncio.timeout(START_S):
            while (await probe(pb.ProbeRequest())).not_ready:  # noqa: ASYNC110 - it says so only when asked
                await asyncio.sleep(READY_AGAIN_S)
