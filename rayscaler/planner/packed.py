"""Places gangs for whose parts of devices Ray chooses nodes by sums: where it surely makes them, else where it may; and tells of the others.

Owns what is done about Ray's choice. What that is planner/sent.py knows; how a gang lies otherwise, planner/gangs.py.
"""

from collections.abc import Callable
from typing import NamedTuple

from rayscaler.model.demand import Gang
from rayscaler.model.instance import Reason
from rayscaler.planner import apart, order, refuse
from rayscaler.planner.choose import Wanted
from rayscaler.planner.packing import gang_counts, launch_for
from rayscaler.planner.sent import JOINED, Choice, Fate
from rayscaler.planner.sim import EXPECTED, NEW, Draft, NodeRun, sizes

Attempt = Callable[[Draft, Gang, Wanted], refuse.Verdict | None]


class By(NamedTuple):
    """How a gang is placed as any other, how it is launched for, how what promises put of it is taken back, and a run without it."""

    place: Attempt
    launches: tuple[Attempt, ...]
    release: Callable[[Draft, Gang], None]
    freed: Callable[[NodeRun, Gang], NodeRun]


def place(draft: Draft, gang: Gang, rest: Wanted, by: By) -> refuse.Verdict | None:
    """Place a gang of which promises have left `rest`; return None, or why it cannot be had.

    Where Ray never makes it on nodes that are there, it is launched for if Ray sends it to the new ones, and there it is made.
    """
    before, stayed = draft.mark(), dict(draft.state.stayed).get(gang.gang_id, 0)
    there = Choice(draft, gang, [by.freed(run, gang) for run in draft.runs], JOINED)
    sure = None if stayed or gang.gang_id in draft.kept else _sure(draft, gang, there)
    if sure is not None and sure.has_deceiver:
        sure.put()
        return None
    found = by.place(draft, gang, rest)
    if sure is not None and (found is not None or len(draft.launching) > before.launching):
        draft.reset(before)
        sure.put()
        return None
    if found is not None:
        return found
    is_hopeless = stayed > 1 or (stayed > 0 and there.fate is Fate.MADE)  # then nobody knows what would help
    if not is_hopeless and _may_be_made(draft, gang, there, by, has_stayed=bool(stayed)):
        return None
    draft.reset(before)
    by.release(draft, gang)
    is_launched_for = not is_hopeless and _is_launched_for(draft, gang, by)
    return None if is_launched_for else refuse.packed_by_sum(has_stayed=bool(stayed))


def new_nodes(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Launch for all that is wanted, whatever has room for it."""
    refused = launch_for(draft, wanted, Reason.GANG, layer=draft.runs, gang=gang)
    return apart.refusal(draft, refused[0][0]) if refused else None


def _sure(draft: Draft, gang: Gang, there: Choice) -> Choice | None:
    """Return by which choice a gang surely is made now, or else once what is on its way has joined; None if by none."""
    if there.fate in {Fate.NEVER, Fate.NO_ROOM}:
        there = Choice(draft, gang, draft.runs, JOINED | {EXPECTED})
    return there if there.fate is Fate.MADE else None


def _may_be_made(draft: Draft, gang: Gang, there: Choice, by: By, *, has_stayed: bool) -> bool:
    """Whether a gang that is placed may be made where Ray sends it; of one that has stayed, whether it surely is, with what is on its way."""
    if has_stayed:
        return _at_last(draft, gang, by) is Fate.MADE
    return there.fate in {Fate.MADE, Fate.MAYBE} or _at_last(draft, gang, by) is not Fate.NEVER


def _at_last(draft: Draft, gang: Gang, by: By) -> Fate:
    """Return what becomes of a gang once all nodes have joined that are on their way, these launches too."""
    return Choice(draft, gang, [by.freed(run, gang) for run in draft.runs], JOINED | {EXPECTED, NEW}).fate


def _is_launched_for(draft: Draft, gang: Gang, by: By) -> bool:
    """Launch nodes for all of a gang on which it surely is made; return whether there are such. What would not help is not launched."""
    is_ordered, avoided = gang.gang_id in draft.ordered, draft.deceiving
    wanted = order.wanted_of(draft, gang) if is_ordered else sizes(gang_counts(draft, gang).items())
    attempts, is_made = list(by.launches), False
    while attempts and not is_made:
        mark = draft.mark()
        is_placed = attempts[0](draft, gang, wanted) is None
        is_made = is_placed and _at_last(draft, gang, by) is Fate.MADE
        if not is_made:
            useless = {each.node_type for each in draft.launching[mark.launching :]} if is_placed else set[str]()
            draft.reset(mark)
            draft.deceiving |= useless
            if not useless:
                draft.deceiving = avoided
                del attempts[0]
    draft.deceiving = avoided
    return is_made
