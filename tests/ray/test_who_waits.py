"""Complaints E1 and E2, scenario 9 (e): demand of a job that is gone counts for nothing, and a floor ends with its drivers or by their word."""

import asyncio
import time

import pytest

from rayscaler.processes import SystemProcesses, end
from tests.ray.stack import running_stack

pytestmark = pytest.mark.tier("ray")

IDLE_TIMEOUT_S = 3.0
AFTER_DRIVER_S = 4.0
GONE_S = 60.0

WAITING = """
@ray.remote(num_cpus=1, max_retries=0)
def endless(index):
    note("start", index)
    while True:
        time.sleep(1)

@ray.remote(num_cpus=1000)
def huge():
    pass

refs = [endless.remote(index) for index in range(4)] + [huge.remote()]
while True:
    time.sleep(1)
"""

ASK = """
from ray.autoscaler.sdk import request_resources
wanted = {0: dict(bundles=[])}
while True:
    for cpus in range(3):
        path = f"{BASE}/{cpus}"
        if os.path.exists(path):
            os.remove(path)
            request_resources(**wanted.get(cpus, dict(num_cpus=cpus)))
            print("asked for", cpus)
    time.sleep(0.1)
"""


async def test_e1_when_a_driver_is_killed_its_waiting_tasks_count_for_nothing_and_its_workers_go():
    spec = {"idleTimeout": f"{IDLE_TIMEOUT_S:g}s", "maxWorkers": 2, "nodeTypes": [{"name": "small", "resources": {"CPU": 1}}]}
    async with running_stack(spec) as stack:
        driver = await stack.start_driver(WAITING)
        await stack.until(lambda: len(stack.ledger.nodes("start")) == 2, "two of the tasks run")
        said = await stack.until_status(lambda said: len(said["pending"]) == 2, "two shapes wait")
        print("waiting:", [(each["shape"], each["count"], each["reason"]) for each in said["pending"]])
        await end(SystemProcesses(), driver.identity, 0.0)
        killed_at = time.time()
        said = await stack.until_status(lambda said: not said["pending"], "nothing waits any more", GONE_S)
        ignored_s = time.time() - killed_at
        await stack.until(stack.all_gone, "the workers go")
        assert ignored_s <= GONE_S
        assert len(stack.launched()) == 2, "nothing was launched for a dead job"
        print(f"demand of the dead job counted for {ignored_s:.1f} s, Ray showed {stack.pending} of it then; {said['notices']}")


async def test_e2_9e_a_floor_goes_with_its_killed_driver_stays_for_a_living_one_and_goes_when_it_is_taken_back():
    spec = {
        "idleTimeout": f"{IDLE_TIMEOUT_S:g}s",
        "floorAfterDriver": f"{AFTER_DRIVER_S:g}s",
        "maxWorkers": 3,
        "nodeTypes": [{"name": "small", "resources": {"CPU": 1}}],
    }
    async with running_stack(spec) as stack:

        async def start(name):
            base = stack.base / name
            base.mkdir()
            return base, await stack.start_driver(f"BASE = {str(base)!r}\n{ASK}")

        async def ask(base, driver, cpus):
            (base / str(cpus)).touch()
            assert await stack.line(driver) == f"asked for {cpus}"

        base, first = await start("first")
        await ask(base, first, 2)
        await stack.until(lambda: len(stack.alive()) == 2, "two nodes for two CPUs")
        await ask(base, first, 1)
        await stack.until(lambda: len(stack.alive()) == 1, "the last one counts", GONE_S)
        base, second = await start("second")
        await asyncio.sleep(IDLE_TIMEOUT_S)  # what may not happen needs time to happen
        assert len(stack.alive()) == 1, "idle for its timeout, but asked for"
        killed_at = time.time()
        await end(SystemProcesses(), first.identity, 0.0)
        await stack.until(stack.all_gone, "the floor of the killed driver is gone, drained and ended", GONE_S)
        gone_s = time.time() - killed_at
        assert AFTER_DRIVER_S <= gone_s <= GONE_S
        assert "event=floor.ended" in stack.log("service")
        print(f"gone {gone_s:.1f} s after its driver was killed, while another lived")

        await ask(base, second, 1)  # just as the first one did
        await stack.driver("print('here')")  # one that comes and goes takes nothing with it
        await stack.until(lambda: len(stack.alive()) == 1, "a node for the second driver's CPU")
        kept = {each.node_id for each in stack.alive()}
        await asyncio.sleep(AFTER_DRIVER_S + IDLE_TIMEOUT_S)
        assert {each.node_id for each in stack.alive()} == kept, "who asked lives"
        await ask(base, second, 0)
        await stack.until(stack.all_gone, "taken back, nothing is kept", GONE_S)
        assert len(stack.launched()) == 3
        stack.assert_drained_before_their_end()
