"""Accelerators one by one: the planner's counts against devices handed out one after another, as a raylet does it."""

import random
from collections import Counter

import pytest

from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, Reserve, Strategy
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState, Expectation
from rayscaler.planner.devices import Several, devices
from rayscaler.planner.plan import plan

pytestmark = pytest.mark.tier("unit")

R = Resources.of
SEED = 60606
AMOUNTS = (1, 1000, 2500, 3000, 3333, 5000, 6000, 9999, UNIT, 2 * UNIT, 3 * UNIT, 15_000)


def given_out(free: list[int], amount: int) -> bool:
    """Give out `amount` once, as the raylet's source does; whether it could be."""
    if amount >= UNIT:
        whole = [i for i, each in enumerate(free) if each == UNIT][: amount // UNIT]
        if amount % UNIT or len(whole) * UNIT < amount:
            return False
        for i in whole:
            free[i] = 0
        return True
    fitting = [i for i, each in enumerate(free) if each >= amount]
    if not fitting:
        return False
    free[min(fitting, key=lambda i: free[i])] -= amount
    return True


def listed(found) -> list[int]:
    return [free for free, number in found for _ in range(number)]


def test_many_at_once_are_what_one_after_another_would_be():
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    for _ in range(500):
        left = devices(dice.randint(0, 5) * UNIT)
        one_by_one = [UNIT] * (left.total // UNIT)
        for _ in range(8):
            amount = dice.choice(AMOUNTS)
            held = left // amount
            beyond = list(one_by_one)
            assert sum(given_out(beyond, amount) for _ in range(min(held, 100) + 1)) == min(held, 101)
            count = dice.randint(0, min(held, 7))
            assert all(given_out(one_by_one, amount) for _ in range(count))
            left = left.without(amount, count) if count else left
            assert listed(left) == sorted(each for each in one_by_one if each)


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        pytest.param(2.0, 2.0, [1.0, 1.0], id="nothing used is all whole"),
        pytest.param(2.0, 1.0, [1.0], id="a whole one used is one left"),
        pytest.param(2.0, 1.7, [0.7, 1.0], id="less than one used is of one device"),
        pytest.param(2.0, 0.8, [0.4, 0.4], id="more than one used is split evenly"),
        pytest.param(4.0, 2.5, [0.25, 0.25, 1.0, 1.0], id="as few as can be are taken to be in use"),
        pytest.param(3.0, 0.0, [], id="used up is none"),
        pytest.param(3.0, 1.0001, [1.0], id="a rest too small to split is let go"),
        pytest.param(2.0, 3.0, [1.0, 1.0], id="more free than there is counts for what there is"),
        pytest.param(2.0, -1.0, [], id="less than nothing is nothing"),
    ],
)
def test_of_sums_alone_what_follows_is_exact_and_the_rest_cautious(total, free, expected):
    found = devices(round(total * UNIT), round(free * UNIT))
    assert [each / UNIT for each in listed(found)] == expected


@pytest.mark.parametrize(
    ("number", "parts", "expected"),
    [
        pytest.param(2, [(6000, 3)], 0, id="three of 0.6 need three devices"),
        pytest.param(2, [(6000, 2), (4000, 2)], 1, id="large ones first leaves room for small ones"),
        pytest.param(2, [(4000, 2), (6000, 2)], 0, id="small ones first may leave none for large ones"),
        pytest.param(2, [(4000, 1), (6000, 1), (4000, 1), (6000, 1)], 1, id="in turn each finds the device where it fits closest"),
        pytest.param(2, [(3000, 2), (UNIT, 1)], 1, id="a whole one beside fractions"),
        pytest.param(2, [(3000, 4), (UNIT, 1)], 0, id="a whole one and more than one of fractions"),
        pytest.param(2, [(15_000, 1)], 0, id="one and a half is none"),
    ],
)
def test_several_at_once(number, parts, expected):
    wanted, room = Several.of(parts), devices(number * UNIT)
    assert room // wanted == expected
    assert room.without(wanted, 1).total == number * UNIT - (int(wanted) if expected else 0)


def test_a_great_many_devices_are_counted_not_listed():
    room = devices(10**15 * UNIT)
    assert room // 6000 == 10**15
    assert len(room.without(3000, 10**14)) == 3


def one(name: str, free: Resources) -> tuple[Instance, RayNode]:
    instance = Instance(name, "two", InstanceStatus.RUNNING, 0.0, ray_node_id=f"n-{name}")
    return instance, RayNode(f"n-{name}", name, "two", NodeStatus.RUNNING, R(CPU=8, GPU=2), free)


def state(*nodes: tuple[Instance, RayNode], most: int = -1, kind: str = "GPU", **more) -> ClusterState:
    two = NodeType("two", R(CPU=8, **{kind: 2}), max_workers=most)
    return ClusterState(
        now=1000.0, config=ClusterConfig("c", (two,)), instances=tuple(i for i, _ in nodes), nodes=tuple(row for _, row in nodes), **more
    )


def want(count: int, **amounts: float) -> Demand:
    return Demand(Bundle(R(**amounts)), count)


@pytest.mark.parametrize("kind", ["GPU", "TPU", "NPU", "HPU", "neuron_cores", "RBLN", "FURIOSA", "TTNPU", "MBLT"])
def test_dk_4_three_fractions_above_a_half_need_three_devices(kind):
    assert len(plan(state(kind=kind, demands=(want(3, **{kind: 0.6}),))).launches) == 2


