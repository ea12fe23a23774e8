"""What a node type is to a search: its empty room, the shapes that fit it, and what share of it each takes."""

from collections.abc import Callable

from rayscaler.planner.mix.problem import Problem
from rayscaler.planner.sim import amounts, times

SLIGHT, TINY = 1e-3, 1e-12
"""Shares in the place of none: of a kind that a shape does not need, and of everything."""


class Shares:
    """A type's `room`, the `shapes` that go into it empty by index, and `weights`: for each order to fill in, each shape's share of the node.

    The orders are by the sum, the most and the squares of shares, and by each kind's share; `weights[0]` is the sum.
    """

    def __init__(self, problem: Problem, index: int) -> None:
        self.room = problem.rooms[index]
        brings = amounts(self.room)
        self.shapes = [shape for shape in sorted(problem.allowed[index]) if times(self.room, problem.needs[shape])]
        shares = [{kind: amount / brings[kind] for kind, amount in problem.needs[shape]} for shape in self.shapes]
        kinds = sorted({kind for each in shares for kind in each})
        weigh: list[Callable[[dict[int, float]], float]] = [
            lambda each: sum(each.values()),
            lambda each: max(each.values(), default=0.0),
            lambda each: sum(share * share for share in each.values()),
            *(lambda each, kind=kind: each.get(kind, 0.0) + SLIGHT for kind in kinds),
        ]
        self.weights = [[way(each) or TINY for each in shares] for way in weigh]
