"""Plugins that answer wrongly: each breaks one rule of executor/v1 and is else as it should be. Served at a real unix socket."""

# ruff: noqa: N802 - methods are named as gRPC names them

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from rayscaler import wire
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.service import ExecutorService, add_to
from rayscaler.plugin.session import PATH, PluginTimings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.plugin.door import dialled

SHORT = PluginTimings(call_s=1.0, introduce_s=1.0, quiet_s=1.0, resume_s=0.3, gone_lag_s=0.05)
"""Long enough for honest answers of one process to itself."""


class Honest(ExecutorService):
    """What liars are made of."""

    def __init__(self) -> None:
        self.machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys((Phase.UNSCHEDULED, Phase.STARTING, Phase.REGISTERING), 0.0))
        super().__init__(FakeExecutor(self.machines), name="liar.rayscaler.io")


class Forgets(Honest):
    """Says that it has launched, and lists nothing."""

    async def Launch(self, request: pb.LaunchRequest, context: Any) -> pb.LaunchResponse:
        return pb.LaunchResponse(results=[pb.LaunchResult(instance_id=each.instance_id, external_id="vm") for each in request.specs])


class Edited(Honest):
    """Changes an honest list."""

    lies = False

    def edit(self, page: pb.ListResponse) -> None:
        """Make a lie of it."""

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:
        page = await super().List(request, context)
        if self.lies:
            self.edit(page)
        return page


class Invents(Edited):
    def edit(self, page):
        page.observations.add(instance_id="nobodys", node_type="small", external_id="vm-x", phase=pb.PHASE_REGISTERING)


class ChangesIds(Edited):
    def edit(self, page):
        for each in page.observations:
            each.external_id += "-other"


class ListsTwice(Edited):
    def edit(self, page):
        page.observations.append(page.observations[0])


class ListsTheGone(Edited):
    def edit(self, page):
        page.observations[0].phase = pb.PHASE_GONE


class NoPhase(Edited):
    def edit(self, page):
        page.observations[0].phase = pb.PHASE_UNSPECIFIED


class UnknownPhase(Edited):
    def edit(self, page):
        page.observations[0].phase = 77


class NoExternalId(Edited):
    def edit(self, page):
        page.observations[0].external_id = ""


class ForgesLines(Edited):
    def edit(self, page):
        page.observations[0].external_id = "vm\n2026-01-01 [error] forged"


class OtherReplica(Edited):
    def edit(self, page):
        page.observations[0].replica_id, page.observations[0].replica_host = "r", 1


class NoBookmark(Edited):
    def edit(self, page):
        page.bookmark = ""


class PagesInACircle(Edited):
    def edit(self, page):
        del page.observations[:]
        page.next_page_token = "again"

    async def List(self, request, context):
        request.page_token = ""
        return await super().List(request, context)


class PagesForEver(Edited):
    """One page after another, each a little late: none of them ever is."""

    pages = 0

    async def List(self, request, context):
        if not self.lies:
            return await super().List(request, context)
        await asyncio.sleep(0.05)
        self.pages += 1
        return pb.ListResponse(bookmark="b", next_page_token=str(self.pages))


class NoResult(Honest):
    async def Launch(self, request, context):
        return pb.LaunchResponse()


class AnothersResult(Honest):
    async def Launch(self, request, context):
        return pb.LaunchResponse(results=[pb.LaunchResult(instance_id="anothers", external_id="vm")])


class EmptyResult(Honest):
    async def Launch(self, request, context):
        return pb.LaunchResponse(results=[pb.LaunchResult(instance_id=each.instance_id) for each in request.specs])


class AnotherEachTime(Honest):
    """Another external id for the same instance: it has launched twice."""

    calls = 0

    async def Launch(self, request, context):
        self.calls += 1
        return pb.LaunchResponse(
            results=[pb.LaunchResult(instance_id=each.instance_id, external_id=f"vm-{self.calls}") for each in request.specs]
        )


class NeverAnswers(Honest):
    """Takes calls and says nothing: of one cluster only, so that it can be seen what becomes of others."""

    async def Launch(self, request, context):
        if request.cluster == "held":
            await asyncio.Event().wait()
        return await super().Launch(request, context)

    async def List(self, request, context):
        if request.cluster == "held":
            await asyncio.Event().wait()
        return await super().List(request, context)


class Stalls(Honest):
    """Takes launches from some moment on and says nothing."""

    lies = False
    held = 0

    async def Launch(self, request, context):
        if self.lies:
            self.held += 1
            await asyncio.Event().wait()
        return await super().Launch(request, context)


class Notes(Honest):
    """Notes when each cluster's first instance was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_at: dict[str, float] = {}

    async def Launch(self, request, context):
        self.asked_at.setdefault(request.cluster, time.monotonic())
        return await super().Launch(request, context)


class SilentWatch(Honest):
    async def Watch(self, request, context):
        await asyncio.Event().wait()
        yield pb.WatchResponse()


class WatchFallsSilent(Honest):
    async def Watch(self, request, context):
        yield pb.WatchResponse(bookmark="b")
        await asyncio.Event().wait()


class WatchWithoutBookmark(Honest):
    async def Watch(self, request, context):
        yield pb.WatchResponse()


class WatchEnds(Honest):
    async def Watch(self, request, context):
        yield pb.WatchResponse(bookmark="b")


class NoName(Honest):
    async def GetInfo(self, request, context):
        return pb.GetInfoResponse(version="1", protocol_version=1)


class Raw(Honest):
    """Answers List with these bytes, after it has said who it is."""

    answer = b""

    def handler(self) -> grpc.GenericRpcHandler:
        async def answer(request: bytes, context: Any) -> bytes:
            return self.answer

        methods = {
            "GetInfo": grpc.unary_unary_rpc_method_handler(
                self.GetInfo, pb.GetInfoRequest.FromString, pb.GetInfoResponse.SerializeToString
            ),
            "GetCapabilities": grpc.unary_unary_rpc_method_handler(
                self.GetCapabilities, pb.GetCapabilitiesRequest.FromString, pb.GetCapabilitiesResponse.SerializeToString
            ),
            "Probe": grpc.unary_unary_rpc_method_handler(self.Probe, pb.ProbeRequest.FromString, pb.ProbeResponse.SerializeToString),
            "List": grpc.unary_unary_rpc_method_handler(answer),
        }
        return grpc.method_handlers_generic_handler(PATH[1:], methods)


class NoMessage(Raw):
    answer = b"\xff" * 64


class Large(Raw):
    answer = bytes(33 << 20)


@contextlib.asynccontextmanager
async def served(service: Honest, socket: Path) -> AsyncIterator[None]:
    """Serve a liar at a socket."""
    server = grpc.aio.server(interceptors=[wire.ErrorInterceptor()], options=[("grpc.max_send_message_length", -1)])
    if isinstance(service, Raw):
        server.add_generic_rpc_handlers((service.handler(),))
    else:
        add_to(server, service)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(0)
        await service.close()
        await service.machines.close()


@contextlib.asynccontextmanager
async def lying(service: Honest, directory: Path, timings: PluginTimings = SHORT) -> AsyncIterator[PluginExecutor]:
    """Serve a liar and call it."""
    async with served(service, directory / "s"):
        executor = dialled(directory / "s", timings)
        try:
            yield executor
        finally:
            await executor.close()
