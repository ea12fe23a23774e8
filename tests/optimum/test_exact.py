"""The exact solver against cases worked out by hand, and against trying everything."""

import random
from collections import Counter
from itertools import product

import pytest

from rayscaler.model.demand import Bundle, Demand, LabelCondition, LabelSelector, Operator
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import UNIT, Resources
from tests.optimum.bound import bound
from tests.optimum.exact import fills, solve
from tests.optimum.small import state_of
from tests.properties.world import label_ok, lacking

pytestmark = pytest.mark.tier("unit")

R = Resources.of
SMALL = NodeType("small", R(CPU=4), cost=1.0)
BIG = NodeType("big", R(CPU=16), cost=3.0)
GPUS = NodeType("gpus", R(CPU=8, GPU=2), cost=5.0)
IN_A = (LabelSelector((LabelCondition("zone", Operator.IN, ("a",)),)),)


def config(*types: NodeType, most: int = -1) -> ClusterConfig:
    return ClusterConfig("c", types, max_workers=most)


def row(total: Resources, free: Resources, **more) -> RayNode:
    return RayNode("n", "", "", NodeStatus.RUNNING, total, free, **more)


@pytest.mark.parametrize(
    ("given", "demands", "expected"),
    [
        pytest.param(config(SMALL, BIG), [Demand(Bundle(R(CPU=1)), 16)], (0, 3.0), id="one big node is cheaper than four small ones"),
        pytest.param(config(SMALL, BIG), [Demand(Bundle(R(CPU=1)), 17)], (0, 4.0), id="the rest goes on the small one"),
        pytest.param(config(SMALL, BIG), [Demand(Bundle(R(CPU=3)), 3)], (0, 3.0), id="three small ones or a big one"),
        pytest.param(config(SMALL), [Demand(Bundle(R(CPU=3)), 1), Demand(Bundle(R(CPU=1)), 5)], (0, 2.0), id="small ones fill the holes"),
        pytest.param(config(SMALL, BIG, most=2), [Demand(Bundle(R(CPU=1)), 33)], (1, 6.0), id="what the limit leaves out is not paid for"),
        pytest.param(
            config(NodeType("big", R(CPU=16), cost=3.0, max_workers=1), SMALL),
            [Demand(Bundle(R(CPU=8)), 3)],
            (1, 3.0),
            id="a limit of the only type that is big enough",
        ),
        pytest.param(config(GPUS), [Demand(Bundle(R(GPU=0.6)), 3)], (0, 10.0), id="three times 0.6 are three devices"),
        pytest.param(config(GPUS), [Demand(Bundle(R(GPU=0.6)), 2), Demand(Bundle(R(GPU=0.4)), 2)], (0, 5.0), id="fractions side by side"),
        pytest.param(config(GPUS), [Demand(Bundle(R(GPU=2)), 1), Demand(Bundle(R(GPU=0.5)), 4)], (0, 10.0), id="whole devices beside them"),
        pytest.param(config(GPUS), [Demand(Bundle(R(GPU=1.5)), 1)], (1, 0.0), id="one and a half is nothing Ray gives"),
        pytest.param(
            config(SMALL, NodeType("in-a", R(CPU=4), (("zone", "a"),), cost=2.0)),
            [Demand(Bundle(R(CPU=2), IN_A), 1), Demand(Bundle(R(CPU=2)), 1)],
            (0, 2.0),
            id="who has no wish shares the node of who has one",
        ),
        pytest.param(config(), [Demand(Bundle(R(CPU=1)), 2)], (2, 0.0), id="no type"),
        pytest.param(config(SMALL), [], (0, 0.0), id="no demand"),
    ],
)
def test_worked_out_by_hand(given, demands, expected):
    found = solve(given, demands)
    assert (found.unplaced, pytest.approx(found.cost)) == expected


def test_nodes_that_are_there_cost_nothing_and_each_takes_what_it_has_room_for():
    there = [row(R(CPU=4), R(CPU=3)), row(R(CPU=4), R(CPU=1))]
    assert solve(config(SMALL), [Demand(Bundle(R(CPU=2)), 2)], there).cost == 1.0  # 4 are free, but not side by side
    assert solve(config(SMALL), [Demand(Bundle(R(CPU=1)), 4)], there).cost == 0.0


