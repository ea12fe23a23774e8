"""Placement groups with a topology_strategy: nodes are launched of types of one zone, Ray makes the group there, and says where what it lost must come back."""

import pytest

from rayscaler.local.head import HeadOptions
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.processes import end
from tests.ray.stack import running_stack
from tests.ray_tier import QUICK_LOSS, running_head

pytestmark = pytest.mark.tier("ray")

ZONES = """
from ray.util.placement_group import placement_group, placement_group_table

racks = placement_group([{"CPU": 1}], topology_strategy={"rack": "STRICT_PACK"})
group = placement_group([{"CPU": 1}] * 2, topology_strategy={"zone": "STRICT_PACK", "ray.io/node-id": "STRICT_SPREAD"})
ray.get(group.ready())
print(*placement_group_table(group)["bundles_to_node_id"].values())
while True:
    time.sleep(1)
"""


async def test_a_group_within_one_zone_is_launched_for_there_and_one_within_no_rack_is_refused():
    """Zone a is cheaper and may have one node only; the node type without a zone is the cheapest, and no use."""
    types = [
        {"name": name, "resources": {"CPU": 1}, "labels": labels, "cost": cost, "maxWorkers": most}
        for name, labels, cost, most in (("in-a", {"zone": "a"}, 1, 1), ("in-b", {"zone": "b"}, 2, 2), ("nowhere", {}, 0.1, 9))
    ]
    async with running_stack({"idleTimeout": "60s", "nodeTypes": types}) as stack:
        driver = await stack.start_driver(ZONES)
        nodes = (await stack.line(driver)).split()
        await stack.until(lambda: stack.nodes.keys() >= set(nodes), "the nodes of the group are seen")
        assert [stack.nodes[each].node_type for each in nodes] == ["in-b", "in-b"]
        status = await stack.until_status(  # the group that was made may be told as waiting for a report longer
            lambda said: (
                [(each["reason"], "within one rack" in each["detail"]) for each in said["pending"]] == [("NO_TYPE_HAS_LABELS", True)]
            ),
            "the group within one rack, and nothing else, is refused",
        )
        print(status["pending"][0]["detail"])
        assert {each.node_type for each in stack.alive()} == {"in-b"}


LOST = """
import time
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterResourceStateReply
from ray.util.placement_group import placement_group

gcs = GcsClient(address=ray.get_runtime_context().gcs_address)
group = placement_group([{"CPU": 1}] * 2, topology_strategy={"zone": "STRICT_PACK", "ray.io/node-id": "STRICT_SPREAD"})
print("made", group.wait(30), flush=True)
while True:
    state = GetClusterResourceStateReply.FromString(gcs.get_cluster_resource_state()).cluster_resource_state
    waiting = [each for each in state.pending_gang_resource_requests if each.details.endswith("RESCHEDULING") and each.bundle_selectors]
    if waiting:
        break
    time.sleep(0.1)
(selector,) = waiting[0].bundle_selectors
(where,) = selector.locality_requirement.label_selector.label_constraints
constraint = selector.locality_requirement.locality_constraint
print(len(selector.resource_requests), constraint.label_name, constraint.placement_strategy, where.label_key, where.operator, *where.label_values, flush=True)
"""


async def test_of_a_group_that_lost_a_node_ray_says_within_which_zone_the_rest_lies():
    async with running_head(HeadOptions(env=QUICK_LOSS)) as head:
        workers = [
            await head.add_worker(name, node_type=NodeType(name, Resources.of(CPU=cpus), (("zone", zone),)))
            for name, cpus, zone in (("a", 8, "a"), ("b1", 1, "b"), ("b2", 1, "b"))
        ]
        driver = await head.start_driver(LOST)
        assert await driver.line() == "made True"
        await end(head.processes, workers[1].identity, 0.0)
        assert await driver.output() == "1 zone 2 zone 1 b"
