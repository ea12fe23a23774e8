"""Which node type to launch: filters, then one total order.

Filters: an empty node holds the leading shape, its labels meet an alternative, maxima and back-off leave room. The upscaling speed
is no filter: it makes demand wait for its type and never sends it to a worse one.

Order: earlier label alternative; higher priority; fewer special kinds (GPU, TPU, anything but CPU and memory) that the leading
shape did not ask for; for gangs that shall lie close, more bundles per node; where every candidate has a cost, the lowest cost of what
the filled node serves, then more leading bundles per node, so fewer nodes; best use of the filled node (its least used kind, then the
mean over kinds somebody asks for), as Ray chooses; more leading bundles per node; the name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rayscaler.planner import limits
from rayscaler.planner.sim import Draft, Needs, Room, Shape, TypeView, amounts, least_of, less, times

COMMON = frozenset({"CPU", "memory", "object_store_memory"})
"""Kinds that any node has; all others are special and spared for those who ask (J1)."""

MICRO = 1_000_000
"""Shares and costs are compared as integers in millionths."""

BLOCK = 16
"""Shapes looked at together."""

Wanted = list[tuple[Shape, int]]


Order = tuple[int, int, int, int, int, int, str]


class Fill(NamedTuple):
    """What one empty node of a type takes, with its place in the order. `exact` are shapes of which there were fewer than it has room for."""

    content: Wanted
    exact: frozenset[Shape]
    order: Order

    def holds_for(self, counts: Mapping[Shape, int]) -> bool:
        """Whether it would come out the same with these counts of what is wanted, fewer than before at most."""
        return all(counts.get(shape, 0) == taken if shape in self.exact else counts.get(shape, 0) >= taken for shape, taken in self.content)


class Block:
    """Neighbours in the order of what is wanted: shapes, or blocks of them."""

    def __init__(self, parts: Sequence[Shape], device_kinds: frozenset[int]) -> None:
        self._device_kinds = device_kinds
        self.shapes = dict.fromkeys(parts)
        size = max(BLOCK, -(-len(parts) // BLOCK))
        self.blocks = [Block(parts[at : at + size], device_kinds) for at in range(0, len(parts), size)] if len(parts) > BLOCK else []
        self._least: Needs = ()
        self._is_old = True

    def renewed(self) -> Needs:
        """Return what all of it need, looked for anew where a shape that said so has gone."""
        if self._is_old:
            needs = [block.renewed() for block in self.blocks] or [shape.needs for shape in self.shapes]
            self._least, self._is_old = least_of(needs, self._device_kinds), False
        return self._least

    def drop(self, shape: Shape) -> None:
        """Take out a shape, which must be here. What all need is true of the rest still, and looked for anew where that may say more."""
        del self.shapes[shape]
        _drop(self.blocks, shape)
        self._is_old = self._is_old or any(need in self._least for need in shape.needs)

    def has_room(self, room: Room) -> bool:
        """Whether there is room for what all of it need: where there is none, none of it has."""
        return times(room, self._least) > 0 and (not self._is_old or times(room, self.renewed()) > 0)


class Memo:
    """What stays the same while more and more of what is wanted is served: fills by type, and the shapes in their order, by blocks of blocks."""

    def __init__(self, wanted: Iterable[Shape], device_kinds: frozenset[int]) -> None:
        shapes = list(wanted)
        self.fills: dict[tuple[str, bool], Fill] = {}
        self.whole = Block(shapes, device_kinds)

    def drop(self, shape: Shape) -> None:
        """Forget a shape of which nothing is wanted any more."""
        self.whole.drop(shape)


def _drop(blocks: list[Block], shape: Shape) -> None:
    for at, block in enumerate(blocks):
        if shape in block.shapes:
            block.drop(shape)
            if not block.shapes:
                del blocks[at]
            return


class Pick(NamedTuple):
    """A type, what one node of it takes of what is wanted, and how many may be launched; 0 is: wait for this one."""

    view: TypeView
    content: Wanted
    room: int


def choose(
    draft: Draft, wanted: Mapping[Shape, int], memo: Memo, *, is_speed_bound: bool = True, is_close: bool = False, nodes: int | None = None
) -> Pick | None:
    """Return the best type for the first of `wanted`, filled with all of it; None when no type may be launched.

    `nodes` is how many are needed, where that is not what the fill goes into. `memo` is of the shapes of `wanted` in this order; it serves from one call to the next.
    """
    lead = next(iter(wanted))
    found: list[tuple[tuple[int, int, int], TypeView]] = []
    left = limits.shared(draft)
    for view in draft.views:
        rank = draft.rank(lead, view.labels)
        if rank is not None and times(view.room, lead.needs) and limits.room(draft, view, left):
            found.append(((rank, -view.node_type.priority, special(view, lead)), view))
    if not found:
        return None
    first = min(prefix for prefix, _ in found)
    views = [view for prefix, view in found if prefix == first]
    biggest = draft.biggest if all(view.node_type.cost is not None for view in views) else None
    fills = _filled(draft, views, wanted, memo, biggest=biggest, is_close=is_close, nodes=nodes)
    view, filled = min(fills, key=lambda each: each[1].order)
    room = limits.room(draft, view, left)
    return Pick(view, filled.content, min(room, limits.speed_room(draft, view)) if is_speed_bound else room)


def _filled(
    draft: Draft,
    views: list[TypeView],
    wanted: Mapping[Shape, int],
    memo: Memo,
    *,
    biggest: tuple[int, ...] | None,
    is_close: bool,
    nodes: int | None,
) -> Iterator[tuple[TypeView, Fill]]:
    """Yield each type with its fill; where the price decides, not those that are dearer than another's fill even if all of them were used."""
    floors = {view.name: 0 if biggest is None or is_close else _price(view, (0,) * len(view.brings), biggest) for view in views}
    best: int | None = None
    for view in sorted(views, key=lambda each: floors[each.name]):
        if best is not None and floors[view.name] > best:
            return
        key = (view.name, biggest is None)
        if key not in memo.fills or not memo.fills[key].holds_for(wanted):
            memo.fills[key] = fill(draft, view, wanted, memo, biggest=biggest, is_close=is_close)
        found = memo.fills[key] if view.node_type.hosts_per_replica == 1 else _in_replicas(view, memo.fills[key], wanted, nodes)
        best = found.order[1] if best is None else min(best, found.order[1])
        yield view, found


