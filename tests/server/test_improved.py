"""A report over a socket ends in the cheaper mix: the whole service, its process that improves plans, and an executor that counts."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc.aio
import pytest

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.app.local import head_address
from rayscaler.app.process import Process
from rayscaler.app.service import Service
from rayscaler.clock import SystemClock
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.server.app import Server
from rayscaler.settings import ServiceSettings
from rayscaler.store.sqlite import SqliteStore
from rayscaler.throttle import Unpaced

pytestmark = pytest.mark.tier("protocol")

BUDGET_S = 8.0
"""Far more than it takes: a busy machine must not make this another test."""
TEN = NodeType("ten", Resources.of(CPU=10), cost=1.0)
FREE = NodeType("ten", Resources.of(CPU=10))


class Counting:
    """Takes every launch, and tells of none: only what is asked of it counts."""

    def __init__(self) -> None:
        self.launched: Counter[str] = Counter()
        self.both = asyncio.Event()
        self.pace = Unpaced()

    async def launch(self, spec: LaunchSpec) -> str:
        self.launched[spec.cluster] += 1
        if len(self.launched) > 1:
            self.both.set()
        return spec.instance_id

    async def terminate(self, cluster: str, instance_id: str) -> None:
        raise AssertionError(f"{cluster}: {instance_id} should not be ended")

    async def list(self, cluster: str) -> list[InstanceObservation]:
        return []

    async def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        await asyncio.Event().wait()
        yield cluster  # never

    async def close(self) -> None:
        pass


async def report(address: str, cluster: str, **counts: int) -> None:
    """Report tasks that wait: of so many CPUs (c4, c3) so many."""
    demands = [
        ray.ResourceRequestByCount(
            request=ray.ResourceRequest(resources_bundle={"CPU": float(name[1:])}, label_selectors=[ray.LabelSelector()]), count=count
        )
        for name, count in counts.items()
    ]
    snapshot = pb.Snapshot(state=ray.ClusterResourceState(pending_resource_requests=demands), jobs=[ray.JobTableData(job_id=b"job1")])
    session = pb.Session(cluster_id="ab" * 28, session_name="session_1")
    asked = pb.ReportDemandRequest(cluster=cluster, session=session, monitor_epoch=1, sequence=1, snapshot=snapshot)
    async with grpc.aio.insecure_channel(address) as channel:
        await head_pb2_grpc.HeadServiceStub(channel).ReportDemand(asked, timeout=10)


@pytest.mark.timeout(40)
async def test_launches_on_demand_wait_for_a_cheaper_mix_and_where_nothing_has_a_cost_for_nothing(tmp_path):
    executor, process = Counting(), Process()
    settings = ServiceSettings(listen="127.0.0.1:0", state_dir=tmp_path)
    timings = replace(settings.timings, plan_budget_s=BUDGET_S)
    service = Service(process, timings, executor=executor, store=SqliteStore(tmp_path / "record.sqlite"), clock=SystemClock())
    for config in (ClusterConfig("priced", (TEN,)), ClusterConfig("free", (FREE,))):
        service.add(config, head_address=head_address)
    server = Server(service.registry, listen=settings.listen, max_message_bytes=settings.max_message_bytes)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(service.run(server, listening.set_result))
    try:
        address = f"127.0.0.1:{await listening}"
        for cluster in ("priced", "free"):
            await report(address, cluster, c4=10, c3=20)
        async with asyncio.timeout(BUDGET_S + 5):
            await executor.both.wait()
        await asyncio.sleep(0.5)  # for the rest of the launches, and for what would be one too many
    finally:
        process.stop()
        await serving
    # 4 + 3 + 3 fill a node; first fit puts two 4s on one, and three 3s on another.
    assert executor.launched == {"priced": 10, "free": 12}
