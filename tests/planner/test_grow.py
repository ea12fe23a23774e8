"""Growth in place (J4): what no node has room for goes on nodes that may grow, before anything is launched; who grows, how far, and who does not."""

import random
from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, LabelCondition, LabelSelector, Operator, Strategy
from rayscaler.model.instance import Growing, Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import NEVER, ClusterConfig, NodeType, Resize
from rayscaler.model.plan import Growth, Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState, Expectation
from rayscaler.planner.plan import plan

pytestmark = pytest.mark.tier("unit")

R = Resources.of
NOW = 1000.0
SMALL = NodeType("small", R(CPU=1, memory=4), resize=Resize(R(CPU=4, memory=16)))
FIXED = NodeType("fixed", R(CPU=8, memory=32))


def want(count: int = 1, **amounts: float) -> Demand:
    return Demand(Bundle(R(**amounts)), count)


def node(name: str, kind: NodeType = SMALL, total: Resources | None = None, **free: float) -> tuple[Instance, RayNode]:
    """Return a joined worker of which that much is free."""
    total = total or kind.resources
    row = RayNode(f"n-{name}", name, kind.name, NodeStatus.RUNNING, total, R(**free), tuple(kind.node_labels().items()))
    return Instance(name, kind.name, InstanceStatus.RUNNING, 0.0, ray_node_id=f"n-{name}"), row


def state(*nodes: tuple[Instance, RayNode], types: tuple[NodeType, ...] = (SMALL,), config: dict | None = None, **more) -> ClusterState:
    given = ClusterConfig("c", types, **(config or {}))
    return ClusterState(NOW, given, tuple(each for each, _ in nodes), tuple(row for _, row in nodes), **more)


def grown(found: Plan) -> dict[str, Resources]:
    return {each.instance_id: each.resources for each in found.growths}


def full(count: int, **fields) -> list[tuple[Instance, RayNode]]:
    """Return workers with nothing free."""
    pairs = [node(f"i{number}") for number in range(count)]
    return [(replace(instance, **fields), row) for instance, row in pairs]


def test_j4_of_ten_full_pods_one_grows_for_what_it_holds_then_and_none_is_launched():
    found = plan(state(*full(10), demands=(want(3, CPU=1),)))
    assert found.launches == ()
    bundle = Bundle(R(CPU=1))
    assert grown(found) == {"i0": R(CPU=4, memory=4)}
    assert [(each.bundle, each.count, each.node) for each in found.placements] == [(bundle, 3, "i0")]
    [growth] = found.growths
    assert growth.ray_node_id == "n-i0"
    assert [(each.bundle, each.count) for each in growth.reserves] == [(bundle, 3)]
    assert growth.detail == "i0 grows from {CPU: 1, memory: 4 B} to {CPU: 4, memory: 4 B}, and then holds {CPU: 1} x 3"
    assert not found.is_empty


@pytest.mark.parametrize(
    ("free", "wanted", "total"),
    [
        pytest.param({"CPU": 1, "memory": 4}, want(CPU=3), R(CPU=3, memory=4), id="what is free counts"),
        pytest.param({"memory": 4}, want(CPU=0.5), R(CPU=2, memory=4), id="cpus are whole"),
        pytest.param({"CPU": 0.5}, want(3, CPU=0.5), R(CPU=2, memory=4), id="half a cpu is free"),
        pytest.param({"CPU": 1}, want(CPU=1, memory=5), R(CPU=1, memory=9), id="memory alone"),
        pytest.param({}, want(2, CPU=1, memory=5), R(CPU=3, memory=14), id="both"),
    ],
)
def test_a_node_grows_by_exactly_what_it_lacks(free, wanted, total):
    assert grown(plan(state(node("a", **free), demands=(wanted,)))) == {"a": total}


def test_what_has_room_makes_nothing_grow():
    found = plan(state(node("a"), node("b", CPU=1, memory=4), demands=(want(CPU=1),)))
    assert (found.growths, found.launches) == ((), ())


def test_beyond_what_nodes_may_become_the_rest_is_launched_for():
    found = plan(state(*full(2), demands=(want(8, CPU=1),)))
    assert grown(found) == {"i0": R(CPU=4, memory=4), "i1": R(CPU=4, memory=4)}
    assert len(found.launches) == 2


