"""Mending, in Python: some nodes of a mix are taken apart, and what lay there is put on others and on new ones; kept where that is no worse.

Owns how a turn of that goes. `native` does the same in compiled code, and tests hold the two equal. Which nodes are taken is drawn, from the same numbers
each time: those worth little for their price rather than others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rayscaler.planner.devices import Devices
from rayscaler.planner.mix.problem import Column, Problem
from rayscaler.planner.mix.search import BETTER, by_ways
from rayscaler.planner.mix.shares import Shares
from rayscaler.planner.sim import Room, less, times

LEAST_TAKEN, MOST_TAKEN = 2, 6
"""Nodes taken apart in one turn."""
TRIES = 3
"""Nodes drawn for each, of which the poorest is taken."""
NEAR_BY = 32
"""Nodes that what lay there is put on if there is room, before new ones are made."""
MOST_MADE = 16
"""Nodes made in one turn."""

Pieces = dict[int, int]
"""How many of each shape; none of them 0."""


class Broken(NamedTuple):
    """A mix to mend, a node at a time, and what it leaves out by shape.

    `spare` is how many nodes there may be more by type, `total` how many of these new ones, `money` what may be spent on them (None: anything), `most_nodes` how
    many nodes there may be in the end, `worth` what shapes are worth (all above 0), `looks` when to end, `chance` where the draw begins.
    """

    nodes: Sequence[Column]
    left: Sequence[int]
    spare: Sequence[int]
    total: int
    money: int | None
    worth: Sequence[float]
    looks: int
    most_nodes: int
    chance: int


class Mended(NamedTuple):
    """The nodes there are now, and the shapes looked at."""

    nodes: list[Column]
    work: int


@dataclass
class _Turn:
    taken: list[int]
    made: list[Column] = field(default_factory=list)
    log: list[tuple[int, int, int]] = field(default_factory=list)
    before: int = 0
    after: int = 0
    out_before: int = 0
    total: int = 0
    spent: int = 0


class Mender:
    """Mends one mix."""

    def __init__(self, problem: Problem, types: Sequence[Shares], broken: Broken) -> None:
        self._problem, self._types, self._worth = problem, types, broken.worth
        self._orders = [list(by_ways(each, range(len(each.shapes)), broken.worth)) for each in types]
        self._has_devices = [any(isinstance(held, Devices) for held in each.room) for each in types]
        self._nodes: list[tuple[int, Pieces]] = [(kind, dict(content)) for kind, content in broken.nodes]
        self._left, self._spare = list(broken.left), list(broken.spare)
        self._total, self._money, self._most_nodes = broken.total, broken.money, broken.most_nodes
        self._chance, self._looks, self._work = broken.chance, broken.looks, 0

    def run(self) -> Mended:
        """Place what is left out, as far as that goes; then take nodes apart while there are looks to spend."""
        while self._mend(0) and self._work < self._looks:
            pass
        while self._nodes and self._work < self._looks:
            self._mend(LEAST_TAKEN + self._drawn(MOST_TAKEN - LEAST_TAKEN + 1))
        return Mended([Column(kind, tuple(sorted(pieces.items()))) for kind, pieces in self._nodes], self._work)

    def _drawn(self, of: int) -> int:
        self._chance = (self._chance * 1_664_525 + 1_013_904_223) % 2**32
        return self._chance * of >> 32

    def _mend(self, take: int) -> bool:
        """Take so many nodes apart and put what lay there elsewhere; keep that if it is no worse, and return whether it places more."""
        self._work += 1
        turn = _Turn(taken=[], out_before=sum(self._left), total=self._total)
        self._take_apart(turn, take)
        self._put_near(turn)
        self._make_nodes(turn)
        out = sum(self._left)
        is_good = out < turn.out_before
        if out == turn.out_before:
            is_good = (turn.after, len(turn.made)) <= (turn.before, len(turn.taken))
        if len(self._nodes) - len(turn.taken) + len(turn.made) > self._most_nodes:
            is_good = False
        if is_good:
            self._accept(turn)
        else:
            self._undo(turn)
        return is_good and out < turn.out_before

    def _take_apart(self, turn: _Turn, count: int) -> None:
        for _ in range(count):
            drawn = (self._drawn(len(self._nodes)) for _ in range(TRIES))
            tried = [node for node in drawn if node not in turn.taken]
            if tried:
                turn.taken.append(min(tried, key=self._yield))
        for node in turn.taken:
            kind, pieces = self._nodes[node]
            self._spare[kind] += 1
            turn.total += self._problem.is_new(kind)
            turn.before += self._problem.prices[kind]
            turn.spent -= self._problem.spend(kind)
            self._count(pieces, 1)

    def _yield(self, node: int) -> float:
        kind, pieces = self._nodes[node]
        worth = 0.0
        for shape, count in sorted(pieces.items()):
            worth += self._worth[shape] * count
        return worth / (self._problem.prices[kind] or 1)

    def _count(self, pieces: Pieces, sign: int) -> None:
        for shape, count in pieces.items():
            self._left[shape] += sign * count

    def _put_near(self, turn: _Turn) -> None:
        """Put what is left on nodes that are not taken apart."""
        begin = self._drawn(len(self._nodes)) if self._nodes else 0
        for step in range(min(NEAR_BY, len(self._nodes))):
            node = (begin + step) % len(self._nodes)
            kind, pieces = self._nodes[node]
            room = None if node in turn.taken else self._room(kind, pieces)
            if room is None:
                continue
            _, put = self._fill(room, self._orders[kind][-1])
            both = {shape: pieces.get(shape, 0) + put.get(shape, 0) for shape in (*pieces, *put)}
            if put and (not self._has_devices[kind] or self._room(kind, both) is not None):
                self._nodes[node] = kind, both
                self._count(put, -1)
                turn.log += [(node, shape, count) for shape, count in put.items()]

    def _room(self, kind: int, pieces: Pieces) -> Room | None:
        """Return what such a content leaves of an empty node; None if it does not go in, by shape."""
        room = self._types[kind].room
        for shape, count in sorted(pieces.items()):
            if times(room, self._problem.needs[shape]) < count:
                return None
            room = less(room, self._problem.needs[shape], count)
        return room

    def _fill(self, room: Room, order: Sequence[int]) -> tuple[float, Pieces]:
        """Return what of all that is left goes into the room in this order, and what that is worth."""
        put, worth = Pieces(), 0.0
        self._work += 1
        for shape in order:
            if self._left[shape]:
                self._work += 1
                most = min(times(room, self._problem.needs[shape]), self._left[shape])
                if most > 0:
                    room = less(room, self._problem.needs[shape], most)
                    put[shape] = most
                    worth += self._worth[shape] * most
        return worth, put

    def _make_nodes(self, turn: _Turn) -> None:
        """Make nodes for what is left, each time the one that is worth most for its price."""
        while any(self._left) and len(turn.made) < MOST_MADE:
            best: tuple[float, int, Pieces] = 0.0, -1, {}
            for worth, kind, put in self._makings(turn):
                if worth > best[0] * BETTER and (not self._has_devices[kind] or self._room(kind, put) is not None):
                    best = worth, kind, put
            _, kind, put = best
            if kind < 0:
                return
            turn.made.append(Column(kind, tuple(put.items())))
            self._spare[kind] -= 1
            turn.total -= self._problem.is_new(kind)
            turn.after += self._problem.prices[kind]
            turn.spent += self._problem.spend(kind)
            self._count(put, -1)

    def _makings(self, turn: _Turn) -> Iterator[tuple[float, int, Pieces]]:
        """Yield nodes that may be made: what they are worth for their price, their type, and what lies there."""
        for kind, price in enumerate(self._problem.prices):
            is_open = self._spare[kind] > 0 and (turn.total > 0 or not self._problem.is_new(kind))
            is_paid = self._money is None or turn.spent + self._problem.spend(kind) <= self._money
            if not is_open or not is_paid or (not turn.out_before and turn.after + price > turn.before):
                continue
            for order in self._orders[kind]:
                worth, put = self._fill(self._types[kind].room, order)
                yield worth / (price or 1), kind, put

    def _accept(self, turn: _Turn) -> None:
        """Keep what was made, in the places of what was taken apart; the last nodes move to places that are left over, the highest first."""
        self._total = turn.total
        if self._money is not None:
            self._money -= turn.spent
        made = [(kind, dict(content)) for kind, content in turn.made]
        for node, one in zip(turn.taken, made, strict=False):
            self._nodes[node] = one
        self._nodes += made[len(turn.taken) :]
        for node in sorted(turn.taken[len(made) :], reverse=True):
            last = self._nodes.pop()
            if node < len(self._nodes):
                self._nodes[node] = last

    def _undo(self, turn: _Turn) -> None:
        for kind, content in turn.made:
            self._spare[kind] += 1
            self._count(dict(content), 1)
        for node, shape, count in turn.log:
            pieces = self._nodes[node][1]
            pieces[shape] -= count
            if not pieces[shape]:
                del pieces[shape]
            self._left[shape] += count
        for node in turn.taken:
            kind, pieces = self._nodes[node]
            self._spare[kind] -= 1
            self._count(pieces, -1)
