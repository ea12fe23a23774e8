"""A ClusterReconciler between a scripted Ray and a fake executor, in virtual time.

The script says what Ray's node table shows; reports are made from it. Drains are answered as `on_drain` says.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

from rayscaler.clock import Clock
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.command import DrainCommand, ReplayCommand, ReportAnswer, ResizeCommand, TellCommand
from rayscaler.model.demand import CommandResult, Constraint, Demand, DemandReport, Gang, Outcome, Session, Snapshot
from rayscaler.model.node import DeathReason, NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.resources import Resources
from rayscaler.reconciler.cluster import ClusterReconciler, Shared
from rayscaler.reconciler.improve import Improver
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import FIRST, config


class Ray:
    """What Ray's node table and demand show."""

    def __init__(self) -> None:
        self.nodes: dict[str, RayNode] = {}
        self.idle_since: dict[str, float] = {}
        self.demands: tuple[Demand, ...] = ()
        self.gangs: tuple[Gang, ...] = ()
        self.constraint: Constraint | None = None
        self.live_jobs = 1
        self.live_job_ids: frozenset[str] = frozenset()
        self.live_detached_actors = 0
        self.can_take_back: bool | None = True
        """Whether a constraint can be taken back here; None: the answer does not come."""
        self.version = 0
        self._number = 0

    def join(self, spec: LaunchSpec) -> None:
        """A worker of ours joins, idle."""
        self._number += 1
        key = f"{self._number:04}"
        total = spec.node_type.resources
        row = RayNode(
            key, spec.instance_id, spec.node_type.name, NodeStatus.IDLE, total, total, tuple(sorted(spec.node_type.node_labels().items()))
        )
        self.nodes[key] = row
        self.idle_since[key] = asyncio.get_running_loop().time()

    def set(self, instance_id: str, **fields: Any) -> None:
        """Change the row of an instance."""
        row = self.row(instance_id)
        self.nodes[row.ray_node_id] = replace(row, **fields)

    def busy(self, instance_id: str) -> None:
        """Work fills the node."""
        self.set(instance_id, status=NodeStatus.RUNNING, available=Resources())

    def resize(self, ray_node_id: str, amounts: Resources) -> None:
        """A raylet has so much of some resources now."""
        row = self.nodes[ray_node_id]
        more = Resources({name: amount - row.total.get(name, 0) for name, amount in amounts.items()})
        self.nodes[ray_node_id] = replace(row, total=row.total.add(more), available=row.available.add(more))

    def row(self, instance_id: str) -> RayNode:
        (found,) = (each for each in self.nodes.values() if each.instance_id == instance_id)
        return found

    def die(self, instance_id: str, death: DeathReason = DeathReason.UNEXPECTED) -> None:
        self.set(instance_id, status=NodeStatus.DEAD, death=death)

    def snapshot(self) -> Snapshot:
        now = asyncio.get_running_loop().time()
        self.version += 1
        rows = tuple(
            replace(row, idle_s=now - self.idle_since[key]) if row.status is NodeStatus.IDLE else row for key, row in self.nodes.items()
        )
        return Snapshot(
            nodes=rows,
            demands=self.demands,
            gangs=self.gangs,
            constraint=self.constraint,
            live_jobs=len(self.live_job_ids) or self.live_jobs,
            live_job_ids=self.live_job_ids,
            live_detached_actors=self.live_detached_actors,
            gcs_version=self.version,
        )