def test_a_device_that_is_partly_used_takes_what_is_left_of_it():
    there = [row(R(GPU=2), R(GPU=1.4))]
    assert solve(config(GPUS), [Demand(Bundle(R(GPU=0.4)), 3)], there).cost == 0.0
    assert solve(config(GPUS), [Demand(Bundle(R(GPU=0.7)), 2)], there).cost == 5.0


def test_what_lives_counts_against_the_maxima():
    assert solve(config(SMALL, most=3), [Demand(Bundle(R(CPU=4)), 3)], live={"small": 2}).unplaced == 2


def test_the_fills_of_a_node():
    wanted = [(Bundle(R(CPU=3)), 1), (Bundle(R(CPU=1)), 9)]
    assert sorted(fills({}, dict(R(CPU=4)), dict(R(CPU=4)), wanted)) == [(0, 4), (1, 1)]


def tried(given: ClusterConfig, demands: list[Demand]) -> tuple[int, float]:
    """Return the optimum by trying every set of nodes and every way to put every single demand on them."""
    each = [demand.bundle for demand in demands for _ in range(demand.count)]
    limits = [len(each) if found.max_workers < 0 else found.max_workers for found in given.node_types]
    best = (len(each), 0.0)
    for counts in product(*(range(min(limit, len(each)) + 1) for limit in limits)):
        if sum(counts) > len(each) or 0 <= given.max_workers < sum(counts):
            continue
        nodes = [found for found, count in zip(given.node_types, counts, strict=True) for _ in range(count)]
        best = min(best, (len(each) - most_placed(each, nodes, [[] for _ in nodes]), sum(found.cost for found in nodes)))
    return best


def most_placed(left: list[Bundle], nodes: list[NodeType], content: list[list[Bundle]]) -> int:
    if not left:
        return sum(map(len, content))
    bundle, *rest = left
    most = 0
    for node, held in zip(nodes, content, strict=True):
        total = dict(node.resources)
        if label_ok(bundle, node.node_labels()) and not lacking([(each, 1) for each in (*held, bundle)], total, total):
            held.append(bundle)
            most = max(most, most_placed(rest, nodes, content))
            held.pop()
        if most == sum(map(len, content)) + len(left):
            return most
    return max(most, most_placed(rest, nodes, content))


def test_it_finds_what_trying_everything_finds():
    seed = 31_007
    print(f"seed {seed}")
    dice = random.Random(seed)
    seen = Counter()
    for _ in range(100):
        types = tuple(
            NodeType(
                name,
                Resources({"CPU": dice.choice([2, 4, 8]) * UNIT, **dice.choice([{}, {"GPU": UNIT}, {"GPU": 2 * UNIT}])}),
                dice.choice([(), (("zone", "a"),)]),
                max_workers=dice.choice([-1, -1, 1, 2]),
                cost=dice.choice([1.0, 1.5, 2.0, 3.0]),
            )
            for name in ("ant", "bee")
        )
        shapes = [
            Bundle(
                Resources(
                    {
                        "CPU": dice.choice([1, 2, 3, 4]) * UNIT,
                        **dice.choice([{}, {"GPU": 6_000}, {"GPU": 4_000}, {"GPU": 2_500}, {"GPU": UNIT}]),
                    }
                ),
                dice.choice([(), (), IN_A]),
            )
            for _ in range(3)
        ]
        demands = [Demand(bundle, dice.choice([1, 1, 2])) for bundle in dict.fromkeys(shapes)]
        given = config(*types, most=dice.choice([-1, -1, 2]))
        unplaced, cost = tried(given, demands)
        found = solve(given, demands)
        assert (found.unplaced, found.cost) == (unplaced, pytest.approx(cost)), (given, demands)
        seen[unplaced > 0, cost > 2] += 1
    assert len(seen) > 2  # some fit, some do not, some need several nodes


def test_the_bound_is_never_above_the_optimum():
    seed, ties = 5_501, 0
    print(f"seed {seed}")
    dice = random.Random(seed)
    for number in range(100):
        state = state_of(dice)
        best = solve(state.config, state.demands, state.nodes)
        least = bound(state.config, state.demands, state.nodes)
        assert least.unplaced <= best.unplaced, (number, state)
        if least.unplaced == best.unplaced:  # with more left out it may be cheaper
            assert least.cost <= best.cost + 1e-6, (number, state)
            ties += 1
    assert ties > 50
