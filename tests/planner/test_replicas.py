"""Types whose replicas have several hosts: limits, the mix, updates, consolidation and what is kept ready, all in whole replicas."""

from collections import Counter
from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, Strategy
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType, UpdatePolicy
from rayscaler.model.plan import Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, ClusterState
from rayscaler.planner.plan import plan
from tests.properties.checker import check

pytestmark = pytest.mark.tier("unit")

R = Resources.of
NOW = 1000.0
SLICE = NodeType("slice", R(CPU=4, TPU=4), hosts_per_replica=4)


def want(count: int = 1, **amounts: float) -> Demand:
    return Demand(Bundle(R(**amounts)), count)


def replica(name: str, made_as: NodeType = SLICE, **fields) -> tuple[Instance, ...]:
    """Return the hosts of a whole replica, all of them joined."""
    given = {"ray_node_id": "", **fields}
    return tuple(
        Instance(
            f"{name}{host}", "slice", InstanceStatus.RUNNING, 0.0, **{**given, "ray_node_id": f"n-{name}{host}"},
            made_as=made_as, replica=name, host=host,
        )
        for host in range(made_as.hosts_per_replica)
    )  # fmt: skip


def rows(instances: tuple[Instance, ...], *, idle_s: float = 9000.0, busy: str = "") -> tuple[RayNode, ...]:
    return tuple(
        RayNode(each.ray_node_id, each.instance_id, "slice", NodeStatus.RUNNING, SLICE.resources, Resources())
        if each.instance_id == busy
        else RayNode(each.ray_node_id, each.instance_id, "slice", NodeStatus.IDLE, SLICE.resources, SLICE.resources, idle_s=idle_s)
        for each in instances
    )


def state(*types: NodeType, config: dict | None = None, **more) -> ClusterState:
    return ClusterState(now=NOW, config=ClusterConfig("c", types or (SLICE,), **(config or {})), **more)


def good(given: ClusterState, steps: int = 0) -> Plan:
    found = plan(given, steps)
    assert check(given, found) == []
    return found


def launched(found: Plan) -> Counter[str]:
    return Counter(each.node_type for each in found.launches)


@pytest.mark.parametrize(
    ("more", "count"),
    [
        pytest.param({"demands": (want(1, TPU=1),)}, 4, id="one task is a replica"),
        pytest.param({"demands": (want(5, TPU=4),)}, 8, id="five nodes are two replicas"),
        pytest.param({"gangs": (Gang("g", Strategy.STRICT_SPREAD, (want(6, TPU=1),)),)}, 8, id="a gang of six nodes is two replicas"),
        pytest.param({"gangs": (Gang("g", Strategy.STRICT_PACK, (want(1, TPU=4),)),)}, 4, id="a gang on one node is one replica"),
        pytest.param({"constraint": Constraint((want(6, TPU=4),))}, 8, id="a floor of six nodes is two replicas"),
        pytest.param({"held": (("slice", 3),)}, 4, id="three that are held are one replica"),
    ],
)
def test_whatever_is_needed_is_launched_in_whole_replicas(more, count):
    assert launched(good(state(**more))) == {"slice": count}


def test_what_only_makes_replicas_whole_says_so_and_serves_what_comes_after_it():
    given = state(
        demands=(want(2, TPU=1),), gangs=(Gang("g", Strategy.STRICT_SPREAD, (want(2, TPU=4),)),), constraint=Constraint((want(1, TPU=4),))
    )
    found = good(given)
    assert [each.reason for each in found.launches] == [Reason.CONSTRAINT, Reason.GANG, Reason.DEMAND, Reason.REPLICA]
    assert found.launches[3].detail == "slice for the rest of a replica of 4 hosts"


def test_a_spend_limit_pays_for_whole_replicas_only():
    found = good(state(replace(SLICE, cost=1.0), config={"spend_limit": 7.5}, demands=(want(8, TPU=4),)))
    assert launched(found) == {"slice": 4}
    (refused,) = found.infeasible
    assert refused.reason is Reason.SPEND_LIMIT
    assert "the cluster costs 4 of at most 7.5 per hour, and slice costs 1, and a replica of slice has 4 hosts" in refused.detail


