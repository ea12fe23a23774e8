"""Complaint J4 on real Ray: one worker of 1 CPU grows for a task of 3, and no other is launched."""

import pytest

from tests.ray.stack import running_stack

pytestmark = pytest.mark.tier("ray")

GROWN = [(4.0, float(1 << 30))]
"""CPUs and memory of each node of the type in the end."""
DRIVER = """
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

def until(name):
    while not os.path.exists(f"{BASE}/{name}"):
        time.sleep(0.1)

def totals():
    reply = GetClusterStatusReply.FromString(GcsClient(address=ray.get_runtime_context().gcs_address).get_cluster_status())
    rows = [row for row in reply.cluster_resource_state.node_states if row.ray_node_type_name == "small"]
    return sorted((row.total_resources.get("CPU", 0.0), row.total_resources["memory"]) for row in rows)

@ray.remote(max_retries=0)
def at(name, index):
    note(name, index)
    until("done")

busy = at.options(num_cpus=1).remote("small", 0)
print("asked")
until("more")
large = at.options(num_cpus=3, memory=1 << 30).remote("large", 0)
until("runs")
until_s = time.monotonic() + 30.0
while totals() != GROWN and time.monotonic() < until_s:  # the raylet tells the GCS a moment later
    time.sleep(0.1)
print(totals())
ray.get([busy, large])
"""


async def test_j4_a_worker_grows_for_a_task_while_it_works_and_ray_itself_says_how_large_it_is():
    brings, most = {"CPU": 1, "memory": "256Mi"}, {"CPU": 4, "memory": "2Gi"}
    node_type = {"name": "small", "minWorkers": 1, "maxWorkers": 2, "resources": brings, "resize": {"maxResources": most}}
    async with running_stack({"idleTimeout": "60s", "nodeTypes": [node_type]}) as stack:
        driver = await stack.start_driver(f"BASE, GROWN = {str(stack.base)!r}, {GROWN}\n{DRIVER}")
        assert await stack.line(driver) == "asked"
        await stack.until(lambda: stack.ledger.counts("small")[0] == 1, "the first task runs")
        (stack.base / "more").touch()
        await stack.until(lambda: stack.ledger.counts("large")[0] == 1, "the large task runs beside it")
        (stack.base / "runs").touch()
        assert await stack.line(driver) == str(GROWN), stack.told()
        (node,) = stack.alive()
        assert stack.ledger.nodes("large") == stack.ledger.nodes("small") == {node.node_id}
        assert len(stack.launched()) == 1, stack.told()
        await stack.until_status(lambda said: [each["kind"] for each in said["actions"]][-2:] == ["GROWING", "GROWN"], "what was done")
        (stack.base / "done").touch()
        await driver.output()
