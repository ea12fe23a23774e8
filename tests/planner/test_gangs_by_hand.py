"""Gangs beside a search of all ways to place them: had whole wherever that can be, and nothing launched where it cannot (I1)."""

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.counts import counted

pytestmark = pytest.mark.tier("unit")

CASES = counted(gate=600, full=5_000)

Amounts = tuple[int, int]
"""CPUs and GiB."""


class Case(NamedTuple):
    """What is free on nodes that are there, the types with how many there may be, how many in all, and the gang's bundles."""

    rooms: Sequence[Amounts]
    types: Sequence[tuple[Amounts, int]]
    most: int
    bundles: Sequence[Amounts]


def some_case(dice: random.Random) -> Case:
    def amounts(most: int) -> Amounts:
        return dice.randint(1, most), dice.randint(0, most)

    return Case(
        [amounts(4) for _ in range(dice.randint(0, 3))],
        [(amounts(5), dice.choice([UNLIMITED, 0, 1, 2])) for _ in range(dice.randint(0, 2))],
        dice.choice([UNLIMITED, UNLIMITED, 1, 2, 3]),
        [amounts(3) for _ in range(dice.randint(1, 4))],
    )


def can_be_had(case: Case, strategy: Strategy) -> bool:
    """Try every node for every bundle, existing ones and any that may be launched."""
    limits = [len(case.bundles) if most == UNLIMITED else most for _, most in case.types]
    launches = len(case.bundles) if case.most == UNLIMITED else case.most

    def nodes_of(left: list[int], total: int) -> Iterator[list[Amounts]]:
        yield []
        for index, (room, _) in enumerate(case.types):
            if left[index] and total:
                fewer = [count - (place == index) for place, count in enumerate(left[: index + 1])] + [0] * (len(left) - index - 1)
                for rest in nodes_of(fewer, total - 1):
                    yield [room, *rest]

    def placed(rooms: list[Amounts], at: int, used: frozenset[int]) -> bool:
        if at == len(case.bundles):
            return True
        cpus, memory = case.bundles[at]
        for index, (free, more) in enumerate(rooms):
            is_apart = strategy is Strategy.STRICT_SPREAD and index in used
            is_beside = strategy is Strategy.STRICT_PACK and used and index not in used
            if free >= cpus and more >= memory and not is_apart and not is_beside:
                left = [*rooms[:index], (free - cpus, more - memory), *rooms[index + 1 :]]
                if placed(left, at + 1, used | {index}):
                    return True
        return False

    return any(placed([*case.rooms, *launched], 0, frozenset()) for launched in nodes_of(limits, launches))


def state_of(case: Case, strategy: Strategy) -> ClusterState:
    def resources(amounts: Amounts) -> Resources:
        return Resources.of(**{name: amount for name, amount in zip(("CPU", "memory"), amounts, strict=True) if amount})

    types = tuple(NodeType(f"t{i}", resources(room), max_workers=most) for i, (room, most) in enumerate(case.types))
    nodes = tuple(RayNode(f"x{i}", "", "", NodeStatus.RUNNING, resources(each), resources(each)) for i, each in enumerate(case.rooms))
    gang = Gang("g", strategy, tuple(Demand(Bundle(resources(each)), 1) for each in case.bundles))
    return ClusterState(0.0, ClusterConfig("c", types, max_workers=case.most), nodes=nodes, gangs=(gang,))


@pytest.mark.parametrize("strategy", Strategy)
def test_a_gang_is_had_whole_wherever_it_can_be_and_launches_nothing_elsewhere(strategy):
    had = wrong = 0
    for seed in range(CASES):
        case = some_case(random.Random(seed))
        found, is_possible = plan(state_of(case, strategy)), can_be_had(case, strategy)
        had += is_possible
        assert is_possible or not found.launches, f"seed {seed}: {case}"
        assert is_possible or found.infeasible, f"seed {seed}: {case}"
        wrong += is_possible and bool(found.infeasible)
    print(f"{strategy.value}: {had} of {CASES} can be had, {wrong} of them were refused")
    assert CASES / 10 < had < CASES * 9 / 10
    assert not wrong
