"""Fills of one node: greedy by the worth of shapes in several orders of density, then exchanges of one piece. Exact integers throughout."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rayscaler.planner.mix.problem import Column, Content, Problem
from rayscaler.planner.sim import Room, amounts, less, times

PROMISING = 0.85
"""Exchanges are tried where a greedy fill is worth at least so much of what it has to be worth."""
REST = 4
"""Rounds in which types that are far from worth their price are left out; prices do not change that fast."""
MOST_EXCHANGES = 8
"""Exchanges one after another in one fill."""
BEST = 2
"""Types tried for fills that begin with a shape."""
LOOKS_PER_FILL = 20
"""Shapes looked at for each fill that may be found, before all of them are too many."""
SLIGHT, TINY = 1e-3, 1e-12
"""Shares in the place of none: of a kind that a shape does not need, and of everything."""
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
        self._round = 0
        self._needs = problem.needs
        self._types = [_Type(problem, index) for index in range(len(problem.rooms))]

    def columns(
        self, worth: Sequence[float], counts: Sequence[int], open_types: Sequence[int], floors: Sequence[float], *, is_thorough: bool
    ) -> list[Column]:
        """Return the best fills found with at most `counts` of each shape, by type and worth of what lies there.

        `floors` is what a fill of each type has to be worth; thorough looks at exchanges too where fills are not far from it.
        """
        found: list[Column] = []
        self._round += 1
        for index in open_types:
            kind = self._types[index]
            if kind.rests_until > self._round:
                continue
            shapes = [shape for shape in kind.shapes if worth[shape] > 0 and counts[shape] > 0]
            fills: dict[Content, float] = {}
            for order in kind.orders(shapes, worth):
                self.work += len(order)
                self._add(fills, self.fill(kind.room, order, counts), worth)
            best = max(fills.items(), key=lambda each: (each[1], each[0]), default=None)
            if is_thorough and best is not None and best[1] >= PROMISING * floors[index]:
                self._exchange(fills, kind, _Prices(worth, counts, kind.by_density(shapes, worth)), best)
            if best is None or best[1] < PROMISING * floors[index]:
                kind.rests_until = self._round + REST
            ranked = sorted(fills.items(), key=lambda each: (-each[1], each[0]))
            found += [Column(index, content) for content, _ in ranked]
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
        shapes, enough = self._types[kind].shapes, self.work + most * LOOKS_PER_FILL

        def go(position: int, room: Room, content: Content) -> bool:
            if position == len(shapes):
                there = dict(content)
                if content and not any(times(room, self._needs[each]) and there.get(each, 0) < counts[each] for each in shapes):
                    found.append(Column(kind, content))
                return len(found) <= most
            shape = shapes[position]
            limit = min(counts[shape], times(room, self._needs[shape]))
            self.work += 1 + limit
            for count in range(limit, -1, -1):
                taken = ((shape, count),) if count else ()
                if not go(position + 1, self._room(room, taken), content + taken) or self.work > enough:
                    return False
            return True

        return found if go(0, self._types[kind].room, ()) else None

    def fill(self, room: Room, order: Sequence[int], counts: Sequence[int], content: dict[int, int] | None = None) -> dict[int, int]:
        """Return what a node takes in this order, each shape as often as goes in, added to `content`."""
        content = {} if content is None else content
        self.work += len(order)
        for shape in order:
            needs = self._needs[shape]
            most = min(times(room, needs), counts[shape] - content.get(shape, 0))
            if most > 0:
                content[shape] = content.get(shape, 0) + most
                room = less(room, needs, most)
        return content

    def holds(self, kind: int, content: Content) -> bool:
        """Whether an empty node of a type holds the content."""
        room = self._types[kind].room
        for shape, count in content:
            if shape not in self._types[kind].shares or times(room, self._needs[shape]) < count:
                return False
            room = less(room, self._needs[shape], count)
        return True

    def _exchange(self, fills: dict[Content, float], kind: "_Type", prices: "_Prices", best: tuple[Content, float]) -> None:
        """Take out a piece and put in what is worth most there, then what else goes in, as long as that is better; two where one is not."""
        tried: set[Content] = set()
        for _ in range(MOST_EXCHANGES):
            one = {*_one_fewer(best[0])} - tried
            found = self._better(fills, kind, prices, best, one)
            tried |= one
            if found is best:
                two = {each for content in _one_fewer(best[0]) for each in _one_fewer(content)} - tried
                found = self._better(fills, kind, prices, best, two)
                tried |= two
            if found is best:
                return
            best = found

    def _better(
        self, fills: dict[Content, float], kind: "_Type", prices: "_Prices", best: tuple[Content, float], taken_out: set[Content]
    ) -> tuple[Content, float]:
        for content in sorted(taken_out):
            left = self._room(kind.room, content)
            there = dict(content)
            fitting = self._fitting(left, there, prices)
            order = [shape for _, shape in fitting]
            for _, shape in sorted(fitting)[:CANDIDATES]:
                made = self._add(fills, self.fill(left, (shape, *order), prices.counts, dict(there)), prices.worth)
                if made[1] > best[1] * (1 + 1e-9):
                    best = made
        return best

    def _fitting(self, room: Room, there: Mapping[int, int], prices: "_Prices") -> list[tuple[float, int]]:
        """Return the shapes that go into the room by density, each with minus what as many as go in are worth."""
        found: list[tuple[float, int]] = []
        self.work += len(prices.order)
        for shape in prices.order:
            most = min(times(room, self._needs[shape]), prices.counts[shape] - there.get(shape, 0))
            if most > 0:
                found.append((-prices.worth[shape] * most, shape))
        return found

    def _room(self, room: Room, content: Content) -> Room:
        for shape, count in content:
            room = less(room, self._needs[shape], count)
        return room

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
        self.rests_until = 0
        brings = amounts(self.room)
        self.shapes: list[int] = []
        self.shares: dict[int, dict[int, float]] = {}
        for shape in sorted(problem.allowed[index]):
            needs = problem.needs[shape]
            if times(self.room, needs):
                self.shapes.append(shape)
                self.shares[shape] = {kind: amount / brings[kind] for kind, amount in needs}
        kinds = sorted({kind for shares in self.shares.values() for kind in shares})
        by_shape: list[Callable[[dict[int, float]], float]] = [
            lambda shares: sum(shares.values()),
            lambda shares: max(shares.values(), default=0.0),
            lambda shares: sum(share * share for share in shares.values()),
            *(lambda shares, kind=kind: shares.get(kind, 0.0) + SLIGHT for kind in kinds),
        ]
        self.weights = [{shape: weigh(shares) or TINY for shape, shares in self.shares.items()} for weigh in by_shape]

    def by_density(self, shapes: Sequence[int], worth: Sequence[float]) -> list[int]:
        """Return shapes by worth for the sum of the shares they take, the best first."""
        return _by(shapes, worth, self.weights[0])

    def orders(self, shapes: Sequence[int], worth: Sequence[float]) -> Iterator[list[int]]:
        """Yield orders in which to fill: by worth for the sum, the most and the squares of shares, for each kind's share, and by worth itself."""
        for weights in self.weights:
            yield _by(shapes, worth, weights)
        yield sorted(shapes, key=worth.__getitem__, reverse=True)


def _by(shapes: Sequence[int], worth: Sequence[float], weights: Mapping[int, float]) -> list[int]:
    return sorted(shapes, key=lambda shape: worth[shape] / weights[shape], reverse=True)


def _one_fewer(content: Content) -> Iterator[Content]:
    for position, (shape, count) in enumerate(content):
        rest = ((shape, count - 1),) if count > 1 else ()
        yield (*content[:position], *rest, *content[position + 1 :])
