"""The whole service in a test's or a benchmark's own process: server, reconcilers, planner, the process that improves plans, SQLite record.

It listens on a TCP socket of this machine; only its executor is made up, to see what is launched and when.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.app.local import head_address
from rayscaler.app.process import Process
from rayscaler.app.service import Service
from rayscaler.clock import SystemClock
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.demand import Demand
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.server.app import Server
from rayscaler.settings import ServiceSettings, Timings
from rayscaler.store.sqlite import SqliteStore
from rayscaler.testing.fake_ray import by_count
from rayscaler.throttle import Unpaced


@dataclass(frozen=True)
class Launched:
    """One launch call: the monotonic clock, which all processes of a machine share, as it came in."""

    at: float
    node_type: str


class NotingExecutor:
    """Takes every launch and notes it; none gets any further. Every cluster has `there` from the beginning."""

    def __init__(self, there: Iterable[InstanceObservation] = ()) -> None:
        self._there = tuple(there)
        self._changed = asyncio.Condition()
        self.launched: defaultdict[str, list[Launched]] = defaultdict(list)
        self._made: defaultdict[str, list[InstanceObservation]] = defaultdict(list)
        self.pace = Unpaced()

    async def launch(self, spec: LaunchSpec) -> str:
        at = time.monotonic()
        made = InstanceObservation(spec.instance_id, spec.node_type.name, spec.instance_id, Phase.UNSCHEDULED)
        self._made[spec.cluster].append(made)
        self.launched[spec.cluster].append(Launched(at, spec.node_type.name))
        async with self._changed:
            self._changed.notify_all()
        return spec.instance_id

    async def terminate(self, cluster: str, instance_id: str) -> None:
        raise AssertionError(f"{cluster}: {instance_id} should not be ended")

    async def list(self, cluster: str) -> list[InstanceObservation]:
        return [*self._there, *self._made[cluster]]

    async def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        await asyncio.Event().wait()
        yield self._made[cluster][0]  # never

    async def close(self) -> None:
        pass

    async def launches_of(self, *clusters: str) -> None:
        """Return once each of these clusters has a launch. The caller sets the deadline."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(self.launched[each] for each in clusters))

    def counted(self, cluster: str) -> Counter[str]:
        """Return a cluster's launches by node type."""
        return Counter(each.node_type for each in self.launched[cluster])


@asynccontextmanager
async def serving(
    directory: Path, executor: NotingExecutor, configs: Iterable[ClusterConfig], timings: Timings | None = None
) -> AsyncIterator[str]:
    """Serve clusters until left; gives the address."""
    settings = ServiceSettings(listen="127.0.0.1:0", state_dir=directory)
    process = Process()
    store = SqliteStore(directory / "record.sqlite")
    service = Service(process, timings or settings.timings, executor=executor, store=store, clock=SystemClock())
    for each in configs:
        service.add(each, head_address=head_address)
    server = Server(service.registry, listen=settings.listen, max_message_bytes=settings.max_message_bytes)
    listening: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    running = asyncio.create_task(service.run(server, listening.set_result), name="whole service")
    try:
        yield f"127.0.0.1:{await listening}"
    finally:
        process.stop()
        await running


def report(cluster: str, sequence: int, demands: Iterable[Demand], nodes: Sequence[ray.NodeState] = ()) -> pb.ReportDemandRequest:
    """Return a cluster's report, of a head with one job: what is asked for, and its nodes."""
    wanted = [by_count(each.bundle, each.count) for each in demands]
    state = ray.ClusterResourceState(node_states=nodes, pending_resource_requests=wanted)
    snapshot = pb.Snapshot(state=state, jobs=[ray.JobTableData(job_id=b"job1")])
    session = pb.Session(cluster_id=cluster.encode().hex().zfill(56), session_name=f"session_{cluster}")
    return pb.ReportDemandRequest(cluster=cluster, session=session, monitor_epoch=1, sequence=sequence, snapshot=snapshot)
