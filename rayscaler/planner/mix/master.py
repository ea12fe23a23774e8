"""The linear program over columns: how often to use which, and what that makes shapes worth."""

import math
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
        lp.add_rows(
            self._highs,
            [*((float(count), lp.INFINITY) for count in problem.counts)]
            + [(-lp.INFINITY, float(limit)) for limit in problem.limits]
            + [(-lp.INFINITY, most) for most in problem.shared],
        )
        lp.add_columns(self._highs, [lp.Added(penalty, lp.INFINITY, {shape: 1.0}) for shape in range(self._shapes)])

    def add(self, column: Column) -> bool:
        """Add a column unless it is there."""
        if column in self._known:
            return False
        self._known.add(column)
        self.columns.append(column)
        price = float(self._problem.prices[column.type])
        limits = {self._shapes + column.type: 1.0, **dict(enumerate(self._problem.takes(column.type), self._shapes + self._types))}
        rows = {**{shape: float(each) for shape, each in column.content}, **limits}
        lp.add_columns(self._highs, [lp.Added(price, lp.INFINITY, rows)])
        return True

    def solve(self) -> tuple[list[float], Prices]:
        """Return how often each column is used, and the prices."""
        solution, iterations = lp.run(self._highs, is_feasible=self.cost < math.inf)  # there are only more columns than the last time
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
