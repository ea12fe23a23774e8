"""The order in which a gang gets parts of devices: that of its bundles' index, each from the device where it fits closest.

Owns what a gang wants in that order, and what is said where the order alone is in the way. Ray's GCS chooses nodes by sums and sends a node
all bundles of a gang that it shall hold, by index; the raylet gives out one after the other, or takes none.
"""

from collections.abc import Iterable, Mapping
from itertools import groupby

from rayscaler.model.demand import Bundle, Gang, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.resources import UNIT, Resources
from rayscaler.planner import refuse
from rayscaler.planner.choose import Wanted
from rayscaler.planner.devices import Several
from rayscaler.planner.sim import Draft, NodeRun, Room, Shape, TypeView, after, amounts, less, times

STEPS = 2_000
"""Bundles given out at most in looking for an order, for one gang and one kind of node."""

FIRST, LAST = ("GPU",), ("object_store_memory", "memory", "CPU")
"""Resources by which Ray sorts the bundles that it packs, the most of them first; all others lie between these."""


def wanted_of(draft: Draft, gang: Gang) -> Wanted:
    """Return what a gang wants in Ray's order; the same shape may come again later."""
    return _joined((draft.shapes[each.bundle], each.count) for each in gang.bundles if each.count > 0)


def rest_of(wanted: Wanted, rest: Wanted) -> Wanted:
    """Return of what is wanted in Ray's order as much as is left, in that order."""
    left, found = dict(rest), Wanted()
    for shape, count in wanted:
        taken = min(count, left.get(shape, 0))
        if taken:
            left[shape] -= taken
            found.append((shape, taken))
    return _joined(found)


def _joined(wanted: Iterable[tuple[Shape, int]]) -> Wanted:
    return [(shape, sum(count for _, count in alike)) for shape, alike in groupby(wanted, key=lambda each: each[0])]


def merged(draft: Draft, wanted: Wanted) -> Shape:
    """Return all of `wanted` as one shape, the same for the same: amounts added up, but of devices each by itself, in this order."""
    key = tuple(wanted)
    if key not in draft.merged:
        draft.merged[key] = _merged(draft, wanted)
    return draft.merged[key]


def _merged(draft: Draft, wanted: Wanted) -> Shape:
    sums, needs = Resources(), dict[int, list[tuple[int, int]]]()
    for shape, count in wanted:
        sums = sums.add(shape.bundle.resources, count)
        for index, amount in shape.needs:
            needs.setdefault(index, []).append((amount, count))
    devices = draft.device_kinds
    at_once = [(index, Several.of(each) if index in devices else sum(a * n for a, n in each)) for index, each in sorted(needs.items())]
    return Shape(Bundle(sums), tuple(at_once), (), tuple(shape for shape, _ in wanted))


def is_plain(wanted: Wanted) -> bool:
    """Whether each shape comes once: then any part of what is wanted comes in the same order."""
    return len({shape for shape, _ in wanted}) == len(wanted)


def safe(draft: Draft, wanted: Wanted, whole: Wanted | None = None) -> Wanted:
    """Return what is wanted, each shape once, as if all parts of a device were as large as the largest: so they have room in any order.

    Wherever that many large ones have room, a smaller one finds too little only where as many have been given out already. A rest is taken to be
    as large as it was as part of its `whole`.
    """
    largest: dict[int, int] = {}
    for index, amount in (need for shape, _ in whole or wanted for need in shape.needs):
        if index in draft.device_kinds and amount < UNIT:
            largest[index] = max(amount, largest.get(index, 0))
    return [(_safe(shape, largest), count) for shape, count in _counts(wanted).items()]


def _counts(wanted: Wanted) -> dict[Shape, int]:
    counts: dict[Shape, int] = {}
    for shape, count in wanted:
        counts[shape] = counts.get(shape, 0) + count
    return counts


def _safe(shape: Shape, largest: Mapping[int, int]) -> Shape:
    needs = tuple((index, max(amount, largest.get(index, 0)) if amount < UNIT else amount) for index, amount in shape.needs)
    return Shape(shape.bundle, needs, shape.order)


def as_asked(draft: Draft, run: NodeRun, gang: Gang) -> NodeRun:
    """Return the run with what was put there of `gang` as if it were larger taken as it is."""
    if gang.label not in run.marks or not any(load.gang_id == gang.gang_id for load in run.load):
        return run
    room, loads = run.bare, [load._replace(shape=draft.shapes[load.shape.bundle]) for load in run.load]
    for load in loads:
        room = less(room, load.shape.needs, load.each)
    return run._replace(room=room, load=tuple(loads))