def test_as_few_nodes_grow_as_will_do():
    nodes = [node("a", total=R(CPU=3, memory=4)), node("b", total=R(CPU=2, memory=4)), node("c")]
    assert grown(plan(state(*nodes, demands=(want(3, CPU=1),)))) == {"c": R(CPU=4, memory=4)}
    assert grown(plan(state(*nodes, demands=(want(5, CPU=1),)))) == {"b": R(CPU=4, memory=4), "c": R(CPU=4, memory=4)}


def test_the_node_that_has_most_of_it_already_grows():
    nodes = [node("a"), node("b", CPU=1), node("c")]
    assert grown(plan(state(*nodes, demands=(want(CPU=2),)))) == {"b": R(CPU=2, memory=4)}


def test_a_node_that_grows_twice_keeps_what_it_has_got():
    found = plan(state(node("a", total=R(CPU=2, memory=9)), demands=(want(CPU=2),)))
    assert grown(found) == {"a": R(CPU=4, memory=9)}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"status": InstanceStatus.DRAINING}, id="it drains"),
        pytest.param({"status": InstanceStatus.REJOINING}, id="it rejoins"),
        pytest.param({"ungrown_until": NOW + 1}, id="it could not of late"),
        pytest.param({"growing": Growing(R(CPU=2, memory=4), NOW)}, id="it grows already"),
        pytest.param({"ends_at": NOW + 60}, id="it is about to end"),
        pytest.param({"node_dead_since": NOW - 1}, id="its node is dead"),
        pytest.param({"made_as": replace(SMALL, env=(("A", "b"),))}, id="its type has changed"),
    ],
)
def test_who_cannot_grow_now_does_not_and_another_is_launched(fields):
    found = plan(state(*full(1, **fields), demands=(want(2, CPU=1),)))
    assert not found.growths
    assert found.launches


@pytest.mark.parametrize("blind", [Reason.REPORT_TOO_OLD, Reason.NO_REPORT])
def test_without_clear_sight_nothing_grows(blind):
    assert not plan(state(*full(1), demands=(want(CPU=1),), no_launch=blind)).growths


def test_a_node_with_less_than_its_type_says_does_not_grow():
    assert not plan(state(node("a", total=R(CPU=1, memory=2)), demands=(want(CPU=1),))).growths


def test_the_users_own_nodes_and_the_head_do_not_grow():
    head = RayNode("h", "", "small", NodeStatus.RUNNING, SMALL.resources, Resources(), is_head=True)
    own = RayNode("x", "", "small", NodeStatus.RUNNING, SMALL.resources, Resources())
    found = plan(ClusterState(NOW, ClusterConfig("c", (SMALL,)), nodes=(head, own), demands=(want(CPU=1),)))
    assert (found.growths, len(found.launches)) == ((), 1)


def carried_out(given: ClusterState, found: Plan, *, is_kept: bool = True) -> ClusterState:
    """Return the state once growths have been asked for; `is_kept`: what they are for is known."""
    growths = {each.instance_id: each for each in found.growths}
    instances = tuple(
        replace(each, growing=Growing(growths[each.instance_id].resources, NOW)) if each.instance_id in growths else each
        for each in given.instances
    )
    kept = tuple(Expectation(each.instance_id, "small", NOW + 90, each.reserves) for each in found.growths if is_kept)
    return replace(given, instances=instances, expectations=kept)


@pytest.mark.parametrize("is_kept", [True, False])
def test_while_a_node_grows_it_counts_with_what_it_will_bring(is_kept):
    given = state(*full(10), demands=(want(3, CPU=1), want(CPU=2)))
    first = plan(given)
    assert grown(first) == {"i0": R(CPU=4, memory=4), "i1": R(CPU=3, memory=4)}
    second = plan(carried_out(given, first, is_kept=is_kept))
    assert second.is_empty
    assert not second.infeasible


def test_what_a_launch_on_its_way_holds_makes_nothing_grow():
    launch = Instance("new", "small", InstanceStatus.REQUESTED, NOW, requested_at=NOW)
    given = state(*full(1), demands=(want(CPU=1),))
    found = plan(replace(given, instances=(*given.instances, launch)))
    assert found.is_empty


