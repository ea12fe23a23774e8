"""The monitor's loop over real connections while the service is killed and comes back at its address."""

import asyncio

import grpc
import grpc.aio
import pytest

from rayscaler.api.head.v1 import head_pb2
from rayscaler.clock import SystemClock
from rayscaler.monitor.main import Monitor
from rayscaler.monitor.service import GrpcTransport
from rayscaler.testing.fake_gcs import FakeGcs
from tests.monitor.recorder import Recorder

pytestmark = pytest.mark.tier("protocol")


async def serve(address: str) -> tuple[grpc.aio.Server, Recorder]:
    """Start a service that keeps nothing: it wants a snapshot whenever it gets none."""
    recorder = Recorder()
    recorder.answers["ReportDemand"] = head_pb2.ReportDemandResponse(want_snapshot=True).SerializeToString()
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((recorder,))
    server.add_insecure_port(address)
    await server.start()
    return server, recorder


@pytest.mark.parametrize("away_s", [0.0, 3.0], ids=["for a moment", "for seconds"])
async def test_a_service_that_was_killed_soon_gets_a_whole_snapshot(tmp_path, away_s):
    address = f"unix:{tmp_path}/s"
    clock = SystemClock()
    transport = GrpcTransport(address)
    server, first = await serve(address)
    task = asyncio.create_task(Monitor(FakeGcs(clock), transport, clock, cluster="demo").run())
    try:
        await first.has_calls(2)
        await server.stop(None)
        await asyncio.sleep(away_s)
        server, second = await serve(address)
        back_at = clock.mono()
        await second.has_calls(1)
        print(f"reported {clock.mono() - back_at:.2f} s after the service was back from {away_s:g} s")
        await second.has_calls(2)
        requests = [head_pb2.ReportDemandRequest.FromString(sent) for _, sent, _ in second.calls]
        # Of a service that was away between two reports only, the monitor learns from its answer.
        assert requests[0 if away_s else 1].HasField("snapshot")
        assert requests[0].sequence > len(first.calls)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await transport.close()
        await server.stop(None)
