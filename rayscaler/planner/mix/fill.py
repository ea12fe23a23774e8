"""Fills of one node: greedy by the worth of shapes in several orders of density, then exchanges of one piece. Exact integers throughout."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rayscaler.planner.devices import Devices
from rayscaler.planner.mix.problem import Column, Content, Needs, Problem, Room

PROMISING = 0.85
"""Exchanges are tried where a greedy fill is worth at least so much of what it has to be worth."""
MOST_EXCHANGES = 8
"""Exchanges one after another in one fill."""
BEST = 2
"""Types tried for fills that begin with a shape."""
LOOKS_PER_FILL = 20
"""Shapes looked at for each fill that may be found, before all of them are too many."""
CANDIDATES = 2
"""Shapes tried in the place of what was taken out."""


class _Prices(NamedTuple):
    """What shapes are worth, how many there are, and those that may lie on a type by density."""

    worth: Sequence[float]
    counts: Sequence[int]
    order: Sequence[int]


class Filler:
    """Makes columns for prices of shapes. `work` counts the shapes looked at, the measure of its effort."""

    def __init__(self, problem: Problem) -> None:
        self.work = 0
        self._needs = problem.needs
        self._types = [_Type(problem, index) for index in range(len(problem.rooms))]

    def columns(
        self, worth: Sequence[float], counts: Sequence[int], open_types: Sequence[int], floors: Sequence[float], *, is_thorough: bool
    ) -> list[tuple[float, Column]]:
        """Return the best fills found with at most `counts` of each shape: (worth of what lies there, column), by type and worth.

        `floors` is what a fill of each type has to be worth; thorough looks at exchanges too where fills are not far from it.
        """
        found: list[tuple[float, Column]] = []
        for index in open_types:
            kind = self._types[index]
            shapes = [shape for shape in kind.shapes if worth[shape] > 0 and counts[shape] > 0]
            fills: dict[Content, float] = {}
            for order in _orders(kind, shapes, worth):
                self.work += len(order)
                self._add(fills, self.fill(kind.room, order, counts), worth)
            best = max(fills.items(), key=lambda each: (each[1], each[0]), default=None)
            if is_thorough and best is not None and best[1] >= PROMISING * floors[index]:
                self._exchange(fills, kind, _Prices(worth, counts, kind.by_density(shapes, worth)), best)
            ranked = sorted(fills.items(), key=lambda each: (-each[1], each[0]))
            found += [(value, Column(index, content)) for content, value in ranked]
        return found

    def led(self, worth: Sequence[float], counts: Sequence[int], open_types: Sequence[int], floors: Sequence[float]) -> list[Column]:
        """Return fills that begin with each shape, of the types where they are worth most for what they have to be."""
        best: dict[int, list[tuple[float, Column]]] = {}
        for index in open_types:
            kind = self._types[index]
            order = kind.by_density([shape for shape in kind.shapes if counts[shape]], worth)
            value = self._add({}, self.fill(kind.room, order, counts), worth)[1]
            if value < PROMISING * floors[index]:
                continue
            for shape in kind.shapes:
                content, value = self._add({}, self.fill(kind.room, (shape, *order), counts), worth)
                best.setdefault(shape, []).append((-value / (floors[index] or 1.0), Column(index, content)))
        return [column for found in best.values() for _, column in sorted(found)[:BEST]]

    def every(self, kind: int, counts: Sequence[int], most: int) -> list[Column] | None:
        """Return every fill of a type that nothing can be added to; None where there are more than `most`."""
        found: list[Column] = []
        shapes = self._types[kind].shapes

        def go(position: int, room: Room, content: Content) -> bool:
            if position == len(shapes):
                there = dict(content)
                if content and not any(self._fits(room, each) and there.get(each, 0) < counts[each] for each in shapes):
                    found.append(Column(kind, content))
                return len(found) <= most
            shape = shapes[position]
            limit = min([counts[shape], *(room[index] // amount for index, amount in self._needs[shape])])
            self.work += 1 + limit
            for count in range(limit, -1, -1):
                taken = ((shape, count),) if count else ()
                if not go(position + 1, self._room(room, taken), content + taken) or self.work > most * LOOKS_PER_FILL:
                    return False
            return True

        self.work, before = 0, self.work
        is_done = go(0, self._types[kind].room, ())
        self.work += before
        return found if is_done else None

    def _fits(self, room: Room, shape: int) -> bool:
        return all(room[index] // amount for index, amount in self._needs[shape])

    def fill(self, room: Room, order: Sequence[int], counts: Sequence[int], content: dict[int, int] | None = None) -> dict[int, int]:
        """Return what a node takes in this order, each shape as often as goes in, added to `content`."""
        content = {} if content is None else content
        left, needs_of = list(room), self._needs
        self.work += len(order)
        for shape in order:
            most = counts[shape] - content.get(shape, 0)
            for index, amount in needs_of[shape]:
                held = left[index] // amount
                if held < most:
                    most = held
                    if most <= 0:
                        break
            if most > 0:
                content[shape] = content.get(shape, 0) + most
                _take(left, needs_of[shape], most)
        return content

    def holds(self, kind: int, content: Content) -> bool:
        """Whether an empty node of a type holds the content."""
        shapes, left = self._types[kind].shares, list(self._types[kind].room)
        for shape, count in content:
            if shape not in shapes or any(left[index] // amount < count for index, amount in self._needs[shape]):
                return False
            _take(left, self._needs[shape], count)
        return True

    def _exchange(self, fills: dict[Content, float], kind: "_Type", prices: "_Prices", best: tuple[Content, float]) -> None:
        """Take out one or two pieces and put in what is worth most there, then what else goes in, as long as that is better."""
        content, value = best
        tried: set[Content] = set()
        for _ in range(MOST_EXCHANGES):
            found = content, value
            for taken_out in _fewer(content):
                if taken_out in tried:
                    continue
                tried.add(taken_out)
                left = self._room(kind.room, taken_out)
                for shape in self._worthiest(left, taken_out, prices):
                    first = self.fill(left, (shape,), prices.counts, dict(taken_out))
                    room = self._room(kind.room, tuple(first.items()))
                    made = self._add(fills, self.fill(room, prices.order, prices.counts, first), prices.worth)
                    if made[1] > found[1] * (1 + 1e-9):
                        found = made
            if found[0] == content:
                return
            content, value = found

    def _worthiest(self, room: Room, content: Content, prices: "_Prices") -> list[int]:
        """Return the shapes of which as many as go into the room are worth most."""
        there, ranked = dict(content), []
        self.work += len(prices.order)
        for shape in prices.order:
            most = prices.counts[shape] - there.get(shape, 0)
            for index, amount in self._needs[shape]:
                held = room[index] // amount
                if held < most:
                    most = held
                    if most <= 0:
                        break
            if most > 0:
                ranked.append((-prices.worth[shape] * most, shape))
        return [shape for _, shape in sorted(ranked)[:CANDIDATES]]

    def _room(self, room: Room, content: Content) -> Room:
        left = list(room)
        for shape, count in content:
            _take(left, self._needs[shape], count)
        return tuple(left)

    def _add(self, fills: dict[Content, float], content: dict[int, int], worth: Sequence[float]) -> tuple[Content, float]:
        made = tuple(sorted(content.items()))
        value = sum(worth[shape] * count for shape, count in made)
        if made:
            fills[made] = value
        return made, value


class _Type:
    """A type's empty room, the shapes that fit it, and each one's share of it by kind of resource."""

    def __init__(self, problem: Problem, index: int) -> None:
        self.room = problem.rooms[index]
        brings = [held.total if isinstance(held, Devices) else held for held in self.room]
        self.shapes: list[int] = []
        self.shares: dict[int, dict[int, float]] = {}
        for shape in sorted(problem.allowed[index]):
            needs = problem.needs[shape]
            if all(self.room[kind] // amount for kind, amount in needs):
                self.shapes.append(shape)
                self.shares[shape] = {kind: amount / brings[kind] for kind, amount in needs}
        self.kinds = sorted({kind for shares in self.shares.values() for kind in shares})

    def by_density(self, shapes: Sequence[int], worth: Sequence[float]) -> list[int]:
        """Return shapes by worth for the sum of the shares they take, the best first."""
        return sorted(shapes, key=lambda each: (-worth[each] / (sum(self.shares[each].values()) or 1e-12), each))


def _orders(kind: _Type, shapes: Sequence[int], worth: Sequence[float]) -> Iterator[list[int]]:
    """Yield orders in which to fill: by worth for the sum, the most and the square of shares, for each kind's share, and by worth itself."""
    shares = kind.shares
    yield kind.by_density(shapes, worth)
    yield sorted(shapes, key=lambda each: (-worth[each] / (max(shares[each].values(), default=0) or 1e-12), each))
    yield sorted(shapes, key=lambda each: (-worth[each] / (sum(s * s for s in shares[each].values()) or 1e-12), each))
    yield sorted(shapes, key=lambda each: (-worth[each], each))
    for name in kind.kinds:
        yield sorted(shapes, key=lambda each: (-worth[each] / (shares[each].get(name, 0.0) + 1e-3), each))


def _fewer(content: Content) -> Iterator[Content]:
    """Yield the content with one piece fewer, and with two."""
    for one in _one_fewer(content):
        yield one
        yield from _one_fewer(one)


def _one_fewer(content: Content) -> Iterator[Content]:
    for position, (shape, count) in enumerate(content):
        rest = ((shape, count - 1),) if count > 1 else ()
        yield (*content[:position], *rest, *content[position + 1 :])


def _take(left: list[int | Devices], needs: Needs, count: int) -> None:
    for index, amount in needs:
        held = left[index]
        left[index] = held.without(amount, count) if type(held) is Devices else held - amount * count