def test_a_growing_node_is_no_room_yet_for_what_request_resources_asks_for():
    given = state(*full(1, growing=Growing(R(CPU=4, memory=4), NOW)), types=(SMALL, FIXED), constraint=Constraint((want(CPU=4),)))
    assert [each.node_type for each in plan(given).launches] == ["fixed"]


def test_a_group_lies_on_a_node_that_grows_for_others_but_none_grows_for_it():
    gang = Gang("g", Strategy.PACK, (want(2, CPU=1),))
    given = state(*full(1, growing=Growing(R(CPU=4, memory=4), NOW)), gangs=(gang,))
    assert plan(given).is_empty
    still = state(*full(1), gangs=(gang,))
    assert (plan(still).growths, len(plan(still).launches)) == ((), 2)


GPU = NodeType("gpu", R(CPU=1, GPU=1), resize=Resize(R(CPU=4, GPU=1)))
PLAIN = NodeType("plain", R(CPU=1))


def test_j1_work_without_gpus_makes_a_gpu_node_grow_only_where_nothing_else_can_be_had():
    nodes = [node("a", GPU, GPU=1)]
    assert grown(plan(state(*nodes, types=(GPU, PLAIN), demands=(want(CPU=1, GPU=1),)))) == {"a": R(CPU=2, GPU=1)}
    found = plan(state(*nodes, types=(GPU, PLAIN), demands=(want(2, CPU=1),)))
    assert (found.growths, [each.node_type for each in found.launches]) == ((), ["plain"] * 2)
    found = plan(state(*nodes, types=(GPU, PLAIN), demands=(want(2, CPU=1),), config={"max_workers": 2}))
    assert (grown(found), [each.node_type for each in found.launches]) == ({"a": R(CPU=2, GPU=1)}, ["plain"])


def test_labels_decide_who_grows():
    zones = [replace(SMALL, name=zone, labels=(("zone", zone),)) for zone in ("a", "b")]
    nodes = [node(each.name, each) for each in zones]
    wished = tuple(LabelSelector((LabelCondition("zone", Operator.IN, (zone,)),)) for zone in ("b", "a"))
    asked = Demand(Bundle(R(CPU=2), wished), 2)
    assert grown(plan(state(*nodes, types=tuple(zones), demands=(asked,)))) == {"b": R(CPU=3, memory=4), "a": R(CPU=3, memory=4)}
    only = Demand(Bundle(R(CPU=2), wished[:1]), 1)
    assert grown(plan(state(*nodes, types=tuple(zones), demands=(only,)))) == {"b": R(CPU=3, memory=4)}


def test_at_the_maximum_of_workers_a_node_still_grows():
    found = plan(state(*full(1), demands=(want(9, CPU=1),), config={"max_workers": 1}))
    assert grown(found) == {"i0": R(CPU=4, memory=4)}
    assert [(each.count, each.reason) for each in found.infeasible] == [(6, Reason.MAX_WORKERS)]


def test_what_only_a_node_that_has_grown_holds_is_launched_for_and_grows_once_it_has_joined():
    given = state(demands=(want(5, CPU=2),))
    first = plan(given)
    assert [[str(each) for each in launch.reserves] for launch in first.launches] == [["{CPU: 2} x 2"]] * 2 + [["{CPU: 2} x 1"]]
    names = ("x", "y", "z")
    flying = tuple(Instance(name, "small", InstanceStatus.REQUESTED, NOW, requested_at=NOW) for name in names)
    kept = tuple(Expectation(name, "small", NOW + 90, launch.reserves) for name, launch in zip(names, first.launches, strict=True))
    assert plan(replace(given, instances=flying, expectations=kept)).is_empty
    nodes = [node(name, CPU=1, memory=4) for name in names]
    arrived = state(*nodes, demands=given.demands, expectations=kept)
    found = plan(arrived)
    assert found.launches == ()
    assert sorted(grown(found).values()) == [R(CPU=2, memory=4), R(CPU=4, memory=4), R(CPU=4, memory=4)]


