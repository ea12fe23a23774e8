"""Launches that do not get on: for what they are kept, and when they make way.

One that is stuck is no capacity, so what it was launched for goes to other types. It is kept while something waits that its type could
take: it may come late, and where no other type can be had it is all there is.
"""

from collections.abc import Iterator

from rayscaler.model import replicas
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.plan import Infeasible, Termination
from rayscaler.planner import limits
from rayscaler.planner.sim import Draft, Shape, loaded_members


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
    """End stuck launches, the newest first, where only the cluster's maximum or its spend limit keeps another type from serving what waits.

    A replica that has a stuck host makes way as a whole, while it has no node and nothing is put on it.
    """
    found = _all(draft)
    if draft.state.no_end is not None or not found:
        return
    needed = blocked(draft) - coming(draft)
    for unit in sorted(_units(draft, found), key=lambda unit: (-unit[0].requested_at, unit[0].instance_id)):
        detail = next(each.detail for each in unit if each.stuck_since is not None)
        for instance in unit if needed > 0 else ():
            draft.leave(instance)
            text = f"{detail}; another node type can have its place"
            draft.terminations.append(Termination(instance.instance_id, Reason.MAKES_WAY, text))
        needed -= len(unit)


def blocked(draft: Draft) -> int:
    """Return how much waits that only the cluster's maximum or its spend limit keeps from being launched for."""
    return sum(each.count for each in draft.infeasible if _is_blocked(draft, each))


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


def _is_blocked(draft: Draft, waiting: Infeasible) -> bool:
    """Whether some type could be launched for it but for the cluster's maximum or spend limit. A gang's launches are undone, its reason tells.

    A place helps none that can never be had, though a node would hold a part of it.
    """
    if waiting.is_never or waiting.reason is Reason.UPSCALING_SPEED:
        return False
    views = [
        view for shape in _shapes(draft, waiting) for view in draft.views if draft.can_hold(view, shape) and limits.is_free(draft, view)
    ]
    return any(waiting.reason in limits.SHARED or limits.is_full(draft, view) for view in views)


def _shapes(draft: Draft, waiting: Infeasible) -> Iterator[Shape]:
    bundles = [waiting.what] if isinstance(waiting.what, Bundle) else [each.bundle for each in waiting.what.bundles]
    return (draft.shapes[each] for each in bundles if each in draft.shapes)
