"""A fake Ray cluster behind the monitor's door to the GCS: places tasks and gangs, reports late, drains, dies, restarts.

It speaks Ray's own messages, so that the monitor's conversion is the real one. Its lags are those measured on Ray 2.60.
Nothing runs by itself: every call first does what was due up to now, in order, so that it works on any clock.
"""

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.clock import Clock
from rayscaler.model.demand import Bundle, Strategy
from rayscaler.model.raynames import HEAD_RESOURCE
from rayscaler.model.resources import IMPLICIT_PREFIX, UNIT, Resources, from_float
from rayscaler.monitor.gcs import HAS_ANOTHER, HAS_ONE, GcsReading, check_drain, check_resize, check_state, may_replay
from rayscaler.monitor.kv import OURS
from rayscaler.testing import fake_ray
from rayscaler.testing.fake_ray import FakeGang, FakeNode, FakeTask

DEMAND_LAG_S = 1.0
"""From a task's submission, and from its start, until the demand shows it."""

EXPECTED, UNEXPECTED, DRAINED_PREEMPTED, DRAINED_IDLE = 1, 2, 3, 4
"""Ray's NodeDeathInfo.Reason."""


def job_id(number: int) -> str:
    """Return Ray's id of the cluster's job of that number."""
    return number.to_bytes(4, "little").hex()


