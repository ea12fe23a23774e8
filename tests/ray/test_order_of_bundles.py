"""What plans for placement groups rest on, asked of real raylets: in which order they give out parts of devices, and what is reported of that."""

import pytest

from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
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
