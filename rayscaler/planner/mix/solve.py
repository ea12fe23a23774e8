"""Column generation, then a dive to whole numbers, within a budget in steps.

A step is a fixed amount of work, about a millisecond of an ordinary core: shapes looked at in fills, and iterations of the simplex method.
The same problem with the same budget gives the same answer; the best so far wins, and never is it worse than the start.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from rayscaler.planner.mix.bound import bound
from rayscaler.planner.mix.fill import Filler
from rayscaler.planner.mix.lp import Unsolved
from rayscaler.planner.mix.master import Master, Prices
from rayscaler.planner.mix.problem import NEAR, Column, Problem, Solution, Used, judged
from rayscaler.planner.mix.search import Ask

LOOKS_PER_STEP = 30_000
"""Shapes looked at in fills that make a step."""
PIVOTS_PER_STEP = 25
"""Iterations of the simplex method that make a step."""
SHARE = 0.7
"""Of the budget that columns are made for; the rest is for the dive."""
CLOSE = 0.003
"""Columns that are at most so much dearer than what none can be cheaper than are enough: whole numbers cost more than that."""
MOST_EFFORT = 2
"""In making one fill."""
PER_TYPE = 6
"""Columns of one type added in one round."""
TOLD = 2
"""Times as many fills are looked at for them: some hold only in another order of filling."""
SMALL = 100
"""Pieces of demand that are few enough to look for the best whole numbers."""
PAIRS = 60
"""Shapes by types that are few enough for it: above, it would take seconds."""
BRANCHES = 200
"""Of that search."""
SWING = 0.5
"""How far prices follow the newest solution."""
PER_TYPE_SMALL = 60
"""The same where there is little: what is not worth its price now may be needed for whole numbers."""
FEW = 1_000
"""Fills of one type that are few enough to try them all."""
TURNS = 8
"""So often nodes are taken apart with nothing gained before it is left at that."""
LEAST_TAKEN, MORE_TAKEN = 0.15, 0.7
"""The share of nodes taken apart, of those worth most for their price, and how much more of those worth least."""
MOST_TAKEN = 50
"""Nodes alike of which that share is taken."""
SPREAD, OTHER = 0.6180339887, 0.7548776662
"""Multiples of these are spread evenly over the parts of one, each turn otherwise: what share of a node is taken becomes all of it or nothing."""
SURE = 0.6
"""What of a column's use is rounded up in a dive, where nothing is used whole."""
AT_LEAST = 12
"""Where none is used that much, one of so many columns is rounded up at once, those used most."""
PER_TYPE_DIVE = 2
"""Columns of one type added for what is left in a dive: more only cost time to choose from."""


def solve(problem: Problem, start: Solution, steps: int) -> Solution:
    """Return the best mix found in `steps`, or the start where nothing better was."""
    try:
        return _Search(problem, start, steps).run()
    except Unsolved:
        return start


