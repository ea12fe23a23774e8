"""The bound on cases whose best plan is known by hand, and below every plan that a search finds on small ones."""

import itertools
import random
from collections import Counter

import pytest

from rayscaler.model.demand import Bundle, Demand, LabelCondition, LabelSelector, Operator
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.optimum.bound import bound, knapsack
from tests.properties.devices import items, pack

pytestmark = pytest.mark.tier("unit")

R = Resources.of
POOL: frozenset[str] = frozenset()


def want(count: int = 1, labels: tuple[str, ...] = (), **amounts: float) -> Demand:
    alternatives = tuple(LabelSelector((LabelCondition("model", Operator.IN, (each,)),)) for each in labels)
    return Demand(Bundle(R(**amounts), alternatives), count)


def kind(name: str, cost: float, most: int = -1, model: str = "", **amounts: float) -> NodeType:
    return NodeType(name, R(**amounts), (("model", model),) if model else (), max_workers=most, cost=cost)


SMALL, LARGE = kind("small", 1.0, CPU=4), kind("large", 3.0, CPU=16)
GPU = kind("gpu", 8.0, CPU=8, GPU=4)


@pytest.mark.parametrize(
    ("types", "demands", "cost", "unplaced"),
    [
        pytest.param((SMALL, LARGE), [want(16, CPU=1)], 3.0, 0, id="the type that is cheapest by the CPU"),
        pytest.param((SMALL, LARGE), [want(8, CPU=4)], 6.0, 0, id="two of it"),
        pytest.param((SMALL, kind("large", 3.0, 1, CPU=16)), [want(8, CPU=4)], 7.0, 0, id="a maximum sends the rest to the dearer one"),
        pytest.param((SMALL,), [want(2, CPU=5)], 0.0, 2, id="what fits no type is left out"),
        pytest.param((kind("small", 1.0, 1, CPU=4),), [want(6, CPU=1)], 1.0, 2, id="and what a maximum leaves no room for"),
        pytest.param((kind("small", 1.0, 1, CPU=4),), [want(3, CPU=3)], 0.75, 2, id="counted whole: a third of a demand is none"),
        pytest.param(
            (kind("a", 1.0, CPU=4, model="A"), kind("b", 2.0, CPU=4, model="B")), [want(2, ("B",), CPU=2)], 2.0, 0, id="labels are kept"
        ),
        pytest.param(
            (kind("a", 1.0, CPU=4, model="A"), kind("b", 2.0, CPU=4, model="B")),
            [want(2, ("B", "A"), CPU=2)],
            1.0,
            0,
            id="any alternative of them will do",
        ),
        pytest.param((GPU,), [want(8, GPU=0.5)], 8.0, 0, id="halves of devices are no waste"),
        pytest.param((GPU,), [want(8, GPU=0.6)], 16.0, 0, id="of 0.6 there is one to a device"),
        pytest.param((GPU,), [want(2, GPU=0.6), want(2, GPU=0.4), want(1, GPU=2)], 8.0, 0, id="fractions beside whole ones, exactly full"),
        pytest.param(
            (GPU,), [want(2, GPU=0.7), want(2, GPU=0.2), want(2, GPU=0.1), want(1, GPU=2)], 8.0, 0, id="three of them on one device"
        ),
        pytest.param((GPU,), [want(4, GPU=0.3), want(4, GPU=0.6)], 8.0, 0, id="0.3 beside 0.6"),
        pytest.param((GPU,), [want(1, GPU=1.5)], 0.0, 1, id="more than one device is whole ones"),
        pytest.param((kind("gpu", 8.0, 2, GPU=2),), [want(5, GPU=0.7)], 16.0, 1, id="a device too few, though the sum is enough"),
        pytest.param((SMALL,), [], 0.0, 0, id="nothing asked"),
    ],
)
def test_the_bound_of_what_is_known_by_hand(types, demands, cost, unplaced):
    found = bound(ClusterConfig("c", types), demands)
    assert (found.cost, found.unplaced) == (pytest.approx(cost), unplaced)


def test_as_a_pool_fractions_are_cut_anywhere():
    assert bound(ClusterConfig("c", (GPU,)), [want(8, GPU=0.6)], devices=POOL).cost == pytest.approx(8.0 * 8 * 0.6 / 4)


