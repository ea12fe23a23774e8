"""Why something is not served: for ever as the definition stands, or for now and by which limit.

Owns Infeasible and its sentences. Only what fits no empty node of any type and no node that is there is refused for ever, since Ray
may cancel such tasks (WC-12.4).
"""

from collections.abc import Sequence
from typing import NamedTuple

from rayscaler.model.demand import Gang
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import NEVER
from rayscaler.model.plan import Infeasible
from rayscaler.model.resources import IMPLICIT_PREFIX, NODE_PREFIX, UNIT, Resources, to_text
from rayscaler.planner import limits
from rayscaler.planner.devices import devices
from rayscaler.planner.sim import Draft, Shape, TypeView, times


class Verdict(NamedTuple):
    """Why something is not served, in words too; `until` (wall seconds) when it is tried again, None where nobody can tell."""

    reason: Reason
    text: str
    until: float | None = None


SOONEST_FIRST = (
    Reason.UPSCALING_SPEED,
    Reason.BACKED_OFF,
    Reason.MAX_WORKERS_OF_TYPE,
    Reason.SPEND_LIMIT,
    Reason.MAX_WORKERS,
    Reason.PACKED_BY_SUM,
)
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


def packed_by_sum(*, has_stayed: bool) -> Verdict:
    """Return what is said of a gang that Ray sends where devices do not hold it, or did not."""
    seen = "Ray has not made it on nodes that by what is known have room for it; it" if has_stayed else "Ray"
    then = "which may be" if has_stayed else "and would send one, there or launched for it,"
    return Verdict(
        Reason.PACKED_BY_SUM,
        f"waits: {seen} packs by the sum of a node's devices, {then} more parts of them than they hold, take it all back and do so again; "
        "no launch would help; with SPREAD, or with bundles of whole devices, it can be had",
    )


def verdict(draft: Draft, shape: Shape, *, is_speed_bound: bool) -> Verdict:
    """Return why no node for `shape` can be had."""
    if draft.state.no_launch is not None:
        return Verdict(draft.state.no_launch, f"waits: nothing is launched on demand now ({draft.state.no_launch.value})")
    able = [view for view in draft.views if draft.can_hold(view, shape)]
    growing = [] if able else [view for view in draft.views if draft.can_hold_grown(view, shape)]
    if able or growing:
        return _waiting(draft, able or growing, is_speed_bound=is_speed_bound)
    full = Verdict(Reason.NO_ROOM, "waits: only nodes that are there can hold it, and they have no room now")
    return smaller(draft, shape) or never(draft, shape) or full


def never(draft: Draft, shape: Shape) -> Verdict | None:
    """Return why no definition of today can hold `shape`; None when it could run some time. Blind, nothing is said to be impossible."""
    if draft.state.no_launch is not None or fits_a_node(draft, shape):
        return None
    if any(
        draft.can_hold(view, shape) or draft.can_hold_grown(view, shape) or _is_defined_to_hold(draft, view, shape) for view in draft.views
    ):
        return None
    return _never(draft, shape, [view for view in draft.views if times(view.room, shape.needs)])


def smaller(draft: Draft, shape: Shape) -> Verdict | None:
    """Return which types would hold `shape` as defined, and with what their nodes join. Never for ever: the next one may have more."""
    if not draft.state.learned or fits_a_node(draft, shape):
        return None
    if any(draft.can_hold(view, shape) or draft.can_hold_grown(view, shape) for view in draft.views):
        return None
    texts = [
        f"{view.name} would hold it as defined, but its nodes join with {_short(shape, learned)}"
        for view in draft.views
        if (learned := dict(draft.state.learned).get(view.name)) is not None and _is_defined_to_hold(draft, view, shape)
    ]
    return Verdict(Reason.NODES_SMALLER, f"waits: {'; '.join(texts)}") if texts else None


