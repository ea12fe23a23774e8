"""DK-5 on real Ray: of resources that `RAY_custom_unit_instance_resources` names, a fraction comes from one of them, and the plan knows it."""

import pytest

from tests.ray.stack import running_stack

pytestmark = pytest.mark.tier("ray")

NAMED = {"RAY_custom_unit_instance_resources": "FPGA"}
SPEC = {
    "idleTimeout": "60s",
    "devices": ["FPGA"],
    "nodeTypes": [{"name": "board", "maxWorkers": 4, "resources": {"CPU": 4, "FPGA": 2}, "env": NAMED}],
}
DRIVER = """
@ray.remote(num_cpus=1, resources={"FPGA": 0.6}, max_retries=0)
def part(index):
    open(f"{BASE}/began{index}", "w").close()
    while not os.path.exists(BASE + "/go"):
        time.sleep(0.05)
    note("ran", index)

refs = [part.remote(index) for index in range(3)]
print("asked")
ray.get(refs)
print("ran")
"""


async def test_for_three_fractions_of_what_comes_in_twos_two_nodes_are_launched():
    async with running_stack(SPEC, env=list(NAMED.items())) as stack:
        driver = await stack.start_driver(f"BASE = {str(stack.base)!r}\n{DRIVER}")
        assert await stack.line(driver) == "asked"
        await stack.until(lambda: len(stack.alive()) == 2, "two nodes, where by the sum one would do")
        await stack.until(lambda: len(list(stack.base.glob("began*"))) >= 2, "two hold a device each")
        (stack.base / "go").touch()  # the third may have been sent to the first node, by the sum: then it waits there for a device
        assert await stack.line(driver) == "ran"
        assert stack.ledger.counts("ran") == dict.fromkeys(range(3), 1)
        assert len(stack.launched()) == 2, stack.told()
