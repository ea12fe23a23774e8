"""A day of one cluster, by the planner alone: tasks come and go by the seed, launches take their time, every plan is carried out.

Ray is played as it places: what is pending goes on the first node that has room. Room and demand are always of one moment.
"""

import heapq
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.plan import Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState, Expectation
from rayscaler.planner.plan import plan

DAY_S = 86_400.0
STEP_S = 5.0
BOOT_S = (40.0, 120.0)
R = Resources.of
CONFIG = ClusterConfig(
    "day",
    (
        NodeType("small", R(CPU=4), cost=1.0),
        NodeType("large", R(CPU=16), cost=3.7),
        NodeType("gpu", R(CPU=8, GPU=2), cost=9.0, max_workers=6),
    ),
    idle_timeout_s=300.0,
)
SHAPES = (R(CPU=1), R(CPU=1), R(CPU=2), R(CPU=0.5), R(CPU=3), R(CPU=8), R(CPU=1, GPU=1), R(CPU=4, GPU=2))


@dataclass
class Node:
    """A launch, and the node it becomes."""

    instance: Instance
    ready_at: float
    free: Resources
    idle_since: float | None = None
    expectation: Expectation | None = None


@dataclass
class Day:
    """What happened, for the test to judge."""

    seed: int
    steps: int = 0
    """Each plan is improved for."""
    config: ClusterConfig = CONFIG
    now: float = 0.0
    nodes: dict[str, Node] = field(default_factory=dict)
    pending: list[Resources] = field(default_factory=list)
    running: list[tuple[float, int, str, Resources]] = field(default_factory=list)
    unneeded_since: dict[str, float] = field(default_factory=dict)
    launched: list[tuple[float, str]] = field(default_factory=list)
    cancelled: list[tuple[float, str]] = field(default_factory=list)
    ended: Counter[Reason] = field(default_factory=Counter)
    ended_at: float = 0.0
    """The last one."""
    tasks: int = 0
    seen: tuple[int, ...] = ()
    arrivals: deque[tuple[float, Resources]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)

    def run(self, tasks: int) -> None:
        """Let the day pass with so many tasks, most of them around noon, a third of them in bursts."""
        self.arrivals = deque(sorted(_arrivals(self.chance, tasks), key=lambda each: each[0]))
        while self.arrivals or self.pending or self.running:
            self.step()
        assert self.tasks == tasks

    def step(self) -> None:
        """Let some seconds pass, and plan if anything has changed or is due."""
        self.now += STEP_S
        self._finish()
        while self.arrivals and self.arrivals[0][0] <= self.now:
            self.pending.append(self.arrivals.popleft()[1])
        self._join()
        self._place()
        seen = (len(self.running), self.tasks, len(self.pending), sum(each.instance.is_in_flight for each in self.nodes.values()))
        if seen != self.seen or self.unneeded_since or self._is_idle_over():
            self.plan()
        self.seen = seen

    def plan(self) -> None:
        """Plan, and carry it out."""
        self._carry_out(plan(self.state(), self.steps))

    def _finish(self) -> None:
        while self.running and self.running[0][0] <= self.now:
            _, _, name, shape = heapq.heappop(self.running)
            node = self.nodes[name]
            node.free = node.free.add(shape)
            node.idle_since = self.now if node.free == self._total(node) else None

    def _join(self) -> None:
        ready = [each for each in self.nodes.values() if each.instance.is_in_flight and each.ready_at <= self.now]
        for node in ready:
            name = node.instance.instance_id
            node.instance = replace(node.instance, status=InstanceStatus.RUNNING, ray_node_id=f"n-{name}")
            node.idle_since, node.expectation = self.now, None

    def _place(self) -> None:
        left = []
        for shape in self.pending:
            found = next((each for each in self.nodes.values() if not each.instance.is_in_flight and shape.fits(each.free)), None)
            if found is None:
                left.append(shape)
                continue
            found.free, found.idle_since = found.free.subtract(shape), None
            self.tasks += 1
            heapq.heappush(self.running, (self.now + self.runtime_s(), self.tasks, found.instance.instance_id, shape))
        self.pending = left

    def runtime_s(self) -> float:
        """Return how long the next task runs."""
        return self.chance.lognormvariate(5, 1.2)

    def _is_idle_over(self) -> bool:
        return any(each.idle_since is not None and self.now - each.idle_since >= self.config.idle_timeout_s for each in self.nodes.values())

    def state(self) -> ClusterState:
        demands = Counter(self.pending)
        return ClusterState(
            now=self.now,
            config=self.config,
            instances=tuple(each.instance for each in self.nodes.values()),
            nodes=tuple(self._row(each) for each in self.nodes.values() if not each.instance.is_in_flight),
            demands=tuple(Demand(Bundle(shape), count) for shape, count in demands.items()),
            expectations=tuple(each.expectation for each in self.nodes.values() if each.expectation is not None),
            unneeded_since=tuple(self.unneeded_since.items()),
        )

    def _total(self, node: Node) -> Resources:
        return self.config.node_type(node.instance.node_type).resources

    def _row(self, node: Node) -> RayNode:
        instance, total = node.instance, self._total(node)
        status = NodeStatus.RUNNING if node.idle_since is None else NodeStatus.IDLE
        idle_s = 0.0 if node.idle_since is None else self.now - node.idle_since
        return RayNode(instance.ray_node_id, instance.instance_id, instance.node_type, status, total, node.free, idle_s=idle_s)

    def _carry_out(self, found: Plan) -> None:
        for end in (*found.drains, *found.terminations):
            gone = self.nodes.pop(end.instance_id)
            self.ended[end.reason] += 1
            self.ended_at = self.now
            if gone.instance.is_in_flight:
                self.cancelled.append((self.now, gone.instance.node_type))
        for launch in found.launches:
            name = f"i{len(self.launched):05}"
            instance = Instance(name, launch.node_type, InstanceStatus.ALLOCATED, self.now, requested_at=self.now)
            expectation = Expectation(name, launch.node_type, self.now + 600, launch.reserves, launch.gangs)
            total = self.config.node_type(launch.node_type).resources
            self.nodes[name] = Node(instance, self.now + self.chance.uniform(*BOOT_S), total, expectation=expectation)
            self.launched.append((self.now, launch.node_type))
        self.unneeded_since = {each: self.unneeded_since.get(each, self.now) for each in found.unneeded if each in self.nodes}


def _arrivals(chance: random.Random, count: int) -> Iterator[tuple[float, Resources]]:
    while count > 0:
        at = min(max(chance.gauss(DAY_S / 2, DAY_S / 5), 0.0), DAY_S)
        burst = min(count, chance.choice([1, 1, 1, 1, 1, 12]))
        shape = chance.choice(SHAPES)
        count -= burst
        for _ in range(burst):
            yield at + chance.uniform(0, 20), shape
