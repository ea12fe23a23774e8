"""The local executor on real Ray: what is planned is what registers, and twelve at once on a small machine come up and go (in a soak; else five)."""

import json

import pytest

from rayscaler.executor.base import LaunchSpec
from rayscaler.local.executor import LocalExecutor, terminate_all
from rayscaler.model.instance import Phase
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.processes import SystemProcesses
from tests.counts import counted
from tests.ray_tier import processes_naming

pytestmark = pytest.mark.tier("ray")

COUNT = counted(gate=5, full=12)
NODES = """
import json, time
deadline = time.monotonic() + 60
while len(nodes := [n for n in ray.nodes() if n["Alive"] and "node:__internal_head__" not in n["Resources"]]) < {count}:
    assert time.monotonic() < deadline, nodes
    time.sleep(0.1)  # in a driver's process, under the deadline above: Ray has no call that waits for nodes
print(json.dumps([[n["Labels"], n["Resources"]] for n in nodes]))
"""


@pytest.fixture
async def executor(tmp_path, ray_head):  # ends before the head, which then looks for what is left
    processes = SystemProcesses()
    executor = LocalExecutor(processes, tmp_path)
    yield executor
    await executor.close()
    await terminate_all(processes, tmp_path, grace_s=0.0)


async def reach(executor, watch, instances, phase):
    """Watch until every instance has come to a phase; return how many were starting at most."""
    left, most = set(instances), 0
    async for seen in watch:
        phases = [each.phase for each in await executor.list("c")]
        most = max(most, phases.count(Phase.STARTING))
        assert phase is Phase.GONE or seen.phase is not Phase.GONE, seen
        if seen.phase is phase:
            left.discard(seen.instance_id)
        if not left:
            return most
    return most


async def test_what_is_planned_is_what_registers(executor, ray_head):
    node_type = NodeType(
        "fancy", Resources.of(CPU=3, GPU=0, memory=500_000_000, accelerator=2, disk=0.57), labels=(("zone", "a"),), is_spot=True
    )
    watch = executor.watch("c")
    await executor.launch(LaunchSpec("c", "i-1", node_type, ray_head.local_address))
    await reach(executor, watch, ["i-1"], Phase.REGISTERING)
    [[labels, resources]] = json.loads(await ray_head.driver(NODES.format(count=1)))
    assert {key: value for key, value in labels.items() if key != "ray.io/node-id"} == node_type.node_labels()
    declared = {key: value for key, value in resources.items() if not key.startswith("node:")}
    assert declared == {"CPU": 3, "memory": 500_000_000, "accelerator": 2, "disk": 0.57, "object_store_memory": 80_000_000}


async def test_many_launched_at_once_join_and_leave_nothing(executor, ray_head, tmp_path):
    instances = [f"i-{index}" for index in range(COUNT)]
    watch = executor.watch("c")
    for instance_id in instances:
        await executor.launch(LaunchSpec("c", instance_id, NodeType("small", Resources.of(CPU=1)), ray_head.local_address))
    assert await reach(executor, watch, instances, Phase.REGISTERING) == 1
    assert len(json.loads(await ray_head.driver(NODES.format(count=COUNT)))) == COUNT
    for instance_id in instances:
        await executor.terminate("c", instance_id)
    await reach(executor, watch, instances, Phase.GONE)
    assert list((tmp_path / "c").iterdir()) == []
    assert not [line for line in processes_naming(ray_head.temp_dir).values() if "--block --address" in line]
