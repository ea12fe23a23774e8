"""A server on a unix socket with whatever stands behind it, and a client of it."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.clock import SystemClock
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import Server
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import config


class Door(NamedTuple):
    """Where a server listens, the server, and a channel to it."""

    address: str
    server: Server
    channel: grpc.aio.Channel


@contextlib.asynccontextmanager
async def serving(
    registry: Any, *, max_message_bytes: int = 4 << 20, leads: Callable[[], bool] = lambda: True
) -> AsyncIterator[grpc.aio.Channel]:
    """Serve on a socket; yield a channel to it."""
    async with door_of(registry, max_message_bytes=max_message_bytes, leads=leads) as door:
        yield door.channel


@contextlib.asynccontextmanager
async def door_of(registry: Any, *, max_message_bytes: int = 4 << 20, leads: Callable[[], bool] = lambda: True) -> AsyncIterator[Door]:
    """Serve on a socket whose path is short enough."""
    directory = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    address = f"unix:{directory}/s"
    server = Server(registry, listen=address, max_message_bytes=max_message_bytes, leads=leads)
    await server.start()
    channel = grpc.aio.insecure_channel(address, options=[("grpc.max_send_message_length", -1), ("grpc.use_local_subchannel_pool", 1)])
    try:
        yield Door(address, server, channel)
    finally:
        await channel.close()
        await server.stop(0)
        shutil.rmtree(directory)


class Service:
    """Reconcilers that run, behind a server."""

    def __init__(self, door: "Door", executor: FakeExecutor, reconcilers: list[ClusterReconciler], tasks: list[asyncio.Task[None]]) -> None:
        self.address, self.server, self.channel = door
        self.stub = head_pb2_grpc.HeadServiceStub(self.channel)
        self.executor = executor
        self.reconcilers = reconcilers
        self.tasks = tasks


@contextlib.asynccontextmanager
async def service(*names: str, timings: Timings | None = None) -> AsyncIterator[Service]:
    """A whole service but for its executor and its store, which are fakes."""
    machines = FakeMachines(SystemClock())
    executor = FakeExecutor(machines)
    reconcilers = [
        ClusterReconciler(
            config(name=name, max_workers=20),
            executor=executor,
            store=MemoryStore(),
            clock=SystemClock(),
            timings=timings or Timings(),
            head_address=lambda: "head:6379",
        )
        for name in names or ("demo",)
    ]
    tasks = [asyncio.create_task(each.run()) for each in reconcilers]
    try:
        async with door_of(Registry(reconcilers)) as door:
            yield Service(door, executor, reconcilers, tasks)
            assert not [each for each in tasks if each.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await executor.close()
        await machines.close()


def report(sequence: int = 1, **fields: Any) -> pb.ReportDemandRequest:
    session = pb.Session(cluster_id="c1", session_name="session_1")
    return pb.ReportDemandRequest(**{"cluster": "demo", "session": session, "monitor_epoch": 1, "sequence": sequence, **fields})


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """Await a call that must fail; return how."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error
    raise AssertionError("the call did not fail")


def details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    """Unpack the details of a failure."""
    status = rpc_status.from_call(error)
    assert status is not None
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for each in status.details:
        each.Unpack(info)
        each.Unpack(bad)
    return info, bad
