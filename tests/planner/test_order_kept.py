"""A gang whose order is not told for parts of it stays where its launches were planned, whatever else was put there since."""

import itertools

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.properties.checker import check
from tests.properties.test_planner_laws import carried_out

pytestmark = pytest.mark.tier("unit")


def gang(name: str, *parts: float) -> Gang:
    return Gang(name, Strategy.PACK, tuple(Demand(Bundle(Resources.of(GPU=part)), 1) for part in parts))


def assert_kept_and_held(state: ClusterState) -> None:
    """Check that once a plan is carried out nothing is left to do, and everything has its place."""
    after = carried_out(state, plan(state))
    second = plan(after)
    assert second.is_empty
    assert not second.infeasible
    assert check(after, second) == []


def test_a_gang_with_one_shape_on_each_node_is_not_placed_anew():
    """Placed anew, it had to keep clear of what others got on its nodes, as if its small parts were large, and a node more was launched."""
    config = ClusterConfig("c", (NodeType("ant", Resources.of(CPU=1, GPU=1)),))
    gangs = gang("g0", 0.25, 0.25), gang("g1", 0.25, 0.25), gang("g2", 0.25, 0.6, 0.25)
    state = ClusterState(1000.0, config, gangs=gangs)
    assert_kept_and_held(state)


# Two thirds of it lie on nodes that are there, one third was launched for: placed anew, its small part was taken for a large one.
SCATTERED = (1, 1, 1), ((0.25, 0.25), (0.25, 0.25, 0.25), (0.6, 0.25, 0.6)), (1, 0.6)
SMALL = itertools.product(
    [(1,), (1, 1), (1, 1, 1), (2,), (2, 1), (2, 2), (2, 1, 1)],
    [
        ((0.25, 0.6, 0.6),),
        ((0.25, 0.25, 0.6, 0.6),),
        ((0.25, 0.6, 0.6, 0.6),),
        ((0.25, 0.25, 0.6, 0.6, 0.6),),
        ((0.6, 0.25, 0.6),),
        ((0.25, 0.6, 0.3, 0.6),),
    ],
    [(), (1,), (1, 1), (0.6,), (1, 0.6)],
)


@pytest.mark.parametrize(("rooms", "gangs", "demands"), [SCATTERED, *SMALL])
def test_what_promises_have_left_of_a_gang_is_placed_beside_them(rooms, gangs, demands):
    config = ClusterConfig("c", (NodeType("ant", Resources.of(GPU=1)),))
    there = (Resources.of(GPU=room) for room in rooms)
    state = ClusterState(
        1000.0,
        config,
        nodes=tuple(RayNode(f"x{i}", "", "", NodeStatus.RUNNING, total, total) for i, total in enumerate(there)),
        gangs=tuple(gang(f"g{i}", *parts) for i, parts in enumerate(gangs)),
        demands=tuple(Demand(Bundle(Resources.of(GPU=each)), 1) for each in demands),
    )
    assert_kept_and_held(state)


def test_what_is_placed_beside_promises_may_be_mixed_on_a_node_of_its_own():
    """As if all its parts were large, as it was at first; only what needs the new node was launched for."""
    config = ClusterConfig("c", (NodeType("ant", Resources.of(GPU=1, CPU=1)),))
    nodes = tuple(
        RayNode(f"x{i}", "", "", NodeStatus.RUNNING, Resources.of(GPU=room), Resources.of(GPU=room), is_head=not i)
        for i, room in enumerate((2, 1, 1, 1))
    )
    bundles = ({"GPU": 0.25}, {"GPU": 0.6}, {"GPU": 0.25, "CPU": 0.5}, {"GPU": 0.6})
    wanted = Gang("g", Strategy.PACK, tuple(Demand(Bundle(Resources.of(**each)), 1) for each in bundles))
    demands = Demand(Bundle(Resources.of(GPU=1)), 1), Demand(Bundle(Resources.of(GPU=0.6)), 3)
    state = ClusterState(1000.0, config, nodes=nodes, gangs=(wanted,), demands=demands)
    assert_kept_and_held(state)


def test_a_gang_that_lies_so_that_any_order_will_do_is_not_placed_anew():
    """All of it was launched for, unlike parts on each node: placed anew, they had to be taken for large ones beside who else was launched for."""
    config = ClusterConfig("c", (NodeType("ant", Resources.of(CPU=1, GPU=2)),))
    bundles = ({"GPU": 0.25}, {"GPU": 0.25, "CPU": 0.5}, {"GPU": 0.6, "CPU": 0.5}, {"GPU": 0.25, "CPU": 0.5})
    wanted = Gang("g", Strategy.PACK, tuple(Demand(Bundle(Resources.of(**each)), 1) for each in bundles))
    state = ClusterState(1000.0, config, gangs=(wanted,), demands=(Demand(Bundle(Resources.of(GPU=1)), 2),))
    assert_kept_and_held(state)
