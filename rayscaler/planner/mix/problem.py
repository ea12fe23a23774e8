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


def least_cost(problem: Problem) -> float:
    """Return what no mix that places all is cheaper than, by one kind of resource at a time: what is wanted of it at the least price it is had for.

    Weaker than the bound of a linear program, and there at once; where all work is alike it is the same.
    """
    kinds = len(problem.rooms[0]) if problem.rooms else 0
    return max((_least_of(problem, kind) for kind in range(kinds)), default=0.0)


def _least_of(problem: Problem, kind: int) -> float:
    prices = [_price_of(price, room[kind]) for price, room in zip(problem.prices, problem.rooms, strict=True)]
    total = 0.0
    for shape, (needs, count) in enumerate(zip(problem.needs, problem.counts, strict=True)):
        amount = dict(needs).get(kind, 0)
        able = [price for price, allowed in zip(prices, problem.allowed, strict=True) if shape in allowed and price is not None]
        total += amount * count * min(able, default=0.0)
    return total


def _price_of(price: int, held: int | Devices) -> float | None:
    """Return what one unit of a kind costs where a node is bought for it alone; None where a node has none of it."""
    amount = held.total if isinstance(held, Devices) else held
    return price / amount if amount else None
