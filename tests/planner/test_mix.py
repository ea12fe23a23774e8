"""The mix: the known best where it is known, the same each time, never worse than the first plan, and within every limit."""

import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Demand, LabelCondition, LabelSelector, Operator
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, ClusterState
from rayscaler.planner.mix.problem import Column, Left, Problem, Used, judged
from rayscaler.planner.mix.solve import solve
from rayscaler.planner.plan import plan
from tests.optimum.small import state_of
from tests.properties.checker import check

pytestmark = pytest.mark.tier("unit")

STEPS = 300


def kind(name, cost, labels=(), most=-1, priority=0, **amounts):
    return NodeType(name, Resources.of(**amounts), labels=labels, max_workers=most, cost=cost, priority=priority)


def asked(*types, demands, **config):
    made = tuple(Demand(bundle if isinstance(bundle, Bundle) else Bundle(Resources.of(**bundle)), count) for bundle, count in demands)
    return ClusterState(0.0, ClusterConfig("c", types, **config), demands=made)


def launched(found):
    return dict(Counter(each.node_type for each in found.launches))


def waiting(found):
    return sum(each.count for each in found.infeasible)


# 4 + 3 + 3 fill a "ten"; greedily two 4s lie on one, and three 3s on another: 12 of them
PAIRS = (({"CPU": 4}, 10), ({"CPU": 3}, 20))


@pytest.mark.parametrize(
    ("state", "best"),
    [
        pytest.param(asked(kind("ten", 1.0, CPU=10), demands=PAIRS), {"ten": 10}, id="pieces that share a node"),
        pytest.param(
            asked(kind("big", 1.9, CPU=8), kind("small", 1.0, CPU=4), demands=[({"CPU": 4}, 5)]),
            {"big": 2, "small": 1},
            id="a rest on a small node",
        ),
        pytest.param(
            asked(kind("two", 2.0, GPU=2, CPU=8), kind("one", 1.1, GPU=1, CPU=8), demands=[({"GPU": 0.6}, 3)]),
            {"two": 1, "one": 1},
            id="three fractions need three devices",
        ),
        pytest.param(
            asked(kind("cheap", 1.0, CPU=4, most=2), kind("dear", 3.0, CPU=4), demands=[({"CPU": 4}, 3)]),
            {"cheap": 2, "dear": 1},
            id="a maximum",
        ),
        pytest.param(
            asked(kind("wanted", 3.0, CPU=4, priority=1), kind("cheap", 1.0, CPU=4), demands=[({"CPU": 4}, 2)]),
            {"wanted": 2},
            id="a higher priority",
        ),
        pytest.param(
            asked(
                kind("a", 3.0, (("zone", "a"),), CPU=4),
                kind("b", 1.0, (("zone", "b"),), CPU=4),
                demands=[
                    (Bundle(Resources.of(CPU=4), (LabelSelector((LabelCondition("zone", Operator.IN, ("a",)),)), LabelSelector())), 2)
                ],
            ),
            {"a": 2},
            id="the earlier label alternative",
        ),
        pytest.param(
            asked(
                kind("cow", 4.55, most=1, CPU=8, memory=8),
                kind("dog", 9.13, most=4, CPU=16, memory=16),
                demands=[({"CPU": 3}, 1), ({"CPU": 6, "memory": 8}, 3), ({"CPU": 2, "memory": 8}, 3)],
            ),
            {"dog": 3},
            id="nodes alike but for a piece of which there is one only",
        ),
    ],
)
def test_the_best_is_found_where_it_is_known(state, best):
    found = plan(state, STEPS)
    assert (launched(found), waiting(found)) == (best, 0)
    assert check(state, found) == []
    assert found.mix.cost == pytest.approx(sum(state.config.node_type(name).cost * count for name, count in best.items()))
    assert found.mix.bound <= found.mix.cost + 1e-9


def test_nodes_of_a_column_take_less_where_less_is_left_for_them():
    """There were as many as could be whole, and one more: the others were lost."""
    problem = Problem(((), (), ()), (1, 3, 3), ((),), (1,), (9,), (frozenset(range(3)),), 9)
    left = Left(problem)
    left.take(Column(0, ((0, 1), (1, 1), (2, 1))), 3)
    assert left.recipe == {Column(0, ((0, 1), (1, 1), (2, 1))): 1, Column(0, ((1, 1), (2, 1))): 2}
    assert (left.counts, left.limits, left.total) == ([0, 0, 0], [6], 6)
    left.take(Column(0, ((0, 1),)), 5)
    assert left.limits == [6]


def test_a_first_plan_of_work_all_alike_knows_that_it_cannot_be_cheaper():
    found = plan(asked(kind("big", 2.0, CPU=8, memory=64), kind("dear", 1.1, CPU=4), demands=[({"CPU": 4}, 6)]))
    assert (found.mix.cost, found.mix.bound, found.mix.gap) == (6.0, pytest.approx(6.0), pytest.approx(0.0))


def test_what_a_first_plan_says_it_costs_at_least_is_no_more_than_it_costs_in_the_end():
    compared = 0
    for seed in range(40):
        state = replace(state_of(random.Random(seed)), nodes=(), instances=())
        first, better = plan(state), plan(state, STEPS)
        if first.mix is not None and first.mix.bound is not None and not waiting(better):
            compared += 1
            assert first.mix.bound <= better.mix.bound + 1e-6 <= better.mix.cost + 2e-6
    assert compared > 15