def in_the_way(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Return what is said where a node holds all of a gang in another order only; None where the order is not what is in the way.

    It may still be had: what else runs on a node can leave its devices so that this order does. So Ray is not told that it never will.
    """
    if draft.state.no_launch is not None:
        return None
    whole = merged(draft, wanted)
    if refuse.fits_a_node(draft, whole) or any(draft.can_hold(view, whole) for view in draft.views):
        return None
    able = {
        view.name: found for view in draft.views if draft.rank(whole, view.labels) is not None and (found := _order_for(view.room, wanted))
    }
    is_strict = gang.strategy is Strategy.STRICT_PACK  # elsewhere than there it can't be had then
    there = [room for labels, room in draft.totals if is_strict and draft.rank(whole, labels) is not None]
    found = next(iter(able.values()), None) or next(filter(None, (_order_for(room, wanted) for room in there)), None)
    if found is None:
        return None
    where = f"of {', '.join(able)}" if able else "that is there"
    return refuse.Verdict(
        Reason.BUNDLE_ORDER,
        f"waits: a node {where} has devices enough, but not in the order of its bundles, in which Ray gives out parts of devices; "
        f"it would fit as {', '.join(f'{shape.bundle} x {count}' for shape, count in found)}",
    )


def _order_for(room: Room, wanted: Wanted) -> Wanted | None:
    """Return an order in which all that is wanted has this room: the largest first if that will do; None where none is found in STEPS."""
    counts = _counts(wanted)
    shapes = sorted(counts, key=lambda shape: sorted((amount for _, amount in shape.needs), reverse=True), reverse=True)
    seen: set[tuple[Room, tuple[int, ...]]] = set()
    ways: list[tuple[Room, tuple[int, ...], Wanted]] = [(room, tuple(counts[shape] for shape in shapes), [])]
    while ways and len(seen) < STEPS:
        room, left, given = ways.pop()
        if not any(left):
            return _joined(given)
        if (room, left) in seen:
            continue
        seen.add((room, left))
        for index in reversed(range(len(shapes))):
            if left[index] and times(room, shapes[index].needs):
                after_one = (*left[:index], left[index] - 1, *left[index + 1 :])
                ways.append((less(room, shapes[index].needs, 1), after_one, [*given, (shapes[index], 1)]))
    return None


def deceiving(draft: Draft, gang: Gang) -> frozenset[str]:
    """Return the node types of which an empty node would be sent more of a gang than its devices hold: Ray packs by sums, largest parts first.

    Such a gang is never made, however many nodes there are; Ray takes all back and does the same again.
    """
    if gang.strategy is not Strategy.PACK or not draft.device_kinds:
        return frozenset()
    wanted = wanted_of(draft, gang)
    if not any(index in draft.device_kinds and amount < UNIT for shape, _ in wanted for index, amount in shape.needs):
        return frozenset()
    return frozenset(view.name for view in draft.views if after(view.room, rest_of(wanted, _sent(draft, view, wanted))) is None)


def _sent(draft: Draft, view: TypeView, wanted: Wanted) -> Wanted:
    """Return what Ray sends an empty node of a type: all that sums allow, in the order of its BundleSchedulingPolicy."""
    pool: Room = amounts(view.room)
    found = Wanted()
    counts = _counts(wanted)
    others = sorted({name for shape in counts for name in shape.bundle.resources}.difference(FIRST, LAST))
    for shape in sorted(counts, key=lambda each: [-each.bundle.resources.get(name, 0) for name in (*FIRST, *others, *LAST)]):
        count = counts[shape]
        sent = min(count, times(pool, shape.needs)) if draft.rank(shape, view.labels) is not None else 0
        if sent:
            pool = less(pool, shape.needs, sent)
            found.append((shape, sent))
    return found


def is_sure(draft: Draft, gang: Gang) -> bool:
    """Whether all parts of a gang have room where promises have put them, as far as Ray's order is known."""
    return is_in_turn(draft, gang) or is_any(draft, draft.runs, gang)


def is_any(draft: Draft, runs: Iterable[NodeRun], gang: Gang) -> bool:
    """Whether on each of these nodes the parts of a gang have room in whatever order they come."""
    return all(_is_any(draft, run, [(each.shape, each.each) for each in run.load if each.gang_id == gang.gang_id]) for run in runs)


def _is_any(draft: Draft, run: NodeRun, content: Wanted) -> bool:
    return len({shape for shape, _ in content}) < 2 or after(run.bare, safe(draft, content)) is not None


def is_in_turn(draft: Draft, gang: Gang) -> bool:
    """Whether on each node the parts of a gang come in Ray's order, which is known where each shape comes once, and of a node that has all."""
    wanted = wanted_of(draft, gang)
    loads = ([(load.shape, load.each) for load in run.load if load.gang_id == gang.gang_id] for run in draft.runs)
    on_each = [each for each in loads if each]
    if not is_plain(wanted):
        return [_joined(each) for each in on_each] == [wanted]
    turns = {shape: turn for turn, (shape, _) in enumerate(wanted)}
    return all(each == sorted(each) for each in ([turns.get(shape, 0) for shape, _ in content] for content in on_each))
