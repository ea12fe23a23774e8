"""Column generation and mending in turns, within a budget in steps.

The linear program over columns says what shapes are worth, and how often to use which column; that is rounded down, and mending places the rest
and makes it cheaper. What it finds are columns again.

A step is a fixed amount of work, about a millisecond of an ordinary core: shapes looked at in fills, and iterations of the simplex method.
The same problem with the same budget gives the same answer; the best so far wins, and never is it worse than the start.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rayscaler.planner.mix.bound import Bound, bound
from rayscaler.planner.mix.fill import Filler
from rayscaler.planner.mix.lp import Unsolved
from rayscaler.planner.mix.master import Master, Prices
from rayscaler.planner.mix.problem import NEAR, Column, Left, Problem, Solution, Used, judged
from rayscaler.planner.mix.search import Ask

LOOKS_PER_STEP = 30_000
"""Shapes looked at in fills that make a step."""
PIVOTS_PER_STEP = 25
"""Iterations of the simplex method that make a step."""
GENERATED, MENDED = 0.2, 0.06
"""Of the budget, in one turn, that columns are made for, and that a mix is mended for."""
ENOUGH = 100
"""Shapes looked at for each piece of demand and each type, after which mending finds little more."""
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
WHOLE = 1e-6
"""So little short of a whole number is one."""
LEAST_UP, MORE_UP, SPREAD = 0.1, 0.5, 0.6180339887
"""What is added to a column's use before it is rounded down, and how much more in some turns: multiples of the last are spread evenly over the parts of one."""
HARDLY = 0.002
"""A linear program that has become cheaper by less than this is rounded to much the same."""
TURNS = 8
"""So often nothing is gained before it is left at that."""


def solve(problem: Problem, start: Solution, steps: int) -> Solution:
    """Return the best mix found in `steps`, or the start where nothing better was."""
    try:
        return _Search(problem, start, steps).run()
    except Unsolved:
        return start


