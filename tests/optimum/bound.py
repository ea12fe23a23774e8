"""A lower bound on what placing a demand on new nodes costs: no plan is cheaper, whatever made it. Imports the model only.

It is the value of a linear program over sums: per node type how many nodes, per shape and type how many of it lie there. Nodes and demands
may be split, and what lies on a type has to fit its nodes together, not one by one. Every real plan, added up per type, meets these
conditions, so the least cost under them is a bound. Strategies of gangs, backed-off types and the upscaling speed are left out, floors
(`min_workers`) too: each could only make it dearer.

Devices (GPU and the like) are stricter in reality than a sum: a fraction lies on one device, and more than one are whole ones. With
`devices` named, every device of a type carries a pattern, a multiset of fractions that together are at most one device, or belongs to a
demand for whole ones. A real plan gives each device one pattern, so counting patterns per type is a relaxation as well. Patterns are made as
they are needed: with the prices of the last solution a knapsack finds the best one, until none is worth its device. What remains is the
program over all patterns, of which there are far too many to write down. Of a node that exists only the sum is known, so there it stays a sum.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import highspy
import numpy as np
from highspy._core import _Highs

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import IMPLICIT_PREFIX, UNIT
from tests.properties.devices import DEVICES

WORTH = 1e-9
"""By how much a pattern has to be better than nothing to be tried, as a share of its device's price."""

Pattern = tuple[tuple[int, int], ...]
"""(fraction, how many of it), fractions rising."""


@dataclass(frozen=True)
class Bound:
    """No plan leaves fewer than `unplaced` demands, and none that leaves so few costs less than `cost`.

    `most` are the nodes by type of the bound's own solution: fractions, for a look at where the money goes.
    """

    cost: float
    unplaced: int
    most: Mapping[str, float] = field(default_factory=dict)


def bound(
    config: ClusterConfig,
    demands: Iterable[Demand],
    nodes: Sequence[RayNode] = (),
    *,
    devices: frozenset[str] = DEVICES,
) -> Bound:
    """Return the bound for a demand, with the nodes that there are for nothing; `devices` without names makes a pool of everything."""
    program = _Program(config, demands, nodes, devices)
    program.aim(lambda column: 1.0 if column in program.left_out else 0.0)
    unplaced = math.ceil(program.solve() - 1e-6)
    program.leave_out_at_most(unplaced)
    program.aim(lambda column: program.costs.get(column, 0.0))
    cost = program.solve()
    return Bound(cost, unplaced, program.nodes_used())


@dataclass(frozen=True)
class _Offer:
    """What nodes of a kind bring: `amounts` each, at most `most` of them. `rooms` are what a demand has to fit into whole."""

    name: str
    labels: dict[str, str]
    amounts: Mapping[str, int]
    most: float
    cost: float
    rooms: tuple[Mapping[str, int], ...]
    devices: frozenset[str]

    def takes(self, bundle: Bundle) -> bool:
        """Whether one of the nodes could hold the bundle if it were empty."""
        return bundle.label_rank(self.labels) is not None and any(self._fits(bundle, room) for room in self.rooms)

    def _fits(self, bundle: Bundle, room: Mapping[str, int]) -> bool:
        for name, amount in bundle.resources.items_sorted:
            if amount > _held(room, name) or (name in self.devices and amount > UNIT and amount % UNIT):
                return False
        return True


def _held(room: Mapping[str, int], name: str) -> int:
    return room.get(name, UNIT if name.startswith(IMPLICIT_PREFIX) else 0)


