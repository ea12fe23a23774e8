"""Complaints E1 and E2, as far as Ray's wire allows: demand of a job that is gone counts for nothing, a floor counts until it is taken back."""

import asyncio
import time

import pytest

from rayscaler.local.processes import SystemProcesses, end
from tests.ray.stack import running_stack

pytestmark = pytest.mark.tier("ray")

IDLE_TIMEOUT_S = 3.0
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
request_resources(num_cpus={cpus})
say("asked")
"""

TAKE_BACK = """
from ray.autoscaler.sdk import request_resources
request_resources(bundles=[])
say("taken back")
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


async def test_e2_a_floor_outlives_who_asked_the_last_one_counts_and_it_goes_when_it_is_taken_back():
    spec = {"idleTimeout": f"{IDLE_TIMEOUT_S:g}s", "maxWorkers": 3, "nodeTypes": [{"name": "small", "resources": {"CPU": 1}}]}
    async with running_stack(spec) as stack:
        await stack.driver(ASK.format(cpus=2))
        await stack.until(lambda: len(stack.alive()) == 2, "two nodes for two CPUs")
        floor = {each.node_id for each in stack.alive()}
        await asyncio.sleep(3 * IDLE_TIMEOUT_S)  # what may not happen needs time to happen
        assert {each.node_id for each in stack.alive()} == floor, "Ray names no owner: it stays though its job has ended"
        await stack.driver(ASK.format(cpus=1))
        await stack.until(lambda: len(stack.alive()) == 1, "the last one counts", GONE_S)
        await stack.driver(TAKE_BACK)
        await stack.until(stack.all_gone, "taken back, nothing is kept", GONE_S)
        assert len(stack.launched()) == 2
        stack.assert_drained_before_their_end()