class World:
    """One service life of one cluster. `restart` begins another with the same machines, Ray and store."""

    def __init__(
        self,
        definition: ClusterConfig,
        machines: FakeMachines,
        store: MemoryStore,
        ray: Ray,
        timings: Timings,
        executor: FakeExecutor | None,
        clock: Clock,
        improver: Improver | None = None,
        *,
        has_webhook: bool = False,
    ) -> None:
        self.ray, self.store, self.machines = ray, store, machines
        self.executor = executor or FakeExecutor(machines)
        self.reconciler = ClusterReconciler(
            definition,
            executor=self.executor,
            store=store,
            clock=clock,
            timings=timings,
            head_address=lambda: "head:6379",
            shared=Shared(improver=improver, has_webhook=has_webhook),
        )
        self.task: asyncio.Task[None]
        self.is_killed = False
        self.session: Session = FIRST
        self.epoch = 1
        self.sequence = 0
        self.results: dict[str, CommandResult] = {}
        self.commands: list[DrainCommand] = []
        self.replays: list[ReplayCommand] = []
        self.printed: list[TellCommand] = []
        self.is_printing = True
        self.resizes: list[ResizeCommand] = []
        self.on_resize: Callable[[ResizeCommand], Outcome | None] = self.grow
        self.on_drain: Callable[[DrainCommand], Outcome | None] = self.accept

    async def kill(self) -> None:
        """End this life of the service, at once."""
        self.is_killed = True
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def accept(self, command: DrainCommand) -> Outcome:
        """Drain as Ray does: an idle node is dead at once, its process stays."""
        self.ray.die(self.ray.nodes[command.ray_node_id].instance_id, DeathReason.DRAINED_IDLE)
        return Outcome.DONE

    def grow(self, command: ResizeCommand) -> Outcome:
        """Resize as a raylet does: at once, whatever runs there."""
        self.ray.resize(command.ray_node_id, command.resources)
        return Outcome.DONE

    def report(self, **fields: Any) -> ReportAnswer:
        """Report what Ray shows now, carry out what the answer says."""
        self.sequence += 1
        content = {
            "cluster": self.reconciler.name,
            "session": self.session,
            "monitor_epoch": self.epoch,
            "sequence": self.sequence,
            "age_s": 0.0,
            "results": tuple(self.results.values()),
            **fields,
        }
        if "snapshot" not in content:
            content["snapshot"] = self.ray.snapshot()
        answer = self.reconciler.submit(DemandReport(**content))
        for command_id in answer.acknowledged:
            self.results.pop(command_id, None)
        for command in answer.commands:
            if isinstance(command, ReplayCommand):
                self._replay(command)
            elif isinstance(command, TellCommand):
                self._print(command)
            elif isinstance(command, ResizeCommand):
                self._resize(command)
            elif command.command_id not in [each.command_id for each in self.commands]:
                self.commands.append(command)
                outcome = self.on_drain(command)
                if outcome is not None:
                    self.results[command.command_id] = CommandResult(command.command_id, outcome, "as scripted")
        return answer

    def _resize(self, command: ResizeCommand) -> None:
        """Carry out once per id."""
        if command.command_id not in [each.command_id for each in self.resizes]:
            self.resizes.append(command)
            outcome = self.on_resize(command)
            if outcome is not None:
                self.results[command.command_id] = CommandResult(command.command_id, outcome, "as scripted")

    def _replay(self, command: ReplayCommand) -> None:
        """Take a constraint as the GCS does."""
        if command.replaces is None:
            self.replays.append(command)
        elif self.ray.can_take_back is None:
            return
        is_refused = command.replaces is not None and not (self.ray.can_take_back and self.ray.constraint == command.replaces)
        if not is_refused:
            self.ray.constraint = command.constraint
        self.results[command.command_id] = CommandResult(command.command_id, Outcome.REJECTED if is_refused else Outcome.DONE)

    def _print(self, command: TellCommand) -> None:
        """Print as drivers do, once per command."""
        if command.command_id not in [each.command_id for each in self.printed]:
            self.printed.append(command)
        if self.is_printing:
            self.results[command.command_id] = CommandResult(command.command_id, Outcome.DONE)

    def head_restarts(self, *, is_stored: bool = False) -> None:
        """The head dies and is back at once: with stored state as the same cluster, else as a new one without nodes."""
        self.ray.version, self.ray.constraint = 0, None
        if not is_stored:
            self.session = Session(f"{self.session.cluster_id}+", f"{self.session.session_name}+")
            self.ray.nodes.clear()

    async def live(self, seconds: float, *, every_s: float = 0.5, **fields: Any) -> None:
        """Let time pass with a report every `every_s` seconds."""
        for _ in range(round(seconds / every_s)):
            self.report(**fields)
            await asyncio.sleep(every_s)

    @property
    def instances(self) -> dict[str, str]:
        """Status by instance id."""
        return {each.instance_id: each.status.value for each in self.reconciler.status().instances}

    @property
    def launched(self) -> list[str]:
        return [each.instance_id for each in self.executor.launched]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """What was done, in order."""
        return [(each.kind, each.instance_id) for each in self.reconciler.status().actions]


@contextlib.asynccontextmanager
async def world(
    definition: ClusterConfig | None = None,
    *,
    machines: FakeMachines | None = None,
    store: MemoryStore | None = None,
    ray: Ray | None = None,
    timings: Timings | None = None,
    executor: FakeExecutor | None = None,
    clock: Clock | None = None,
    improver: Improver | None = None,
    has_webhook: bool = False,
    prepare: Callable[[World], None] = lambda made: None,
) -> AsyncIterator[World]:
    """A world that runs; hand in parts of an earlier one to be its restart."""
    ray = ray or Ray()
    is_new = machines is None
    machines = machines or FakeMachines(LoopClock())
    if is_new:
        machines.on_ready = ray.join
    parts = (definition or config(), machines, store or MemoryStore(), ray, timings or Timings(), executor, clock or LoopClock(), improver)
    made = World(*parts, has_webhook=has_webhook)
    prepare(made)
    task = made.task = asyncio.create_task(made.reconciler.run())
    await asyncio.sleep(0.001)  # the record is read, the first list seen
    try:
        yield made
        assert made.is_killed or not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await made.executor.close()
        if is_new:
            await machines.close()
