"""Tables for the planner: each id is the sentence it proves, with the row of the feature list."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, LabelCondition, LabelSelector, Operator, Reserve, Strategy
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType, UpdatePolicy
from rayscaler.model.plan import Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState, Expectation
from rayscaler.planner.plan import plan

pytestmark = pytest.mark.tier("unit")

R = Resources.of
NOW = 1000.0


def want(count: int = 1, **amounts: float) -> Demand:
    return Demand(Bundle(R(**amounts)), count)


def state(*types: NodeType, max_workers: int = -1, upscaling_speed: float | None = None, **more) -> ClusterState:
    return ClusterState(now=NOW, config=ClusterConfig("c", types, max_workers=max_workers, upscaling_speed=upscaling_speed), **more)


def launched(found: Plan) -> dict[str, int]:
    names = [each.node_type for each in found.launches]
    return {name: names.count(name) for name in sorted(set(names))}


def running(name: str, node_type: str = "t") -> Instance:
    return Instance(name, node_type, InstanceStatus.RUNNING, 0.0, ray_node_id=f"n-{name}")


def requested(name: str, node_type: str = "t") -> Instance:
    return Instance(name, node_type, InstanceStatus.REQUESTED, 0.0, requested_at=1.0)


def node(name: str, total: Resources, free: Resources | None = None, *, idle_s: float | None = None, **more) -> RayNode:
    status = NodeStatus.RUNNING if idle_s is None else NodeStatus.IDLE
    available = total if free is None else free
    return RayNode(f"n-{name}", name, "t", status, total, available, idle_s=idle_s or 0.0, **more)


SMALL, LARGE = NodeType("small", R(CPU=4)), NodeType("large", R(CPU=16))


@pytest.mark.parametrize(
    ("types", "demands", "expected"),
    [
        pytest.param((SMALL,), (want(1_000_000, CPU=0.01),), {"small": 2500}, id="DK-2 a million tasks are planned by count"),
        pytest.param((SMALL,), (want(4, CPU=2.5),), {"small": 4}, id="DK-4 fractions add up in integers, two and a half twice is too much"),
        pytest.param(
            (NodeType("t", R(x=0.3)),), (want(3, x=0.1),), {"t": 1}, id="DK-4 three tenths are three times one tenth, unlike in floats"
        ),
        pytest.param((NodeType("t", R(CPU=1, fpga=0.5)),), (want(2, fpga=0.5),), {"t": 2}, id="DK-5 custom resources may be fractional"),
        pytest.param(
            (NodeType("t", R(CPU=8, memory=10)),), (want(2, memory=6),), {"t": 2}, id="DK-6 memory is counted in bytes and not rounded"
        ),
        pytest.param((SMALL, LARGE), (want(3, CPU=1),), {"small": 1}, id="SP-11 the node that is used best is taken"),
        pytest.param((SMALL, LARGE), (want(20, CPU=1),), {"large": 1, "small": 1}, id="SP-11 large first, the rest small"),
        pytest.param(
            (replace(SMALL, priority=1), LARGE), (want(32, CPU=1),), {"small": 8}, id="SP-12 a higher priority goes before a better fit"
        ),
        pytest.param(
            (replace(SMALL, cost=1.0), replace(LARGE, cost=5.0)), (want(32, CPU=1),), {"small": 8}, id="SP-11 the cheaper way of equal use"
        ),
        pytest.param(
            (SMALL, replace(LARGE, cost=5.0)), (want(32, CPU=1),), {"large": 2}, id="SP-11 a known cost goes before an unknown one"
        ),
        pytest.param(
            (NodeType("cpu", R(CPU=4)), NodeType("gpu", R(CPU=4, GPU=1))),
            (want(1, CPU=1, GPU=1), want(3, CPU=1)),
            {"gpu": 1},
            id="J1 CPU tasks do use a GPU node that is launched anyway",
        ),
        pytest.param((SMALL,), (want(2, CPU=0.0001),), {"small": 1}, id="DK-4 the smallest amount counts"),
        pytest.param((SMALL,), (want(5),), {"small": 1}, id="DK-9 actors that ask for nothing need one node and no more"),
        pytest.param(
            (SMALL,), (want(2, CPU=4), want(2, CPU=4)), {"small": 4}, id="DK-1 the same shape listed twice is added within a report"
        ),
        pytest.param(
            (SMALL,),
            (want(9, CPU_group_1234=1, bundle_group_1234=0.001),),
            {},
            id="DK-18 tasks inside a placement group are no demand of their own",
        ),
    ],
)
def test_demand_becomes_launches(types, demands, expected):
    found = plan(state(*types, demands=demands))
    assert launched(found) == expected
    assert found.infeasible == ()


@pytest.mark.parametrize(
    ("speed", "alive", "flying", "expected"),
    [
        pytest.param(None, 0, 0, 100, id="SP-10 unlimited unless set, as Ray's modes Default and Aggressive"),
        pytest.param(1.0, 0, 0, 5, id="five from nothing"),
        pytest.param(1.0, 0, 3, 2, id="in flight is subtracted"),
        pytest.param(1.0, 20, 0, 20, id="SP-10 speed times running, as Ray's mode Conservative"),
        pytest.param(0.5, 21, 0, 10, id="rounded down"),
        pytest.param(0.1, 20, 0, 5, id="never below five"),
        pytest.param(1.0, 0, 9, 0, id="none while too many fly"),
    ],
)
def test_sp_1_the_upscaling_speed_bounds_what_is_in_flight_of_a_type(speed, alive, flying, expected):
    instances = (*[running(f"r{i}") for i in range(alive)], *[requested(f"f{i}") for i in range(flying)])
    nodes = tuple(node(f"r{i}", R(CPU=1), R()) for i in range(alive))
    t = NodeType("t", R(CPU=1))
    found = plan(state(t, instances=instances, nodes=nodes, demands=(want(100 + flying, CPU=1),), upscaling_speed=speed))
    assert len(found.launches) == expected
    waiting = {each.reason: each.count for each in found.infeasible}
    assert waiting == ({Reason.UPSCALING_SPEED: 100 - expected} if expected < 100 else {})


def test_sp_1_minimums_constraints_and_gangs_bypass_the_speed():
    t = NodeType("t", R(CPU=1), min_workers=7)
    gangs = (Gang("g", Strategy.STRICT_SPREAD, (want(20, CPU=1),)),)
    found = plan(state(t, gangs=gangs, constraint=Constraint((want(14, CPU=1),)), upscaling_speed=1.0))
    reasons = [each.reason for each in found.launches]
    assert [reasons.count(each) for each in (Reason.MIN_WORKERS, Reason.CONSTRAINT, Reason.GANG)] == [7, 7, 6]


def test_sp_1_the_speed_makes_demand_wait_and_sends_it_to_no_worse_type():
    types = (NodeType("cpu", R(CPU=1)), NodeType("gpu", R(CPU=1, GPU=1)))
    assert launched(plan(state(*types, demands=(want(9, CPU=1),), upscaling_speed=1.0))) == {"cpu": 5}


@pytest.mark.parametrize(
    ("gang", "expected", "nodes"),
    [
        pytest.param(Gang("g", Strategy.PACK, (want(4, CPU=1),)), {"small": 1}, 1, id="DK-10 PACK takes few nodes"),
        pytest.param(
            Gang("g", Strategy.PACK, (want(6, CPU=2),)), {"large": 1}, 1, id="DK-10 PACK takes one large node rather than three small"
        ),
        pytest.param(Gang("g", Strategy.SPREAD, (want(3, CPU=1),)), {"small": 3}, 3, id="DK-10 SPREAD takes a node each"),
        pytest.param(
            Gang("g", Strategy.STRICT_PACK, (want(2, CPU=1), want(1, CPU=2))), {"small": 1}, 1, id="DK-11 STRICT_PACK is one node"
        ),
        pytest.param(
            Gang("g", Strategy.STRICT_PACK, (want(3, CPU=2),)), {"large": 1}, 1, id="DK-11 STRICT_PACK finds the node that is big enough"
        ),
        pytest.param(
            Gang("g", Strategy.STRICT_SPREAD, (want(2, CPU=1), want(1, CPU=9))), {"large": 1, "small": 2}, 3, id="DK-12 a node each"
        ),
        pytest.param(Gang("g", Strategy.PACK, (want(0, CPU=1),)), {}, 0, id="DK-17 an empty gang is nothing"),
        pytest.param(Gang("g", Strategy.PACK, ()), {}, 0, id="DK-17 a gang without bundles is nothing"),
    ],
)
def test_gangs_lie_as_their_strategy_says(gang, expected, nodes):
    found = plan(state(SMALL, LARGE, gangs=(gang,)))
    assert launched(found) == expected
    assert len({each.node for each in found.placements}) == nodes
    assert sum(each.count for each in found.placements) == gang.size
    assert {each.gangs for each in found.launches} <= {("g",)}


def test_dk_10_spread_shares_existing_nodes_rather_than_launch_and_shares_evenly():
    instances, nodes = (running("a"), running("b")), (node("a", R(CPU=4)), node("b", R(CPU=4)))
    t = NodeType("t", R(CPU=4))
    found = plan(state(t, instances=instances, nodes=nodes, gangs=(Gang("g", Strategy.SPREAD, (want(4, CPU=1),)),)))
    assert found.launches == ()
    assert [sum(each.count for each in found.placements if each.node == name) for name in "ab"] == [2, 2]


def test_dk_10_spread_shares_new_nodes_where_limits_allow_no_more():
    found = plan(state(SMALL, max_workers=2, gangs=(Gang("g", Strategy.SPREAD, (want(5, CPU=1),)),)))
    assert launched(found) == {"small": 2}
    assert found.infeasible == ()


def test_dk_10_pack_chooses_the_joined_nodes_that_take_most():
    free = {"a": 1, "b": 1, "c": 3}
    instances = tuple(running(name) for name in free)
    nodes = tuple(node(name, R(CPU=4), R(CPU=cpus)) for name, cpus in free.items())
    found = plan(state(NodeType("t", R(CPU=4)), instances=instances, nodes=nodes, gangs=(Gang("g", Strategy.PACK, (want(4, CPU=1),)),)))
    assert {each.node: each.count for each in found.placements} == {"c": 3, "a": 1}


def test_dk_13_bundles_of_a_gang_go_where_their_labels_hold():
    def at(zone: str) -> Demand:
        return Demand(Bundle(R(CPU=1), (LabelSelector((LabelCondition("zone", Operator.IN, (zone,)),)),)), 1)

    types = (NodeType("east", R(CPU=4), (("zone", "e"),)), NodeType("west", R(CPU=4), (("zone", "w"),)))
    assert launched(plan(state(*types, gangs=(Gang("g", Strategy.PACK, (at("e"), at("w"))),)))) == {"east": 1, "west": 1}
    refused = plan(state(*types, gangs=(Gang("g", Strategy.STRICT_PACK, (at("e"), at("w"))),)))
    assert [(each.reason, each.count) for each in refused.infeasible] == [(Reason.NO_TYPE_HAS_LABELS, 1)]
    assert refused.launches == ()


def test_dk_8_every_node_has_one_of_each_implicit_resource():
    name = "node:__internal_implicit_resource_app"
    demand = Demand(Bundle(Resources({"CPU": UNIT, name: UNIT // 2})), 4)  # Serve's max_replicas_per_node = 2
    whole = R(CPU=8)
    found = plan(state(NodeType("t", whole), instances=(running("a"),), nodes=(node("a", whole),), demands=(demand,)))
    assert launched(found) == {"t": 1}
    used_up = node("a", Resources({**whole, name: UNIT}), whole)
    assert launched(plan(state(NodeType("t", whole), instances=(running("a"),), nodes=(used_up,), demands=(demand,)))) == {"t": 2}


def test_dk_20_an_empty_selector_is_no_wish():
    demand = Demand(Bundle(R(CPU=1), (LabelSelector(()),)), 4)
    assert launched(plan(state(SMALL, demands=(demand,)))) == {"small": 1}


def test_dk_26_the_same_report_twice_plans_the_same():
    given = state(SMALL, demands=(want(9, CPU=1),))
    assert plan(given) == plan(given)


def test_sp_18_the_head_counts_against_no_maximum():
    head = RayNode("h", "", "", NodeStatus.RUNNING, R(CPU=0), R(CPU=0), is_head=True)
    assert launched(plan(state(SMALL, max_workers=1, nodes=(head,), demands=(want(1, CPU=4),)))) == {"small": 1}


def test_lf_10_a_refused_drain_is_not_asked_again_before_its_time():
    t = NodeType("t", R(CPU=4))
    given = state(t, instances=(running("a"),), nodes=(node("a", R(CPU=4), idle_s=999.0),))
    assert [each.instance_id for each in plan(given).drains] == ["a"]
    waiting = replace(given, instances=(replace(running("a"), drain_not_before=NOW + 1),))
    assert plan(waiting).is_empty


def test_a_node_of_the_users_own_is_room_and_is_never_drained():
    own = RayNode("x", "", "", NodeStatus.IDLE, R(CPU=4), R(CPU=4), idle_s=1e6)
    found = plan(state(SMALL, nodes=(own,), demands=(want(4, CPU=1),)))
    assert found.is_empty
    assert [each.node for each in found.placements] == ["ray:x"]
    assert plan(state(SMALL, nodes=(own,))).is_empty


def test_sp_14_what_a_launch_is_for_is_put_on_it_again_though_a_running_node_has_room_now():
    reserve = Reserve(Bundle(R(CPU=4)), 1)
    given = state(
        NodeType("t", R(CPU=4)),
        instances=(running("a"), requested("f")),
        nodes=(node("a", R(CPU=4), idle_s=10.0),),
        demands=(want(1, CPU=4),),
        expectations=(Expectation("f", "t", NOW + 60, (reserve,)),),
    )
    assert [each.node for each in plan(given).placements] == ["f"]
    gone = plan(replace(given, demands=()))
    assert (gone.placements, gone.unneeded) == ((), ("f",))


def test_an_expectation_of_a_joined_node_ends_at_its_time():
    reserve = Reserve(Bundle(R(CPU=4)), 1)
    given = state(
        NodeType("t", R(CPU=4)),
        instances=(running("a"), running("f")),
        nodes=(node("a", R(CPU=4), idle_s=1.0), node("f", R(CPU=4), idle_s=2.0)),
        demands=(want(1, CPU=4),),
        expectations=(Expectation("f", "t", NOW + 1, (reserve,)),),
    )
    assert [each.node for each in plan(given).placements] == ["f"]
    assert [each.node for each in plan(replace(given, now=NOW + 1)).placements] == ["a"]


def test_dk_12_a_strict_spread_is_found_where_first_fit_would_miss_it():
    # The bundle of two kinds comes first, and the busier node a before b; but only a can hold the other bundle.
    tagged, large = want(1, CPU=1, tag=1), want(1, CPU=3)
    nodes = (node("a", R(CPU=6, tag=1), R(CPU=3, tag=1)), node("b", R(CPU=3, tag=1), R(CPU=2, tag=1)))
    t = NodeType("t", R(CPU=6, tag=1), max_workers=2)
    gang = Gang("g", Strategy.STRICT_SPREAD, (large, tagged))
    found = plan(state(t, instances=(running("a"), running("b")), nodes=nodes, gangs=(gang,)))
    assert {each.node: each.bundle for each in found.placements} == {"a": large.bundle, "b": tagged.bundle}


@pytest.mark.parametrize(
    ("launch_reason", "given", "sentence"),
    [
        (Reason.MIN_WORKERS, {}, "t has a minimum of 1 worker"),
        (Reason.CONSTRAINT, {"constraint": Constraint((want(2, CPU=4),))}, "t for request_resources: {CPU: 4} x 1"),
        (Reason.GANG, {"gangs": (Gang("g", Strategy.PACK, (want(2, CPU=4),)),)}, "t for gang g: {CPU: 4} x 1"),
        (Reason.DEMAND, {"demands": (want(2, CPU=4),)}, "t for {CPU: 4} x 1"),
    ],
)
def test_every_launch_says_what_it_is_for(launch_reason, given, sentence):
    found = plan(state(NodeType("t", R(CPU=4), min_workers=1), **given))
    assert [each.detail for each in found.launches if each.reason is launch_reason] == [sentence]


def test_dk_16_a_promise_is_void_on_a_node_that_carries_its_strict_spread_already():
    given = state(
        NodeType("t", R(CPU=4)),
        instances=(running("a"),),
        nodes=(node("a", R(CPU=4), R(CPU=2), dynamic_labels=("_PG_g",)),),
        gangs=(Gang("g", Strategy.STRICT_SPREAD, (want(1, CPU=1),), is_rescheduling=True),),
        expectations=(Expectation("a", "t", NOW + 5, (Reserve(Bundle(R(CPU=1)), 1, "g"),), ("g",)),),
    )
    found = plan(given)
    assert [each.node for each in found.placements] == ["new:0"]


def test_d1_while_work_lands_a_launch_whose_demand_is_still_shown_is_not_called_off():
    # Seen on a real head: the one task left was taken for one that had just landed on a, for 10 s, and its own node was ended.
    given = state(
        NodeType("t", R(CPU=1)),
        instances=(running("a"), requested("b")),
        nodes=(node("a", R(CPU=1), R(CPU=1), idle_s=0.0),),  # the room it had 3 s ago
        demands=(want(1, CPU=1),),
        expectations=tuple(Expectation(name, "t", NOW + 2, (Reserve(Bundle(R(CPU=1)), 1),)) for name in "ab"),
    )
    assert plan(given).unneeded == ("b",)
    assert plan(replace(given, is_landing=True)).unneeded == ()
    assert plan(replace(given, is_landing=True, demands=())).unneeded == ("b",)


OLD = NodeType("t", R(CPU=4), min_workers=2, env=(("V", "1"),))


@pytest.mark.parametrize(
    ("policy", "drained", "ended", "count"),
    [
        pytest.param(UpdatePolicy.ON_DELETE, {}, set(), 0, id="CD-6 OnDelete leaves outdated nodes and launches alone"),
        pytest.param(UpdatePolicy.ROLLING, {"idle": False}, {"flying"}, 0, id="CD-6 Rolling takes what is idle and above the minimum"),
        pytest.param(
            UpdatePolicy.RECREATE,
            {"busy": True, "idle": True},
            {"flying"},
            1,
            id="CD-6 Recreate drains all, so that each ends with its work, and launches for the minimum at once",
        ),
    ],
)
def test_an_update_policy_says_what_goes(policy, drained, ended, count):
    new = replace(OLD, env=(("V", "2"),), update_policy=policy)
    instances = [replace(each, made_as=OLD) for each in (running("busy"), running("idle"), requested("flying"))]
    new_one = replace(running("new"), made_as=new)
    nodes = (node("busy", R(CPU=4), R(CPU=1)), node("idle", R(CPU=4), idle_s=3.0), node("new", R(CPU=4), R(CPU=1)))
    found = plan(state(new, instances=(*instances, new_one), nodes=nodes))
    assert {each.instance_id: each.is_preemption for each in found.drains} == drained
    assert {each.instance_id for each in found.terminations} == ended
    assert {each.reason for each in (*found.drains, *found.terminations)} <= {Reason.OUTDATED}
    assert launched(found) == ({"t": count} if count else {})


@pytest.mark.parametrize(
    ("more", "drained", "count"),
    [
        pytest.param({}, {"a", "b"}, 2, id="CD-6 Recreate drains also what pending work could take, and launches for that work"),
        pytest.param({"max_workers": 3}, {"a", "b"}, 1, id="CD-6 what is drained counts against the maximum until it has ended"),
        pytest.param({"no_end": Reason.SETTLING}, set(), 0, id="CD-6 Recreate waits for clear sight like every other end"),
    ],
)
def test_recreate_takes_all_at_once(more, drained, count):
    new = replace(OLD, min_workers=0, env=(("V", "2"),), update_policy=UpdatePolicy.RECREATE)
    instances = tuple(replace(running(name), made_as=OLD) for name in "ab")
    nodes = tuple(node(name, R(CPU=4), idle_s=1.0) for name in "ab")
    found = plan(state(new, instances=instances, nodes=nodes, demands=(want(2, CPU=4),), **more))
    assert {each.instance_id for each in found.drains} == drained
    assert len(found.launches) == count


def test_cd_6_a_node_whose_drain_was_refused_is_asked_again_only_after_its_time_also_for_recreate():
    new = replace(OLD, min_workers=0, env=(("V", "2"),), update_policy=UpdatePolicy.RECREATE)
    refused = replace(running("a"), made_as=OLD, drain_not_before=NOW + 3)
    known = state(new, instances=(refused,), nodes=(node("a", R(CPU=4), R(CPU=1)),))
    assert plan(known).drains == ()
    assert [each.instance_id for each in plan(replace(known, now=NOW + 3)).drains] == ["a"]


def test_cd_7_a_dead_node_keeps_no_minimum_where_the_maximum_is_lowered():
    """Counted as the one that stays, it took the last living one along, and that was made anew once the dead one had gone."""
    ant, bee = NodeType("ant", R(CPU=1), min_workers=1), NodeType("bee", R(CPU=1))
    ants = [running(name, "ant") for name in "abcd"]
    instances = (replace(ants[0], node_dead_since=NOW - 1), *ants[1:], running("e", "bee"))
    full = [replace(node(each.instance_id, R(CPU=1), R()), node_type=each.node_type) for each in instances]
    nodes = (replace(full[0], status=NodeStatus.DEAD), *full[1:])
    found = plan(state(ant, bee, max_workers=1, instances=instances, nodes=nodes, node_dead_grace_s=5.0))
    drained = {each.instance_id for each in found.drains}
    assert len(drained & {"b", "c", "d"}) == 2
    assert drained - {"b", "c", "d"} == {"e"}


def test_a_launch_that_others_are_about_to_end_ends_at_once_also_while_a_drain_would_have_to_wait():
    leaving = replace(requested("i"), ends_at=NOW + 30, drain_not_before=NOW + 5)
    found = plan(state(NodeType("t", R(CPU=4)), instances=(leaving,)))
    assert [(each.instance_id, each.reason) for each in found.terminations] == [("i", Reason.PREEMPTED)]
