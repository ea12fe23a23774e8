"""Why something is not served: for ever as the definition stands, or for now and by which limit.

Owns Infeasible and its sentences. Only what fits no empty node of any type and no node that is there is refused for ever, since Ray
may cancel such tasks (WC-12.4).
"""

from collections.abc import Sequence
from typing import NamedTuple

from rayscaler.model.demand import Gang
from rayscaler.model.instance import Reason
from rayscaler.model.plan import Infeasible
from rayscaler.model.resources import IMPLICIT_PREFIX, NODE_PREFIX
from rayscaler.planner import limits
from rayscaler.planner.sim import Draft, Shape, TypeView, times


class Verdict(NamedTuple):
    """Why something is not served, in words too; `until` (wall seconds) when it is tried again, None where nobody can tell."""

    reason: Reason
    text: str
    until: float | None = None


SOONEST_FIRST = (Reason.UPSCALING_SPEED, Reason.BACKED_OFF, Reason.MAX_WORKERS_OF_TYPE, Reason.SPEND_LIMIT, Reason.MAX_WORKERS)
"""Of several types' obstacles the one that passes first is the reason; the detail names all."""


def bundle(draft: Draft, shape: Shape, count: int, *, is_constraint: bool = False) -> Infeasible:
    """Return why `count` of a shape get no node."""
    reason, text, until = verdict(draft, shape, is_speed_bound=not is_constraint)
    asked = " asked for by request_resources" if is_constraint else ""
    return Infeasible(shape.bundle, count, reason, f"{shape.bundle} x {count}{asked} {text}", is_constraint, until)


def gang(wanted: Gang, found: Verdict) -> Infeasible:
    """Return why a gang gets no nodes."""
    reason, text, until = found
    return Infeasible(wanted, 1, reason, f"gang {wanted.gang_id} ({wanted}) {text}", until=until)


def verdict(draft: Draft, shape: Shape, *, is_speed_bound: bool) -> Verdict:
    """Return why no node for `shape` can be had."""
    if draft.state.no_launch is not None:
        return Verdict(draft.state.no_launch, f"waits: nothing is launched on demand now ({draft.state.no_launch.value})")
    able = [view for view in draft.views if draft.can_hold(view, shape)]
    if able:
        return _waiting(draft, able, is_speed_bound=is_speed_bound)
    return never(draft, shape) or Verdict(Reason.NO_ROOM, "waits: only nodes that are there can hold it, and they have no room now")


def never(draft: Draft, shape: Shape) -> Verdict | None:
    """Return why no definition of today can hold `shape`; None when it could run some time. Blind, nothing is said to be impossible."""
    if draft.state.no_launch is not None or any(draft.can_hold(view, shape) for view in draft.views) or _fits_a_node(draft, shape):
        return None
    return _never(draft, shape, [view for view in draft.views if times(view.room, shape.needs)])


def _waiting(draft: Draft, able: Sequence[TypeView], *, is_speed_bound: bool) -> Verdict:
    found = [each for view in able if (each := limits.obstacle(draft, view, is_speed_bound=is_speed_bound)) is not None]
    reason = min((each[0] for each in found), key=SOONEST_FIRST.index)
    until = limits.next_try(draft, able) if reason is Reason.BACKED_OFF else None
    return Verdict(reason, f"waits: {'; '.join(dict.fromkeys(text for _, text in found))}", until)


def _fits_a_node(draft: Draft, shape: Shape) -> bool:
    return any(times(room, shape.needs) and draft.rank(shape, labels) is not None for labels, room in draft.totals)


def _never(draft: Draft, shape: Shape, fitting: Sequence[TypeView]) -> Verdict:
    bound = sorted({name for name in shape.bundle.resources if _is_bound(draft, name)})
    if bound:
        return Verdict(
            Reason.ONLY_EXISTING_NODES,
            f"cannot be launched: {', '.join(bound)} is on existing nodes only, and none of them is big enough",
        )
    if fitting:
        return Verdict(Reason.NO_TYPE_HAS_LABELS, f"cannot be launched: {_names(fitting)} would hold it, but no such type has its labels")
    return Verdict(Reason.NO_TYPE_FITS, f"cannot be launched: no node of {_names(draft.views)} is big enough, even when empty")


def _is_bound(draft: Draft, name: str) -> bool:
    """Whether a resource comes with particular nodes and with no type: an address, or an object store of its own size (DK-7)."""
    if name.startswith(IMPLICIT_PREFIX):
        return False
    is_particular = name.startswith(NODE_PREFIX) or name == "object_store_memory"
    return is_particular and not any(name in view.node_type.resources for view in draft.views)


def _names(views: Sequence[TypeView]) -> str:
    return ", ".join(view.name for view in views) or "any type (there is none)"
