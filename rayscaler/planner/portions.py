"""Launches held back: what is planned whole is begun in portions, as limits of launches allow (complaint D4).

A plan is made as if launches were not limited: which types, how many, which gangs. Then what is above the limits is left for later plans, the
last planned first, in whole replicas. So no limit sends anything to a worse type, no gang is begun that could not be had whole, and one
larger than a limit comes all the same. Owns what is begun first. The limits themselves are in `limits`.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from rayscaler.model.instance import Reason
from rayscaler.model.plan import Infeasible
from rayscaler.model.words import counted
from rayscaler.planner import limits, refuse
from rayscaler.planner.limits import Paced
from rayscaler.planner.packing import place
from rayscaler.planner.sim import Draft, Load, NodeRun, Shape, TypeView, sizes

_COUNTING = frozenset({Reason.MAX_WORKERS, Reason.MAX_WORKERS_OF_TYPE, Reason.SPEND_LIMIT, Reason.UPSCALING_SPEED})
"""Reasons that what is planned may bring about before it is begun."""


class _Part(NamedTuple):
    """Launches that are begun (`paced` None) or held back; `at` is the first one's index once none of those that are held back is there."""

    members: range
    at: int
    paced: Paced | None


class _Held(NamedTuple):
    """What lies on each of so many launches that are held back, and by which limits they are."""

    load: tuple[Load, ...]
    nodes: int
    paced: Paced


def hold_back(draft: Draft) -> None:
    """Leave for later what the limits of launches do not allow now, and say of all that was to lie there why it waits."""
    if not draft.launching or not draft.state.config.is_paced:
        return
    parts = list(_parts(draft))
    if all(part.paced is None for part in parts):
        return
    on_floor, on_runs = _held(draft.floor, parts), _held(draft.runs, parts)
    draft.floor, draft.runs = _begun(draft.floor, parts), _begun(draft.runs, parts)
    gone = Counter(each.node_type for part in parts if part.paced for each in draft.launching[part.members.start : part.members.stop])
    draft.launching = [each for part in parts if not part.paced for each in draft.launching[part.members.start : part.members.stop]]
    draft.live, draft.staying, draft.launches = (_less(counts, gone) for counts in (draft.live, draft.staying, draft.launches))
    draft.infeasible = [_counting(each, gone.total()) for each in draft.infeasible]
    _wait(draft, draft.floor, on_floor, is_constraint=True)
    _wait(draft, draft.runs, on_runs, is_constraint=False)
    _wait_as_gangs(draft, on_runs)


def _parts(draft: Draft) -> Iterator[_Part]:
    """Yield which launches are begun and which are held back, in their order.

    Where one does not get below a limit of all types, none that comes later does: a replica of many hosts would else never have its turn.
    What is made ready waits for all that its type could take, since that would take it at once.
    """
    begun, at, first = Counter[str](), 0, 0
    shut: dict[str, Paced] = {}
    shut_for_all: Paced | None = None
    held: list[_Part] = []
    for (name, is_ready), group in groupby(draft.launching, key=lambda each: (each.node_type, each.reason is Reason.HEADROOM)):
        members = range(first, first + sum(1 for _ in group))
        first, view = members.stop, _view(draft, name)
        paced = shut_for_all or shut.get(name) or (_of_what_waits(draft, view, held) if is_ready else None)
        count = 0 if paced else min(len(members), limits.pace_room(draft, view, begun))
        if count:
            yield _Part(members[:count], at, None)
            begun[name] += count
            at += count
        if count < len(members):
            paced = paced or limits.paced(draft, view, begun)
            if paced is not None and paced.is_shared:
                shut_for_all = shut_for_all or paced
            elif paced is not None:
                shut[name] = paced
            held.append(_Part(members[count:], at, paced))
            yield held[-1]


def _view(draft: Draft, name: str) -> TypeView:
    found = draft.view(name)
    if found is None:
        raise KeyError(name)
    return found


def _of_what_waits(draft: Draft, view: TypeView, parts: Sequence[_Part]) -> Paced | None:
    """Return what holds back something that a node of the type could take."""
    waiting = ((each.paced, load.shape) for each in _held(draft.runs, parts) for load in each.load) if parts else ()
    return next((paced for paced, shape in waiting if draft.can_hold(view, shape)), None)