def test_a_replica_may_be_begun_where_speed_or_back_off_allow_a_node():
    wanted = (want(40, TPU=4),)
    assert launched(good(state(config={"upscaling_speed": 1.0}, demands=wanted))) == {"slice": 8}  # five nodes may be on their way
    tried = Backoff("slice", 1, NOW - 1, "no quota")
    assert launched(good(state(backoffs=(tried,), demands=wanted))) == {"slice": 4}  # one node may be tried


def test_the_mix_leaves_replicas_of_several_hosts_alone():
    dear, cheap = NodeType("dear", R(CPU=8), cost=5.0), NodeType("cheap", R(CPU=3), cost=1.0)
    slices = replace(SLICE, cost=1.0, priority=-1)
    found = good(state(dear, cheap, slices, demands=(want(9, CPU=1), want(5, CPU=2))), 200)
    assert "slice" not in launched(found)
    only = good(state(slices, demands=(want(5, TPU=4),)), 200)
    assert launched(only) == {"slice": 8}
    assert only.mix is not None
    assert only.mix.cost == 8.0  # all that is launched, whether it is needed or not


@pytest.mark.parametrize("policy", [UpdatePolicy.ROLLING, UpdatePolicy.RECREATE])
@pytest.mark.parametrize("busy", ["", "a2"])
def test_of_an_outdated_replica_all_hosts_are_replaced_at_once_or_none(policy, busy):
    old = replace(SLICE, env=(("A", "1"),))
    instances = (*replica("a", old), *replica("b"))
    given = state(replace(SLICE, min_workers=8, update_policy=policy), instances=instances, nodes=rows(instances, busy=busy))
    found = good(given)
    stays = policy is UpdatePolicy.ROLLING and busy
    assert {each.instance_id: each.reason for each in found.drains} == (
        {} if stays else dict.fromkeys(["a0", "a1", "a2", "a3"], Reason.OUTDATED)
    )


def test_a_replica_is_not_consolidated():
    instances = (*replica("a"), *replica("b"))
    nodes = rows(instances, idle_s=20.0, busy="b1")
    busiest = tuple((each.ray_node_id, R(CPU=1) if each.instance_id == "b1" else Resources()) for each in nodes)
    single = Instance("s", "single", InstanceStatus.RUNNING, 0.0, ray_node_id="n-s")
    row = RayNode("n-s", "s", "single", NodeStatus.IDLE, R(CPU=4), R(CPU=4), idle_s=20.0)
    given = state(
        SLICE, NodeType("single", R(CPU=4)), config={"consolidation": True}, instances=(*instances, single), nodes=(*nodes, row),
        busiest=(*busiest, ("n-s", Resources())),
    )  # fmt: skip
    assert {each.instance_id: each.reason for each in good(given).drains} == {"s": Reason.CONSOLIDATED}


def test_headroom_is_of_replicas_with_nothing_on_any_host():
    instances = replica("a")
    slices = replace(SLICE, headroom=4, idle_timeout_s=10.0)
    ready = state(slices, instances=instances, nodes=rows(instances))
    assert good(ready).is_empty
    taken = good(state(slices, instances=instances, nodes=rows(instances, busy="a2")))
    assert [each.reason for each in taken.launches] == [Reason.HEADROOM] * 4
    assert taken.drains == ()


def test_a_stuck_host_makes_way_with_its_replica_and_not_where_something_is_put_on_a_mate():
    flying = {"stuck_since": NOW - 1, "detail": "no machine"}
    hosts = tuple(
        Instance(f"a{host}", "slice", InstanceStatus.ALLOCATED, 0.0, replica="a", host=host, **(flying if host == 1 else {}))
        for host in range(4)
    )
    single = NodeType("single", R(CPU=4, GPU=1))
    given = state(SLICE, single, config={"max_workers": 4}, instances=hosts, demands=(want(1, GPU=1),))
    assert {each.instance_id for each in good(given).terminations} == {"a0", "a1", "a2", "a3"}
    both = replace(given, demands=(want(1, GPU=1), want(1, TPU=4)))
    assert good(both).terminations == ()


def test_a_type_that_gets_other_numbers_of_hosts_is_outdated_and_its_old_replicas_are_whole_by_theirs():
    instances = replica("a")
    nodes = rows(instances, busy="a2")
    given = state(replace(SLICE, hosts_per_replica=2), instances=instances, nodes=nodes)
    assert good(given).is_empty
    idle = replace(given, nodes=rows(instances))
    assert {each.reason for each in good(idle).drains} == {Reason.OUTDATED}
    assert len(good(idle).drains) == 4
