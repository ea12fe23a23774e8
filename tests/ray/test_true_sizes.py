"""Complaint J3 on real Ray: nodes join with less than their definition says, as a machine does that is smaller than it was thought to be."""

import asyncio

import pytest

from tests.ray.stack import running_stack

pytestmark = pytest.mark.tier("ray")

LESS = {"RAY_OVERRIDE_RESOURCES": '{"slot": 1}'}
"""Ray takes it before what `ray start` is told."""
DRIVER = """
@ray.remote(num_cpus=0, max_retries=0)
def at(index):
    # Each waits for the other: one node is not enough, however late the second comes.
    open(f"{BASE}/began{index}", "w").close()
    while not os.path.exists(f"{BASE}/began{1 - index}"):
        time.sleep(0.05)

too_large = at.options(resources={"slot": 2}).remote(2)
print("asked")
while not os.path.exists(BASE + "/more"):
    time.sleep(0.1)
ray.get([at.options(resources={"slot": 1}).remote(index) for index in range(2)])
print("ran")
"""


async def test_j3_a_type_whose_nodes_join_with_less_is_launched_once_for_what_it_does_not_hold_and_then_by_its_true_size():
    node_type = {"name": "short", "maxWorkers": 4, "resources": {"CPU": 1, "slot": 2}, "env": LESS}
    async with running_stack({"idleTimeout": "2s", "nodeTypes": [node_type]}) as stack:
        driver = await stack.start_driver(f"BASE = {str(stack.base)!r}\n{DRIVER}")
        assert await stack.line(driver) == "asked"
        status = await stack.until_status(
            lambda said: [each["reason"] for each in said["pending"]] == ["NODES_SMALLER"], "the first node tells its true size"
        )
        detail = status["pending"][0]["detail"]
        print(detail)
        assert "short would hold it as defined, but its nodes join with slot 1 of 2" in detail
        await stack.until(stack.all_gone, "and goes, for nothing can run there")
        await asyncio.sleep(2.0)  # another would be launched by now
        assert len(stack.launched()) == 1, stack.told()
        (stack.base / "more").touch()
        assert await stack.line(driver) == "ran"
        assert len(stack.launched()) == 3, "two that hold one slot each, where by the definition one would hold both"