def test_while_nodes_of_a_type_cannot_grow_none_is_launched_to_grow_and_what_waits_is_not_impossible():
    found = plan(state(*full(1, ungrown_until=NOW + 30), demands=(want(CPU=2),)))
    assert found.is_empty
    [refused] = found.infeasible
    assert (refused.reason, refused.is_never, refused.until) == (Reason.NO_ROOM, False, NOW + 30)
    assert "only a node of small that has grown would hold it, and nodes of that type could not grow of late" in refused.detail
    assert [each.until for each in plan(state(*full(1, ungrown_until=NEVER), demands=(want(CPU=2),))).infeasible] == [None]
    assert [each.is_never for each in plan(state(demands=(want(CPU=5),))).infeasible] == [True]


def test_the_mix_is_made_of_what_no_node_grows_for():
    types = (replace(SMALL, cost=1.0), replace(FIXED, cost=2.0))
    given = state(*full(1), types=types, demands=(want(10, CPU=1),))
    first, found = plan(given), plan(given, 50)
    assert first.growths == found.growths
    assert grown(found) == {"i0": R(CPU=4, memory=4)}
    assert [each.node_type for each in found.launches] == ["fixed"]
    assert found.mix is not None
    assert found.mix.cost == 2.0


def test_the_order_of_the_input_does_not_decide_who_grows():
    given = state(*full(5), demands=(want(CPU=2), want(2, CPU=1), want(memory=9)))
    turned = replace(given, instances=given.instances[::-1], nodes=given.nodes[::-1], demands=given.demands[::-1])
    assert plan(turned).growths == plan(given).growths != ()
    assert all(isinstance(each, Growth) for each in plan(given).growths)


def test_no_fewer_nodes_would_do_for_many_alike():
    """Beside the count that the largest gains come to: with one shape, no other choice of nodes holds as many."""
    chance = random.Random(7)
    for _ in range(200):
        needs, count = chance.randint(1, 3), chance.randint(1, 12)
        sizes = [(chance.randint(1, 4), chance.randint(0, 4)) for _ in range(chance.randint(1, 5))]
        nodes = [node(f"i{i}", total=R(CPU=total, memory=4), CPU=min(free, total)) for i, (total, free) in enumerate(sizes)]
        found = plan(state(*nodes, demands=(want(count, CPU=needs),)))
        free = [min(free, total) for total, free in sizes]
        left = count - sum(each // needs for each in free)
        gains = sorted(((each + 4 - total) // needs - each // needs for each, (total, _) in zip(free, sizes, strict=True)), reverse=True)
        fewest = next((number for number in range(len(gains) + 1) if sum(gains[:number]) >= left), sum(gain > 0 for gain in gains))
        assert len(found.growths) == fewest, (needs, count, sizes)


def test_what_the_definition_does_not_speak_of_is_no_part_of_what_a_node_grows_to():
    kind = NodeType("small", R(CPU=1), resize=Resize(R(CPU=4)))
    row = node("a", kind, total=R(CPU=1, memory=900, object_store_memory=80), memory=900)
    [growth] = plan(state(row, types=(kind,), demands=(want(CPU=2),))).growths
    assert growth.resources == R(CPU=3)
    assert growth.detail.startswith("a grows from {CPU: 1} to {CPU: 3}")
    assert not plan(state(row, types=(kind,), demands=(want(CPU=1, memory=901),))).growths


def test_a_cheaper_mix_takes_no_place_from_a_node_that_is_to_grow():
    """The mix knows nothing of growth: it had its work on the one node that could have grown for what fits nowhere else."""
    wide, tall = (
        NodeType("wide", R(CPU=4, GPU=1, memory=4), cost=1.0),
        NodeType("tall", R(CPU=1, GPU=1, TPU=1, memory=1), max_workers=1, cost=0.5),
    )
    types = wide, replace(tall, resize=Resize(R(CPU=1, memory=7)))
    given = ClusterState(NOW, ClusterConfig("c", types), demands=(want(2, GPU=1), want(CPU=0.5), want(CPU=0.5, memory=5)))
    for steps in (0, 60):
        found = plan(given, steps)
        assert (found.infeasible, sorted(each.node_type for each in found.launches)) == ((), ["tall", "wide", "wide"])