class _Search:
    def __init__(self, problem: Problem, start: Solution, steps: int) -> None:
        self.problem, self.start, self.steps = problem, start, steps
        self.filler = Filler(problem)
        self.penalty = 10.0 * max(problem.prices, default=1)
        self.master = Master(problem, self.penalty)
        self.cheapest = min((price for price in problem.prices if price), default=1)
        self.pivots = 0
        self.is_small = sum(problem.counts) <= SMALL and len(problem.counts) * len(problem.rooms) <= PAIRS

    def run(self) -> Solution:
        least = bound(self.problem, self.penalty)
        self.pivots += least.iterations
        start = self._told(self.start, least.cost, least.binds)
        if least.cost is not None and not start.unplaced and start.cost <= least.cost * (1 + NEAR):
            return start
        for used in self.start.recipe:
            self.master.add(used.column)
        open_types = [kind for kind, limit in enumerate(self.problem.limits) if limit > 0]
        for column in self.filler.led(least.worth, self.problem.counts, open_types, [float(price) for price in self.problem.prices]):
            self._add(column)
        self._generate(least.worth, (least.cost or 0.0) * (1 + CLOSE))
        found = [judged(self.problem, self._smaller(recipe)) for recipe in self._recipes()]
        best = self._mended(min([self.start, *found], key=lambda each: each.rank))
        return self._told(best, least.cost, least.binds)

    def _mended(self, best: Solution) -> Solution:
        """Take nodes apart, poor ones rather, and settle what was there again; keep what is better, while there is budget."""
        self.master.want(self.problem.counts, self.problem.limits, self.problem.total, self.problem.money)
        _, prices = self.master.solve()
        failed = turn = 0
        while failed < TURNS and self._spent() < self.steps:
            left = _Left(self.problem)
            ranked = sorted(best.recipe, key=lambda each: (-self._yield(each.column, prices), each.column))
            for position, (column, nodes) in enumerate(ranked):
                share = LEAST_TAKEN + MORE_TAKEN * (position / len(ranked)) ** 2
                left.keep(column, nodes - int(min(nodes, MOST_TAKEN) * share + (position * SPREAD + turn * OTHER) % 1))
            turn += 1
            found = judged(self.problem, self._smaller(self._dive(left)))
            failed = failed + 1 if found.rank >= best.rank else 0
            best = min(best, found, key=lambda each: each.rank)
        return best

    def _yield(self, column: Column, prices: Prices) -> float:
        """Return what lies on a node is worth for its price."""
        return sum(prices.shapes[shape] * each for shape, each in column.content) / (self.problem.prices[column.type] or 1)

    def _told(self, found: Solution, least: float | None, binds: tuple[int, ...]) -> Solution:
        return replace(found, bound=least, steps=self._spent(), binds=tuple(kind for kind in binds if self.problem.is_new(kind)))

    def _spent(self) -> int:
        return 1 + self.filler.work // LOOKS_PER_STEP + (self.pivots + self.master.iterations) // PIVOTS_PER_STEP

    def _generate(self, worth: list[float], enough: float) -> None:
        """Make columns until none is worth its price, or the budget is for the dive.

        Prices of shapes swing from one solution to the next, so fills are made at the mean of the newest and what they have been lately; only
        where that finds nothing, at the newest alone, and then with more effort.
        """
        first, effort = worth, 0
        while self._spent() < SHARE * self.steps:
            _, prices = self.master.solve(has_more=True)
            if self.master.cost <= enough:
                return
            worth = [(1 - SWING) * lately + SWING * newest for lately, newest in zip(worth, prices.shapes, strict=True)]
            if self._price(prices, self.problem.counts, self.problem.limits, worth, effort=effort):
                continue
            self.filler.wake()
            worth = prices.shapes
            while not self._price(prices, self.problem.counts, self.problem.limits, worth, effort=effort):
                if effort < MOST_EFFORT:
                    effort += 1
                elif worth is prices.shapes:
                    worth = [(newest + early) / 2 for newest, early in zip(worth, first, strict=True)]
                else:
                    return

    def _add(self, column: Column) -> bool:
        """Add a column that holds also when it is filled in the order of shapes, as it will be."""
        return self.filler.holds(*column) and self.master.add(column)

    def _price(
        self,
        prices: Prices,
        counts: Sequence[int],
        limits: Sequence[int],
        worth: Sequence[float],
        *,
        effort: int,
        most: int = PER_TYPE,
    ) -> int:
        """Add columns filled by `worth` that pay at `prices`; return how many were new."""
        most, least = (PER_TYPE_SMALL, -1.0) if self.is_small else (most, 1e-7)
        floors = {
            kind: price * (1 - prices.money) - at_most - (prices.place if self.problem.is_new(kind) else 0.0)
            for kind, (price, at_most) in enumerate(zip(self.problem.prices, prices.types, strict=True))
            if limits[kind] > 0
        }
        margins = {kind: least * (self.problem.prices[kind] or self.cheapest) for kind in floors}
        added = dict.fromkeys(floors, 0)
        for column in self.filler.columns(Ask(worth, prices.shapes, counts, floors, margins, effort, most * TOLD)):
            if added[column.type] < most and self._add(column):
                added[column.type] += 1
        return sum(added.values())

    def _recipes(self) -> Iterator[tuple[Used, ...]]:
        yield self._dive(_Left(self.problem))
        if self.is_small:
            for kind, limit in enumerate(self.problem.limits):
                for column in (self.filler.every(kind, self.problem.counts, FEW) or ()) if limit else ():
                    self.master.add(column)
            left = _Left(self.problem)
            self.master.want(left.counts, left.limits, left.total, left.money)
            for column, amount in zip(self.master.columns, self.master.solve_whole(BRANCHES), strict=True):
                for _ in range(round(amount)):
                    left.keep(column, 1)
            yield tuple(Used(column, nodes) for column, nodes in sorted(left.recipe.items()))

    def _dive(self, left: "_Left") -> tuple[Used, ...]:
        """Settle columns, the surest first, and solve again for what is left, until all is settled."""
        while any(left.counts):
            self.master.want(left.counts, left.limits, left.total, left.money)
            used, prices = self.master.solve()
            if self._spent() < self.steps and self._price(prices, left.counts, left.limits, prices.shapes, effort=1, most=PER_TYPE_DIVE):
                used, prices = self.master.solve(has_more=True)
            if not left.settle(self.master.columns, used, at_once=self._spent() >= self.steps):
                break
        return tuple(Used(column, nodes) for column, nodes in sorted(left.recipe.items()))

    def _smaller(self, recipe: tuple[Used, ...]) -> tuple[Used, ...]:
        """Put what lies on a node on a cheaper one where it fits, the dearest nodes first."""
        problem = self.problem
        nodes = [0] * len(problem.rooms)
        for column, count in recipe:
            nodes[column.type] += count
        made: dict[Column, int] = {}
        for column, count in sorted(recipe, key=lambda each: (-problem.prices[each.column.type], each.column)):
            left = count
            for kind in sorted(range(len(problem.rooms)), key=lambda each: (problem.prices[each], each)):
                if problem.prices[kind] >= problem.prices[column.type] or not left:
                    break
                moved = min(left, problem.limits[kind] - nodes[kind])
                if moved > 0 and self.filler.holds(kind, column.content):
                    target = Column(kind, column.content)
                    made[target] = made.get(target, 0) + moved
                    nodes[kind] += moved
                    nodes[column.type] -= moved
                    left -= moved
            if left:
                made[column] = made.get(column, 0) + left
        return tuple(Used(column, count) for column, count in sorted(made.items()))