def _met(run: NodeRun, parts: Sequence[_Part]) -> Iterator[tuple[range, _Part]]:
    """Yield which launches of a run are in which part."""
    if not isinstance(run.members, range):
        return
    at = max(0, bisect_right(parts, run.members.start, key=lambda part: part.members.start) - 1)
    while at < len(parts) and (part := parts[at]).members.start < run.members.stop:
        found = range(max(run.members.start, part.members.start), min(run.members.stop, part.members.stop))
        if found:
            yield found, part
        at += 1


def _held(runs: Sequence[NodeRun], parts: Sequence[_Part]) -> list[_Held]:
    return [_Held(run.load, len(found), part.paced) for run in runs for found, part in _met(run, parts) if part.paced is not None]


def _begun(runs: Sequence[NodeRun], parts: Sequence[_Part]) -> list[NodeRun]:
    """Return the runs without launches that are held back; the others have their new indices."""
    kept: list[NodeRun] = []
    for run in runs:
        if not isinstance(run.members, range):
            kept.append(run)
        for found, part in _met(run, parts):
            by = part.members.start - part.at
            kept += [] if part.paced is not None else [run._replace(members=range(found.start - by, found.stop - by))]
    return kept


def _counting(waiting: Infeasible, launches: int) -> Infeasible:
    """Say what else is counted where a limit is reached: launches that are held back have their place, and nobody can see them."""
    if waiting.reason not in _COUNTING:
        return waiting
    return replace(waiting, detail=f"{waiting.detail} (counting {counted(launches, 'launch', 'launches')} yet to be begun)")


def _less(counts: Counter[str], gone: Counter[str]) -> Counter[str]:
    left = counts.copy()
    left.subtract(gone)
    return left


def _wait(draft: Draft, layer: list[NodeRun], held: Sequence[_Held], *, is_constraint: bool) -> None:
    """Refuse for now what was to lie on launches that are held back, as far as those that are begun have no room for it too."""
    totals: Counter[Shape] = Counter()
    by_reason: dict[tuple[Shape, Reason], tuple[int, Paced]] = {}
    for each in held:
        for load in each.load:
            if not load.gang_id:
                totals[load.shape] += load.each * each.nodes
                count, paced = by_reason.get((load.shape, each.paced.reason), (0, each.paced))
                by_reason[load.shape, each.paced.reason] = count + load.each * each.nodes, paced
    left = {shape: place(draft, layer, shape, count) for shape, count in sizes(totals.items())}
    asked = " asked for by request_resources" if is_constraint else ""
    for (shape, reason), (most, paced) in by_reason.items():
        count = min(most, left[shape])
        left[shape] -= count
        if count:
            text = f"{shape.bundle} x {count}{asked} waits: {paced.text}"
            draft.infeasible.append(Infeasible(shape.bundle, count, reason, text, is_constraint, paced.until))


def _wait_as_gangs(draft: Draft, held: Sequence[_Held]) -> None:
    """Refuse gangs for now of which a launch is held back. What there is of them keeps its place, and the next plan goes on from there."""
    paced: dict[str, Paced] = {}
    waiting, begun = Counter[str](), Counter[str]()
    for each in held:
        for gang_id in _gangs_of(each.load):
            paced.setdefault(gang_id, each.paced)
            waiting[gang_id] += each.nodes
    for run in draft.runs if paced else ():
        if isinstance(run.members, range):
            begun.update(dict.fromkeys(_gangs_of(run.load), len(run.members)))
    for gang in draft.gangs:
        if gang.gang_id in paced:
            reason, text, until, _ = paced.pop(gang.gang_id)
            count, whole = begun[gang.gang_id], begun[gang.gang_id] + waiting[gang.gang_id]
            said = f"{count} of {whole} nodes are launched for it now, for {text}" if count else text
            draft.infeasible.append(refuse.gang(gang, refuse.Verdict(reason, f"waits: {said}", until)))


def _gangs_of(load: Sequence[Load]) -> set[str]:
    return {each.gang_id for each in load if each.gang_id}