def _is_defined_to_hold(draft: Draft, view: TypeView, shape: Shape) -> bool:
    is_learned = any(name == view.name for name, _ in draft.state.learned)  # else its room is as defined, devices and all
    defined = view.node_type.resources
    return (
        is_learned
        and shape.bundle.resources.fits(defined)
        and all(devices(defined.get(draft.names[i], 0)) // amount for i, amount in shape.needs if draft.names[i] in draft.device_names)
        and draft.rank(shape, view.labels) is not None
    )


def _short(shape: Shape, total: Resources) -> str:
    """Say what of `total` is less than the shape asks for."""
    held = ((name, total.get(name, 0), amount) for name, amount in shape.bundle.resources.items())
    return ", ".join(f"{name} {to_text(name, has)} of {to_text(name, asked)}" for name, has, asked in held if has < asked)


def _waiting(draft: Draft, able: Sequence[TypeView], *, is_speed_bound: bool) -> Verdict:
    found = [each for view in able if (each := limits.obstacle(draft, view, is_speed_bound=is_speed_bound)) is not None]
    if not found:
        return _ungrown(draft, able)
    reason = min((each[0] for each in found), key=SOONEST_FIRST.index)
    until = limits.next_try(draft, able) if reason is Reason.BACKED_OFF else None
    return Verdict(reason, f"waits: {'; '.join(dict.fromkeys(text for _, text in found))}", until)


def _ungrown(draft: Draft, able: Sequence[TypeView]) -> Verdict:
    """Return why nothing is launched for what only a node that has grown would hold."""
    names = {view.name for view in able}
    until = min((u for each in draft.instances if each.node_type in names and (u := each.ungrown_until) > draft.state.now), default=None)
    pause = "and nodes of that type could not grow of late" if until is not None else "and none has room now"
    text = f"waits: only a node of {_names(able)} that has grown would hold it, {pause}"
    return Verdict(Reason.NO_ROOM, text, None if until == NEVER else until)


def fits_a_node(draft: Draft, shape: Shape) -> bool:
    """Whether a node that is there would have room for the shape if it were empty."""
    return any(times(room, shape.needs) and draft.rank(shape, labels) is not None for labels, room in draft.totals)


def _never(draft: Draft, shape: Shape, fitting: Sequence[TypeView]) -> Verdict:
    torn = sorted({f"{to_text(name, amount)} {name}" for part in shape.parts or (shape,) for name, amount in _torn(draft, part)})
    if torn:
        text = f"cannot be had: Ray gives a part of one device or whole devices, never {', '.join(torn)}"
        return Verdict(Reason.NO_TYPE_FITS, text)
    bound = sorted({name for name in shape.bundle.resources if _is_bound(draft, name)})
    if bound:
        return Verdict(
            Reason.ONLY_EXISTING_NODES,
            f"cannot be launched: {', '.join(bound)} is on existing nodes only, and none of them is big enough",
        )
    if fitting:
        return Verdict(Reason.NO_TYPE_HAS_LABELS, f"cannot be launched: {_names(fitting)} would hold it, but no such type has its labels")
    if shape.parts and any(shape.bundle.resources.fits(view.node_type.resources) for view in draft.views):
        return Verdict(
            Reason.NO_TYPE_FITS, f"cannot be launched: no node of {_names(draft.views)} has devices enough, each part must come from one"
        )
    return Verdict(Reason.NO_TYPE_FITS, f"cannot be launched: no node of {_names(draft.views)} is big enough, even when empty")


def _torn(draft: Draft, shape: Shape) -> list[tuple[str, int]]:
    """Return what the shape asks for of devices that is neither a part of one nor whole ones."""
    return [
        (name, amount)
        for name, amount in shape.bundle.resources.items_sorted
        if name in draft.device_names and amount > UNIT and amount % UNIT
    ]


def _is_bound(draft: Draft, name: str) -> bool:
    """Whether a resource comes with particular nodes and with no type: an address, or an object store of its own size (DK-7)."""
    if name.startswith(IMPLICIT_PREFIX):
        return False
    is_particular = name.startswith(NODE_PREFIX) or name == "object_store_memory"
    return is_particular and not any(name in view.node_type.resources for view in draft.views)


def _names(views: Sequence[TypeView]) -> str:
    return ", ".join(view.name for view in views) or "any type (there is none)"
