"""From ClusterState to a draft: everything is sorted and grouped here, so that no order of the input reaches a plan.

Owns what counts as capacity. Decides nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from rayscaler.model.demand import Bundle, Demand, Gang
from rayscaler.model.instance import ENDED, STANDING, Instance, InstanceStatus
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import GROWS, NodeType
from rayscaler.model.raynames import GROUP_MARK
from rayscaler.model.resources import IMPLICIT_PREFIX, NODE_PREFIX, UNIT, Resources
from rayscaler.model.state import ClusterState, Expectation, Misfit
from rayscaler.planner.devices import Devices, devices
from rayscaler.planner.sim import (
    EXPECTED,
    HEAD,
    SETTLED,
    Draft,
    Labels,
    Needs,
    NodeRun,
    Promise,
    Room,
    Shape,
    TypeView,
    amounts,
    growth_of,
    more,
)

PPM = 1_000_000
"""Shares are integers in millionths."""

LEAVING = frozenset({InstanceStatus.DRAINING, InstanceStatus.TERMINATING})
"""On the way out: counts against maxima until gone, and as no capacity."""


def draft_of(state: ClusterState) -> Draft:
    """Return the draft of a state, with counts and shapes but no capacity yet."""
    instances = tuple(sorted((each for each in state.instances if each.status not in ENDED), key=lambda each: each.instance_id))
    rows = _rows(instances, state.nodes)
    displaced = _grouped(Demand(Bundle(used), 1) for each in instances if (used := _displaced(each, rows.get(each.instance_id))))
    demands = _grouped((*state.demands, *(Demand(bundle, count) for bundle, count in displaced.items())))
    constraint = _grouped(state.constraint.demands if state.constraint else ())
    gangs = tuple(gang for gang in state.gangs if gang.size and not any(is_synthetic(each.bundle) for each in gang.bundles))
    bundles = {**demands, **constraint, **{each.bundle: each.count for gang in gangs for each in gang.bundles}}
    names = sorted({name for bundle in bundles for name in bundle.resources})
    types = sorted(state.config.node_types, key=lambda each: each.name)
    largest = _largest(names, types, state.nodes)
    learned = dict(state.learned)
    index = {name: i for i, name in enumerate(names)}
    shapes = {bundle: _shape(bundle, index, largest) for bundle in bundles}
    return Draft(
        state=state,
        names=tuple(names),
        views=tuple(_view(each, names, state.config.device_names, learned.get(each.name)) for each in types),
        shapes=shapes,
        demands=_sorted_counts(demands, shapes),
        constraint=_sorted_counts(constraint, shapes),
        gangs=tuple(sorted(gangs, key=lambda gang: _gang_order(gang, shapes))),
        instances=instances,
        rows=rows,
        displaced=displaced,
        backoffs={each.node_type: each for each in state.backoffs},
        prices=_prices(types, instances, is_weighed=False),
        weighed=_prices(types, instances, is_weighed=True),
        is_priced=all(each.cost is not None for each in types),
        least=_least(types, dict(state.held)),
        live=Counter(each.node_type for each in instances),
        staying=Counter(each.node_type for each in instances if each.status not in LEAVING),
        standing=Counter(each.node_type for each in instances if each.status in STANDING),
        launches=Counter(each.node_type for each in instances if each.is_launching),
        flying=Counter(each.node_type for each in instances if each.is_unjoined),
        leaving={each.instance_id for each in instances if each.status in LEAVING},
    )


def open_capacity(draft: Draft) -> None:
    """Fill in the runs: what takes work now or is on its way, by what is free (`runs`) and by totals (`floor`)."""
    free = _Capacity(draft)
    ours = frozenset(each.instance_id for each in draft.state.instances)
    settled: list[tuple[int, RayNode, Instance | None, Expectation | None]] = [
        (HEAD if row.is_head else SETTLED, row, None, None)
        for row in draft.state.nodes
        if row.takes_work and (row.is_head or _is_foreign(row, ours, draft))
    ]
    expected: list[tuple[Instance, RayNode | None, Expectation | None]] = []
    expectations = {each.instance_id: each for each in draft.state.expectations}
    for instance in draft.instances:
        if instance.instance_id in draft.leaving or instance.node_dead_since is not None or instance.stuck_since is not None:
            continue
        expectation = _live_expectation(instance, expectations, draft.state.now)
        row = draft.rows.get(instance.instance_id)
        is_room = row is not None and row.takes_work
        if instance.is_in_flight or (expectation is not None and is_room and not _is_grown(draft, instance, row)):
            expected.append((instance, row, expectation))
        elif row is not None and row.takes_work:
            settled.append((SETTLED, row, instance, expectation))
    free.add_settled(settled)
    free.add_expected(expected)
    known = {row.ray_node_id for row in (*(each[1] for each in settled), *(each[1] for each in expected)) if row is not None}
    known |= {row.ray_node_id for name, row in draft.rows.items() if name in draft.leaving}
    draft.is_more_there = bool(draft.gangs) and any(row.takes_work and row.ray_node_id not in known for row in draft.state.nodes)
    draft.runs, draft.floor, draft.totals = free.runs, free.floor, tuple(sorted(free.totals))


class _Alike(NamedTuple):
    """What makes nodes equal: what is free there, all that it has, its labels, and what it is launched or grows for."""

    tier: int
    node_type: str
    labels: Labels
    free: Room
    total: Room
    marks: frozenset[str] = frozenset()
    promises: tuple[Promise, ...] = ()


class _Capacity:
    """Collects runs; equal neighbours become one."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.marks_asked = {gang.label for gang in draft.gangs}
        self.misfits: dict[str, list[Misfit]] = {}
        for each in draft.state.misfits:
            self.misfits.setdefault(each.ray_node_id, []).append(each)
        self.labels: dict[Labels, Labels] = {}
        self.alike: dict[tuple[object, ...], _Alike] = {}
        self.busyness: dict[tuple[Resources, Resources], int] = {}
        self.runs: list[NodeRun] = []
        self.floor: list[NodeRun] = []
        self.totals: set[tuple[Labels, Room]] = set()

    def add_settled(self, nodes: Iterable[tuple[int, RayNode, Instance | None, Expectation | None]]) -> None:
        """Add joined nodes: the head first, then the busiest; of idle ones the cheapest, so that the dearest are left to go, then the longest idle last.

        What is free comes before the name, so that nodes alike are neighbours.
        """
        found = []
        for tier, row, instance, expectation in nodes:
            prefix = "head:" if tier == HEAD else "ray:"
            name = instance.instance_id if instance else f"{prefix}{row.ray_node_id}"
            used = 0 if row.status is NodeStatus.IDLE else self._busyness(row.available, row.total)
            order = (tier, -used, self.draft.price(row.node_type), row.idle_s, row.node_type, row.available.items_sorted, name)
            alike = self._alike(tier, row)
            found.append((order, self._grown(alike, row, instance) if instance and instance.growing else alike))
            if expectation is not None:
                found[-1] = (order, found[-1][1]._replace(promises=self._promises(expectation)))
        found.sort(key=itemgetter(0))
        for alike, group in groupby(found, key=itemgetter(1)):
            self._add(alike, tuple([order[-1] for order, _ in group]))

    def _grown(self, alike: _Alike, row: RayNode, instance: Instance) -> _Alike:
        """Return a joined node with what it is on its way to bring, which is no room for the constraint yet."""
        coming = instance.growing.resources if instance.growing else row.total
        grown = {name: coming.get(name, 0) - row.total.get(name, 0) for name in GROWS}
        known = tuple((i, grown[name]) for i, name in enumerate(self.draft.names) if grown.get(name, 0) > 0)
        self.totals.add((alike.labels, more(alike.total, known)))
        return alike._replace(free=more(alike.free, known))

    def add_expected(self, nodes: Iterable[tuple[Instance, RayNode | None, Expectation | None]]) -> None:
        """Add what was launched for something: oldest first, equal ones of one moment side by side."""
        groups: dict[tuple[float, _Alike], list[str]] = {}
        for instance, row, expectation in nodes:
            view = self._view_of(instance)
            if row is not None and not instance.is_in_flight:
                alike = self._alike(EXPECTED, row)
            elif view is not None:
                alike = _Alike(EXPECTED, view.name, self._labels(view.labels), view.room, view.room)
            else:
                continue
            alike = alike._replace(promises=self._promises(expectation))
            if view is not None and view.spare and alike.promises and instance.is_in_flight:
                alike = alike._replace(free=_room_for(view, alike.promises))
            groups.setdefault((instance.requested_at, alike), []).append(instance.instance_id)
        for (_, alike), members in sorted(groups.items(), key=lambda each: (each[0][0], min(each[1]))):
            self._add(alike, tuple(sorted(members)))

    def _add(self, alike: _Alike, members: tuple[str, ...]) -> None:
        for room, runs in ((alike.free, self.runs), (alike.total, self.floor)):
            runs.append(NodeRun(alike.tier, alike.node_type, alike.labels, room, members, alike.marks, promises=alike.promises))

    def _view_of(self, instance: Instance) -> TypeView | None:
        """Return what an instance brings once it joins: what it was launched with, also where its type has changed since."""
        view = self.draft.view(instance.node_type)
        made_as = instance.made_as
        if view is None or made_as is None or made_as.is_made_like(view.node_type):
            return view
        return _view(replace(made_as, resize=None), self.draft.names, self.draft.device_names)

    def _alike(self, tier: int, row: RayNode) -> _Alike:
        """Return what a row has in common with others: made once for all that are told alike."""
        key = (tier, row.node_type, row.labels, row.total, row.available)
        found = self.alike.get(key)
        if found is None:
            found = self.alike[key] = self._made_alike(tier, row)
        if self.marks_asked:
            found = found._replace(marks=frozenset(self.marks_asked.intersection(row.dynamic_labels)))
        if row.ray_node_id in self.misfits:
            found = found._replace(free=self._learned(row, found.free))
        return found

    def _made_alike(self, tier: int, row: RayNode) -> _Alike:
        names, units = self.draft.names, self.draft.device_names
        total = _room(row.total, names, units)
        labels = self._labels(tuple(sorted(row.labels)))
        self.totals.add((labels, total))
        return _Alike(tier, row.node_type, labels, _room(row.available, names, units, row.total), total)

    def _busyness(self, held: Resources, total: Resources) -> int:
        """Return the largest used share of any resource that work occupies, in millionths; of nodes that are alike, made once."""
        found = self.busyness.get((held, total))
        if found is None:
            free = held.amounts
            shares = ((amount - free.get(name, 0)) * PPM // amount for name, amount in total.items_sorted if _is_occupied(name))
            found = self.busyness[held, total] = max(shares, default=0)
        return found

    def _learned(self, row: RayNode, room: Room) -> Room:
        """Return the room without devices that the node turned out not to have."""
        found = list(room)
        for each in self.misfits.get(row.ray_node_id, ()):
            if each.name in self.draft.names:
                index = self.draft.names.index(each.name)
                held = found[index]
                found[index] = held.below(each.amount) if isinstance(held, Devices) else held
        return tuple(found)

    def _labels(self, labels: Labels) -> Labels:
        return self.labels.setdefault(labels, labels)

    def _promises(self, expectation: Expectation | None) -> tuple[Promise, ...]:
        if expectation is None:
            return ()
        return tuple(
            Promise(self.draft.shapes[each.bundle], each.count, each.gang_id, each.is_constraint)
            for each in expectation.reserves
            if each.bundle in self.draft.shapes and each.count > 0
        )


def _is_occupied(name: str) -> bool:
    return not name.startswith(NODE_PREFIX) and name != "object_store_memory"


def _live_expectation(instance: Instance, expectations: Mapping[str, Expectation], now: float) -> Expectation | None:
    """In flight an expectation holds; once joined only until its time, while its demand may still be in the report."""
    found = expectations.get(instance.instance_id)
    return found if found is not None and (instance.is_in_flight or found.until > now) else None


def _is_grown(draft: Draft, instance: Instance, row: RayNode | None) -> bool:
    """Whether a node has grown or is growing: what it is expected to take is beside what it holds, so it keeps its place among joined nodes."""
    view = draft.view(instance.node_type)
    if view is None or view.node_type.resize is None or row is None:
        return False
    brings = view.node_type.resources
    return instance.growing is not None or any(row.total.get(name, 0) > brings[name] for name in GROWS if name in brings)


def _room_for(view: TypeView, promises: Sequence[Promise]) -> Room:
    """Return the room of a node on its way, grown as far as it must to hold what it is launched for."""
    wanted = [(each.shape, each.each) for each in promises if not each.is_constraint]
    grown = growth_of(view.room, view.spare, wanted)
    return more(view.room, [(index, min(amount, dict(view.spare)[index])) for index, amount in grown])


def _is_foreign(row: RayNode, ours: frozenset[str], draft: Draft) -> bool:
    """Whether a node is the user's own. One that names a type of ours but no instance of ours is a ghost, its room is none (FH-17)."""
    is_like_ours = bool(row.instance_id) and draft.view(row.node_type) is not None
    return row.instance_id not in ours and not is_like_ours


def _rows(instances: Iterable[Instance], nodes: Iterable[RayNode]) -> dict[str, RayNode]:
    """Return the live row of each joined instance: the one it names; others of the same instance_id are ghosts."""
    alive = {(row.instance_id, row.ray_node_id): row for row in nodes if row.is_alive and not row.is_head}
    found = {each.instance_id: alive.get((each.instance_id, each.ray_node_id)) for each in instances if each.has_joined}
    return {name: row for name, row in found.items() if row is not None}


def _displaced(instance: Instance, row: RayNode | None) -> Resources | None:
    """Return what work uses of a node that somebody else is about to end: it will be wanted again then, so it is planned for now."""
    if instance.ends_at is None or row is None:
        return None
    free = row.available.amounts
    used = {name: amount - free.get(name, 0) for name, amount in row.total.items_sorted if not _is_nobodys(name)}
    return Resources({name: amount for name, amount in used.items() if amount > 0}) or None


def _is_nobodys(name: str) -> bool:
    """Whether no task asks for a resource by that name: it comes with one node, with one placement group, or is used without being asked for."""
    return name.startswith((NODE_PREFIX, IMPLICIT_PREFIX)) or GROUP_MARK in name or name == "object_store_memory"


def _grouped(demands: Iterable[Demand]) -> dict[Bundle, int]:
    counts: Counter[Bundle] = Counter()
    for each in demands:
        if each.count > 0 and not is_synthetic(each.bundle):
            counts[each.bundle] += each.count
    return dict(counts)


def is_synthetic(bundle: Bundle) -> bool:
    """Whether this is a task inside a placement group; the gang is the demand, not its tasks (DK-18)."""
    return any(name.startswith("bundle_group_") for name in bundle.resources)


def _sorted_counts(counts: Mapping[Bundle, int], shapes: Mapping[Bundle, Shape]) -> dict[Shape, int]:
    pairs = ((shapes[bundle], count) for bundle, count in counts.items())
    return dict(sorted(pairs, key=lambda each: each[0].order))


def _shape(bundle: Bundle, index: Mapping[str, int], largest: Mapping[str, int]) -> Shape:
    """Return a bundle's shape; most label conditions, most kinds, largest share of any node come first."""
    items = bundle.resources.items_sorted
    conditions = sum(len(selector.conditions) for selector in bundle.selectors)
    share = max((amount * PPM // max(1, largest[name]) for name, amount in items), default=0)
    order = (-conditions, -len(items), -share, items, bundle.selectors)
    return Shape(bundle, tuple((index[name], amount) for name, amount in items), order)


def _gang_order(gang: Gang, shapes: Mapping[Bundle, Shape]) -> tuple[object, ...]:
    """More constrained first (strict strategies, labels), then larger, then by id."""
    conditions = sum(len(selector.conditions) for each in gang.bundles for selector in each.bundle.selectors)
    content = sorted((shapes[each.bundle].order, each.count) for each in gang.bundles)
    return (not gang.strategy.startswith("STRICT"), -conditions, -gang.size, gang.gang_id, gang.strategy, content)


def _least(types: Iterable[NodeType], held: Mapping[str, int]) -> dict[str, int]:
    return {each.name: max(each.min_workers, held.get(each.name, 0)) for each in types}


def _prices(types: Iterable[NodeType], instances: Iterable[Instance], *, is_weighed: bool) -> dict[str, int]:
    """Return each type's cost in millionths, 0 where there is none; of a type that is gone, what it was when its nodes were launched."""
    known = {each.name: each for each in types}
    gone = {each.node_type: each.made_as for each in instances if each.made_as is not None and each.node_type not in known}
    return {name: round(((each.weighed_cost if is_weighed else each.cost) or 0) * PPM) for name, each in {**gone, **known}.items()}


def _largest(names: Iterable[str], types: Iterable[NodeType], nodes: Iterable[RayNode]) -> dict[str, int]:
    sources = [each.amounts for each in {*(each.resources for each in types), *(row.total for row in nodes)}]
    return {name: max((source.get(name, 0) for source in sources), default=0) for name in names}


def _room(held: Resources, names: Iterable[str], units: frozenset[str], total: Resources | None = None) -> Room:
    """Return amounts by name, devices one by one; an implicit resource that a node has not listed yet is there in full (DK-8)."""
    listed = held.amounts
    whole = listed if total is None else total.amounts
    return tuple([_held(name, listed, whole, name in units) for name in names])


def _held(name: str, listed: Mapping[str, int], whole: Mapping[str, int], is_device: bool) -> int | Devices:
    if is_device:
        return devices(whole.get(name, 0), listed.get(name, 0))
    found = listed.get(name)
    if found is None:  # all used up is left out
        return UNIT if name.startswith(IMPLICIT_PREFIX) and name not in whole else 0
    return max(0, found)


def _view(node_type: NodeType, names: Sequence[str], units: frozenset[str], learned: Resources | None = None) -> TypeView:
    room = _room(node_type.resources if learned is None else learned, names, units)
    brings = amounts(room)
    kinds = tuple(i for i, name in enumerate(names) if brings[i] > 0 and not name.startswith(NODE_PREFIX))
    spare = _spare(node_type, names, brings, learned)
    return TypeView(node_type, tuple(sorted(node_type.node_labels().items())), room, brings, kinds, spare)


def _spare(node_type: NodeType, names: Sequence[str], brings: Sequence[int], learned: Resources | None) -> Needs:
    """Return by how much nodes of a type may grow; nothing where they join with less than it says, for which nobody knows why."""
    if node_type.resize is None or (learned is not None and any(learned.get(name, 0) < node_type.resources.get(name, 0) for name in GROWS)):
        return ()
    most = node_type.resize.resources
    known = ((index, most.get(name, 0) - brings[index]) for index, name in enumerate(names) if name in GROWS)
    return tuple((index, amount) for index, amount in known if amount > 0)
