"""A gRPC server that records what it gets, byte for byte, and answers with prepared messages or refusals."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
import grpc.aio

from rayscaler.api.gcs.v1 import gcs_pb2

CLUSTER_ID = bytes(range(28))
JOB = bytes.fromhex("01000000")


@dataclass
class Recorder(grpc.GenericRpcHandler):
    """`calls` are (method, request bytes, metadata); `answers` and `refusals` go by the method's last word."""

    calls: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, list[tuple[grpc.StatusCode, str]]] = field(default_factory=dict)
    """Each is given once, in order."""
    hangs: set[str] = field(default_factory=set)
    peers: list[str] = field(default_factory=list)
    """The caller's address of each call."""
    address: str = ""
    _called: asyncio.Event = field(default_factory=asyncio.Event)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        method = handler_call_details.method

        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            name = method.rpartition("/")[2]
            self.calls.append((method, request, dict(context.invocation_metadata())))
            self._called.set()
            self.peers.append(context.peer())
            if name in self.hangs:
                await asyncio.Event().wait()
            if self.refusals.get(name):
                await context.abort(*self.refusals[name].pop(0))
            return self.answers.get(name, b"")

        return grpc.unary_unary_rpc_method_handler(answer)

    async def has_calls(self, count: int) -> None:
        """Wait until there were so many calls."""
        while len(self.calls) < count:
            self._called.clear()
            await self._called.wait()

    def names(self) -> list[str]:
        """Return the last words of the methods called."""
        return [method.rpartition("/")[2] for method, _, _ in self.calls]


R = TypeVar("R", bound=Recorder)


@contextlib.asynccontextmanager
async def recording(recorder: R | None = None) -> AsyncIterator[R | Recorder]:
    """Run a recorder, or the one given, that looks like a GCS without nodes."""
    recorder = recorder or Recorder()
    recorder.answers["GetClusterId"] = gcs_pb2.GetClusterIdReply(cluster_id=CLUSTER_ID).SerializeToString()
    recorder.answers["CheckAlive"] = gcs_pb2.CheckAliveReply(ray_version="2.60.0").SerializeToString()
    recorder.answers["InternalKVGet"] = gcs_pb2.InternalKVGetReply(value=b"1").SerializeToString()
    show(recorder, version=1)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 64 << 20)])
    server.add_generic_rpc_handlers((recorder,))
    recorder.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield recorder
    finally:
        await server.stop(0)


def show(recorder: Recorder, *, version: int, **statuses: int) -> None:
    """Let the GCS show nodes by name with these statuses."""
    state = gcs_pb2.ClusterResourceState(
        cluster_resource_state_version=version,
        cluster_session_name="session_1",
        node_states=[gcs_pb2.NodeState(node_id=name.encode(), status=status) for name, status in statuses.items()],
    )
    recorder.answers["GetClusterResourceState"] = gcs_pb2.GetClusterResourceStateReply(cluster_resource_state=state).SerializeToString()


def answer_jobs(recorder: Recorder, *rows: gcs_pb2.JobTableData) -> None:
    """Let the GCS know these jobs."""
    recorder.answers["GetAllJobInfo"] = gcs_pb2.GetAllJobInfoReply(job_info_list=rows).SerializeToString()