def test_a_pattern_found_by_price_makes_the_bound_tight():
    """Of each size alone a device holds 1, 2 and 5 (0.55, 0.35, 0.2); one of each is 1.1: too much. 0.55 + 0.2 + 0.2 and 0.35 + 0.35 + 0.2 are best."""
    one = kind("gpu", 1.0, GPU=1)
    found = bound(ClusterConfig("c", (one,)), [want(2, GPU=0.55), want(2, GPU=0.35), want(5, GPU=0.2)])
    assert found.cost == pytest.approx(3.0)


def test_the_cluster_s_maximum_counts_too():
    found = bound(ClusterConfig("c", (SMALL, LARGE), max_workers=1), [want(5, CPU=4)])
    assert (found.cost, found.unplaced) == (pytest.approx(3.0), 1)


def test_nodes_that_are_there_cost_nothing():
    nodes = [RayNode(f"{index}", f"i{index}", "small", NodeStatus.RUNNING, R(CPU=4), R(CPU=2)) for index in range(3)]
    assert bound(ClusterConfig("c", (SMALL,)), [want(8, CPU=1)], nodes).cost == pytest.approx(0.5)
    assert bound(ClusterConfig("c", (SMALL,)), [want(2, CPU=3)], nodes).cost == pytest.approx(1.5)  # none of them takes one whole
    gone = [RayNode("0", "i0", "small", NodeStatus.DEAD, R(CPU=4), R(CPU=4))]
    assert bound(ClusterConfig("c", (SMALL,)), [want(4, CPU=1)], gone).cost == pytest.approx(1.0)


def test_each_node_has_one_of_every_implicit_resource():
    demand = Demand(Bundle(R(CPU=1, **{"node:__internal_implicit_resource_a": 0.5})), 4)
    assert bound(ClusterConfig("c", (LARGE,)), [demand]).cost == pytest.approx(6.0)


@pytest.mark.parametrize("seed", range(40))
def test_no_plan_of_a_search_is_below_it(seed):
    """Every number of nodes of two types is tried, cheapest first; the first that holds the demand, item by item on devices, is the best plan."""
    rng = random.Random(seed)
    types = [kind(name, rng.choice((1.0, 1.5, 2.5)), CPU=rng.choice((2, 4)), GPU=rng.choice((1, 2))) for name in ("a", "b")]
    items = [(rng.choice((0.5, 1, 2)), rng.choice((0, 0.3, 0.4, 0.6, 1))) for _ in range(5)]
    demands = [want(count, CPU=cpu, GPU=gpu) for (cpu, gpu), count in Counter(items).items()]
    best = min(
        sum(each.cost for each in chosen)
        for size in range(1, 6)
        for chosen in itertools.combinations_with_replacement(types, size)
        if _holds(chosen, items)
    )
    found = bound(ClusterConfig("c", tuple(types)), demands)
    pool = bound(ClusterConfig("c", tuple(types)), demands, devices=POOL)
    assert found.unplaced == 0
    assert 0 < pool.cost <= found.cost + 1e-6
    assert found.cost <= best + 1e-6


def _holds(chosen, items) -> bool:
    for lies in itertools.product(range(len(chosen)), repeat=len(items)):
        content = [[item for item, node in zip(items, lies, strict=True) if node == index] for index in range(len(chosen))]
        if all(_fits(node_type, each) for node_type, each in zip(chosen, content, strict=True)):
            return True
    return False


def _fits(node_type, content) -> bool:
    room = node_type.resources
    gpus = Counter(round(gpu * 10_000) for _, gpu in content if gpu)
    return sum(cpu for cpu, _ in content) * 10_000 <= room["CPU"] and pack(items(gpus), (10_000,) * (room["GPU"] // 10_000))


def test_the_knapsack_finds_the_best_multiset():
    assert knapsack({60: 5.0, 40: 3.0, 35: 2.9}, 100) == (8.0, ((40, 1), (60, 1)))
    assert knapsack({60: 5.0, 20: 2.0, 35: 2.9}, 100) == (10.0, ((20, 5),))
    assert knapsack({70: 1.0}, 100) == (1.0, ((70, 1),))
