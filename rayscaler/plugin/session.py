"""Calls of one plugin: who it is asked first, a deadline on each, its errors as ours, its bytes parsed where a lie has a name."""

import asyncio
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, fields
from typing import Any, Self, TypeVar

import grpc
import structlog
from google.protobuf.message import DecodeError, Message

from rayscaler import __version__, wire
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BrokenPlugin, RayscalerError, Unavailable, Unsupported
from rayscaler.plugin.connection import Connection
from rayscaler.plugin.convert import MAX_BATCH, VERSION
from rayscaler.rules import MAX_DETAIL

log = structlog.get_logger(__name__)

PATH = "/" + pb.DESCRIPTOR.services_by_name["ExecutorService"].full_name
BREAKS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
"""Nobody answers any more, or whoever does is ending: a server that stops cancels what it streams."""
NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class PluginTimings:
    """How long a plugin may take; seconds."""

    call_s: float = 25.0
    """One call: below the deadline of whoever calls us (`executor_call_s`), so that its error tells more than that there was no answer."""
    introduce_s: float = 5.0
    """Each of the three calls by which it says who it is."""
    quiet_s: float = 30.0
    """A watch that says nothing for so long hangs: it says something every 10 s (X32)."""
    resume_s: float = 10.0
    """A watch that broke off is taken up again for so long; then whoever reads it lists again."""
    gone_lag_s: float = 1.0
    """What a list lacks may be told as gone by the watch so much later."""

    @classmethod
    def within(cls, deadline_s: float) -> Self:
        """Return the same for another deadline of whoever calls us than the usual 30 s."""
        default = cls()
        return cls(**{each.name: getattr(default, each.name) * deadline_s / 30.0 for each in fields(cls)})


@dataclass(frozen=True)
class Introduced:
    """What a plugin bears that has said who it is, over that channel."""

    channel: grpc.aio.Channel
    limits: pb.CallLimits = field(default_factory=pb.CallLimits)
    capabilities: frozenset[int] = frozenset()

    @property
    def batch(self) -> int:
        """Instances in one call at most."""
        return min(self.limits.batch or MAX_BATCH, MAX_BATCH)


R = TypeVar("R", bound=wire.Reply)


class Session:
    """Calls over a connection. What a plugin said of itself is forgotten when it does not answer: it may be another one when it does."""

    def __init__(self, connection: Connection, timings: PluginTimings) -> None:
        self.peer = connection.peer
        self.timings = timings
        self.introductions = 0
        """How often it said who it is: another number, and it may have been started anew meanwhile."""
        self.breaks = 0
        """How often it did not answer: another number, and whoever answers now may be another one."""
        self._connection = connection
        self._name = ""
        self._introduced: asyncio.Task[Introduced] | None = None
        self._channel: grpc.aio.Channel | None = None

    async def call(self, method: str, request: Message, reply: type[R]) -> R:
        """Call a method once; raises what the plugin told, Unavailable without an answer, BrokenPlugin for one that is none."""
        who = await self.who()
        return await self._call(who.channel, method, request, reply, timeout_s=self.timings.call_s)

    async def stream(self, method: str, request: Message, reply: type[R]) -> AsyncGenerator[R, None]:
        """Yield what a method tells, until it ends; raises as `call`, and Unavailable when it says nothing for too long, at first most of all."""
        who = await self.who()
        wait_s = self.timings.introduce_s
        call: Any = who.channel.unary_stream(f"{PATH}/{method}", request_serializer=type(request).SerializeToString)(request)
        try:
            while True:
                try:
                    async with asyncio.timeout(wait_s):
                        told = await call.read()
                except TimeoutError as error:
                    raise Unavailable(f"{self.peer}: {method} has said nothing for {wait_s:g} s (X28, X32)") from error
                except grpc.aio.AioRpcError as error:
                    raise self._translate(error) from error
                if not isinstance(told, bytes):  # the end
                    return
                wait_s = self.timings.quiet_s
                yield self._parsed(method, told, reply)
        finally:
            call.cancel()

    async def who(self) -> Introduced:
        """Return who answers now; asks it if it was not asked yet."""
        channel = await self._connection.channel()
        if self._introduced is None or channel is not self._channel or _has_failed(self._introduced):
            self._channel = channel
            self._introduced = asyncio.create_task(self._introduce(channel), name=f"introduction of {self.peer}")
        return await asyncio.shield(self._introduced)

    async def close(self) -> None:
        """Let go of the connection."""
        if self._introduced is not None:
            self._introduced.cancel()
            await asyncio.wait({self._introduced})
        await self._connection.close()

    async def _introduce(self, channel: grpc.aio.Channel) -> Introduced:
        timeout_s = self.timings.introduce_s
        asked = pb.GetInfoRequest(rayscaler_version=__version__, protocol_version=VERSION)
        try:
            info = await self._call(channel, "GetInfo", asked, pb.GetInfoResponse, timeout_s=timeout_s)
        except Unsupported as error:
            raise BrokenPlugin(f"{self.peer}: X1: whoever answers there serves no {PATH[1:]}") from error
        if NAME.fullmatch(info.name) is None:
            raise BrokenPlugin(f"{self.peer}: X1: its name is {info.name[:64]!r}, which none can have")
        if info.protocol_version < 1:
            raise BrokenPlugin(f"{self.peer}: X1: speaks protocol version {info.protocol_version}, which there is none of")
        if self._name and info.name != self._name:
            raise BrokenPlugin(f"{self.peer}: X1: was {self._name} and is {info.name} now, which knows nothing of its instances")
        can = await self._call(channel, "GetCapabilities", pb.GetCapabilitiesRequest(), pb.GetCapabilitiesResponse, timeout_s=timeout_s)
        if min(can.limits.per_second, can.limits.in_flight, can.limits.batch) < 0:
            raise BrokenPlugin(f"{self.peer}: X40: a limit is negative")
        probe = await self._call(channel, "Probe", pb.ProbeRequest(), pb.ProbeResponse, timeout_s=timeout_s)
        if probe.not_ready:
            raise Unavailable(f"{self.peer}: is not ready: {probe.not_ready[:MAX_DETAIL]}")
        self._name = info.name
        self.introductions += 1
        log.info("plugin.introduced", peer=self.peer, name=info.name, version=info.version[:64], protocol_version=info.protocol_version)
        return Introduced(channel, can.limits, frozenset(can.capabilities))

    async def _call(self, channel: grpc.aio.Channel, method: str, request: Message, reply: type[R], *, timeout_s: float) -> R:
        try:
            call: Any = channel.unary_unary(f"{PATH}/{method}", request_serializer=type(request).SerializeToString)
            told: bytes = await call(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error
        return self._parsed(method, told, reply)

    def _parsed(self, method: str, told: bytes, reply: type[R]) -> R:
        try:
            return reply.FromString(told)
        except DecodeError as error:
            raise BrokenPlugin(f"{self.peer}: its answer to {method} is no message of executor/v1") from error

    def _translate(self, error: grpc.aio.AioRpcError) -> RayscalerError:
        if error.code() in BREAKS:
            self._introduced = None
            self.breaks += 1
        return wire.error_of(error, self.peer)


def _has_failed(task: asyncio.Task[Introduced]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)
