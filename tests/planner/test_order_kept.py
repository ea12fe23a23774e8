"""What launches were planned for is put on them again in the same order, so that all of it has room; and a gang, held in part, beside it as before."""

import itertools

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.properties.checker import check
from tests.properties.test_planner_laws import assert_kept, carried_out

pytestmark = pytest.mark.tier("unit")


def gang(name: str, *parts: float) -> Gang:
    return Gang(name, Strategy.PACK, tuple(Demand(Bundle(Resources.of(GPU=part)), 1) for part in parts))


def assert_kept_and_held(state: ClusterState) -> None:
    """Check that once a plan is carried out nothing is left to do, and everything has its place."""
    first = plan(state)
    after = carried_out(state, first)
    second = plan(after)
    assert second.is_empty
    assert not second.infeasible
    assert check(after, second) == []
    assert_kept(state, first, second)


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
DECEIVED = ((0.25, 0.25, 0.6, 0.6),), ((0.25, 0.6, 0.6, 0.6),), ((0.25, 0.25, 0.6, 0.6, 0.6),)
"""Ray sends most of these to a node of two GPUs, by their sum, and never makes them: nothing is planned for them beside one."""
PLACED = [SCATTERED, *(each for each in SMALL if 2 not in each[0] or each[1] not in DECEIVED)]


@pytest.mark.parametrize(("rooms", "gangs", "demands"), PLACED)
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


def bundle(**wanted: float) -> Bundle:
    return Bundle(Resources.of(**wanted))


def of_type(*gangs: Gang, demands: tuple[Demand, ...] = (), nodes: tuple[Resources, ...] = (), **brings: float) -> ClusterState:
    """Return a state with one node type, gangs that are packed, and nodes of the user's own that are free."""
    return ClusterState(
        1000.0,
        ClusterConfig("c", (NodeType("ant", Resources.of(**brings)),)),
        nodes=tuple(RayNode(f"x{i}", "", "", NodeStatus.RUNNING, total, total) for i, total in enumerate(nodes)),
        gangs=gangs,
        demands=demands,
    )


def test_gangs_on_one_launch_get_their_parts_in_the_order_of_the_plan():
    """The larger gang came first there, whatever its name: the other first, and there was no room for it, and a second node was launched."""
    assert_kept_and_held(of_type(gang("g0", 0.4), gang("g1", 0.4, 0.6, 0.6, 0.6), GPU=3))
    tasks = Demand(bundle(GPU=1), 1), Demand(bundle(GPU=0.6), 1)
    assert_kept_and_held(of_type(gang("g0", 0.3), gang("g1", 0.3, 0.6), demands=tasks, GPU=2))


def test_like_parts_with_others_between_them_stay_apart():
    """0.4, 0.5 and 0.4 come to one node in this order, which is another than both of 0.4 first."""
    tasks = Demand(bundle(GPU=0.3), 3), Demand(bundle(GPU=0.6), 2)
    assert_kept_and_held(of_type(gang("g0", 0.4, 0.5, 0.4), demands=tasks, GPU=2))


def test_a_gang_that_lies_on_one_launch_in_its_order_is_not_placed_anew():
    """Behind the task that came after it, it had no room there."""
    tasks = (Demand(bundle(CPU=0.5, GPU=0.4), 1),)
    assert_kept_and_held(of_type(gang("g0", 0.4), gang("g1", 0.3, 0.3, 0.6, 0.7, 0.3), demands=tasks, CPU=2, GPU=3))


def test_what_promises_have_left_of_a_packed_gang_goes_where_it_was_and_nobody_else_is_launched_for():
    """First fit, as it was when nodes were launched for the rest: on the node that takes most of it, it took the room of others."""
    wide = Gang(
        "g0",
        Strategy.PACK,
        tuple(Demand(each, 1) for each in (bundle(CPU=4), bundle(CPU=1), bundle(CPU=1, memory=2), bundle(CPU=1, memory=3), bundle(CPU=1))),
    )
    others = Gang("g1", Strategy.PACK, (Demand(bundle(CPU=1, memory=1), 1),)), Gang("g2", Strategy.SPREAD, (Demand(bundle(CPU=2), 2),))
    assert_kept_and_held(of_type(wide, *others, nodes=(Resources.of(CPU=2, memory=4), Resources.of(CPU=4, memory=2)), CPU=4, memory=4))


def test_what_promises_have_left_of_a_gang_takes_no_less_room_for_itself_than_as_part_of_it():
    """Its small parts lay on a node each, as if they were 0.6; both on the first of them, there was no room for the other group's any more."""
    tasks = (Demand(bundle(GPU=0.7), 1),)
    assert_kept_and_held(
        of_type(gang("g0", 0.7, 0.7), gang("g1", 0.3, 0.25, 0.3, 0.6), demands=tasks, nodes=(Resources.of(GPU=1),) * 2, GPU=1)
    )
