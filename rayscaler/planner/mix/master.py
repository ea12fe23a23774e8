"""The linear program over columns: how often to use which, and what that makes shapes worth."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from rayscaler.planner.mix import lp
from rayscaler.planner.mix.problem import Column, Problem

SET_UP = 10
"""Iterations that take as long as beginning to solve."""


class Prices(NamedTuple):
    """What the last solution makes things worth: each shape, each type's place, and any place."""

    shapes: list[float]
    types: list[float]
    place: float
    money: float


class Master:
    """Columns with how often each is used, at least cost. What is left out costs `penalty` a piece."""

    def __init__(self, problem: Problem, penalty: float) -> None:
        self.columns: list[Column] = []
        self.iterations = 0
        self.cost = math.inf
        """Of the last solution, with what is left out."""
        self._known: set[Column] = set()
        self._problem = problem
        self._shapes, self._types = len(problem.counts), len(problem.rooms)
        self._highs = lp.solver()
        for count in problem.counts:
            self._highs.addRow(float(count), lp.INFINITY, 0, lp.ints(()), lp.floats(()))
        for limit in problem.limits:
            self._highs.addRow(-lp.INFINITY, float(limit), 0, lp.ints(()), lp.floats(()))
        self._highs.addRow(-lp.INFINITY, float(problem.total), 0, lp.ints(()), lp.floats(()))
        self._highs.addRow(-lp.INFINITY, lp.INFINITY if problem.money is None else float(problem.money), 0, lp.ints(()), lp.floats(()))
        for shape in range(self._shapes):
            self._highs.addCol(penalty, 0.0, lp.INFINITY, 1, lp.ints((shape,)), lp.floats((1.0,)))

    def add(self, column: Column) -> bool:
        """Add a column unless it is there."""
        if column in self._known:
            return False
        self._known.add(column)
        self.columns.append(column)
        price = float(self._problem.prices[column.type])
        rows = [
            *(shape for shape, _ in column.content),
            self._shapes + column.type,
            self._shapes + self._types,
            self._shapes + self._types + 1,
        ]
        amounts = [*(float(each) for _, each in column.content), 1.0, float(self._problem.is_new(column.type)), price]
        self._highs.addCol(price, 0.0, lp.INFINITY, len(rows), lp.ints(rows), lp.floats(amounts))
        return True

    def want(self, counts: Sequence[int], limits: Sequence[int], total: int, money: int | None) -> None:
        """Ask for what is left instead."""
        for shape, count in enumerate(counts):
            self._highs.changeRowBounds(shape, float(count), lp.INFINITY)
        for kind, limit in enumerate(limits):
            self._highs.changeRowBounds(self._shapes + kind, -lp.INFINITY, float(limit))
        self._highs.changeRowBounds(self._shapes + self._types, -lp.INFINITY, float(total))
        self._highs.changeRowBounds(self._shapes + self._types + 1, -lp.INFINITY, lp.INFINITY if money is None else float(money))

    def solve(self, *, has_more: bool = False) -> tuple[list[float], Prices]:
        """Return how often each column is used, and the prices; `has_more` if there are only more columns than the last time."""
        solution, iterations = lp.run(self._highs, is_feasible=has_more)
        self.iterations += iterations + SET_UP
        self.cost = self._highs.getObjectiveValue()
        used, dual = list(solution.col_value), list(solution.row_dual)
        types_end = self._shapes + self._types
        prices = Prices(dual[: self._shapes], dual[self._shapes : types_end], dual[types_end], dual[types_end + 1])
        return used[self._shapes :], prices

    def solve_whole(self, nodes: int) -> list[float]:
        """Return how often each column is used where that must be a whole number, found within so many branches."""
        for column in range(len(self.columns)):
            self._highs.changeColIntegrality(self._shapes + column, lp.INTEGER)
        for name, value in (("mip_max_nodes", nodes), ("presolve", "on"), ("solver", "choose")):
            self._highs.setOptionValue(name, value)
        solution, iterations = lp.run(self._highs)
        self.iterations += iterations
        return list(solution.col_value)[self._shapes :]
