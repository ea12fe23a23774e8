"""The nodes of a simulated cluster, and how Ray starts work on them. Pure; knows neither time nor planner.

As Ray's default (hybrid) policy does: only nodes without accelerators for work that asks for none, as long as one of them has room; then those
less than half used, the oldest first, then the least used. Where Ray draws lots among the best, the oldest is taken. Accelerators are single
devices: a share comes from one of them, more than one must be whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heapreplace

from rayscaler.model.demand import Bundle
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.resources import DEVICES, UNIT, Resources

CRITICAL = ("CPU", "memory", "object_store_memory")
"""What Ray measures by how much a node is used."""
HALF = 0.5
"""Below this share of use Ray fills nodes one after the other (scheduler_spread_threshold)."""

Taken = tuple[Bundle, tuple[tuple[str, int, int], ...]]
"""What one task has of a node: its bundle, and of which device how much."""
Score = tuple[int, bool, float, int]


@dataclass(eq=False)
class Node:
    """A node that has joined; `number` is its place in the order of joining, `units` what Ray hands out one by one."""

    name: str
    node_type: str
    total: Resources
    labels: dict[str, str]
    number: int
    idle_since: float
    is_head: bool = False
    is_draining: bool = False
    units: frozenset[str] = DEVICES
    running: int = 0
    free: dict[str, int] = field(init=False)
    devices: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.free = dict(self.total.amounts)
        self.devices = {name: [UNIT] * (amount // UNIT) for name, amount in self.total.items_sorted if name in self.units}

    @cached_property
    def has_devices(self) -> bool:
        """Whether Ray spares it for work that asks for accelerators."""
        return bool(self.devices)

    @property
    def spares_devices(self) -> bool:
        """Whether something runs here, and nothing of it on the accelerators that there are."""
        return self.running > 0 and self.has_devices and all(free == UNIT for each in self.devices.values() for free in each)

    def fits(self, bundle: Bundle) -> bool:
        """Whether one more of the bundle can start now."""
        return all(
            self.free.get(name, 0) >= amount and (name not in self.devices or _fits(self.devices[name], amount))
            for name, amount in bundle.resources.items_sorted
        )

    def take(self, bundle: Bundle) -> Taken:
        """Start one of what fits."""
        used = []
        for name, amount in bundle.resources.items_sorted:
            self.free[name] -= amount
            if name in self.devices:
                used += [(name, index, share) for index, share in _taken(self.devices[name], amount)]
        for name, index, share in used:
            self.devices[name][index] -= share
        self.running += 1
        return bundle, tuple(used)

    def grow(self, total: Resources) -> None:
        """Have more of what is no device."""
        for name, amount in total.items_sorted:
            self.free[name] = self.free.get(name, 0) + amount - self.total.get(name, 0)
        self.total = total

    def give(self, taken: Taken, now: float) -> None:
        """End one."""
        bundle, used = taken
        for name, amount in bundle.resources.items_sorted:
            self.free[name] += amount
        for name, index, share in used:
            self.devices[name][index] += share
        self.running -= 1
        if not self.running:
            self.idle_since = now

    def score(self, bundle: Bundle, asks_device: bool) -> Score | None:
        """Return Ray's order of preference, the least first; None where it cannot start now."""
        if self.is_draining or not self.fits(bundle):
            return None
        rank = bundle.label_rank(self.labels)
        if rank is None:
            return None
        used = max((1 - self.free[name] / self.total[name] for name in CRITICAL if name in self.total), default=0.0)
        return rank, self.has_devices and not asks_device, used if used >= HALF else 0.0, self.number

    def row(self, now: float) -> RayNode:
        """Return what Ray reports of it."""
        return RayNode(
            self.name,
            "" if self.is_head else self.name,
            self.node_type,
            NodeStatus.RUNNING if self.running else NodeStatus.IDLE,
            self.total,
            Resources(self.free),
            tuple(sorted(self.labels.items())),
            idle_s=0.0 if self.running else now - self.idle_since,
            is_head=self.is_head,
            is_draining=self.is_draining,
        )


def _fits(devices: list[int], amount: int) -> bool:
    if amount <= UNIT:
        return any(free >= amount for free in devices)
    return amount % UNIT == 0 and sum(free == UNIT for free in devices) >= amount // UNIT


def _taken(devices: list[int], amount: int) -> list[tuple[int, int]]:
    """Return which devices give how much: whole ones, or for a share the fullest that has it left."""
    if amount < UNIT:
        _, index = min((free, index) for index, free in enumerate(devices) if free >= amount)
        return [(index, amount)]
    return [(index, UNIT) for index, free in enumerate(devices) if free == UNIT][: amount // UNIT]


class Offers:
    """Nodes for one bundle, the best first."""

    def __init__(self, nodes: Iterable[Node], bundle: Bundle, units: frozenset[str] = DEVICES) -> None:
        self._bundle = bundle
        self._asks_device = any(name in units for name in bundle.resources)
        scored = ((node.score(bundle, self._asks_device), node) for node in nodes)
        self._heap = [(score, node) for score, node in scored if score is not None]
        heapify(self._heap)

    def take(self) -> tuple[Node, Taken] | None:
        """Start one on the best node; None where none has room."""
        if not self._heap:
            return None
        node = self._heap[0][1]
        taken = node.take(self._bundle)
        score = node.score(self._bundle, self._asks_device)
        if score is None:
            heappop(self._heap)
        else:
            heapreplace(self._heap, (score, node))
        return node, taken
