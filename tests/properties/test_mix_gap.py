"""How far plans are from the best there is, on random small clusters whose optimum is known exactly."""

import math
import random
from collections import Counter
from statistics import fmean
from typing import NamedTuple

import pytest

from rayscaler.model.plan import Plan
from rayscaler.model.resources import UNIT
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.optimum.exact import Optimum, solve
from tests.optimum.small import state_of
from tests.properties.checker import check

pytestmark = pytest.mark.tier("property")

CASES = counted(gate=150, full=2_000)
SEED = 8_152


class Effort(NamedTuple):
    """What is asked of plans of so many steps.

    `mean` and `worst` are shares by which they may be dearer than need be, `missed` the share of cases in which something may be left out
    though all could be placed, and `more` that of cases too small for all of it in which more may be left out than need be.
    """

    steps: int
    mean: float
    worst: float
    missed: float
    more: float


EFFORTS = {
    "first": Effort(steps=0, mean=0.06, worst=math.inf, missed=0.03, more=0.3),
    "improved": Effort(steps=1_000, mean=0.01, worst=0.10, missed=0.0, more=0.01),
}
"""The steps are far more than so small a case can use."""


class Case(NamedTuple):
    """A state with what its plan came to, and the best there is."""

    number: int
    state: ClusterState
    answer: Plan
    best: Optimum

    @property
    def cost(self) -> float:
        """What the launches cost."""
        prices = {each.name: each.cost for each in self.state.config.node_types}
        return sum(prices[each.node_type] for each in self.answer.launches)

    @property
    def unplaced(self) -> int:
        """How many demands are refused."""
        return sum(each.count for each in self.answer.infeasible)

    @property
    def gap(self) -> float:
        """By which share the plan is dearer; only to be asked where both place the same."""
        return self.cost / self.best.cost - 1 if self.best.cost else float(self.cost > 0)

    def __str__(self) -> str:
        types = "; ".join(
            f"{each.name} {each.resources} {dict(each.labels) or ''} cost {each.cost} max {each.max_workers}"
            for each in self.state.config.node_types
        )
        there = "; ".join(f"{each.available} of {each.total} {dict(each.labels) or ''}" for each in self.state.nodes)
        return (
            f"case {self.number}: cost {self.cost:g}, {self.unplaced} unplaced; best {self.best.cost:g}, {self.best.unplaced} unplaced, "
            f"by {self.best.launches}\n  types: {types}\n  max {self.state.config.max_workers}, there: {there or 'nothing'}\n"
            f"  demands: {'; '.join(map(str, self.state.demands))}"
        )


@pytest.fixture(scope="module", params=EFFORTS.values(), ids=EFFORTS)
def effort(request) -> Effort:
    return request.param


@pytest.fixture(scope="module")
def cases(effort) -> list[Case]:
    print(f"seed {SEED}, {CASES} cases, {effort.steps} steps")
    dice, found = random.Random(SEED), []
    for number in range(CASES):
        state = state_of(dice)
        answer = plan(state, effort.steps)
        assert check(state, answer) == []
        found.append(Case(number, state, answer, solve(state.config, state.demands, state.nodes)))
    return found


def told(cases: list[Case]) -> str:
    """Return some cases for a person, the smallest first."""
    return "\n".join(map(str, sorted(cases, key=lambda each: len(str(each)))[:10]))


def test_what_can_all_be_placed_is_all_placed(effort, cases):
    wrong = [each for each in cases if each.unplaced > each.best.unplaced == 0]
    assert len(wrong) <= effort.missed * len(cases), f"{len(wrong)} of {len(cases)}:\n{told(wrong)}"


def test_where_not_all_can_be_placed_hardly_more_is_left_out_than_need_be(effort, cases):
    """Parts of devices are packed so that the order of shapes holds them; the solver takes any order."""
    small = [each for each in cases if each.best.unplaced]
    wrong = [each for each in small if each.unplaced > each.best.unplaced]
    assert len(small) > len(cases) / 10
    assert len(wrong) <= effort.more * len(small), f"{len(wrong)} of {len(small)}:\n{told(wrong)}"


def test_nothing_is_better_than_the_best(cases):
    """Else the solver is wrong, or the judge of devices."""
    wrong = [each for each in cases if (each.unplaced, each.cost) < (each.best.unplaced, each.best.cost - 1e-6)]
    assert not wrong, told(wrong)


def test_what_it_costs(effort, cases):
    same = [each for each in cases if each.unplaced == each.best.unplaced]
    gaps = [each.gap for each in same]
    worse = [each for each in same if each.gap > effort.worst]
    said = f"{len(same)} of {len(cases)} compared: mean gap {fmean(gaps):.2%}, worst {max(gaps):.2%}, {sum(gap < 1e-6 for gap in gaps)} optimal"
    print(said)
    assert fmean(gaps) <= effort.mean, f"{said}\n{told([each for each in same if each.gap > effort.mean])}"
    assert not worse, f"{said}, {len(worse)} above {effort.worst:.0%}:\n{told(worse)}"


def test_the_cases_are_worth_something(cases):
    kinds = Counter()
    for each in cases:
        kinds["some cannot be placed"] += each.best.unplaced > 0
        kinds["several types"] += len(each.best.launches) > 1
        kinds["several nodes"] += sum(sum(counts.values()) for counts in each.best.launches.values()) > 2
        kinds["nodes that are there"] += bool(each.state.nodes)
        kinds["fractions"] += any(each.bundle.resources.get("GPU", 0) % UNIT for each in each.state.demands)
    print(dict(kinds))
    assert len(kinds) == 5
    assert min(kinds.values()) > len(cases) / 20, kinds
