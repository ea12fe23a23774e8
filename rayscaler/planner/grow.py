"""Growth in place: what no node has room for goes on nodes that may grow, before anything is launched for it.

A node grows by exactly what it lacks, in whole CPUs and bytes, and as few nodes as a greedy choice finds: always the one that takes most of
what is largest. Owns which nodes grow, how far, and for what. Knows nothing of who makes them grow.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import GROWS
from rayscaler.planner import limits
from rayscaler.planner.choose import Wanted, special
from rayscaler.planner.packing import filled, place_each
from rayscaler.planner.sim import Draft, NodeRun, Shape, TypeView, growth_of, less, more, times

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
    """Nodes of a run that may grow alike, as far as not yet taken."""

    run: NodeRun
    members: tuple[str, ...]
    spare: Spare
    view: TypeView


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
    left, spots = dict(wanted), list(_spots(draft))
    spared: dict[tuple[str, Shape], bool] = {}
    found: dict[str, _Grown] = {}

    def may(spot: _Spot, shape: Shape) -> bool:
        key = (spot.view.name, shape)
        if key not in spared:
            spared[key] = _is_spared(draft, spot.view, shape)
        return not spared[key] and draft.rank(shape, spot.run.labels) is not None

    def content(spot: _Spot, lead: Shape) -> Wanted:
        room, taken = more(spot.run.room, spot.spare), Wanted()
        for shape in (lead, *(each for each in left if each is not lead)):
            each = min(left[shape], times(room, shape.needs))
            if each and may(spot, shape):
                room = less(room, shape.needs, each)
                taken.append((shape, each))
        return taken

    for lead, _ in wanted:
        able = [each for each in spots if times(more(each.run.room, each.spare), lead.needs) and may(each, lead)] if left[lead] else []
        while able and left[lead]:
            spot, taken = _best(draft, [(each, content(each, lead)) for each in able[:FEW]])
            count = min(len(spot.members), *(left[shape] // each for shape, each in taken))
            grown = _Grown(taken, growth_of(spot.run.room, spot.spare, taken))
            found.update(dict.fromkeys(spot.members[:count], grown))
            spot.members = spot.members[count:]
            if not spot.members:
                able.remove(spot)
                spots.remove(spot)
            for shape, each in taken:
                left[shape] -= each * count
    return found


def _best(draft: Draft, able: Iterable[tuple[_Spot, Wanted]]) -> tuple[_Spot, Wanted]:
    """Return the one whose labels are liked best, that has least of what is not asked for, takes most and grows least; then the first."""

    def order(each: tuple[_Spot, Wanted]) -> tuple[object, ...]:
        spot, taken = each
        lead, count = taken[0]
        grown = [amount for _, amount in growth_of(spot.run.room, spot.spare, taken, is_all=True)]
        return (draft.rank(lead, spot.run.labels), special(spot.view, lead), -count, -sum(each for _, each in taken), grown)

    return min(able, key=order)


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
                yield _Spot(run, tuple(members), spare, view)


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
