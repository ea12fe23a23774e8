"""SP-8 on real Ray: work that comes and goes on three nodes ends up on one, no node being idle for its timeout and no task lost."""

import itertools

import pytest

from tests.ray.stack import Stack, running_stack

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(300)]

TIMEOUT_S = 6.0
NODES = 3
SPEC = {
    "idleTimeout": f"{TIMEOUT_S:g}s",
    "consolidation": True,
    "nodeTypes": [{"name": "worker", "maxWorkers": NODES, "resources": {"CPU": 2}}],
}
DRIVER = """
@ray.remote(num_cpus=2, max_retries=0)
def wide(index):
    # All hold until the last has its node.
    open(f"{BASE}/wide{index}", "w").close()
    while sum(name.startswith("wide") for name in os.listdir(BASE)) < NODES:
        time.sleep(0.05)
    note("done", index)

@ray.remote(num_cpus=1, max_retries=0)
def short(index):
    note("done", index)
    time.sleep(0.2)

def workers():
    return [node["NodeID"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]

ray.get([wide.remote(index) for index in range(NODES)])
count, since = NODES, time.monotonic()
while len(workers()) > 1 and time.monotonic() - since < 100:
    for name in workers():  # one after the other, so that each is in use and at some moment idle
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(name, soft=True)
        ray.get(short.options(scheduling_strategy=here).remote(count))
        count += 1
print("submitted", count, "left", len(workers()))
"""


def longest_pause(stack: Stack, node_id: str, until: float) -> float:
    """Return for how long a node had no task at most, as the ledger has it, in seconds."""
    times = [at for _, _, where, at in stack.ledger.lines() if where == node_id]
    return max(later - earlier for earlier, later in itertools.pairwise([*times, until]))


async def test_little_work_on_three_nodes_ends_up_on_one_while_none_was_idle_for_its_timeout():
    async with running_stack(SPEC) as stack:
        said = await stack.driver(f"BASE, NODES = {str(stack.base)!r}, {NODES}\nimport ray.util.scheduling_strategies\n{DRIVER}")
        print(said)
        submitted = int(said.split()[1])
        assert said.endswith("left 1"), stack.told()
        assert stack.ledger.counts("done") == dict.fromkeys(range(submitted), 1)
        ended = [node for node in stack.nodes.values() if not node.is_alive and node.ended_at is not None]
        assert len(ended) >= NODES - 1
        pauses = [longest_pause(stack, node.node_id, node.ended_at) for node in ended]
        print("no task for at most", [f"{each:.1f} s" for each in pauses], "of", TIMEOUT_S)
        assert max(pauses) < TIMEOUT_S
        stack.assert_drained_before_their_end()
