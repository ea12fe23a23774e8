"""Fills of one node as columns: for which types, with what to begin, and which are the best. How one is made is for `search`, or `native`."""

from collections.abc import Sequence

from rayscaler.planner.mix import native
from rayscaler.planner.mix.problem import Column, Content, Problem
from rayscaler.planner.mix.search import PROMISING, Ask, Search
from rayscaler.planner.mix.shares import Shares
from rayscaler.planner.sim import Room, less, times

REST = 4
"""Rounds in which types that are far from worth their price are left out; prices do not change that fast."""
BEST = 2
"""Types tried for fills that begin with a shape."""
LOOKS_PER_FILL = 20
"""Shapes looked at for each fill that may be found, before all of them are too many."""


class Filler:
    """Makes columns for prices of shapes. `work` counts the shapes looked at, the measure of its effort."""

    def __init__(self, problem: Problem) -> None:
        self.work = 0
        self._round = 0
        self._needs = problem.needs
        self._types = [Shares(problem, index) for index in range(len(problem.rooms))]
        self._able = [frozenset(each.shapes) for each in self._types]
        self._search = native.of(problem, self._types) or Search(problem, self._types)
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
