"""The solver of linear programs, HiGHS: silent, and with the same answer each time.

The only module that knows it; it is imported when a plan is improved, not before.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import highspy
import numpy as np
from highspy._core import _Highs

INFINITY = highspy.kHighsInf
OPTIONS = (
    ("output_flag", False),
    ("parallel", "off"),
    ("random_seed", 0),
    ("solver", "simplex"),
    ("presolve", "off"),
    ("simplex_scale_strategy", 0),
    ("primal_simplex_bound_perturbation_multiplier", 0.0),
)
"""Unscaled and unperturbed, since what is asked here is small, and asked again and again with little changed."""
DUAL, PRIMAL = 1, 4
"""The simplex methods: one goes on from a solution that has become infeasible, one from a solution that may be improved."""
INTEGER = highspy.HighsVarType.kInteger


class Unsolved(Exception):
    """The solver gave up."""


def solver() -> Any:
    """Return a silent solver of one thread: the class on top of this one prints a banner as it is made, whatever it is told."""
    highs = _Highs()
    for name, value in OPTIONS:
        highs.setOptionValue(name, value)
    return highs


def run(highs: Any, *, is_feasible: bool = False) -> tuple[Any, int]:
    """Solve, and return the solution and the iterations it took; raises Unsolved. `is_feasible` if the last solution still is one."""
    highs.setOptionValue("simplex_strategy", PRIMAL if is_feasible else DUAL)
    if highs.run() == highspy.HighsStatus.kError or not highs.getSolution().value_valid:
        raise Unsolved
    return highs.getSolution(), max(0, highs.getInfo().simplex_iteration_count)


class Added(NamedTuple):
    """A column: what one of it costs, how much of it there may be, and what it adds to rows."""

    cost: float
    most: float
    rows: Mapping[int, float]


def add_rows(highs: Any, limits: Sequence[tuple[float, float]]) -> None:
    """Add rows, with nothing in them yet, by the least and the most that they may come to."""
    least, most = zip(*limits, strict=True)
    highs.addRows(len(limits), floats(least), floats(most), 0, ints(()), ints(()), floats(()))


def add_columns(highs: Any, columns: Sequence[Added]) -> None:
    """Add columns all at once, which for many takes a fraction of the time that one after another does."""
    begin = list(accumulate((len(each.rows) for each in columns), initial=0))
    rows = [row for each in columns for row in each.rows]
    amounts = [amount for each in columns for amount in each.rows.values()]
    costs, most = floats([each.cost for each in columns]), floats([each.most for each in columns])
    highs.addCols(len(columns), costs, floats([0.0] * len(columns)), most, len(rows), ints(begin[:-1]), ints(rows), floats(amounts))


def ints(values: Sequence[int]) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Return indices as the solver takes them."""
    return np.array(values, dtype=np.int32)


def floats(values: Sequence[float]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return amounts as the solver takes them."""
    return np.array(values, dtype=np.float64)
