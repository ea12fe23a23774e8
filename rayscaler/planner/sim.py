"""The working draft of one plan: runs of equal nodes, what lies on them, and counts per node type.

Owns the arithmetic of placing. Knows no rule of what to place where, and nothing of how the draft was read or is answered.
A run is an immutable tuple, so undoing a trial is going back to the old list.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from rayscaler.model.demand import Bundle, Gang, Strategy, are_parts_mixed
from rayscaler.model.instance import Instance, Reason
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import NodeType
from rayscaler.model.plan import Drain, Infeasible, Mix, Termination
from rayscaler.model.resources import MANY, UNIT
from rayscaler.model.state import Backoff, ClusterState
from rayscaler.planner.devices import Devices, Several

HEAD, SETTLED, EXPECTED, NEW = range(4)
"""Tiers of capacity, in the order of use: the head; joined nodes; nodes launched for something, in flight or just joined; this plan's."""

Room = tuple[int | Devices, ...]
"""What is free by index of resource name: an amount, or devices where Ray hands them out one by one."""
Labels = tuple[tuple[str, str], ...]
Needs = tuple[tuple[int, int], ...]
Members = tuple[str, ...] | range
"""Nodes of a run in order: names of those that are there, indices of this plan's launches. A range is one thing however long it is."""


@dataclass(frozen=True, eq=False, slots=True)
class Shape:
    """A distinct bundle; `needs` are (index of resource name, amount). Equal bundles share one Shape, so identity is equality.

    `parts` are the shapes that one of several merged together stands for.
    """

    bundle: Bundle
    needs: Needs
    order: tuple[Any, ...]
    parts: tuple["Shape", ...] = ()


class Load(NamedTuple):
    """`each` of `shape` on every node of a run, for a gang ("" for tasks and actors) or the constraint."""

    shape: Shape
    each: int
    gang_id: str = ""


class Promise(NamedTuple):
    """What a node of a run was launched for."""

    shape: Shape
    each: int
    gang_id: str
    is_constraint: bool


class NodeRun(NamedTuple):
    """Nodes that are equal in all that matters here. `marks` are labels of gangs that lie there.

    `bare` is the room before anything was put there, once something is: devices cannot be given back one by one.
    """

    tier: int
    node_type: str
    labels: Labels
    room: Room
    members: Members
    marks: frozenset[str] = frozenset()
    load: tuple[Load, ...] = ()
    promises: tuple[Promise, ...] = ()
    bare: Room = ()


@dataclass(frozen=True, eq=False, slots=True)
class TypeView:
    """A node type with its empty node's room. `brings` are its amounts, `kinds` the indices of what it brings and somebody asks for.

    `spare` is by how much of which kinds its nodes may grow.
    """

    node_type: NodeType
    labels: Labels
    room: Room
    brings: tuple[int, ...]
    kinds: tuple[int, ...]
    spare: Needs = ()

    @property
    def name(self) -> str:
        """The node type's name."""
        return self.node_type.name

    @property
    def grown(self) -> Room:
        """The room of an empty node that has grown as far as it may."""
        return more(self.room, self.spare)


def times(room: Room, needs: Needs) -> int:
    """Return how many times `needs` go into `room`."""
    most = MANY
    for index, amount in needs:
        held = room[index] // amount
        if held < most:
            if held <= 0:
                return 0
            most = held
    return most


def less(room: Room, needs: Needs, count: int) -> Room:
    """Return `room` after `count` of `needs`, which must fit, were taken from it."""
    left = list(room)
    for index, amount in needs:
        held = left[index]
        left[index] = held.without(amount, count) if type(held) is Devices else held - amount * count
    return tuple(left)


def more(room: Room, grown: Iterable[tuple[int, int]]) -> Room:
    """Return `room` grown by that much of what is no device."""
    found = list(room)
    for index, amount in grown:
        held = found[index]
        found[index] = held if isinstance(held, Devices) else held + amount
    return tuple(found)


