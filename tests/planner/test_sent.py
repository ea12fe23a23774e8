"""Packed gangs that ask for parts of devices, on nodes that are there: they lie where Ray sends them, or are told that they are never made."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Locality, Strategy
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan

pytestmark = pytest.mark.tier("unit")

R = Resources.of
PARTS = tuple(Demand(Bundle(R(GPU=0.6)), count) for count in range(6))
WITH_CPU = Demand(Bundle(R(GPU=0.6, CPU=1)), 3)


def gang(*bundles: Demand, strategy: Strategy = Strategy.PACK) -> Gang:
    return Gang("g", strategy, bundles)


def row(name: str, gpus: float, free: float | None = None, cpus: float = 8, zone: str = "", **fields) -> RayNode:
    total, available = R(CPU=cpus, GPU=gpus), R(CPU=cpus, GPU=gpus if free is None else free)
    return RayNode(name, "", "", NodeStatus.RUNNING, total, available, (("zone", zone),) if zone else (), **fields)


def state(asked: Gang, *rows: RayNode, types: tuple[NodeType, ...] = (), **fields) -> ClusterState:
    return ClusterState(1000.0, ClusterConfig("c", types), nodes=rows, gangs=(asked,), **fields)


def told(given: ClusterState) -> object:
    """Return where the gang lies, or why it waits, and what is launched."""
    found = plan(given)
    where = {each.node: each.count for each in found.placements if each.gang_id == "g"}
    return [each.node_type for each in found.launches], where or [each.reason for each in found.infeasible]


TWO, TWIN, THREE = row("two", 2), row("twin", 2), row("three", 3)
NEVER = ([], [Reason.PACKED_BY_SUM])


@pytest.mark.parametrize(
    ("asked", "rows", "expected"),
    [
        pytest.param(gang(PARTS[3]), (TWO, TWIN), NEVER, id="all to one of two nodes"),
        pytest.param(gang(PARTS[2]), (TWO, TWIN), ([], {"ray:twin": 2}), id="what a node holds"),
        pytest.param(gang(PARTS[3]), (TWO, TWIN, THREE), ([], {"ray:three": 3}), id="to the node with more, which holds it"),
        pytest.param(gang(PARTS[5]), (TWO, THREE), NEVER, id="to the node with more, which does not"),
        pytest.param(gang(PARTS[3]), (TWO, row("a", 1), row("b", 1), row("c", 1)), NEVER, id="beside nodes of one"),
        pytest.param(
            gang(PARTS[3]), (row("a", 1), row("b", 1), row("c", 1)), ([], {"ray:a": 1, "ray:b": 1, "ray:c": 1}), id="nodes of one"
        ),
        pytest.param(gang(PARTS[3]), (row("a", 2, 1.8), row("b", 1), row("c", 1)), NEVER, id="a node in use that has not enough devices"),
        pytest.param(gang(PARTS[2]), (row("a", 4, 2.0), TWO), ([], {"ray:a": 2}), id="who knows how four in use lie"),
        pytest.param(
            gang(Demand(Bundle(R(GPU=0.25)), 2), PARTS[2]), (TWO, row("a", 1)), NEVER, id="in an order in which they have no room"
        ),
        pytest.param(
            gang(PARTS[2], Demand(Bundle(R(GPU=0.25)), 2)), (TWO, row("a", 1)), ([], {"ray:two": 2}), id="in one in which they have"
        ),
        pytest.param(
            gang(WITH_CPU, strategy=Strategy.STRICT_PACK),
            (TWO, row("three", 3, cpus=4)),
            NEVER,
            id="strictly: CPUs make Ray like the smaller",
        ),
        pytest.param(
            gang(WITH_CPU, strategy=Strategy.STRICT_PACK), (TWO, row("three", 3)), ([], {"ray:three": 3}), id="strictly: to the larger"
        ),
    ],
)
def test_dk_11_a_packed_gang_lies_where_ray_sends_it_or_is_told(asked, rows, expected):
    """What Ray does of these was asked of real raylets (tests/ray/test_order_of_bundles.py), as far as they can be told what is in use."""
    assert told(state(asked, *rows)) == expected


def test_it_waits_for_a_node_on_its_way_that_ray_will_like_best():
    three = NodeType("three", R(CPU=8, GPU=3), min_workers=1)
    coming = Instance("coming", "three", InstanceStatus.REQUESTED, 1000.0, requested_at=990.0)
    given = state(gang(PARTS[3]), TWO, types=(three,), instances=(coming,))
    assert told(given) == ([], {"coming": 3})


def test_what_would_not_help_is_not_launched():
    types = tuple(NodeType(name, R(CPU=8, GPU=gpus)) for name, gpus in (("one", 1), ("two", 2)))
    assert told(state(gang(PARTS[3]), TWO, types=types)) == NEVER
    found = plan(state(gang(PARTS[3]), TWO, types=(*types, NodeType("three", R(CPU=8, GPU=3)))))
    assert [each.node_type for each in found.launches] == ["three"]


def test_where_ray_has_a_node_that_is_no_room_here_nothing_is_told():
    """One of a type of ours that nobody launched: it goes, and until then Ray may choose it."""
    three = NodeType("three", R(CPU=8, GPU=3), max_workers=0)
    ghost = replace(row("ghost", 3), instance_id="gone", node_type="three")
    _, where = told(state(gang(PARTS[3]), TWO, TWIN, ghost, types=(three,)))
    assert sum(where.values()) == 3


def test_of_two_zones_the_one_whose_nodes_hold_it_is_taken():
    asked = replace(gang(PARTS[3]), locality=Locality("zone"))
    rows = row("a", 2, zone="a"), row("b", 2, zone="a"), row("c", 3, zone="b")
    assert told(state(asked, *rows)) == ([], {"ray:c": 3})
    assert told(state(asked, *rows[:2])) == NEVER


def test_more_nodes_than_there_is_time_for_are_planned_for_as_ever():
    rows = tuple(row(f"x{i}", 2, 2 - i / 1000) for i in range(200))
    asked = gang(*(Demand(Bundle(R(GPU=0.6, CPU=1 + i)), 1) for i in range(40)))
    assert told(state(asked, *rows))[0] == []
