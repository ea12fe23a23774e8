"""Fills of one node, in Python: greedy by the worth of shapes in several orders of density, then exchanges of pieces. Exact integers throughout.

Owns how fills are made. `native` does the same in compiled code, and tests hold the two equal; this one is there where that is not.
"""

from collections.abc import Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from rayscaler.planner.mix.problem import Content, Problem
from rayscaler.planner.mix.shares import Shares
from rayscaler.planner.sim import Room, less, times

PROMISING = 0.9
"""Exchanges are tried where a greedy fill is worth at least so much of what it has to be worth."""
MOST_EXCHANGES = 8
"""Exchanges one after another in one fill."""
CANDIDATES = 2
"""Shapes tried in the place of what was taken out: so many that are worth most there, and so many that are worth most for the room they take."""
BETTER = 1 + 1e-9
"""A fill worth less than so much of the best is no better: it is the same, added up in another order."""


class Ask(NamedTuple):
    """What fills are made for: by shape what it is worth while filling, the price it has now, and how many there are.

    `floors` is what a fill has to be worth by type, for each type that is asked for. Told are the `most` fills of a type that are worth most of those
    whose content at `prices` comes to more than that and the type's `margins`. By `effort` each type is filled in some orders (0), pieces are exchanged in the best fill (1), which is also looked for
    among fills that begin with each shape (2).
    """

    worth: Sequence[float]
    prices: Sequence[float]
    counts: Sequence[int]
    floors: Mapping[int, float]
    margins: Mapping[int, float]
    effort: int
    most: int


class Found(NamedTuple):
    """What the best greedy fill is worth (0: nothing fits), the fills that are told, each with its worth, the best first, and the shapes looked at."""

    best: float
    fills: list[tuple[float, Content]]
    work: int


def by_worth(fill: tuple[float, Content]) -> tuple[float, Content]:
    """Return what fills are sorted by: the one worth most first."""
    return -fill[0], fill[1]


class _Trial(NamedTuple):
    """What exchanges are made with: a type's empty room, shapes by density, what is asked, and all fills made so far with what they are worth."""

    room: Room
    order: Sequence[int]
    ask: Ask
    made: dict[Content, float]