def _in_replicas(view: TypeView, found: Fill, wanted: Mapping[Shape, int], nodes: int | None) -> Fill:
    """Return the fill with what it costs, and how well it is used, by all hosts of the replicas that so many nodes come in."""
    needed = min(wanted[shape] // each for shape, each in found.content) if nodes is None else nodes
    hosts = view.node_type.hosts_per_replica
    if needed >= hosts:
        return found  # what fills whole replicas is launched first
    held, price, fewer, least, mean, leading, name = found.order
    return found._replace(order=(held, price * hosts // needed, fewer, least * needed // hosts, mean * needed // hosts, leading, name))


def fill(draft: Draft, view: TypeView, wanted: Mapping[Shape, int], memo: Memo, *, biggest: tuple[int, ...] | None, is_close: bool) -> Fill:
    """Return what one empty node of the type takes, in the order of the memo. Room left over serves any label alternative."""
    room, content, exact = view.room, Wanted(), set[Shape]()
    blocks = [memo.whole]
    while blocks:
        block = blocks.pop()
        if not block.has_room(room):
            continue
        if block.blocks:
            blocks += block.blocks[::-1]
            continue
        for shape in block.shapes:
            most = times(room, shape.needs)
            if most and draft.rank(shape, view.labels) is not None:
                taken = min(most, wanted[shape])
                room = less(room, shape.needs, taken)
                content.append((shape, taken))
                if taken < most:
                    exact.add(shape)
        if not memo.whole.has_room(room):
            break
    return Fill(content, frozenset(exact), _order(view, content, room, biggest=biggest, is_close=is_close))


def special(view: TypeView, lead: Shape) -> int:
    """Return how many kinds beside the common ones a type brings that a shape did not ask for."""
    asked = lead.bundle.resources.amounts
    return sum(1 for name in view.node_type.resources if name not in COMMON and name not in asked)


def _order(view: TypeView, content: Wanted, room: Room, *, biggest: tuple[int, ...] | None, is_close: bool) -> Order:
    left = amounts(room)
    shares = [(view.brings[i] - left[i]) * MICRO // view.brings[i] for i in view.kinds] or [0]
    leading = content[0][1]
    held = sum(count for _, count in content) if is_close else 0
    price = 0 if biggest is None else _price(view, left, biggest)
    fewer_nodes = 0 if biggest is None else -leading
    return (-held, price, fewer_nodes, -min(shares), -sum(shares) // len(shares), -leading, view.name)


def _price(view: TypeView, left: tuple[int, ...], biggest: tuple[int, ...]) -> int:
    """Return the cost of the node per served amount, amounts of different kinds weighed by the biggest of each."""
    served = sum((view.brings[i] - left[i]) * MICRO // biggest[i] for i in view.kinds if biggest[i])
    return round((view.node_type.weighed_cost or 0) * MICRO) * MICRO // max(served, 1)
