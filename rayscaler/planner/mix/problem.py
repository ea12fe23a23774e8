"""What is asked of the mix, in plain numbers, and what comes back."""

from dataclasses import dataclass
from typing import NamedTuple

from rayscaler.planner.devices import Devices

Room = tuple[int | Devices, ...]
Needs = tuple[tuple[int, int], ...]
Content = tuple[tuple[int, int], ...]
"""(index of shape, how many of it on one node), by index."""


@dataclass(frozen=True)
class Problem:
    """Shapes with counts, and types with empty rooms.

    `needs` and `counts` go by shape; `rooms`, `prices` (millionths per hour), `limits` (nodes that may be launched) and `allowed` (the shapes
    that may lie there) by type. `total` is how many nodes all types together may be, `money` what they may cost (None: anything).
    """

    needs: tuple[Needs, ...]
    counts: tuple[int, ...]
    rooms: tuple[Room, ...]
    prices: tuple[int, ...]
    limits: tuple[int, ...]
    allowed: tuple[frozenset[int], ...]
    total: int
    money: int | None = None


class Column(NamedTuple):
    """One node of a type with what lies on it."""

    type: int
    content: Content


class Used(NamedTuple):
    """So many nodes alike."""

    column: Column
    nodes: int


@dataclass(frozen=True)
class Solution:
    """Nodes to launch, and how good they are. `bound` is what no mix that places all is cheaper than; None: not all can be placed."""

    recipe: tuple[Used, ...]
    unplaced: int
    cost: int
    bound: float | None = None
    steps: int = 0
    binds: tuple[int, ...] = ()
    """Types whose limit holds the cost up."""

    @property
    def rank(self) -> tuple[int, int, int]:
        """What makes one better than another: less left out, cheaper, fewer nodes."""
        return self.unplaced, self.cost, sum(each.nodes for each in self.recipe)


def judged(problem: Problem, recipe: tuple[Used, ...]) -> Solution:
    """Return a recipe with what it leaves out and costs."""
    left = list(problem.counts)
    for column, nodes in recipe:
        for shape, each in column.content:
            left[shape] -= each * nodes
    return Solution(recipe, sum(max(0, each) for each in left), sum(problem.prices[c.type] * nodes for c, nodes in recipe))
