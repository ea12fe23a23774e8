"""What is asked of the mix, in plain numbers, and what comes back."""

import math
from dataclasses import dataclass
from typing import NamedTuple

from rayscaler.planner.sim import Needs, Room, amounts

NEAR = 0.03
"""A mix that is at most so much dearer than what none can be cheaper than is good enough."""
Content = tuple[tuple[int, int], ...]
"""(index of shape, how many of it on one node), by index."""


@dataclass(frozen=True)
class Problem:
    """Shapes with counts, and types with empty rooms.

    `needs` and `counts` go by shape; `rooms`, `prices` (millionths per hour), `limits` (nodes that may be launched) and `allowed` (the shapes
    that may lie there) by type. `total` is how many nodes all types together may be, `money` what may be spent on them (None: anything), a node's
    `spends` at a time (none: its price), where prices are weighed.
    The types from index `there` on are nodes that exist: they cost nothing and are none of the total; None: there are no such.
    """

    needs: tuple[Needs, ...]
    counts: tuple[int, ...]
    rooms: tuple[Room, ...]
    prices: tuple[int, ...]
    limits: tuple[int, ...]
    allowed: tuple[frozenset[int], ...]
    total: int
    money: int | None = None
    there: int | None = None
    spends: tuple[int, ...] = ()

    def spend(self, kind: int) -> int:
        """Return what a node of a type takes of the money, in millionths per hour."""
        return (self.spends or self.prices)[kind]

    @property
    def shared(self) -> tuple[float, float]:
        """What all types share: nodes, and money."""
        return float(self.total), math.inf if self.money is None else float(self.money)

    def takes(self, kind: int) -> tuple[float, float]:
        """Return how much of that which all types share a node of a type takes."""
        return float(self.is_new(kind)), float(self.spend(kind))

    def is_new(self, kind: int) -> bool:
        """Whether nodes of a type would be launched."""
        return self.there is None or kind < self.there


class Column(NamedTuple):
    """One node of a type with what lies on it."""

    type: int
    content: Content


class Used(NamedTuple):
    """So many nodes alike."""

    column: Column
    nodes: int


class Left:
    """What of a problem is still to be placed and may still be launched, and what has been taken."""

    def __init__(self, problem: Problem) -> None:
        self.recipe: dict[Column, int] = {}
        self.counts, self.limits = list(problem.counts), list(problem.limits)
        self.total, self.money = problem.total, problem.money
        self._problem = problem

    def take(self, column: Column, nodes: int) -> None:
        """Take so many nodes of a column, as far as limits and what is left allow; the last of them with less, where less is left for them."""
        spend, is_new = self._problem.spend(column.type), self._problem.is_new(column.type)
        nodes = min(nodes, self.limits[column.type], self.total if is_new else nodes)
        if self.money is not None and spend:
            nodes = min(nodes, self.money // spend)
        whole = min([nodes, *(self.counts[shape] // each for shape, each in column.content)])
        if whole > 0:
            self.keep(column, whole)
        rest = tuple((shape, min(each, self.counts[shape])) for shape, each in column.content if self.counts[shape])
        if whole < nodes and rest:
            self.take(Column(column.type, rest), nodes - whole)

    def keep(self, column: Column, nodes: int) -> None:
        """Take so many nodes of a column, which are known to fit."""
        for shape, each in column.content:
            self.counts[shape] -= each * nodes
        self.limits[column.type] -= nodes
        self.total -= nodes if self._problem.is_new(column.type) else 0
        self.money = None if self.money is None else self.money - self._problem.spend(column.type) * nodes
        self.recipe[column] = self.recipe.get(column, 0) + nodes


@dataclass(frozen=True)
class Solution:
    """Nodes to launch, and how good they are. `bound` is what no mix that places all is cheaper than; None: not all can be placed."""

    recipe: tuple[Used, ...]
    unplaced: int
    cost: int
    nodes: int
    bound: float | None = None
    steps: int = 0
    binds: tuple[int, ...] = ()
    """Types whose limit holds the cost up."""
    is_full: bool = False
    """What all types share holds it up."""

    @property
    def rank(self) -> tuple[int, int, int]:
        """What makes one better than another: less left out, cheaper, fewer nodes."""
        return self.unplaced, self.cost, self.nodes


def judged(problem: Problem, recipe: tuple[Used, ...]) -> Solution:
    """Return a recipe with what it leaves out and costs."""
    left = list(problem.counts)
    for column, nodes in recipe:
        for shape, each in column.content:
            left[shape] -= each * nodes
    unplaced, cost = sum(max(0, each) for each in left), sum(problem.prices[column.type] * nodes for column, nodes in recipe)
    return Solution(recipe, unplaced, cost, sum(nodes for column, nodes in recipe if problem.is_new(column.type)))


def least_cost(problem: Problem) -> float:
    """Return what no mix that places all is cheaper than, by one kind of resource at a time: what is wanted of it at the least price it is had for.

    Weaker than the bound of a linear program, and there at once; where all work is alike it is the same.
    """
    kinds = len(problem.rooms[0]) if problem.rooms else 0
    return max((_least_of(problem, kind) for kind in range(kinds)), default=0.0)


def _least_of(problem: Problem, kind: int) -> float:
    brings = [amounts(room)[kind] for room in problem.rooms]
    prices = [price / amount if amount else None for price, amount in zip(problem.prices, brings, strict=True)]  # of one unit of the kind
    total = 0.0
    for shape, (needs, count) in enumerate(zip(problem.needs, problem.counts, strict=True)):
        amount = dict(needs).get(kind, 0)
        able = [price for price, allowed in zip(prices, problem.allowed, strict=True) if shape in allowed and price is not None]
        total += amount * count * min(able, default=0.0)
    return total