class FakeGcs:
    """The cluster. Set `is_down` to make it unreachable, put names of its calls into `hanging` to make them never answer, into `failing` to make them fail."""

    def __init__(self, clock: Clock, *, head: Resources | None = None, demand_lag_s: float = DEMAND_LAG_S, first_id: int = 1) -> None:
        """Count ids from `first_id`: those of two clusters are to be apart."""
        self._clock = clock
        self._demand_lag_s = demand_lag_s
        self._numbers = itertools.count(first_id)
        self.version = 0
        """Ray's counter of snapshots: how often this GCS was read."""
        self.states_told = 0
        self._life = 0
        self._ends: list[tuple[float, int]] = []
        self.is_down = False
        self.hanging: set[str] = set()
        self.failing: set[str] = set()
        self.jobs = {job_id(1)}
        """Ids of the jobs whose drivers live."""
        self.live_detached_actors = 0
        self.is_v1_mode = False
        self.nodes: dict[str, FakeNode] = {}
        self.tasks: dict[int, FakeTask] = {}
        self.gangs: dict[str, FakeGang] = {}
        self.constraint: tuple[Bundle, ...] | None = None
        self.drains: list[gcs_pb2.DrainNodeRequest] = []
        """Every drain asked for, refused ones too."""
        self.resizes: list[gcs_pb2.ResizeRayletResourceInstancesRequest] = []
        """Every node that was told another size."""
        self.told: gcs_pb2.AutoscalingState | None = None
        """The AutoscalingState as `ray status` would show it."""
        self.told_config: gcs_pb2.ClusterConfig | None = None
        self.configs_told = 0
        self.notice = ""
        """What a driver that connects prints."""
        self.printed: list[str] = []
        """Events that connected drivers have got."""
        self._head_resources = head or Resources()
        self.cluster_id = ""
        self.restart()

    @property
    def live_jobs(self) -> int:
        """How many jobs live; set it to have so many, the first ones."""
        return len(self.jobs)

    @live_jobs.setter
    def live_jobs(self, count: int) -> None:
        self.jobs = {job_id(number) for number in range(1, count + 1)}

    # what a user and the world do

    def restart(self, *, keeps_id: bool = False) -> None:
        """Start the GCS anew: with the stored state of a fault-tolerant one, or as a new cluster whose nodes and tasks are gone."""
        self.version = 0
        self._life += 1
        self.constraint = None
        self.told = None
        if keeps_id:
            return
        self.told_config = None
        self.notice = ""
        self.cluster_id = f"{next(self._numbers):056x}"
        self.nodes, self.tasks, self.gangs, self._ends = {}, {}, {}, []
        head = self.join("", "", Resources({**self._head_resources.amounts, HEAD_RESOURCE: UNIT}))
        self.nodes[head].is_head = True

    def join(self, instance_id: str, node_type: str, resources: Resources, labels: Mapping[str, str] | None = None) -> str:
        """Let a node join; return its id."""
        now = self._settle()
        ray_node_id = f"{next(self._numbers):056x}"
        all_labels = {"ray.io/node-id": ray_node_id, **({"ray.io/node-group": node_type} if node_type else {}), **(labels or {})}
        self.nodes[ray_node_id] = FakeNode(ray_node_id, instance_id, node_type, resources, all_labels, now, resources)
        self._place(now)
        return ray_node_id

    def die(self, ray_node_id: str, reason: int = UNEXPECTED, detail: str = "health check failed") -> None:
        """Let a node die; its tasks wait again, its gangs are taken apart."""
        self._die(self.nodes[ray_node_id], self._settle(), reason, detail)
        self._place(self._clock.mono())

    def submit(self, resources: Resources | Bundle, count: int = 1, *, runtime_s: float | None = None) -> list[int]:
        """Submit tasks; those without a runtime run until `finish`."""
        now = self._settle()
        bundle = resources if isinstance(resources, Bundle) else Bundle(resources)
        made = [FakeTask(next(self._numbers), bundle, runtime_s, now) for _ in range(count)]
        self.tasks.update((task.task_id, task) for task in made)
        self._place(now)
        return [task.task_id for task in made]

    def finish(self, *task_ids: int) -> None:
        """End tasks, running or waiting."""
        now = self._settle()
        for task_id in task_ids:
            self._finish(self.tasks[task_id], now)
        self._place(now)

    def create_gang(self, strategy: Strategy, bundles: Sequence[Resources], *, is_detached: bool = False) -> str:
        """Create a placement group; return its id. One that is not detached is orphaned while no job is live."""
        now = self._settle()
        gang_id = f"{next(self._numbers):036x}"
        self.gangs[gang_id] = FakeGang(gang_id, strategy, tuple(map(Bundle, bundles)), is_detached=is_detached)
        self._place(now)
        return gang_id

    def remove_gang(self, gang_id: str) -> None:
        """Remove a placement group."""
        now = self._settle()
        self._unplace(self.gangs.pop(gang_id), now)
        self._place(now)

    def request_resources(self, bundles: Sequence[Resources]) -> None:
        """Set the constraint; an empty one stays, as Ray's does."""
        self.constraint = tuple(map(Bundle, bundles))

    def running(self) -> list[FakeTask]:
        """Return the tasks that run now."""
        self._settle()
        return [task for task in self.tasks.values() if task.node is not None]

    def alive(self) -> list[FakeNode]:
        """Return the nodes but the head that are alive now."""
        self._settle()
        return [node for node in self.nodes.values() if node.death is None and not node.is_head]

    # the monitor's door

    async def read(self) -> GcsReading:
        """Read everything of one moment."""
        await self._answer("read")
        now = self._settle()
        self.version += 1
        dead = {node.ray_node_id: node.death for node in self.nodes.values() if node.death is not None}
        return GcsReading(
            cluster_id=self.cluster_id,
            state=self._state(now),
            ended={key: gcs_pb2.GcsNodeInfo(node_id=bytes.fromhex(key), state=1, death_info=death) for key, death in dead.items()},
            draining={
                node.ray_node_id: int((node.draining_until or 0) * 1000)
                for node in self.nodes.values()
                if node.is_draining and node.death is None
            },
            jobs=[gcs_pb2.JobTableData(job_id=bytes.fromhex(each)) for each in sorted(self.jobs)],
            live_detached_actors=0 if self.live_jobs and not self.constraint else self.live_detached_actors,
            orphaned_gangs=frozenset(
                gang.gang_id for gang in self.gangs.values() if not gang.nodes and not gang.is_detached and not self.live_jobs
            ),
            ray_version="2.60.0",
            is_v1_mode=self.is_v1_mode,
            gcs_life=self._life,
        )

    async def drain(self, request: gcs_pb2.DrainNodeRequest) -> tuple[bool, str]:
        """Drain as Ray does: an idle drain of a busy node is refused, unknown and dead nodes are accepted and nothing happens."""
        check_drain(request)
        await self._answer("drain")
        now = self._settle()
        self.drains.append(request)
        node = self.nodes.get(request.node_id.hex())
        if node is None or node.death is not None:
            return True, ""
        if request.reason == gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION:
            if node.uses and not node.is_draining:
                return False, "The node to be idle terminated is no longer idle."
            if not node.uses:
                self._die(node, now, DRAINED_IDLE, request.reason_message)
            return True, ""
        node.is_draining = True
        node.draining_until = request.deadline_timestamp_ms / 1000 or None
        if not node.uses:
            self._die(node, now, DRAINED_PREEMPTED, request.reason_message)
        return True, ""

    async def resize(self, request: gcs_pb2.ResizeRayletResourceInstancesRequest) -> None:
        """Take it as a raylet does: at once, whatever runs there."""
        check_resize(request)
        await self._answer("resize")
        self.resizes.append(request)
        node = self.nodes.get(request.node_id.hex())
        if node is None or node.death is not None:
            raise errors.Unavailable("Raylet is not alive.")
        now = self._settle()
        node.resize({name: from_float(amount) for name, amount in request.resources.items()})
        self._place(now)

    async def report_state(self, state: gcs_pb2.AutoscalingState) -> None:
        """Keep the state unless it is older than what is kept."""
        check_state(state, 0)
        await self._answer("report_state")
        self.states_told += 1
        if self.told is None or state.autoscaler_state_version >= self.told.autoscaler_state_version:
            self.told = state

    async def replay_constraint(
        self, constraint: gcs_pb2.ClusterResourceConstraint, cluster_id: str, replaces: gcs_pb2.ClusterResourceConstraint | None = None
    ) -> tuple[bool, str]:
        """Take the constraint unless there is another than the one to be replaced, and only for this cluster."""
        await self._answer("replay_constraint")
        if cluster_id != self.cluster_id:
            raise errors.Superseded("another Ray cluster has started since this was asked for")
        if not may_replay(self._constraints(), replaces):
            return False, HAS_ONE if replaces is None else HAS_ANOTHER
        wanted = [(each.request, each.count) for each in constraint.resource_requests]
        self.constraint = tuple(fake_ray.bundle(request) for request, count in wanted for _ in range(count))
        return True, ""

    async def report_config(self, config: gcs_pb2.ClusterConfig) -> None:
        """Keep what the cluster can become."""
        await self._answer("report_config")
        self.configs_told += 1
        self.told_config = config

    async def set_notice(self, text: str) -> None:
        """Keep the notice, unless somebody else's is there."""
        await self._answer("set_notice")
        if not self.notice or self.notice.startswith(OURS):
            self.notice = OURS + text if text else ""

    async def tell_drivers(self, batch: gcs_pb2.LogBatch) -> None:
        """Keep what was passed on."""
        await self._answer("tell_drivers")
        self.printed += batch.lines

    async def close(self) -> None:
        """Do nothing: the cluster lives on."""

    async def _answer(self, call: str) -> None:
        if call in self.hanging:
            await asyncio.Event().wait()
        if self.is_down or call in self.failing:
            raise errors.Unavailable("Ray's GCS: connection refused")

    # what goes on inside

    def _settle(self) -> float:
        """Do what was due up to now, in order; return now."""
        now = self._clock.mono()
        while self._ends and self._ends[0][0] <= now:
            at, task_id = heapq.heappop(self._ends)
            task = self.tasks.get(task_id)
            if task is not None and task.node is not None and task.started_at is not None and task.started_at + (task.runtime_s or 0) <= at:
                self._finish(task, at)
                self._place(at)
        return now

    def _finish(self, task: FakeTask, at: float) -> None:
        node, task.node, task.ended_at = task.node, None, at
        if node is not None:
            node.give(task.bundle.resources, at)
            self._end_if_drained(node, at)

    def _end_if_drained(self, node: FakeNode, at: float) -> None:
        if node.is_draining and not node.uses and node.death is None:
            self._die(node, at, DRAINED_PREEMPTED, "drained")

    def _die(self, node: FakeNode, at: float, reason: int, detail: str) -> None:
        node.death = gcs_pb2.NodeDeathInfo(reason=reason, reason_message=detail)
        for task in self.tasks.values():
            if task.node is node:
                task.node, task.started_at, task.submitted_at = None, None, at
                task.times_lost += 1
        for gang in self.gangs.values():
            if node in gang.nodes:
                self._unplace(gang, at)

    def _unplace(self, gang: FakeGang, at: float) -> None:
        nodes, gang.nodes = gang.nodes, ()
        for node, bundle in zip(nodes, gang.bundles, strict=False):
            node.give(bundle.resources, at)
            node.gangs.remove(gang.gang_id)
            self._end_if_drained(node, at)

    def _place(self, at: float) -> None:
        """Start what fits, gangs first, then tasks in the order of their submission."""
        for gang in self.gangs.values():
            if not gang.nodes:
                self._place_gang(gang)
        full: set[Bundle] = set()
        for task in self.tasks.values():
            if task.node is not None or task.ended_at is not None or task.bundle in full:
                continue
            task.node = next((node for node in self.nodes.values() if node.holds(task.bundle)), None)
            if task.node is None:
                full.add(task.bundle)
                continue
            task.node.take(task.bundle.resources)
            task.started_at = at
            if task.runtime_s is not None:
                heapq.heappush(self._ends, (at + task.runtime_s, task.task_id))

    def _place_gang(self, gang: FakeGang) -> None:
        """Place all bundles or none."""
        free = {key: node.free for key, node in self.nodes.items()}
        if _is_too_big(gang, free.values()):
            return  # thousands of bundles over a thousand nodes would be looked through at every join
        chosen: list[FakeNode] = []
        for bundle in gang.bundles:
            able = (node for node in self.nodes.values() if node.holds(bundle) and bundle.resources.fits(free[node.ray_node_id]))
            node = _best(gang, able, chosen, free)
            if node is None:
                return
            free[node.ray_node_id] = free[node.ray_node_id].subtract(bundle.resources)
            chosen.append(node)
        gang.nodes = tuple(chosen)
        for node, bundle in zip(chosen, gang.bundles, strict=True):
            node.take(bundle.resources)
            node.gangs.append(gang.gang_id)

    # Ray's messages

    def _state(self, now: float) -> gcs_pb2.ClusterResourceState:
        counts: dict[Bundle, int] = {}
        for task in self.tasks.values():
            if task.was_waiting(now - self._demand_lag_s) and (task.ended_at is None or task.started_at is not None):
                counts[task.bundle] = counts.get(task.bundle, 0) + 1
        state = gcs_pb2.ClusterResourceState(
            cluster_resource_state_version=self.version,
            node_states=[fake_ray.node_state(node, now) for node in self.nodes.values()],
            pending_resource_requests=[fake_ray.by_count(bundle, count) for bundle, count in counts.items()],
            pending_gang_resource_requests=[gang.entry for gang in self.gangs.values() if not gang.nodes],
            cluster_session_name=f"session_{self.cluster_id[-8:]}",
        )
        state.cluster_resource_constraints.extend(self._constraints())
        return state

    def _constraints(self) -> list[gcs_pb2.ClusterResourceConstraint]:
        if self.constraint is None:
            return []
        return [gcs_pb2.ClusterResourceConstraint(resource_requests=[fake_ray.by_count(bundle, 1) for bundle in self.constraint])]


def _is_too_big(gang: FakeGang, rooms: Iterable[Resources]) -> bool:
    """Whether all rooms together are too small for it."""
    total = Counter[str]()
    for each in rooms:
        total.update(each.amounts)
    return any(total[name] < amount for name, amount in gang.whole.items_sorted if not name.startswith(IMPLICIT_PREFIX))


def _best(gang: FakeGang, able: Iterable[FakeNode], chosen: list[FakeNode], free: Mapping[str, Resources]) -> FakeNode | None:
    """Choose the node of a gang's next bundle: SPREAD and PACK are wishes, the STRICT ones rules."""
    nodes = list(able)
    fresh = [node for node in nodes if node not in chosen]
    used = [node for node in nodes if node in chosen]
    if gang.strategy is Strategy.STRICT_PACK:
        nodes = used if chosen else [node for node in fresh if gang.whole.fits(free[node.ray_node_id])]
    elif gang.strategy is Strategy.STRICT_SPREAD:
        nodes = fresh
    else:
        nodes = fresh + used if gang.strategy is Strategy.SPREAD else used + fresh
    return nodes[0] if nodes else None