def test_dk_4_other_resources_are_pools():
    assert len(plan(state(kind="licence", demands=(want(3, licence=0.6),))).launches) == 1


@pytest.mark.parametrize(
    ("free", "asked", "launches"),
    [
        pytest.param(0.8, [want(1, GPU=0.6)], 1, id="a fraction that may have no device is launched for"),
        pytest.param(0.8, [want(2, GPU=0.4)], 0, id="one that has one surely is not"),
        pytest.param(1.7, [want(1, GPU=0.7), want(1, GPU=1)], 0, id="one device in use follows from the sum"),
        pytest.param(1.7, [want(1, GPU=0.8), want(1, GPU=1)], 1, id="a fraction on the whole one leaves none for a whole one"),
    ],
)
def test_room_of_joined_nodes(free, asked, launches):
    found = plan(state(one("a", R(CPU=8, GPU=free)), demands=tuple(asked)))
    assert (len(found.launches), found.infeasible) == (launches, ())


def test_the_constraint_is_held_by_whole_devices_whatever_is_used():
    busy = one("a", R(CPU=8, GPU=0.8))
    assert plan(state(busy, constraint=Constraint((want(2, GPU=1),)))).launches == ()
    assert len(plan(state(busy, constraint=Constraint((want(3, GPU=0.6),)))).launches) == 1


def test_a_launch_in_flight_is_promised_what_its_devices_hold():
    flying = Instance("f", "two", InstanceStatus.REQUESTED, 0.0, requested_at=1.0)
    reserves = (Reserve(Bundle(R(GPU=0.6)), 2),)
    given = state(demands=(want(3, GPU=0.6),), expectations=(Expectation("f", "two", 2000.0, reserves),))
    found = plan(ClusterState(**{**given.__dict__, "instances": (flying,)}))
    assert len(found.launches) == 1
    assert {each.node: each.count for each in found.placements} == {"f": 2, "new:0": 1}


def test_a_gang_that_leaves_a_promise_gives_its_devices_back():
    """Part of the gang was promised a node that does not hold all of it, so it goes to one node; its device is free for others."""
    flying = Instance("f", "two", InstanceStatus.REQUESTED, 0.0, requested_at=1.0)
    pack = Gang("pg", Strategy.STRICT_PACK, (want(2, GPU=1),))
    expected = Expectation("f", "two", 2000.0, (Reserve(Bundle(R(GPU=1)), 1, "pg"), Reserve(Bundle(R(GPU=0.6)), 1)), ("pg",))
    given = state(gangs=(pack,), demands=(want(2, GPU=0.6),), expectations=(expected,))
    found = plan(ClusterState(**{**given.__dict__, "instances": (flying,)}))
    assert len(found.launches) == 1
    placed = Counter((each.node, each.gang_id) for each in found.placements for _ in range(each.count))
    assert placed == {("f", ""): 2, ("new:0", "pg"): 2}


def test_what_ray_never_gives_is_refused_for_ever_and_says_why():
    refused = plan(state(demands=(want(1, GPU=1.5),))).infeasible
    assert [each.reason for each in refused] == [Reason.NO_TYPE_FITS]
    assert "never 1.5 GPU" in refused[0].detail


def test_a_gang_on_one_node_takes_its_parts_in_their_order_and_leaves_no_more_than_is_there():
    """In the order of the demand pass 0.2 would come first, for it asks for CPU too, and leave no device for the last 0.75."""
    gang = Gang("pg", Strategy.STRICT_PACK, (want(3, GPU=0.75), want(1, GPU=1), want(2, CPU=0.5, GPU=0.2)))
    four = NodeType("four", R(CPU=8, GPU=4), max_workers=1)
    found = plan(ClusterState(now=1000.0, config=ClusterConfig("c", (four,)), gangs=(gang,), demands=(want(3, GPU=0.2),)))
    assert [each.node_type for each in found.launches] == ["four"]
    assert sum(each.count for each in found.placements if not each.gang_id) == 1
    assert [(each.count, each.reason) for each in found.infeasible] == [(2, Reason.MAX_WORKERS_OF_TYPE)]


def test_a_strictly_packed_gang_that_was_promised_two_nodes_goes_to_one():
    flying = [Instance(name, "two", InstanceStatus.REQUESTED, 0.0, requested_at=1.0) for name in "fg"]
    gang = Gang("pg", Strategy.STRICT_PACK, (want(2, GPU=1),))
    expected = tuple(Expectation(each.instance_id, "two", 2000.0, (Reserve(Bundle(R(GPU=1)), 1, "pg"),), ("pg",)) for each in flying)
    given = state(gangs=(gang,), expectations=expected)
    found = plan(ClusterState(**{**given.__dict__, "instances": tuple(flying)}))
    assert (len({each.node for each in found.placements}), found.launches) == (1, ())


def test_fractions_packed_strictly_are_no_sum():
    gang = Gang("pg", Strategy.STRICT_PACK, (want(3, GPU=0.6),))
    refused = plan(state(gangs=(gang,))).infeasible
    assert [each.reason for each in refused] == [Reason.NO_TYPE_FITS]
    assert "each part must come from one" in refused[0].detail
