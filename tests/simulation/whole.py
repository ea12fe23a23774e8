"""All of rayscaler but its sockets and processes, in virtual time: a fake Ray cluster, the real monitor, the service, fake machines."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.errors import Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import Phase
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.resources import Resources
from rayscaler.monitor.main import Monitor
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.reconciler.registry import Registry
from rayscaler.server import answers, convert
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.fake_gcs import UNEXPECTED, FakeGcs
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.testing.memory_store import MemoryStore

Event = tuple[float, str, str]
"""Loop time, what happened, to which instance."""


class InProcess:
    """The monitor's transport, ending in the service's own conversions; every message passes as bytes."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.is_down = False

    async def report(self, request: head_pb2.ReportDemandRequest) -> head_pb2.ReportDemandResponse:
        if self.is_down:
            raise Unavailable("connection refused")
        report = convert.demand_report(head_pb2.ReportDemandRequest.FromString(request.SerializeToString()))
        answer = answers.report_answer(self.registry.get(report.cluster).submit(report))
        return head_pb2.ReportDemandResponse.FromString(answer.SerializeToString())

    async def close(self) -> None:
        pass


@dataclass
class Whole:
    """The system and what was seen of it from outside: `events` are the fake machines' and the fake Ray's, none of rayscaler's own."""

    gcs: FakeGcs
    machines: FakeMachines
    executor: FakeExecutor
    store: MemoryStore
    transport: InProcess
    config: ClusterConfig
    reconciler: ClusterReconciler | None = None
    events: list[Event] = field(default_factory=list)
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    ready: dict[str, LaunchSpec] = field(default_factory=dict)
    """Workers that have started and neither ended nor were drained: their supervisors find every new head."""
    _lives: int = 0

    def note(self, what: str, instance_id: str) -> None:
        self.events.append((round(asyncio.get_running_loop().time(), 3), what, instance_id))

    def of(self, what: str) -> list[str]:
        """Instances to which it happened, in order."""
        return [name for _, kind, name in self.events if kind == what]

    def when(self, what: str) -> list[float]:
        return [at for at, kind, _ in self.events if kind == what]

    def nodes(self) -> dict[str, int]:
        """Live workers by type, as Ray has them."""
        counts: dict[str, int] = {}
        for node in self.gcs.alive():
            counts[node.node_type] = counts.get(node.node_type, 0) + 1
        return counts

    def start_service(self) -> None:
        self.reconciler = ClusterReconciler(
            self.config, executor=self.executor, store=self.store, clock=LoopClock(), timings=Timings(), head_address=lambda: "head:6379"
        )
        self.transport.registry = Registry([self.reconciler])
        self.tasks["service"] = asyncio.create_task(self.reconciler.run())

    def start_monitor(self) -> None:
        monitor = Monitor(self.gcs, self.transport, LoopClock(), cluster=self.config.name)
        self.tasks["monitor"] = asyncio.create_task(monitor.run())

    async def kill_head(self, away_s: float, *, is_stored: bool = False) -> None:
        """The head dies, and is back after `away_s`: as the same cluster, or as a new one that workers join from 1 s after."""
        self.note("head dies", "")
        self.gcs.is_down = True
        await asyncio.sleep(away_s)
        self.gcs.restart(keeps_id=is_stored)
        self.gcs.is_down = False
        self._lives += 1
        shown = {node.instance_id for node in self.gcs.alive()}
        for number, name in enumerate(name for name in self.ready if name not in shown):
            self.tasks[f"rejoin {name} {self._lives}"] = asyncio.create_task(self._rejoin(name, self._lives, 1.0 + 0.7 * number))

    async def _rejoin(self, name: str, life: int, after_s: float) -> None:
        """One worker's supervisor: it starts a raylet again, unless it was drained or told to end meanwhile, or the head is gone again."""
        await asyncio.sleep(after_s)
        machine = self.machines.machines.get((self.config.name, name))
        if (
            machine is not None
            and machine.phase is not Phase.ENDING
            and name in self.ready
            and self._lives == life
            and not self.gcs.is_down
        ):
            join(self, self.ready[name])

    async def kill(self, which: str) -> None:
        """End the service or the monitor, at once."""
        task = self.tasks.pop(which)
        assert not task.done(), task.exception()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def join(whole: Whole, spec: LaunchSpec) -> None:
    """A worker's raylet registers."""
    whole.ready[spec.instance_id] = spec
    if whole.gcs.is_down:
        return  # it waits for a head, as every other one
    whole.note("join", spec.instance_id)
    kind = spec.node_type
    whole.gcs.join(spec.instance_id, kind.name, kind.resources, kind.node_labels())


def leave(whole: Whole, spec: LaunchSpec) -> None:
    """A worker's processes are gone: a node of it that lived is lost."""
    whole.note("gone", spec.instance_id)
    whole.ready.pop(spec.instance_id, None)
    for node in whole.gcs.alive():
        if node.instance_id == spec.instance_id:
            whole.note("lost", spec.instance_id)
            whole.gcs.die(node.ray_node_id, UNEXPECTED, "its processes are gone")


def watch_calls(whole: Whole) -> None:
    """Note launches, ends and accepted drains where they arrive."""
    launch, terminate, drain = whole.executor.launch, whole.executor.terminate, whole.gcs.drain

    async def launched(spec: LaunchSpec) -> str:
        whole.note("launch", spec.instance_id)
        return await launch(spec)

    async def terminated(cluster: str, instance_id: str) -> None:
        whole.note("terminate", instance_id)
        await terminate(cluster, instance_id)

    async def drained(request: gcs_pb2.DrainNodeRequest) -> tuple[bool, str]:
        accepted, words = await drain(request)
        name = whole.gcs.nodes[request.node_id.hex()].instance_id
        whole.note("drained" if accepted else "drain refused", name)
        if accepted:
            whole.ready.pop(name, None)
        return accepted, words

    whole.executor.launch, whole.executor.terminate = launched, terminated  # type: ignore[method-assign]
    whole.gcs.drain = drained  # type: ignore[method-assign]


@contextlib.asynccontextmanager
async def running(config: ClusterConfig, *, demand_lag_s: float = 1.0, head: Resources | None = None) -> AsyncIterator[Whole]:
    """The whole system, started and running."""
    clock = LoopClock()
    machines = FakeMachines(clock)
    whole = Whole(
        FakeGcs(clock, head=head, demand_lag_s=demand_lag_s),
        machines,
        FakeExecutor(machines),
        MemoryStore(),
        InProcess(Registry([])),
        config,
    )
    machines.on_ready = lambda spec: join(whole, spec)
    machines.on_gone = lambda spec: leave(whole, spec)
    watch_calls(whole)
    whole.start_service()
    whole.start_monitor()
    try:
        yield whole
        assert not [name for name, task in whole.tasks.items() if task.done() and not name.startswith("rejoin")]
    finally:
        for name in list(whole.tasks):
            task = whole.tasks.pop(name)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await whole.executor.close()
        await machines.close()