def test_a_spend_limit_holds_and_what_it_leaves_out_waits():
    state = asked(kind("big", 1.9, CPU=8), kind("small", 1.0, CPU=4), demands=[({"CPU": 4}, 5)], spend_limit=3.0)
    found = plan(state, STEPS)
    assert check(state, found) == []
    assert (launched(found), waiting(found)) == ({"big": 1, "small": 1}, 2)


def test_without_costs_or_with_an_upscaling_speed_the_first_plan_stays():
    free = asked(kind("a", None, CPU=8), kind("b", None, CPU=4), demands=PAIRS)
    assert plan(free, STEPS) == plan(free)
    assert plan(free, STEPS).mix is None
    slow = asked(kind("ten", 1.0, CPU=10), kind("six", 0.7, CPU=6), demands=PAIRS, upscaling_speed=1.0)
    assert plan(slow, STEPS) == plan(slow)


@pytest.mark.parametrize("seed", range(40))
def test_improving_holds_all_limits_is_never_worse_and_the_same_whatever_the_order(seed):
    dice = random.Random(seed)
    state = state_of(dice)
    first, better = plan(state), plan(state, STEPS)
    assert check(state, better) == []
    prices = {each.name: each.cost for each in state.config.node_types}

    def rank(found):
        return waiting(found), sum(prices[each.node_type] for each in found.launches)

    assert rank(better) <= (rank(first)[0], rank(first)[1] + 1e-9)
    other = replace(
        state,
        demands=tuple(dice.sample(state.demands, len(state.demands))),
        config=replace(state.config, node_types=tuple(dice.sample(state.config.node_types, len(state.config.node_types)))),
    )
    assert plan(other, STEPS) == better


def test_on_random_clusters_it_is_often_cheaper_or_places_more():
    """Else the case above would show nothing."""
    better = 0
    for seed in range(40):
        state = state_of(random.Random(seed))
        first, improved = plan(state), plan(state, STEPS)
        costs = [sum(state.config.node_type(each.node_type).cost for each in found.launches) for found in (first, improved)]
        better += (waiting(improved), costs[1]) < (waiting(first), costs[0] - 1e-9)
    assert better >= 5


def test_work_goes_where_it_leaves_room_for_the_rest_on_nodes_that_are_there():
    """First fit puts the 4 on the first node, which three of the 3s would fill, and so has to launch for one of them."""
    here = tuple(
        RayNode(f"{index:02x}", "", "own", NodeStatus.RUNNING, Resources.of(CPU=total), Resources.of(CPU=free))
        for index, (total, free) in enumerate(((90, 9), (10, 4)))  # the busiest first
    )
    state = replace(asked(kind("ten", 1.0, CPU=10), demands=[({"CPU": 4}, 1), ({"CPU": 3}, 3)]), nodes=here)
    assert launched(plan(state)) == {"ten": 1}
    found = plan(state, STEPS)
    assert (launched(found), waiting(found)) == ({}, 0)
    assert check(state, found) == []


def test_a_start_that_is_near_the_bound_is_kept():
    problem = Problem(((((0, 4)),),), (2,), ((8,),), (100,), (10,), (frozenset({0}),), total=10)
    start = judged(problem, (Used(Column(0, ((0, 2),)), 1),))
    found = solve(problem, start, STEPS)
    assert found.recipe == start.recipe
    assert (found.cost, found.bound) == (100, pytest.approx(100.0))


PROGRAM = """
import random, sys
from rayscaler.planner.plan import plan
from tests.optimum.small import state_of
states = [state_of(random.Random(seed)) for seed in range(8)]
first = [plan(each) for each in states]
solvers = [name for name in ("highspy", "numpy") if name in sys.modules]
made = [sorted((each.node_type, str(each.reserves)) for each in plan(state, 300).launches) for state in states]
sys.stderr.write(repr((solvers, [], [name for name in ("highspy", "numpy") if name in sys.modules], made)))
"""


@pytest.mark.timeout(60)  # two interpreters that load the solver
def test_a_plan_depends_on_no_hash_prints_nothing_and_a_first_one_needs_no_solver():
    judge_aside = "import tests.optimum.small"  # it brings no solver of its own, or the claim below would be void
    told = []
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", f"{judge_aside}\n{PROGRAM}"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        assert done.stdout == ""
        told.append(done.stderr)
    assert told[0] == told[1]
    assert told[0].startswith("([], [], ['highspy'")


@pytest.mark.parametrize(
    ("config", "more", "binds"),
    [
        ({}, {}, ("cheap has 2 of at most 2 workers",)),
        ({}, {"backoffs": (Backoff("cheap", 1, 9.0, "no quota"),)}, ("cheap failed 1 time (no quota) and is tried again in 9 s",)),
        ({"max_workers": 3}, {}, ("cheap has 2 of at most 2 workers", "the cluster has 3 of at most 3 workers")),
        ({"spend_limit": 6.0}, {}, ("cheap has 2 of at most 2 workers", "the cluster costs 5 of at most 6 per hour, and dear costs 3")),
    ],
    ids=["maximum", "back-off", "the cluster's maximum", "spend limit"],
)
def test_what_binds_a_mix_is_named(config, more, binds):
    """Four pieces, a node each: two on the cheap type, if it may be had, and the rest on the dear one as far as the cluster lets them."""
    types = kind("cheap", 1.0, CPU=4, most=2), kind("dear", 3.0, CPU=4)
    found = plan(replace(asked(*types, demands=[({"CPU": 4}, 4)], **config), **more), STEPS)
    assert found.mix.binds == binds
