"""Which node type to launch: filters, then one total order.

Filters: an empty node holds the leading shape, its labels meet an alternative, maxima and back-off leave room. The upscaling speed
is no filter: it makes demand wait for its type and never sends it to a worse one.

Order: earlier label alternative; higher priority; fewer special kinds (GPU, TPU, anything but CPU and memory) that the leading
shape did not ask for; for gangs that shall lie close, more bundles per node; where every candidate has a cost, the lowest cost of what
the filled node serves, then more leading bundles per node, so fewer nodes; best use of the filled node (its least used kind, then the
mean over kinds somebody asks for), as Ray chooses; more leading bundles per node; the name.
"""

from typing import NamedTuple

from rayscaler.planner import limits
from rayscaler.planner.sim import Draft, Room, Shape, TypeView, amounts, less, times

COMMON = frozenset({"CPU", "memory", "object_store_memory"})
"""Kinds that any node has; all others are special and spared for those who ask (J1)."""

MICRO = 1_000_000
"""Shares and costs are compared as integers in millionths."""

Wanted = list[tuple[Shape, int]]


class Pick(NamedTuple):
    """A type, what one node of it takes of what is wanted, and how many may be launched; 0 is: wait for this one."""

    view: TypeView
    content: Wanted
    room: int


def choose(draft: Draft, wanted: Wanted, *, is_speed_bound: bool = True, is_close: bool = False) -> Pick | None:
    """Return the best type for the first of `wanted`, filled with all of it; None when no type may be launched."""
    lead = wanted[0][0]
    found: list[tuple[tuple[int, int, int], TypeView]] = []
    for view in draft.views:
        rank = draft.rank(lead, view.labels)
        if rank is not None and times(view.room, lead.needs) and limits.room(draft, view):
            found.append(((rank, -view.node_type.priority, _special(view, lead)), view))
    if not found:
        return None
    first = min(prefix for prefix, _ in found)
    filled = [(view, fill(draft, view, wanted)) for prefix, view in found if prefix == first]
    biggest = _biggest(draft) if all(view.node_type.cost is not None for view, _ in filled) else None
    view, content = min(filled, key=lambda each: _order(*each, biggest=biggest, is_close=is_close))
    room = limits.room(draft, view)
    return Pick(view, content, min(room, limits.speed_room(draft, view)) if is_speed_bound else room)


def fill(draft: Draft, view: TypeView, wanted: Wanted) -> Wanted:
    """Return what one empty node of the type takes, in the order of `wanted`. Room left over serves any label alternative."""
    room, content = view.room, []
    for shape, count in wanted:
        most = times(room, shape.needs)
        if most and draft.rank(shape, view.labels) is not None:
            taken = min(most, count)
            room = less(room, shape.needs, taken)
            content.append((shape, taken))
    return content


def _special(view: TypeView, lead: Shape) -> int:
    asked = lead.bundle.resources.amounts
    return sum(1 for name in view.node_type.resources if name not in COMMON and name not in asked)


def _biggest(draft: Draft) -> tuple[int, ...]:
    """Return the most of each kind that any type brings: what amounts of different kinds are weighed by."""
    return tuple(max(brought) for brought in zip(*(view.brings for view in draft.views), strict=True))


def _order(view: TypeView, content: Wanted, *, biggest: tuple[int, ...] | None, is_close: bool) -> tuple[int, int, int, int, int, int, str]:
    left = amounts(_after(view.room, content))
    shares = [(view.brings[i] - left[i]) * MICRO // view.brings[i] for i in view.kinds] or [0]
    leading = content[0][1]
    held = sum(count for _, count in content) if is_close else 0
    price = 0 if biggest is None else _price(view, left, biggest)
    fewer_nodes = 0 if biggest is None else -leading
    return (-held, price, fewer_nodes, -min(shares), -sum(shares) // len(shares), -leading, view.name)


def _price(view: TypeView, left: tuple[int, ...], biggest: tuple[int, ...]) -> int:
    """Return the cost of the node per served amount, amounts of different kinds weighed by the biggest of each."""
    served = sum((view.brings[i] - left[i]) * MICRO // biggest[i] for i in view.kinds if biggest[i])
    return round((view.node_type.cost or 0) * MICRO) * MICRO // max(served, 1)


def _after(room: Room, content: Wanted) -> Room:
    for shape, count in content:
        room = less(room, shape.needs, count)
    return room