def _rank(found: Solution) -> tuple[int, int, int]:
    return found.rank


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
        start = self._told(self.start, least)
        if least.cost is not None and not start.unplaced and start.cost <= least.cost * (1 + NEAR):
            return start
        self._know(self.start)
        best = min(self.start, self._mended(self.start.recipe, least.worth, 0), key=_rank)
        open_types = [kind for kind, limit in enumerate(self.problem.limits) if limit > 0]
        for column in self.filler.led(least.worth, self.problem.counts, open_types, [float(price) for price in self.problem.prices]):
            self._add(column)
        best = self._taken_in_turns(best, least)
        if self.is_small:
            best = min(best, judged(self.problem, self._whole()), key=_rank)
        return self._told(best, least)

    def _taken_in_turns(self, best: Solution, least: Bound) -> Solution:
        """Make columns and mend, in turns: what the linear program says, or the best so far where that has hardly become cheaper."""
        pricing = _Pricing(least.worth, least.worth, (least.cost or 0.0) * (1 + CLOSE))
        turn, failed, cost = 1, 0, math.inf
        while failed < TURNS and self._spent() < self.steps and not self._is_close(best, least):
            has_more = self._generate(pricing)
            used, prices = self.master.solve()
            is_anew = self.master.cost < cost * (1 - HARDLY) or (turn % 2 and not best.unplaced)
            recipe = self._rounded(used, LEAST_UP + MORE_UP * (turn * SPREAD % 1)) if is_anew else best.recipe
            found = self._mended(recipe, prices.shapes, turn)
            failed = 0 if has_more or found.rank < best.rank else failed + 1
            best, cost, turn = min(best, found, key=_rank), self.master.cost, turn + 1
        return best

    def _is_close(self, found: Solution, least: Bound) -> bool:
        return least.cost is not None and not found.unplaced and found.cost <= least.cost * (1 + CLOSE)

    def _know(self, found: Solution) -> None:
        for used in found.recipe:
            self._add(used.column)

    def _mended(self, recipe: Sequence[Used], worth: Sequence[float], turn: int) -> Solution:
        """Return a recipe mended, whose columns are known then."""
        looks = int(min(self.steps * MENDED, max(1.0, self.steps - self._spent())) * LOOKS_PER_STEP)
        looks = min(looks, ENOUGH * sum(self.problem.counts) * len(self.problem.rooms))
        found = judged(self.problem, self.filler.mended(recipe, worth, looks, turn=turn))
        self._know(found)
        return found

    def _rounded(self, used: Sequence[float], up: float) -> tuple[Used, ...]:
        """Return how many whole nodes of each column: what is used of it, rounded up where the part is at least 1 - `up`; nothing is placed twice."""
        left = Left(self.problem)
        for amount, column in sorted(zip(used, self.master.columns, strict=True), key=lambda each: (-each[0], each[1])):
            left.take(column, math.floor(amount + up))
        return tuple(Used(column, nodes) for column, nodes in sorted(left.recipe.items()))

    def _told(self, found: Solution, least: Bound) -> Solution:
        binds = tuple(kind for kind in least.binds if self.problem.is_new(kind))
        return replace(found, bound=least.cost, steps=self._spent(), binds=binds, is_full=least.is_full)

    def _spent(self) -> int:
        return 1 + self.filler.work // LOOKS_PER_STEP + (self.pivots + self.master.iterations) // PIVOTS_PER_STEP

    def _generate(self, pricing: "_Pricing") -> bool:
        """Make columns until none is worth its price, or this turn's part of the budget is spent; return whether there may be more.

        Prices of shapes swing from one solution to the next, so fills are made at the mean of the newest and what they have been lately; only
        where that finds nothing, at the newest alone, and then with more effort.
        """
        until = min(self.steps, self._spent() + GENERATED * self.steps)
        while self._spent() < until:
            _, prices = self.master.solve()
            if self.master.cost <= pricing.enough:
                return False
            pricing.swing(prices.shapes)
            if self._price(prices, pricing.worth, pricing.effort):
                continue
            self.filler.wake()
            pricing.worth = prices.shapes
            while not self._price(prices, pricing.worth, pricing.effort):
                if pricing.effort < MOST_EFFORT:
                    pricing.effort += 1
                elif pricing.worth is prices.shapes:
                    pricing.worth = [(newest + early) / 2 for newest, early in zip(pricing.worth, pricing.first, strict=True)]
                else:
                    return False
        return True

    def _add(self, column: Column) -> bool:
        """Add a column that holds also when it is filled in the order of shapes, as it will be."""
        return self.filler.holds(*column) and self.master.add(column)

    def _price(self, prices: Prices, worth: Sequence[float], effort: int) -> int:
        """Add columns filled by `worth` that pay at `prices`; return how many were new."""
        limits, most, least = self.problem.limits, *((PER_TYPE_SMALL, -1.0) if self.is_small else (PER_TYPE, 1e-7))
        floors = {
            kind: price - self.problem.spend(kind) * prices.money - at_most - (prices.place if self.problem.is_new(kind) else 0.0)
            for kind, (price, at_most) in enumerate(zip(self.problem.prices, prices.types, strict=True))
            if limits[kind] > 0
        }
        margins = {kind: least * (self.problem.prices[kind] or self.cheapest) for kind in floors}
        added = dict.fromkeys(floors, 0)
        for column in self.filler.columns(Ask(worth, prices.shapes, self.problem.counts, floors, margins, effort, most * TOLD)):
            if added[column.type] < most and self._add(column):
                added[column.type] += 1
        return sum(added.values())

    def _whole(self) -> tuple[Used, ...]:
        """Return the best whole numbers of all fills that there are."""
        for kind, limit in enumerate(self.problem.limits):
            for column in (self.filler.every(kind, self.problem.counts, FEW) or ()) if limit else ():
                self.master.add(column)
        return self._rounded(self.master.solve_whole(BRANCHES), WHOLE)


@dataclass
class _Pricing:
    """What fills are made by: the first prices of shapes, those of late, what the linear program has to cost, and the effort."""

    first: Sequence[float]
    worth: Sequence[float]
    enough: float
    effort: int = 0

    def swing(self, newest: Sequence[float]) -> None:
        """Follow the newest prices."""
        self.worth = [(1 - SWING) * lately + SWING * now for lately, now in zip(self.worth, newest, strict=True)]