def growth_of(room: Room, spare: Needs, content: Iterable[tuple[Shape, int]]) -> Needs:
    """Return by how much of each kind in `spare` a node with this room must grow to hold the content, so that it has whole amounts then.

    What may become of it by `spare` is whole.
    """
    wanted: Counter[int] = Counter()
    for shape, count in content:
        for index, amount in shape.needs:
            wanted[index] += amount * count
    held = amounts(room)
    lacks = ((index, most, wanted[index] - held[index]) for index, most in spare)
    grown = ((index, most - (most - lack) // UNIT * UNIT if lack > 0 else 0) for index, most, lack in lacks)
    return tuple((index, amount) for index, amount in grown if amount)


def after(room: Room, content: Iterable[tuple[Shape, int]]) -> Room | None:
    """Return `room` after all of this was taken from it, one after the other; None where it does not fit."""
    for shape, count in content:
        if times(room, shape.needs) < count:
            return None
        room = less(room, shape.needs, count)
    return room


def least_of(needs: Sequence[Needs], device_kinds: frozenset[int]) -> Needs:
    """Return the least of each kind that is in all of these: where that finds no room, none of them does."""
    first, *others = [{kind: _least(amount) if kind in device_kinds else amount for kind, amount in each} for each in needs] or [{}]
    for each in others:
        first = {kind: min(amount, each[kind]) for kind, amount in first.items() if kind in each}
    return tuple(sorted(first.items()))


def _least(amount: int) -> int:
    """Return an amount of devices that has room wherever this or more has: one and a half have none where two have, several where their sum has."""
    amount = max(amount.parts)[0] if isinstance(amount, Several) else amount
    return amount if amount <= UNIT else amount - amount % UNIT


def amounts(room: Room) -> tuple[int, ...]:
    """Return how much of each kind is left in `room`, devices by their sum."""
    return tuple([held.total if isinstance(held, Devices) else held for held in room])


def loaded(run: NodeRun, members: Members, load: Load, mark: str = "") -> NodeRun:
    """Return these members of `run` with a load more."""
    return NodeRun(
        run.tier,
        run.node_type,
        run.labels,
        less(run.room, load.shape.needs, load.each),
        members,
        run.marks | {mark} if mark else run.marks,
        (*run.load, load),
        run.promises,
        run.bare or run.room,
    )


def put(run: NodeRun, load: Load, count: int, mark: str = "") -> tuple[list[NodeRun], int]:
    """Put up to `count` on a run, at most `load.each` per node; return the runs it falls into and how many were put."""
    full, rest = divmod(count, load.each)
    if full >= len(run.members):
        return [loaded(run, run.members, load, mark)], len(run.members) * load.each
    parts = [loaded(run, run.members[:full], load, mark)] if full else []
    if rest:
        parts.append(loaded(run, run.members[full : full + 1], load._replace(each=rest), mark))
        full += 1
    if full < len(run.members):
        parts.append(run._replace(members=run.members[full:]))
    return parts, count


class Launching(NamedTuple):
    """A node to launch and why."""

    node_type: str
    reason: Reason


class Mark(NamedTuple):
    """A draft to go back to."""

    runs: list[NodeRun]
    launching: int
    live: Counter[str]
    staying: Counter[str]
    launches: Counter[str]
    kept: frozenset[str]


@dataclass(eq=False)
class Draft:
    """One plan in the making; created and dropped inside plan().

    `least` is how many of a type are to stay: its minimum, or what is held for it if that is more. `live` counts all that exists or is launched here (against maxima), `staying` those of it that are not on their way out (for
    minimums). `standing` and `launches` are what the upscaling speed counts (model/instance.py), `flying` what maxConcurrentLaunches does, but for this plan's. `floor` is the second view of the same nodes, by totals, that the constraint is planned on.
    `prices` are what one node of a type costs per hour, in millionths, `weighed` what it is compared by (costFactor), and
    `is_priced` is that every type has a cost. `displaced` is what of `demands` is work that still runs, on nodes that are about to end.
    """

    state: ClusterState
    names: tuple[str, ...]
    views: tuple[TypeView, ...]
    shapes: dict[Bundle, Shape]
    demands: dict[Shape, int]
    constraint: dict[Shape, int]
    gangs: tuple[Gang, ...]
    instances: tuple[Instance, ...]
    rows: dict[str, RayNode]
    backoffs: dict[str, Backoff]
    least: dict[str, int]
    live: Counter[str]
    staying: Counter[str]
    standing: Counter[str]
    launches: Counter[str]
    runs: list[NodeRun] = field(default_factory=list)
    floor: list[NodeRun] = field(default_factory=list)
    totals: tuple[tuple[Labels, Room], ...] = ()
    gang_left: dict[int, dict[Shape, int]] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()
    """Ids of gangs of which promises have kept something."""
    passed: dict[Shape, int] = field(default_factory=dict)
    """While gangs are placed: how many of the first runs have no room for a shape. That only grows, but for what is taken back."""
    prepared: list[NodeRun] = field(default_factory=list)
    launching: list[Launching] = field(default_factory=list)
    drains: list[Drain] = field(default_factory=list)
    terminations: list[Termination] = field(default_factory=list)
    infeasible: list[Infeasible] = field(default_factory=list)
    unneeded: list[str] = field(default_factory=list)
    displaced: dict[Bundle, int] = field(default_factory=dict)
    flying: Counter[str] = field(default_factory=Counter)
    prices: dict[str, int] = field(default_factory=dict)
    weighed: dict[str, int] = field(default_factory=dict)
    is_priced: bool = False
    leaving: set[str] = field(default_factory=set)
    grown: dict[str, Counter[int]] = field(default_factory=dict)
    """By how much of each kind nodes are to grow."""
    mix: Mix | None = None
    ranks: dict[tuple[Shape, Labels], int | None] = field(default_factory=dict)
    merged: dict[tuple[tuple[Shape, int], ...], Shape] = field(default_factory=dict)
    """What gangs want at once on one node, as one shape."""
    only: tuple[str, str] | None = None
    """The label with its value that a node must have while a gang is placed within one."""
    deceiving: frozenset[str] = frozenset()
    """Node types that are not launched while a gang is placed, since Ray would send their nodes more than they hold."""
    tried: Counter[str] | None = None
    """While a gang is placed: launches per node type but its own."""
    is_more_there: bool = False
    """Whether Ray has nodes to choose from that are no room in a plan."""
    looks: int = 0
    """Runs looked at so far to find out where Ray sends gangs."""
    seen: dict[int, tuple[NodeRun, tuple[int, ...], dict[int, int]]] = field(default_factory=dict)
    """What Ray sees of each node of a run, by the run's id."""

    @property
    def device_names(self) -> frozenset[str]:
        """Resources that Ray hands out one by one."""
        return self.state.config.device_names

    def rank(self, shape: Shape, labels: Labels) -> int | None:
        """Return which alternative of the shape's label wishes these labels meet; None is none."""
        if self.only is not None and self.only not in labels:
            return None
        if shape.parts:
            ranks = [self.rank(part, labels) for part in shape.parts]
            known = [rank for rank in ranks if rank is not None]
            return max(known) if len(known) == len(ranks) else None
        if not shape.bundle.selectors:
            return 0
        key = (shape, labels)
        if key not in self.ranks:
            self.ranks[key] = shape.bundle.label_rank(dict(labels))
        return self.ranks[key]

    def can_hold(self, where: TypeView | NodeRun, shape: Shape) -> bool:
        """Whether an empty node of this type, or a node of this run, has room for the shape, and labels that it wishes."""
        return times(where.room, shape.needs) > 0 and self.rank(shape, where.labels) is not None

    def can_hold_grown(self, view: TypeView, shape: Shape) -> bool:
        """Whether an empty node of this type would have room for the shape once it has grown, and labels that it wishes."""
        return bool(view.spare) and times(view.grown, shape.needs) > 0 and self.rank(shape, view.labels) is not None

    def begin(self, shape: Shape) -> int:
        """Return the first of the runs that may have room for a shape, which may be one made larger than it is."""
        return self.passed.get(shape, 0) if shape.parts else self.passed.get(self.shapes.get(shape.bundle, shape), 0)

    def view(self, name: str) -> TypeView | None:
        """Return the node type of that name as seen here."""
        return self._by_name.get(name)

    @cached_property
    def shown(self) -> dict[str, RayNode]:
        """What Ray shows of nodes that are there, by their names in a plan."""
        return {f"{'head' if row.is_head else 'ray'}:{row.ray_node_id}": row for row in self.state.nodes} | self.rows

    @cached_property
    def _by_name(self) -> dict[str, TypeView]:
        return {view.name: view for view in reversed(self.views)}

    @cached_property
    def device_kinds(self) -> frozenset[int]:
        """The indices of `device_names`."""
        return frozenset(index for index, name in enumerate(self.names) if name in self.device_names)

    @cached_property
    def ordered(self) -> frozenset[str]:
        """Ids of gangs whose bundles have room in one order and not in another: parts of devices differ, and a node may get several."""
        names = self.device_names if self.device_kinds else frozenset()
        mixed = (gang for gang in self.gangs if len(gang.bundles) > 1 and are_parts_mixed((each.bundle for each in gang.bundles), names))
        return frozenset(gang.gang_id for gang in mixed if gang.strategy is not Strategy.STRICT_SPREAD) if names else frozenset()

    @cached_property
    def biggest(self) -> tuple[int, ...]:
        """The most of each kind that any type brings: what amounts of different kinds are weighed by."""
        return tuple(max(brought) for brought in zip(*(view.brings for view in self.views), strict=True))

    def price(self, name: str) -> int:
        """Return what nodes of that type are compared by when some of them are to go: nothing, unless every type has a cost."""
        return self.weighed.get(name, 0) if self.is_priced else 0

    def launch(self, view: TypeView, count: int, reason: Reason, *layers: list[NodeRun]) -> NodeRun:
        """Count `count` launches in and return their run, empty; the caller adds it where it belongs.

        What they lack of whole replicas is launched with them, and is free: a run of its own on each of `layers`, by default on the runs.
        """
        first, rest = len(self.launching), -count % view.node_type.hosts_per_replica
        self.launching.extend([Launching(view.name, reason)] * count + [Launching(view.name, Reason.REPLICA)] * rest)
        self.live = _with(self.live, view.name, count + rest)
        self.staying = _with(self.staying, view.name, count + rest)
        self.launches = _with(self.launches, view.name, count + rest)
        launched = NodeRun(NEW, view.name, view.labels, view.room, range(first, first + count))
        if rest:
            for layer in layers or (self.runs,):
                layer.append(launched._replace(members=range(first + count, first + count + rest)))
        return launched

    def leave(self, instance: Instance) -> None:
        """Count an instance out: it still exists, but nothing more is planned on it."""
        self.leaving.add(instance.instance_id)
        self.staying = _with(self.staying, instance.node_type, -1)
        if instance.is_launching:
            self.launches = _with(self.launches, instance.node_type, -1)

    def mark(self) -> Mark:
        """Return where `reset` can go back to."""
        return Mark(list(self.runs), len(self.launching), self.live, self.staying, self.launches, self.kept)

    def reset(self, mark: Mark) -> None:
        """Undo every placement and launch since `mark`, which may be gone back to again."""
        self.runs = list(mark.runs)
        del self.launching[mark.launching :]
        self.live, self.staying, self.launches, self.kept = mark.live, mark.staying, mark.launches, mark.kept


def _with(counts: Counter[str], name: str, more: int) -> Counter[str]:
    """Return counts with more of one; the old ones stay as they are, for marks have them."""
    made: Counter[str] = Counter()
    dict.update(made, counts)  # Counter's own counts one by one
    made[name] += more
    return made


def sizes(wanted: Iterable[tuple[Shape, int]]) -> list[tuple[Shape, int]]:
    """Return what is still wanted, most constrained and largest first."""
    return sorted(((shape, count) for shape, count in wanted if count > 0), key=lambda each: each[0].order)
