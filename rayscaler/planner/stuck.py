"""Launches that do not get on: for what they are kept, and when they make way.

One that is stuck is no capacity, so what it was launched for goes to other types. It is kept while something waits that its type could
take: it may come late, and where no other type can be had it is all there is.
"""

from collections.abc import Iterator

from rayscaler.model import replicas
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import PACED, Instance, InstanceStatus, Reason
from rayscaler.model.plan import Infeasible, Termination
from rayscaler.planner import limits
from rayscaler.planner.packing import loaded_members
from rayscaler.planner.sim import Draft, Shape

_OF_LAUNCHES = frozenset({Reason.MAX_CONCURRENT_LAUNCHES})
"""Another limit that all types share, and that launches are in the way of until they have joined or are gone."""


def kept(draft: Draft) -> set[str]:
    """Return the stuck launches for whose type something waits."""
    found = _all(draft)
    if not found:
        return set()
    waiting = {
        view.name for view in draft.views if any(draft.can_hold(view, shape) for each in draft.infeasible for shape in _shapes(draft, each))
    }
    return {each.instance_id for each in found if each.node_type in waiting}


def make_way(draft: Draft) -> None:
    """End stuck launches, the newest first, where only a limit that all types share keeps another type from serving what waits.

    A replica that has a stuck host makes way as a whole, while it has no node and nothing is put on it.
    """
    found = _all(draft)
    if draft.state.no_end is not None or not found:
        return
    called_off = draft.flying.total() - (draft.launches.total() - len(draft.launching))
    needed = max(blocked(draft) - coming(draft), blocked(draft, of=_OF_LAUNCHES) - called_off)
    for unit in sorted(_units(draft, found), key=lambda unit: (-unit[0].requested_at, unit[0].instance_id)):
        detail = next(each.detail for each in unit if each.stuck_since is not None)
        for instance in unit if needed > 0 else ():
            draft.leave(instance)
            text = f"{detail}; another node type can have its place"
            draft.terminations.append(Termination(instance.instance_id, Reason.MAKES_WAY, text))
        needed -= len(unit)


def blocked(draft: Draft, of: frozenset[Reason] = limits.SHARED) -> int:
    """Return how much waits that only the cluster's maximum or its spend limit keeps from being launched for; or its limit `of` launches."""
    return sum(each.count for each in draft.infeasible if _is_blocked(draft, each, of))


def coming(draft: Draft) -> int:
    """Return how many places those have that are ending."""
    return draft.live.total() - draft.staying.total()


def _units(draft: Draft, found: list[Instance]) -> Iterator[tuple[Instance, ...]]:
    """Yield what makes way at once: launches that do not get on, or the replicas that they are of."""
    stuck = {each.instance_id for each in found}
    used = loaded_members(draft.runs, draft.floor)
    for unit in replicas.units(each for each in draft.instances if each.instance_id not in draft.leaving):
        is_free = all(each.is_launching and each.instance_id not in used for each in unit)
        if is_free and any(each.instance_id in stuck for each in unit):
            yield unit


def _all(draft: Draft) -> list[Instance]:
    return [
        each
        for each in draft.instances
        if each.stuck_since is not None
        and each.is_in_flight
        and each.status is not InstanceStatus.REJOINING
        and each.instance_id not in draft.leaving
    ]


def _is_blocked(draft: Draft, waiting: Infeasible, of: frozenset[Reason]) -> bool:
    """Whether some type could be launched for it but for limits that all types share. A gang's launches are undone, its reason tells.

    A place helps none that can never be had, though a node would hold a part of it.
    """
    if waiting.is_never or waiting.reason in (PACED | {Reason.UPSCALING_SPEED}) - of:
        return False
    views = [
        view for shape in _shapes(draft, waiting) for view in draft.views if draft.can_hold(view, shape) and limits.is_free(draft, view)
    ]
    return any(waiting.reason in of or (of is limits.SHARED and limits.is_full(draft, view)) for view in views)


def _shapes(draft: Draft, waiting: Infeasible) -> Iterator[Shape]:
    bundles = [waiting.what] if isinstance(waiting.what, Bundle) else [each.bundle for each in waiting.what.bundles]
    return (draft.shapes[each] for each in bundles if each in draft.shapes)
