"""Fills of one node as columns: for which types, with what to begin, and which are the best. How one is made is for `search`, or `native`."""

from collections import Counter
from collections.abc import Sequence

from rayscaler.planner.mix import native
from rayscaler.planner.mix.mend import MOST_MADE, Broken, Mender
from rayscaler.planner.mix.problem import Column, Content, Left, Problem, Used
from rayscaler.planner.mix.search import PROMISING, Ask, Search
from rayscaler.planner.mix.shares import SLIGHT, Shares
from rayscaler.planner.sim import Room, less, times

REST = 4
"""Rounds in which types that are far from worth their price are left out; prices do not change that fast."""
BEST = 2
"""Types tried for fills that begin with a shape."""
LOOKS_PER_FILL = 20
"""Shapes looked at for each fill that may be found, before all of them are too many."""

MOST_NODES, MOST_CELLS = 4_096, 1 << 20
"""Nodes that are mended at once, and these times the shapes."""


class Filler:
    """Makes columns for prices of shapes. `work` counts the shapes looked at, the measure of its effort."""

    def __init__(self, problem: Problem) -> None:
        self.work = 0
        self._round = 0
        self._problem, self._needs = problem, problem.needs
        self._types = [Shares(problem, index) for index in range(len(problem.rooms))]
        self._able = [frozenset(each.shapes) for each in self._types]
        self._native = native.of(problem, self._types)
        self._search = self._native or Search(problem, self._types)
        self._rests_until = [0] * len(self._types)

    def columns(self, ask: Ask) -> list[Column]:
        """Return the fills that pay of each type asked for, by type and worth of what lies there, the best first."""
        self._round += 1
        kinds = [kind for kind in ask.floors if self._rests_until[kind] <= self._round]
        found: list[Column] = []
        for kind, made in zip(kinds, self._search.price(kinds, ask), strict=True):
            self.work += made.work
            if made.best < PROMISING * ask.floors[kind]:
                self._rests_until[kind] = self._round + REST
            found += [Column(kind, content) for _, content in made.fills]
        return found

    def wake(self) -> None:
        """Look at all types again, also those that were far from worth their price."""
        self._rests_until = [0] * len(self._types)

    def led(self, worth: Sequence[float], counts: Sequence[int], open_types: Sequence[int], floors: Sequence[float]) -> list[Column]:
        """Return fills that begin with each shape, of the types where they are worth most for what they have to be."""
        best: dict[int, list[tuple[float, Column]]] = {}
        for kind in open_types:
            made = self._search.led(kind, worth, counts)
            self.work += made.work
            if made.best < PROMISING * floors[kind]:
                continue
            for shape, (value, content) in zip(self._types[kind].shapes, made.fills, strict=True):
                best.setdefault(shape, []).append((-value / (floors[kind] or 1.0), Column(kind, content)))
        return [column for found in best.values() for _, column in sorted(found)[:BEST]]

    def mended(self, recipe: Sequence[Used], worth: Sequence[float], looks: int, *, turn: int) -> tuple[Used, ...]:
        """Return a mix that is no worse, found by taking nodes apart, so many looks long; each turn otherwise. Of many nodes alike only some are."""
        broken, rest = self._broken(recipe, worth, looks, turn)
        made = self._native.mend(broken) if self._native else Mender(self._problem, self._types, broken).run()
        self.work += made.work
        rest.update(made.nodes)
        return tuple(Used(column, nodes) for column, nodes in sorted(rest.items()) if nodes and column.content)

    def _broken(self, recipe: Sequence[Used], worth: Sequence[float], looks: int, turn: int) -> tuple[Broken, Counter[Column]]:
        left = Left(self._problem)
        most = max(MOST_MADE, min(MOST_NODES, MOST_CELLS // len(worth)))
        each = max(1, most // (2 * len(recipe) or 1))
        nodes: list[Column] = []
        rest: Counter[Column] = Counter()
        for column, count in recipe:
            left.keep(column, count)
            taken = min(count, each, most // 2 - len(nodes))
            nodes += [column] * taken
            rest[column] = count - taken
        out = [max(0, count) for count in left.counts]
        least = max(worth, default=0.0) * SLIGHT or 1.0
        return Broken(nodes, out, left.limits, left.total, left.money, [max(value, least) for value in worth], looks, most, turn), rest

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
                rest = less(room, self._needs[shape], count) if count else room
                if not go(position + 1, rest, content + taken) or self.work > enough:
                    return False
            return True

        return found if go(0, self._types[kind].room, ()) else None

    def holds(self, kind: int, content: Content) -> bool:
        """Whether an empty node of a type holds the content."""
        room = self._types[kind].room
        for shape, count in content:
            if shape not in self._able[kind] or times(room, self._needs[shape]) < count:
                return False
            room = less(room, self._needs[shape], count)
        return True
