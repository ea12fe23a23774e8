"""Places a gang by trying one way after another, where filling nodes in order found none: few bundles of several shapes, on few nodes.

What has two dimensions can be filled in a wrong order; to find the right one takes time, so there is little of it.
"""

from collections.abc import Iterator, Sequence

from rayscaler.model.demand import Gang
from rayscaler.model.instance import Reason
from rayscaler.planner import limits
from rayscaler.planner.choose import Wanted
from rayscaler.planner.sim import Draft, Load, NodeRun, Shape, loaded, put

MOST_BUNDLES, MOST_RUNS = 12, 32
"""Above, there are more ways than there is time for."""
TRIES = 300
"""Bundles put somewhere, for one gang."""


def place(draft: Draft, gang: Gang, wanted: Wanted) -> bool:
    """Place all that is wanted of a gang anywhere, or nothing; return whether it was."""
    bundles = [shape for shape, count in wanted for _ in range(min(count, MOST_BUNDLES + 1))]
    if len(wanted) < 2 or len(bundles) > MOST_BUNDLES or len(draft.runs) > MOST_RUNS or not _has_each_a_place(draft, wanted):
        return False
    tries = iter(range(TRIES))

    def goes(left: Sequence[Shape]) -> bool:
        if not left:
            return True
        for runs in _ways(draft, gang, left[0]):
            if next(tries, None) is None:
                return False
            draft.runs = runs
            if goes(left[1:]):
                return True
        return False

    mark = draft.mark()
    is_placed = goes(bundles)
    if not is_placed:
        draft.reset(mark)
    return is_placed


def _has_each_a_place(draft: Draft, wanted: Wanted) -> bool:
    open_views = [view for view in draft.views if limits.room(draft, view)]
    return all(
        any(draft.can_hold(view, shape) for view in open_views) or any(draft.can_hold(run, shape) for run in draft.runs)
        for shape, _ in wanted
    )


def _ways(draft: Draft, gang: Gang, shape: Shape) -> Iterator[list[NodeRun]]:
    """Yield the runs with one more of the gang, on each node that is there, then on a new one of each type; the draft is as it was in between."""
    mark, load = draft.mark(), Load(shape, 1, gang.gang_id)
    seen = set()
    for position, run in enumerate(mark.runs):
        if (run.labels, run.room) not in seen and draft.can_hold(run, shape):
            seen.add((run.labels, run.room))
            parts, _ = put(run, load, 1, gang.label)
            yield [*mark.runs[:position], *parts, *mark.runs[position + 1 :]]
            draft.reset(mark)
    for view in draft.views:
        if draft.can_hold(view, shape) and limits.room(draft, view):
            run = draft.launch(view, 1, Reason.GANG)
            yield [*draft.runs, loaded(run, run.members, load, gang.label)]
            draft.reset(mark)
