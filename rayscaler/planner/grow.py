"""Growth in place: what no node has room for goes on nodes that may grow, before anything is launched for it.

A node grows by exactly what it lacks, in whole CPUs and bytes, and as few nodes as a greedy choice finds: always the one that takes most of
what is largest. Owns which nodes grow, how far, and for what. Knows nothing of who makes them grow.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import GROWS
from rayscaler.planner import limits
from rayscaler.planner.choose import Fill, Order, Wanted, special
from rayscaler.planner.packing import filled, place_each
from rayscaler.planner.sim import Draft, NodeRun, Room, Shape, TypeView, growth_of, less, more, times

FEW = 64
"""Different nodes of those that could take something among which the best is looked for."""

Spare = tuple[tuple[int, int], ...]
"""By how much a node may still grow: (index of resource name, amount)."""


class _Grown(NamedTuple):
    """What a node takes, and what it needs more for that."""

    content: Wanted
    more: Spare


@dataclass(eq=False)
class _Spot:
    """Nodes of a run that may grow alike, as far as not yet taken. `wide` is their room if they grew as far as they may.

    `fill` is what one of them takes, with its place in the order: it stays the same while there is enough of what is left.
    """

    run: NodeRun
    members: tuple[str, ...]
    spare: Spare
    view: TypeView
    wide: Room
    fill: Fill | None = None


class _Fills:
    """What nodes would take of what is left, the largest first."""

    def __init__(self, draft: Draft, wanted: Wanted) -> None:
        self.left = dict(wanted)
        self._draft = draft
        self._spared: dict[tuple[str, Shape], bool] = {}

    def may(self, spot: _Spot, shape: Shape) -> bool:
        """Whether labels, and what the node has besides, allow a shape there."""
        key = (spot.view.name, shape)
        if key not in self._spared:
            self._spared[key] = _is_spared(self._draft, spot.view, shape)
        return not self._spared[key] and self._draft.rank(shape, spot.run.labels) is not None

    def of(self, spot: _Spot, lead: Shape) -> Fill:
        """Return what a node takes, the lead first."""
        if spot.fill is None or spot.fill.content[0][0] is not lead or not spot.fill.holds_for(self.left):
            spot.fill = self._filled(spot, lead)
        return spot.fill

    def _filled(self, spot: _Spot, lead: Shape) -> Fill:
        room, taken, exact = spot.wide, Wanted(), set[Shape]()
        for shape in (lead, *(each for each in self.left if each is not lead)):
            most = times(room, shape.needs)
            each = min(self.left[shape], most)
            if each and self.may(spot, shape):
                room = less(room, shape.needs, each)
                taken.append((shape, each))
                if each < most:
                    exact.add(shape)
        return Fill(taken, frozenset(exact), self._order(spot, lead, taken))

    def _order(self, spot: _Spot, lead: Shape, taken: Wanted) -> Order:
        """Liked best are labels first, then who has least of what is not asked for, takes most and grows least."""
        grown = {self._draft.names[index]: amount for index, amount in growth_of(spot.run.room, spot.spare, taken)}
        cpus, memory = (grown.get(name, 0) for name in GROWS)
        rank = self._draft.rank(lead, spot.run.labels) or 0
        return (rank, special(spot.view, lead), -taken[0][1], -sum(each for _, each in taken), cpus, memory, "")

    def take(self, spot: _Spot, fill: Fill) -> int:
        """Count the content out for as many of the nodes as it comes out the same for; return for how many."""
        count = min(len(spot.members), *(self.left[shape] // each for shape, each in fill.content))
        for shape, each in fill.content:
            self.left[shape] -= each * count
            if not self.left[shape]:
                del self.left[shape]
        return count


def serve(draft: Draft, wanted: Wanted) -> Wanted:
    """Let nodes grow for what has room nowhere, and put that on them; return what else is wanted, not yet placed."""
    if not _is_open(draft):
        return wanted
    mark = draft.mark()
    left = [each for each in place_each(draft, wanted) if each[1]]
    found = _grown(draft, left) if left else {}
    draft.reset(mark)
    return _grow(draft, found, wanted) if found else wanted


def serve_rest(draft: Draft, refused: Wanted) -> Wanted:
    """Serve what no launch may serve: by nodes that were spared before, then by launches that will have to grow; return what is still refused."""
    if not refused or not _is_open(draft):
        return refused
    found = _grown(draft, refused)
    return [each for shape, count in _grow(draft, found, refused) for each in _launched(draft, shape, count)]


def _is_open(draft: Draft) -> bool:
    return draft.state.no_launch is None and any(view.node_type.resize for view in draft.views)


def _grow(draft: Draft, found: Mapping[str, _Grown], wanted: Wanted) -> Wanted:
    """Make nodes that much larger, with what they grow for on them; return what is left of what is wanted."""
    left = dict(wanted)
    runs: list[NodeRun] = []
    for run in draft.runs:
        if isinstance(run.members, range) or found.keys().isdisjoint(run.members):
            runs.append(run)
            continue
        for grown, members in groupby(run.members, key=found.get):
            part = run._replace(members=tuple(members))
            runs.append(part if grown is None else filled(_larger(part, grown.more), grown.content))
    for name, grown in found.items():
        draft.grown[name] = draft.grown.get(name, Counter()) + Counter(dict(grown.more))
        for shape, each in grown.content:
            left[shape] -= each
    draft.runs = runs
    return [(shape, count) for shape, count in left.items() if count]


def _larger(run: NodeRun, grown: Spare) -> NodeRun:
    return run._replace(room=more(run.room, grown), bare=more(run.bare, grown) if run.bare else run.bare)


def _grown(draft: Draft, wanted: Wanted) -> dict[str, _Grown]:
    """Return which nodes grow, by how much and for what of this."""
    fills, spots = _Fills(draft, wanted), list(_spots(draft))
    found: dict[str, _Grown] = {}
    for lead, _ in wanted:
        able = [each for each in spots if times(each.wide, lead.needs) and fills.may(each, lead)] if lead in fills.left else []
        while able and lead in fills.left:
            spot = min(able[:FEW], key=lambda each: fills.of(each, lead).order)
            fill = fills.of(spot, lead)
            grown = _Grown(fill.content, growth_of(spot.run.room, spot.spare, fill.content))
            count = fills.take(spot, fill)
            found.update(dict.fromkeys(spot.members[:count], grown))
            spot.members = spot.members[count:]
            if not spot.members:
                able.remove(spot)
                spots.remove(spot)
    return found


def _is_spared(draft: Draft, view: TypeView, shape: Shape) -> bool:
    """Whether nodes of a type are left to those who ask for its special kinds, since another type can be launched (J1)."""
    own = special(view, shape)
    return own > 0 and any(
        special(other, shape) < own and draft.can_hold(other, shape) and limits.room(draft, other) for other in draft.views
    )


def _spots(draft: Draft) -> Iterator[_Spot]:
    spares = {each.instance_id: spare for each in draft.instances if (spare := _spare(draft, each))}
    for run in draft.runs:
        view = draft.view(run.node_type)
        if view is None or view.node_type.resize is None or isinstance(run.members, range):
            continue
        for spare, members in groupby(run.members, key=lambda name: spares.get(name, ())):
            if spare:
                yield _Spot(run, tuple(members), spare, view, more(run.room, spare))


def _spare(draft: Draft, instance: Instance) -> Spare:
    """Return by how much a node may grow now; nothing while it is growing, or rejoining, or where it has less than its type says."""
    view, row = draft.view(instance.node_type), draft.rows.get(instance.instance_id)
    if view is None or view.node_type.resize is None or row is None or draft.state.config.is_outdated(instance.made_as):
        return ()
    if instance.status is not InstanceStatus.RUNNING or instance.growing is not None or instance.ungrown_until > draft.state.now:
        return ()
    total, most = row.total, view.node_type.resize.resources
    if any(total.get(name, 0) < view.node_type.resources.get(name, 0) for name in GROWS):
        return ()
    before = draft.grown.get(instance.instance_id, Counter())
    known = ((i, most.get(name, 0) - total.get(name, 0) - before.get(i, 0)) for i, name in enumerate(draft.names) if name in GROWS)
    return tuple((index, amount) for index, amount in known if amount > 0)


def _launched(draft: Draft, shape: Shape, count: int) -> Wanted:
    """Launch, for what no type holds as it is launched, one that will hold it once it has grown; return what is left of it."""
    if any(draft.can_hold(view, shape) for view in draft.views):
        return [(shape, count)]
    while count:
        views = [view for view in draft.views if draft.can_hold_grown(view, shape) and limits.room(draft, view) and _grows(draft, view)]
        if not views:
            break
        view = min(views, key=lambda each: (draft.rank(shape, each.labels), -each.node_type.priority, special(each, shape), each.name))
        each = min(count, times(view.grown, shape.needs))
        nodes = min(count // each, limits.room(draft, view), limits.speed_room(draft, view))
        if nodes <= 0:
            break
        run = draft.launch(view, nodes, Reason.DEMAND)
        grown = growth_of(view.room, view.spare, [(shape, each)])
        draft.runs.append(filled(_larger(run, grown), [(shape, each)]))
        count -= nodes * each
    return [(shape, count)] if count else []


def _grows(draft: Draft, view: TypeView) -> bool:
    """Whether nodes of a type grow, as far as is known: where one could not of late, another one would be launched in vain."""
    return not any(each.node_type == view.name and each.ungrown_until > draft.state.now for each in draft.instances)
