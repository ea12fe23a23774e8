"""What plans for placement groups rest on, asked of real raylets: in which order they give out parts of devices, and what is reported of that."""

import json

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.ray_tier import RayHead

pytestmark = pytest.mark.tier("ray")

DRIVER = """
import time
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply
from ray.util.placement_group import placement_group, remove_placement_group

gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
for parts in (7, 7, 2, 2), (7, 2, 7, 2), (2, 7, 2, 7), (2, 7, 7, 2), (7, 2, 2, 7), (2, 2, 7, 7):
    group = placement_group([{"GPU": part / 10} for part in parts], strategy="STRICT_PACK")
    made = group.wait(2.0 if parts == (2, 2, 7, 7) else 60.0)
    state = GetClusterResourceStateReply.FromString(gcs.get_cluster_resource_state()).cluster_resource_state
    waits = [[round(10 * part.resources_bundle["GPU"]) for part in each.bundle_selectors[0].resource_requests] for each in state.pending_gang_resource_requests]
    print("".join(map(str, parts)), "made" if made else f"waits as {waits} of {len(state.pending_gang_resource_requests[0].bundle_selectors)}", flush=True)
    remove_placement_group(group)
    while ray.available_resources().get("GPU") != 2:
        time.sleep(0.02)  # each starts on a node that is free again
"""


async def test_parts_of_devices_are_given_out_in_the_order_of_the_bundles_which_is_that_of_the_report(ray_head: RayHead):
    await ray_head.add_worker("two", node_type=NodeType("two", Resources.of(CPU=4, GPU=2)))
    told = (await ray_head.driver(DRIVER)).splitlines()
    assert told == ["7722 made", "7272 made", "2727 made", "2772 made", "7227 made", "2277 waits as [[2, 2, 7, 7]] of 1"]


PACKED = """
import time
from ray.util.placement_group import placement_group, remove_placement_group

for parts in (2, 3):
    group = placement_group([{"GPU": 0.6}] * parts, strategy="PACK")
    print(parts, "made" if group.wait(60.0 if parts == 2 else 2.0) else "not made", flush=True)
    remove_placement_group(group)
    while ray.available_resources().get("GPU") != 4:
        time.sleep(0.02)
"""


async def test_a_packed_group_is_sent_by_sums_so_that_devices_hold_it_on_two_nodes_and_it_is_not_made(ray_head: RayHead):
    """So nothing is launched for one: PACKED_BY_SUM."""
    for name in "ab":
        await ray_head.add_worker(name, node_type=NodeType("two", Resources.of(CPU=4, GPU=2)))
    assert (await ray_head.driver(PACKED)).splitlines() == ["2 made", "3 not made"]


NODES = {"two": {"CPU": 8, "GPU": 2}, "twin": {"CPU": 8, "GPU": 2}, "three": {"CPU": 4, "GPU": 3}}
GROUPS = [
    ("PACK", [{"GPU": 0.6}] * 3),
    ("PACK", [{"GPU": 0.6}] * 5),
    ("PACK", [{"GPU": 0.6, "CPU": 1}] * 3),
    ("PACK", [{"GPU": 0.7}] * 3 + [{"GPU": 0.25}]),
    ("STRICT_PACK", [{"GPU": 0.6, "CPU": 1}] * 3),
    ("STRICT_PACK", [{"GPU": 0.6, "CPU": 0.25}] * 3),
]
"""Which of them are made, and where, the plan says: the larger node is liked best unless CPUs tell otherwise."""
SENT = """
import json, sys, time
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

names = {each["NodeID"]: next((key[3:] for key in each["Resources"] if key.startswith("is_")), "head") for each in ray.nodes()}
for strategy, bundles, is_made in json.loads(GROUPS):
    group = placement_group(bundles, strategy=strategy)
    made = group.wait(60.0 if is_made else 1.5)  # Ray tries again within a second
    nodes = [names[each] for each in placement_group_table(group)["bundles_to_node_id"].values()] if made else []
    print(json.dumps({name: nodes.count(name) for name in sorted(set(nodes))}), flush=True)
    remove_placement_group(group)
    while any(ray.available_resources().get(kind) != amount for kind, amount in ray.cluster_resources().items() if kind in ("CPU", "GPU")):
        time.sleep(0.02)
"""


async def test_dk_11_packed_groups_are_made_where_the_plan_says_and_never_where_it_says_so(ray_head: RayHead):
    for name, brings in NODES.items():
        await ray_head.add_worker(name, node_type=NodeType(name, Resources.of(**brings, **{f"is_{name}": 1})))
    said = [planned(Strategy(strategy), bundles) for strategy, bundles in GROUPS]
    groups = [(*group, bool(each)) for group, each in zip(GROUPS, said, strict=True)]
    made = map(json.loads, (await ray_head.driver(f"GROUPS = {json.dumps(groups)!r}\n{SENT}")).splitlines())
    assert list(made) == said
    assert [sum(each.values()) for each in said] == [3, 0, 0, 4, 0, 3]


def planned(strategy: Strategy, bundles: list[dict[str, float]]) -> dict[str, int]:
    """Return how many bundles lie where on nodes that are there; none where the plan says that Ray packs by the sum."""
    rows = tuple(RayNode(name, "", "", NodeStatus.RUNNING, Resources.of(**each), Resources.of(**each)) for name, each in NODES.items())
    gang = Gang("g", strategy, tuple(Demand(Bundle(Resources.of(**each)), 1) for each in bundles))
    found = plan(ClusterState(0.0, ClusterConfig("c", ()), nodes=rows, gangs=(gang,)))
    where = {each.node.removeprefix("ray:"): 0 for each in found.placements}
    for each in found.placements:
        where[each.node.removeprefix("ray:")] += each.count
    return dict(sorted(where.items()))
