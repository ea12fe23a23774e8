"""The best plan there is for a small demand: fewest left out, then least cost. Exact, and slow; imports the model and the judge only.

A node is decided by its fill: how many of each shape lie on it. Less than a fill that fits fits too, so only fills to which nothing can be
added need a look, and with all of those written down the rest is a small integer program: how many nodes of which type with which fill.
Nodes that exist have fills of their own, for nothing. Gangs, floors, back-offs and the upscaling speed are left out.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import highspy
import numpy as np

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import ClusterConfig
from tests.properties.devices import DEVICES, Items, items, pack, rooms
from tests.properties.world import held, label_ok

MOST_FILLS = 20_000
"""Of all types together: beyond it a case is not small."""

Wanted = Sequence[tuple[Bundle, int]]
Fill = tuple[int, ...]
"""How many of each wanted shape, in their order."""


class NotSmallError(Exception):
    """The case has too many fills to write down."""


@dataclass(frozen=True)
class Optimum:
    """The least that must be left out, the least that the rest costs, and one way to have it: launches by type and fill."""

    unplaced: int
    cost: float
    launches: Mapping[str, Mapping[Fill, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Kind:
    """Nodes that are equal: those of a type, which cost something, or those that are there (without a name)."""

    name: str
    labels: dict[str, str]
    free: dict[str, int]
    total: dict[str, int]
    most: float
    cost: float


def solve(
    config: ClusterConfig, demands: Iterable[Demand], nodes: Sequence[RayNode] = (), live: Mapping[str, int] | None = None
) -> Optimum:
    """Return the optimum for a demand, on nodes that are there and on new ones; `live` are the instances by type that maxima count already."""
    counts: Counter[Bundle] = Counter()
    for each in demands:
        counts[each.bundle] += each.count
    wanted = [(bundle, count) for bundle, count in counts.items() if count > 0]
    kinds = [*_types(config, live or {}), *_there(nodes)]
    filled = [(kind, fills(kind.labels, kind.free, kind.total, wanted)) for kind in kinds if kind.most > 0]
    most = math.inf if config.max_workers < 0 else max(0, config.max_workers - sum((live or {}).values()))
    return _Program(filled, wanted, most).optimum()


def _types(config: ClusterConfig, live: Mapping[str, int]) -> list[_Kind]:
    return [
        _Kind(
            each.name,
            each.node_labels(),
            dict(each.resources),
            dict(each.resources),
            math.inf if each.max_workers < 0 else each.max_workers - live.get(each.name, 0),
            each.cost or 0.0,
        )
        for each in config.node_types
    ]


def _there(nodes: Sequence[RayNode]) -> list[_Kind]:
    return [_Kind("", dict(each.labels), dict(each.available), dict(each.total), 1, 0.0) for each in nodes if each.takes_work]


def fills(labels: dict[str, str], free: dict[str, int], total: dict[str, int], wanted: Wanted) -> list[Fill]:
    """Return every fill of one node to which none of what is wanted can be added."""
    suited = [i for i, (bundle, _) in enumerate(wanted) if label_ok(bundle, labels)]
    names = sorted({name for i in suited for name in wanted[i][0].resources})
    wanted_of = {name: [bundle.resources.get(name, 0) for bundle, _ in wanted] for name in names}
    have = {name: held(name, free, total) for name in names}
    found: list[Fill] = []

    @cache
    def fits(fill: Fill) -> bool:
        for name, amounts in wanted_of.items():
            pairs = [(amounts[i], fill[i]) for i in suited if fill[i]]
            if sum(amount * count for amount, count in pairs) > have[name]:
                return False
            if name in DEVICES and not pack(_items(pairs), rooms(total.get(name, 0), have[name])):
                return False
        return True

    def grow(at: int, fill: Fill) -> None:
        if at == len(suited):
            if any(fill) and not any(fill[i] < wanted[i][1] and fits(_more(fill, i)) for i in suited):
                found.append(fill)
                if len(found) > MOST_FILLS:
                    raise NotSmallError(f"over {MOST_FILLS} ways to fill one node")
            return
        place = suited[at]
        most = fill
        for _ in range(wanted[place][1] + 1):
            if not fits(most):
                break
            grow(at + 1, most)
            most = _more(most, place)

    grow(0, (0,) * len(wanted))
    return found


def _more(fill: Fill, place: int) -> Fill:
    return (*fill[:place], fill[place] + 1, *fill[place + 1 :])


def _items(pairs: Sequence[tuple[int, int]]) -> Items:
    counts: Counter[int] = Counter()
    for amount, count in pairs:
        counts[amount] += count
    return items(counts)


class _Program:
    """The integer program over fills: first the least that is left out, then with that the least cost."""

    def __init__(self, filled: Sequence[tuple[_Kind, list[Fill]]], wanted: Wanted, most: float) -> None:
        if sum(len(each) for _, each in filled) > MOST_FILLS:
            raise NotSmallError(f"over {MOST_FILLS} fills of {len(filled)} kinds of nodes")
        self.highs = highspy.Highs()
        self.highs.silent()
        for name in ("mip_rel_gap", "mip_abs_gap"):
            self.highs.setOptionValue(name, 0.0)
        self.wanted = wanted
        self.rows = 0
        self.columns: list[tuple[_Kind | None, Fill]] = []
        covers = [self._row(count, math.inf) for _, count in wanted]
        for place, (_, count) in enumerate(wanted):
            self._column(None, tuple(int(i == place) for i in range(len(wanted))), count, {covers[place]: 1.0})
        everything = self._row(-math.inf, most)
        for kind, each in filled:
            limit = self._row(-math.inf, kind.most)
            for fill in each:
                entries = {covers[place]: float(count) for place, count in enumerate(fill) if count}
                self._column(kind, fill, kind.most, entries | {limit: 1.0} | ({everything: 1.0} if kind.name else {}))

    def _row(self, least: float, most: float) -> int:
        self.highs.addRow(least, most, 0, np.array([], dtype=np.int32), np.array([], dtype=np.float64))
        self.rows += 1
        return self.rows - 1

    def _column(self, kind: _Kind | None, fill: Fill, most: float, entries: Mapping[int, float]) -> None:
        rows, values = np.array(list(entries), dtype=np.int32), np.array(list(entries.values()), dtype=np.float64)
        self.highs.addCol(0.0, 0.0, most, len(rows), rows, values)
        self.highs.changeColIntegrality(len(self.columns), highspy.HighsVarType.kInteger)
        self.columns.append((kind, fill))

    def optimum(self) -> Optimum:
        unplaced = sum(count for (kind, _), count in self._least([float(kind is None) for kind, _ in self.columns]) if kind is None)
        left_out = np.array([i for i, (kind, _) in enumerate(self.columns) if kind is None], dtype=np.int32)
        self.highs.addRow(-math.inf, unplaced, len(left_out), left_out, np.ones(len(left_out)))
        chosen = self._least([kind.cost if kind else 0.0 for kind, _ in self.columns])
        launches: dict[str, dict[Fill, int]] = {}
        for (kind, fill), count in chosen:
            if kind is not None and kind.name:
                launches.setdefault(kind.name, {})[fill] = count
        return Optimum(unplaced, sum(kind.cost * count for (kind, _), count in chosen if kind), launches)

    def _least(self, costs: Sequence[float]) -> list[tuple[tuple[_Kind | None, Fill], int]]:
        """Return the columns of a solution with the least cost and how often; a solver's word alone is not taken for what they cover."""
        if not self.columns:
            return []
        for i, cost in enumerate(costs):
            self.highs.changeColCost(i, cost)
        self.highs.run()
        if self.highs.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            raise RuntimeError(f"the program ended as {self.highs.getModelStatus()}")
        values = [round(value) for value in self.highs.getSolution().col_value]
        chosen = [(column, value) for column, value in zip(self.columns, values, strict=True) if value]
        for place, (bundle, count) in enumerate(self.wanted):
            if sum(fill[place] * times for (_, fill), times in chosen) < count:
                raise RuntimeError(f"the solver covers less than {count} of {bundle}")
        return chosen