def _new(node_type: NodeType, devices: frozenset[str]) -> _Offer:
    amounts = {name: amount // UNIT * UNIT if name in devices else amount for name, amount in node_type.resources.items_sorted}
    most = math.inf if node_type.max_workers < 0 else node_type.max_workers
    return _Offer(node_type.name, node_type.node_labels(), amounts, most, node_type.cost or 0.0, (amounts,), devices)


def _existing(nodes: Sequence[RayNode]) -> list[_Offer]:
    """Return one offer for all nodes of the same labels: together they have the sum, for nothing."""
    groups: dict[tuple[tuple[str, str], ...], list[Mapping[str, int]]] = defaultdict(list)
    for node in nodes:
        if node.takes_work:
            groups[tuple(sorted(node.labels))].append(node.available.amounts)
    return [_sum_of(dict(labels), rooms) for labels, rooms in groups.items()]


def _sum_of(labels: dict[str, str], rooms: Sequence[Mapping[str, int]]) -> _Offer:
    amounts: dict[str, int] = defaultdict(int)
    for room in rooms:
        for name, amount in room.items():
            amounts[name] += amount
    distinct = {tuple(sorted(room.items())): room for room in rooms}
    return _Offer("", labels, dict(amounts), 1, 0.0, tuple(distinct.values()), frozenset())


class _Program:
    """The linear program, solved again and again as patterns come."""

    def __init__(self, config: ClusterConfig, demands: Iterable[Demand], nodes: Sequence[RayNode], devices: frozenset[str]) -> None:
        self.highs = _Highs()  # the class on top of it prints a banner, whatever it is told
        self.highs.setOptionValue("output_flag", False)
        self.costs: dict[int, float] = {}
        self.left_out: set[int] = set()
        self.aimed: Callable[[int], float] = lambda _: 0.0
        self.columns = 0
        self.rows = 0
        self.names: dict[int, str] = {}
        self.shelves: list[_Shelf] = []
        shapes: dict[Bundle, int] = defaultdict(int)
        for each in demands:
            shapes[each.bundle] += each.count
        self.shapes = [(bundle, count, self._row(count, count)) for bundle, count in shapes.items() if count > 0]
        for _, count, row in self.shapes:
            self.left_out.add(self._column(count, {row: 1.0}))
        everything = None if config.max_workers < 0 else self._row(-math.inf, config.max_workers)
        for node_type in config.node_types:
            self._add(_new(node_type, devices), everything)
        for offer in _existing(nodes):
            self._add(offer, None)

    def _add(self, offer: _Offer, everything: int | None) -> None:
        """Add an offer's nodes, what it holds, and a shelf of patterns for each of its devices that fractions are wanted of."""
        taken = [each for each in self.shapes if offer.takes(each[0])]
        names = sorted({name for bundle, _, _ in taken for name in bundle.resources if offer.name or not name.startswith(IMPLICIT_PREFIX)})
        rooms = {name: self._row(-math.inf, 0.0) for name in names}
        nodes = {rooms[name]: -1.0 for name in names} | ({} if everything is None else {everything: 1.0})
        shelves = {}
        for name in offer.devices.intersection(names):
            fractions = sorted({amount for bundle, _, _ in taken if 0 < (amount := bundle.resources.get(name, 0)) < UNIT})
            shelves[name] = _Shelf(rooms[name], UNIT / offer.amounts[name], {each: self._row(-math.inf, 0.0) for each in fractions})
        column = self._column(offer.most, nodes)
        if offer.name:
            self.names[column] = offer.name
            self.costs[column] = offer.cost
        for bundle, count, row in taken:
            entries = {row: 1.0}
            for name, amount in bundle.resources.items_sorted:
                if name in shelves and amount < UNIT:
                    entries[shelves[name].sizes[amount]] = 1.0
                elif name in rooms:
                    entries[rooms[name]] = amount / max(1, _held(offer.amounts, name))
            self._column(count, entries)
        for shelf in shelves.values():
            self.shelves.append(shelf)
            for fraction in shelf.sizes:
                self._pattern(shelf, ((fraction, UNIT // fraction),))

    def _pattern(self, shelf: "_Shelf", pattern: Pattern) -> None:
        entries = {shelf.sizes[fraction]: -float(count) for fraction, count in pattern}
        self._column(math.inf, {shelf.devices: shelf.one, **entries})

    def _row(self, least: float, most: float) -> int:
        self.highs.addRow(least, most, 0, np.array([], dtype=np.int32), np.array([], dtype=np.float64))
        self.rows += 1
        return self.rows - 1

    def _column(self, most: float, entries: Mapping[int, float]) -> int:
        rows, values = np.array(list(entries), dtype=np.int32), np.array(list(entries.values()), dtype=np.float64)
        self.columns += 1
        self.highs.addCol(self.aimed(self.columns - 1), 0.0, most, len(rows), rows, values)
        return self.columns - 1

    def aim(self, cost: Callable[[int], float]) -> None:
        """Make the sum of `cost` over the columns what is to be least, also for columns to come."""
        self.aimed = cost
        for column in range(self.columns):
            self.highs.changeColCost(column, cost(column))

    def leave_out_at_most(self, count: int) -> None:
        """Have no more than so many demands left out from now on."""
        columns = np.array(sorted(self.left_out), dtype=np.int32)
        self.highs.addRow(-math.inf, count, len(columns), columns, np.ones(len(columns)))
        self.rows += 1

    def solve(self) -> float:
        """Return the least sum, over all patterns that there can be."""
        while True:
            self.highs.run()
            status = self.highs.getModelStatus()
            if status != highspy.HighsModelStatus.kOptimal:
                raise RuntimeError(f"the bound's program ended as {status}")
            duals = self.highs.getSolution().row_dual
            better = [(shelf, pattern) for shelf in self.shelves if (pattern := shelf.best(duals))]
            if not better:
                return self.highs.getInfo().objective_function_value
            for shelf, pattern in better:
                self._pattern(shelf, pattern)

    def nodes_used(self) -> dict[str, float]:
        """Return the nodes by type of the last solution."""
        values = self.highs.getSolution().col_value
        return {name: values[column] for column, name in self.names.items() if values[column] > 1e-9}


@dataclass(frozen=True)
class _Shelf:
    """The devices of one kind on one type: the row that counts them (`one` is a device in it), and a row per fraction wanted of them."""

    devices: int
    one: float
    sizes: Mapping[int, int]

    def best(self, duals: Sequence[float]) -> Pattern | None:
        """Return the pattern that is worth most beyond its device at these prices, None where none is."""
        price = -duals[self.devices] * self.one
        worth = {size: -duals[row] for size, row in self.sizes.items() if -duals[row] > 0}
        if not worth:
            return None
        value, pattern = knapsack(worth, UNIT)
        return pattern if value > price + WORTH * max(1.0, price) else None


def knapsack(worth: Mapping[int, float], size: int) -> tuple[float, Pattern]:
    """Return the most valuable multiset of sizes that together are at most `size`, with its value."""
    step = math.gcd(size, *worth)
    best = [0.0] * (size // step + 1)
    last: list[int | None] = [None] * len(best)
    for held in range(1, len(best)):
        best[held] = best[held - 1]
        for each, value in worth.items():
            rest = held - each // step
            if rest >= 0 and best[rest] + value > best[held]:
                best[held], last[held] = best[rest] + value, each
    counts: dict[int, int] = defaultdict(int)
    held = len(best) - 1
    while held > 0:
        each = last[held]
        if each is None:
            held -= 1
        else:
            counts[each] += 1
            held -= each // step
    return best[-1], tuple(sorted(counts.items()))
