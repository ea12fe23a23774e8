"""What no mix is cheaper than, by a linear program over sums; its prices of shapes are where the search for columns begins."""

from typing import NamedTuple

from rayscaler.planner.mix import lp
from rayscaler.planner.mix.problem import Problem
from rayscaler.planner.sim import amounts, times

EXACT = 1e-6
"""Smaller than this, a share is none."""


class Bound(NamedTuple):
    """The least cost (None: not all can be placed), what shapes are worth there, the types whose limit makes it dearer, and whether what they share does."""

    cost: float | None
    worth: list[float]
    binds: tuple[int, ...]
    is_full: bool
    iterations: int


def bound(problem: Problem, penalty: float) -> Bound:
    """Return what no mix is cheaper than: nodes and demands split at will, and what lies on a type fits its nodes together.

    What is left out costs `penalty` a piece.
    """
    program = _Program(problem, penalty)
    solution, iterations = lp.run(program.highs)
    values, shapes = list(solution.col_value), len(problem.counts)
    cost = (
        None
        if sum(values[:shapes]) > EXACT
        else sum(price * values[column] for price, column in zip(problem.prices, program.nodes, strict=True))
    )
    reduced = list(solution.col_dual)
    binds = tuple(kind for kind, column in enumerate(program.nodes) if reduced[column] < -EXACT * problem.prices[kind])
    duals = list(solution.row_dual)
    return Bound(cost, duals[:shapes], binds, any(dual < -EXACT for dual in duals[program.shared :]), iterations)


class _Program:
    """Rows: each shape, each kind of resource of each type, all nodes, what is spent. Columns: what is left out, nodes of each type, shapes on each type."""

    def __init__(self, problem: Problem, penalty: float) -> None:
        self.highs = lp.solver()
        self.nodes: list[int] = []
        """The column of each type's nodes."""
        self._problem = problem
        self._shapes, self._kinds = len(problem.counts), len(problem.rooms[0]) if problem.rooms else 0
        self._scale = [max(each) or 1 for each in zip(*map(amounts, problem.rooms), strict=True)]
        self.shared = self._shapes + len(problem.rooms) * self._kinds
        """The first row of what all types share."""
        lp.add_rows(
            self.highs,
            [*((float(count), lp.INFINITY) for count in problem.counts)]
            + [(-lp.INFINITY, 0.0)] * (self.shared - self._shapes)
            + [(-lp.INFINITY, most) for most in problem.shared],
        )
        columns = [lp.Added(penalty, lp.INFINITY, {shape: 1.0}) for shape in range(self._shapes)]
        for kind in range(len(problem.rooms)):
            self.nodes.append(len(columns))
            columns += self._type(kind)
        lp.add_columns(self.highs, columns)

    def _type(self, kind: int) -> list[lp.Added]:
        """Return a type's columns, that of its nodes first."""
        room, price = self._problem.rooms[kind], self._problem.prices[kind]
        rows = [self._shapes + kind * self._kinds + index for index in range(self._kinds)]
        brings = {row: -amount / scale for row, amount, scale in zip(rows, amounts(room), self._scale, strict=True)}
        limits = dict(enumerate(self._problem.takes(kind), self.shared))
        able = [each for each in sorted(self._problem.allowed[kind]) if times(room, self._problem.needs[each])]
        takes = [
            {shape: 1.0, **{rows[index]: amount / self._scale[index] for index, amount in self._problem.needs[shape]}} for shape in able
        ]
        return [
            lp.Added(float(price), float(self._problem.limits[kind]), {**brings, **limits}),
            *(lp.Added(0.0, lp.INFINITY, each) for each in takes),
        ]