class Search:
    """Makes fills of the types of one problem."""

    def __init__(self, problem: Problem, types: Sequence[Shares]) -> None:
        self._needs, self._types = problem.needs, types
        self._work = 0

    def price(self, kinds: Sequence[int], ask: Ask) -> list[Found]:
        """Return the fills of each of these types that pay."""
        return [self._price(kind, ask) for kind in kinds]

    def _price(self, kind: int, ask: Ask) -> Found:
        self._work = 0
        shares = self._types[kind]
        at = [index for index, shape in enumerate(shares.shapes) if ask.worth[shape] > 0 and ask.counts[shape] > 0]
        dense = _by(shares, at, ask.worth, shares.weights[0])
        made: dict[Content, float] = {}
        fills = [self._note(made, self._fill(shares.room, order, ask.counts, {}), ask.worth) for order in by_ways(shares, at, ask.worth)]
        best = max(fills, key=itemgetter(1))
        if ask.effort and best[0] and best[1] >= PROMISING * ask.floors[kind]:
            leads = dense if ask.effort > 1 else ()
            fills = [self._note(made, self._fill(shares.room, (lead, *dense), ask.counts, {}), ask.worth) for lead in leads]
            self._exchange(_Trial(shares.room, dense, ask, made), max([best, *fills], key=itemgetter(1)))
        more_than = ask.floors[kind] + ask.margins[kind]
        pay = [(value, content) for content, value in made.items() if _sum(content, ask.prices) > more_than]
        return Found(best[1], sorted(pay, key=by_worth)[: ask.most], self._work)

    def led(self, kind: int, worth: Sequence[float], counts: Sequence[int]) -> Found:
        """Return, for each shape of a type, a fill that begins with it; the rest by density."""
        self._work = 0
        shares = self._types[kind]
        order = _by(shares, [index for index, shape in enumerate(shares.shapes) if counts[shape]], worth, shares.weights[0])
        best = _sum(_content(self._fill(shares.room, order, counts, {})), worth)
        fills = [_content(self._fill(shares.room, (shape, *order), counts, {})) for shape in shares.shapes]
        return Found(best, [(_sum(content, worth), content) for content in fills], self._work)

    def _fill(self, room: Room, order: Sequence[int], counts: Sequence[int], content: dict[int, int]) -> dict[int, int]:
        """Return what a node takes in this order, each shape as often as goes in, added to `content`."""
        self._work += len(order)
        for shape in order:
            needs = self._needs[shape]
            most = min(times(room, needs), counts[shape] - content.get(shape, 0))
            if most > 0:
                content[shape] = content.get(shape, 0) + most
                room = less(room, needs, most)
        return content

    def _exchange(self, trial: _Trial, best: tuple[Content, float]) -> None:
        """Take out a piece and put in what is worth most there, then what else goes in, as long as that is better; two where one is not."""
        for _ in range(MOST_EXCHANGES):
            found = self._better(trial, best, _one_fewer(best[0]))
            if found is best:
                found = self._better(trial, best, _two_fewer(best[0]))
            if found is best:
                return
            best = found

    def _better(self, trial: _Trial, best: tuple[Content, float], taken_out: Iterator[Content]) -> tuple[Content, float]:
        for content in taken_out:
            left = trial.room
            for shape, count in content:
                left = less(left, self._needs[shape], count)
            there = dict(content)
            fitting = self._fitting(trial, left, there)
            rest = [shape for _, shape in fitting]
            for _, shape in dict.fromkeys((*sorted(fitting)[:CANDIDATES], *fitting[:CANDIDATES])):
                made = self._fill(left, (shape, *rest), trial.ask.counts, dict(there))
                found = self._note(trial.made, made, trial.ask.worth)
                if found[1] > best[1] * BETTER:
                    best = found
        return best

    def _fitting(self, trial: _Trial, room: Room, there: Mapping[int, int]) -> list[tuple[float, int]]:
        """Return the shapes that go into the room in order, each with minus what as many as go in are worth."""
        found: list[tuple[float, int]] = []
        self._work += len(trial.order)
        for shape in trial.order:
            most = min(times(room, self._needs[shape]), trial.ask.counts[shape] - there.get(shape, 0))
            if most > 0:
                found.append((-trial.ask.worth[shape] * most, shape))
        return found

    def _note(self, made: dict[Content, float], content: Mapping[int, int], worth: Sequence[float]) -> tuple[Content, float]:
        found = _content(content)
        value = _sum(found, worth)
        if found:
            made[found] = value
        return found, value


def _content(content: Mapping[int, int]) -> Content:
    return tuple(sorted(content.items()))


def _sum(content: Content, worth: Sequence[float]) -> float:
    """Add up one after another: sum() rounds otherwise in newer Pythons, and compiled code has to come to the same."""
    value = 0.0
    for shape, count in content:
        value += worth[shape] * count
    return value


def by_ways(shares: Shares, at: Sequence[int], worth: Sequence[float]) -> Iterator[list[int]]:
    """Yield orders in which to fill: by worth for each kind of weight, and by worth itself."""
    for weights in shares.weights:
        yield _by(shares, at, worth, weights)
    yield [shares.shapes[index] for index in sorted(at, key=lambda index: worth[shares.shapes[index]], reverse=True)]


def _by(shares: Shares, at: Sequence[int], worth: Sequence[float], weights: Sequence[float]) -> list[int]:
    return [shares.shapes[index] for index in sorted(at, key=lambda index: worth[shares.shapes[index]] / weights[index], reverse=True)]


def _one_fewer(content: Content, begin: int = 0) -> Iterator[Content]:
    """Yield the content without one piece of each shape from position `begin` on."""
    for position in range(begin, len(content)):
        shape, count = content[position]
        rest = ((shape, count - 1),) if count > 1 else ()
        yield (*content[:position], *rest, *content[position + 1 :])


def _two_fewer(content: Content) -> Iterator[Content]:
    """Yield the content without each pair of pieces."""
    for position, without in enumerate(_one_fewer(content)):
        yield from _one_fewer(without, position)
