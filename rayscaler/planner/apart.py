"""Gangs with a node for each bundle: on nodes that are there as far as that goes, and launched for the rest.

First fit does mostly. Where it does not, bundles are matched with nodes, which finds a way wherever there is one.
"""

from collections import Counter
from collections.abc import Sequence

from rayscaler.model.demand import Gang
from rayscaler.model.instance import Reason
from rayscaler.planner import limits, matching, packing, refuse, replicas
from rayscaler.planner.choose import Memo, Wanted, choose
from rayscaler.planner.sim import NEW, Draft, Load, NodeRun, Shape, loaded, sizes

FULL = refuse.Verdict(Reason.NO_ROOM, "")
"""An attempt on existing room alone that did not do; another follows."""


def refusal(draft: Draft, shape: Shape) -> refuse.Verdict:
    """Return why no node could be launched for a bundle."""
    return refuse.verdict(draft, shape, is_speed_bound=False)


def existing(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put each bundle on an existing node of its own."""
    return FULL if any(place(draft, gang, shape, count) for shape, count in wanted) else None


def place(draft: Draft, gang: Gang, shape: Shape, count: int) -> int:
    """Put bundles on existing nodes that have none of the gang; return how many were not."""
    return packing.place(draft, draft.runs, shape, count, gang_id=gang.gang_id, mark=gang.label, per_node=1, is_apart=True)


def matched(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put each bundle on an existing node of its own where first-fit found no way; with one shape it always finds it."""
    if len(wanted) == 1:
        return FULL
    placed = _match(draft, gang, wanted)
    if placed is None:
        return FULL
    draft.runs = [each for run, counts in zip(draft.runs, placed, strict=True) for each in _taken(run, counts, gang)]
    return None


def launched(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put each on an existing node of its own, first fit, and launch one for each that is left."""
    for shape, count in wanted:
        if launch(draft, gang, shape, place(draft, gang, shape, count)):
            return refusal(draft, shape)
    return None


def launch(draft: Draft, gang: Gang, shape: Shape, count: int) -> int:
    """Launch a node for each; return how many could not be."""
    while count:
        pick = choose(draft, {shape: 1}, Memo([shape], draft.device_kinds), is_speed_bound=False, nodes=count)
        if pick is None:
            break
        run = draft.launch(pick.view, replicas.at_once(pick.view.node_type, min(pick.room, count)), Reason.GANG)
        draft.runs.append(loaded(run, run.members, Load(shape, 1, gang.gang_id), gang.label))
        count -= len(run.members)
    return count


def matched_and_launched(draft: Draft, gang: Gang, wanted: Wanted) -> bool:
    """Put each on a node of its own where first fit took the wrong ones, launching as few as will do; return whether all have one, else change nothing."""
    if len(wanted) == 1:
        return False
    total = sum(count for _, count in wanted)
    rooms = {view: min(limits.room(draft, view), total) for view in sorted(draft.views, key=lambda each: draft.price(each.name))}
    fresh = [NodeRun(NEW, view.name, view.labels, view.room, range(room)) for view, room in rooms.items()]
    placed = _match(draft, gang, wanted, fresh)
    if placed is None:
        return False
    mark, there = draft.mark(), len(draft.runs)
    draft.runs = [each for run, counts in zip(draft.runs, placed[:there], strict=True) for each in _taken(run, counts, gang)]
    for view, counts in zip(rooms, placed[there:], strict=True):
        if counts.total() > limits.room(draft, view):  # what all types share is used up
            draft.reset(mark)
            return False
        if counts.total():
            draft.runs.extend(_taken(draft.launch(view, counts.total(), Reason.GANG), counts, gang))
    return True


def _match(draft: Draft, gang: Gang, wanted: Wanted, fresh: Sequence[NodeRun] = ()) -> list[Counter[Shape]] | None:
    label = gang.label

    def fits(shape: Shape, run: NodeRun) -> bool:
        return label not in run.marks and draft.can_hold(run, shape)

    return matching.match(wanted, draft.runs, fits, draft.begin, fresh)


def _taken(run: NodeRun, counts: Counter[Shape], gang: Gang) -> list[NodeRun]:
    """Return a run with so many of each shape, each on a node of its own."""
    runs, members = list[NodeRun](), run.members
    for shape, count in sizes(counts.items()):
        runs.append(loaded(run, members[:count], Load(shape, 1, gang.gang_id), gang.label))
        members = members[count:]
    return [*runs, run._replace(members=members)] if members else runs
