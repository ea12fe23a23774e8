"""How far plans are from the best there is, on random small clusters whose optimum is known exactly.

The law: what can be placed whole is placed whole; on average at most 1 % dearer than need be, and never more than 10 %.
"""

import random
from collections import Counter
from statistics import fmean
from typing import NamedTuple

import pytest

from rayscaler.model.demand import Bundle, Demand, LabelCondition, LabelSelector, Operator
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.plan import Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.optimum.exact import Optimum, solve
from tests.properties.checker import check

pytestmark = pytest.mark.tier("property")

CASES = counted(gate=150, full=2_000)
SEED = 8_152
STEPS = 1_000
"""Of improvement, far more than so small a case can use."""
MEAN, WORST = 0.01, 0.10

FRACTIONS = (2_500, 3_000, 5_000, 6_000)


class Case(NamedTuple):
    """A state with what its plan came to, and the best there is."""

    number: int
    state: ClusterState
    cost: float
    unplaced: int
    best: Optimum

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


def state_of(dice: random.Random) -> ClusterState:
    """Return up to 6 shapes, 4 types and 12 nodes, some of which are there."""
    has_devices, has_labels = dice.random() < 0.5, dice.random() < 0.3
    types = tuple(_type(dice, name, has_devices=has_devices, has_labels=has_labels) for name in ("ant", "bee", "cow", "dog")[: dice.randint(1, 4)])
    shapes = dict.fromkeys(_bundle(dice, has_devices=has_devices, has_labels=has_labels) for _ in range(dice.randint(1, 6)))
    nodes = tuple(_row(dice, i, dice.choice(types)) for i in range(dice.choice([0, 0, 1, 2, 3])))
    return ClusterState(
        now=1000.0,
        config=ClusterConfig("c", types, max_workers=12 - len(nodes)),
        nodes=nodes,
        demands=tuple(Demand(bundle, dice.choice([1, 2, 3, 5, 8])) for bundle in shapes),
    )


def _type(dice: random.Random, name: str, *, has_devices: bool, has_labels: bool) -> NodeType:
    cores, devices = dice.choice([2, 4, 8, 16]), dice.choice([0, 1, 2, 4]) if has_devices else 0
    amounts = {"CPU": cores, "memory": cores * dice.choice([1, 2, 4]), "GPU": devices}
    return NodeType(
        name,
        Resources({kind: amount * UNIT for kind, amount in amounts.items()}),
        dice.choice([(("zone", "a"),), (("zone", "b"),), ()]) if has_labels else (),
        max_workers=dice.choice([UNLIMITED, UNLIMITED, UNLIMITED, 1, 2, 4]),
        cost=round((cores + 8 * devices) * dice.uniform(0.7, 1.4) / 4, 2),
    )


def _bundle(dice: random.Random, *, has_devices: bool, has_labels: bool) -> Bundle:
    wanted = {"CPU": dice.choice([5_000, UNIT, UNIT, 2 * UNIT, 3 * UNIT, 4 * UNIT, 6 * UNIT])}
    if dice.random() < 0.5:
        wanted["memory"] = dice.choice([1, 2, 3, 5, 8]) * UNIT
    if has_devices and dice.random() < 0.6:
        wanted["GPU"] = dice.choice([*FRACTIONS, UNIT, 2 * UNIT])
    zone = LabelCondition("zone", dice.choice([Operator.IN, Operator.NOT_IN]), (dice.choice("ab"),))
    return Bundle(Resources(wanted), (LabelSelector((zone,)),) if has_labels and dice.random() < 0.4 else ())


def _row(dice: random.Random, number: int, like: NodeType) -> RayNode:
    """Return a node of the user's own, partly used."""
    free = {name: amount - min(amount, dice.choice([0, 0, 6_000, UNIT, 3 * UNIT])) for name, amount in like.resources.items()}
    return RayNode(f"x{number}", "", "", NodeStatus.RUNNING, like.resources, Resources(free), like.labels)


def cost_of(state: ClusterState, found: Plan) -> float:
    prices = {each.name: each.cost for each in state.config.node_types}
    return sum(prices[each.node_type] for each in found.launches)


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    print(f"seed {SEED}, {CASES} cases, {STEPS} steps")
    dice, found = random.Random(SEED), []
    for number in range(CASES):
        state = state_of(dice)
        answer = plan(state, STEPS)
        assert check(state, answer) == []
        best = solve(state.config, state.demands, state.nodes)
        found.append(Case(number, state, cost_of(state, answer), sum(each.count for each in answer.infeasible), best))
    return found


def told(cases: list[Case]) -> str:
    """Return some cases for a person, the smallest first."""
    return "\n".join(map(str, sorted(cases, key=lambda each: len(str(each)))[:10]))


def test_what_can_all_be_placed_is_all_placed(cases):
    wrong = [each for each in cases if each.unplaced > each.best.unplaced == 0]
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n{told(wrong)}"


def test_nothing_is_better_than_the_best(cases):
    """Else the solver is wrong, or the judge of devices."""
    wrong = [each for each in cases if (each.unplaced, each.cost) < (each.best.unplaced, each.best.cost - 1e-6)]
    assert not wrong, told(wrong)


def test_what_it_costs(cases):
    same = [each for each in cases if each.unplaced == each.best.unplaced]
    gaps = [each.gap for each in same]
    worse = [each for each in same if each.gap > WORST]
    said = f"{len(same)} of {len(cases)} compared: mean gap {fmean(gaps):.2%}, worst {max(gaps):.2%}, {sum(gap < 1e-6 for gap in gaps)} optimal"
    print(said)
    assert fmean(gaps) <= MEAN, f"{said}\n{told([each for each in same if each.gap > MEAN])}"
    assert not worse, f"{said}, {len(worse)} above {WORST:.0%}:\n{told(worse)}"


def test_the_cases_are_worth_something(cases):
    kinds = Counter()
    for each in cases:
        kinds["some cannot be placed"] += each.best.unplaced > 0
        kinds["several types"] += len(each.best.launches) > 1
        kinds["several nodes"] += sum(sum(counts.values()) for counts in each.best.launches.values()) > 2
        kinds["nodes that are there"] += bool(each.state.nodes)
        kinds["fractions"] += any(each.bundle.resources.get("GPU", 0) % UNIT for each in each.state.demands)
    print(dict(kinds))
    assert all(count > len(cases) / 20 for count in kinds.values()) and len(kinds) == 5, kinds