class _Left:
    """What is still to be settled in a dive, and what has been."""

    def __init__(self, problem: Problem) -> None:
        self.counts, self.limits = list(problem.counts), list(problem.limits)
        self.total, self.money = problem.total, problem.money
        self.recipe: dict[Column, int] = {}
        self._problem = problem

    def keep(self, column: Column, nodes: int) -> None:
        """Settle so many nodes of a column."""
        if nodes > 0:
            self._take(column, nodes)

    def settle(self, columns: Sequence[Column], used: Sequence[float], *, at_once: bool = False) -> bool:
        """Settle what is used whole; where nothing is, what nearly is; else what is used most. Return whether anything was.

        At once: all that is used, rounded up, for when there is no time to solve again.
        """
        whole = [(column, math.floor(amount + 1e-6)) for column, amount in zip(columns, used, strict=True) if amount >= 1 - 1e-6]
        if whole:
            return sum(self._take(column, nodes) for column, nodes in whole) > 0
        parts = sorted(
            ((amount, column) for column, amount in zip(columns, used, strict=True) if amount > 1e-6), key=lambda each: (-each[0], each[1])
        )
        if at_once:
            return sum(self._take(column, 1) for _, column in parts) > 0
        sure = [column for amount, column in parts if amount >= SURE]
        if sum(self._take(column, 1) for column in sure):
            return True
        able = (column for _, column in parts if self._take(column, 1))
        return sum(1 for _ in islice(able, max(1, len(parts) // AT_LEAST))) > 0

    def _take(self, column: Column, nodes: int) -> bool:
        price, is_new = self._problem.prices[column.type], self._problem.is_new(column.type)
        nodes = min(nodes, self.limits[column.type], self.total if is_new else nodes)
        if self.money is not None and price:
            nodes = min(nodes, self.money // price)
        content = tuple((shape, each) for shape, each in column.content if self.counts[shape] >= each)
        if len(content) == len(column.content) or (nodes > 1 and content):  # of many nodes what would fill one of them is left for later
            nodes = min(nodes, *(self.counts[shape] // each for shape, each in content))
        else:
            content = tuple((shape, min(each, self.counts[shape])) for shape, each in column.content if self.counts[shape])
            nodes = min(nodes, 1)
        if nodes <= 0 or not content:
            return False
        for shape, each in content:
            self.counts[shape] -= each * nodes
        self.limits[column.type] -= nodes
        self.total -= nodes if is_new else 0
        self.money = None if self.money is None else self.money - price * nodes
        taken = Column(column.type, content)
        self.recipe[taken] = self.recipe.get(taken, 0) + nodes
        return True
