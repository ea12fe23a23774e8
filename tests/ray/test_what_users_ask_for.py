"""What a user of Ray can ask for, end to end: gangs, floors, labels, limits, minimums; and what is said where the answer is no."""

import asyncio
import signal
from typing import Any

import pytest

from rayscaler.processes import SystemProcesses
from tests.ray.stack import running_stack
from tests.ray_tier import QUICK_LOSS

pytestmark = pytest.mark.tier("ray")

IDLE_TIMEOUT_S = 3.0
IDLE = {"idleTimeout": f"{IDLE_TIMEOUT_S:g}s"}

GANGS = """
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

@ray.remote(num_cpus=1, max_retries=0)
def here():
    return ray.get_runtime_context().get_node_id()

def gang(strategy, bundles):
    group = placement_group(bundles, strategy=strategy)
    ray.get(group.ready())
    at = [PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i) for i in range(len(bundles))]
    nodes = ray.get([here.options(scheduling_strategy=each).remote() for each in at])
    remove_placement_group(group)
    print(strategy, len(nodes), len(set(nodes)))

@ray.remote(num_cpus=0, resources={"disk": 0.5}, max_retries=0)
def half(index):
    open(BASE + f"/half{index}", "w").close()
    while not os.path.exists(BASE + f"/half{1 - index}"):
        time.sleep(0.05)
    return ray.get_runtime_context().get_node_id()

gang("STRICT_SPREAD", [{"CPU": 1, "disk": 0.25}] * 3)
while not os.path.exists(BASE + "/pack"):
    time.sleep(0.05)
gang("PACK", [{"CPU": 1}] * 4)
request_resources(num_cpus=8)
print("asked")
while not os.path.exists(BASE + "/down"):
    time.sleep(0.1)
request_resources(bundles=[])
print("taken back")
while not os.path.exists(BASE + "/halves"):
    time.sleep(0.1)
halves = ray.get([half.remote(0), half.remote(1)])
print("halves", len(set(halves)), *[each["Resources"]["disk"] for each in ray.nodes() if each["NodeID"] in halves])
"""


async def test_gangs_get_their_nodes_and_a_floor_keeps_them_until_it_is_taken_back_and_halves_need_two():
    """CD-8 too: a node with half a disk has room for one task that needs half a disk, and a bundle can have a part of it."""
    async with running_stack({**IDLE, "maxWorkers": 6, "nodeTypes": [{"name": "worker", "resources": {"CPU": 2, "disk": 0.5}}]}) as stack:
        driver = await stack.start_driver(f"BASE = {str(stack.base)!r}\n{GANGS}")
        assert await stack.line(driver) == "STRICT_SPREAD 3 3"
        assert len(stack.launched()) == 3, stack.told()
        (stack.base / "pack").touch()
        kind, count, nodes = (await stack.line(driver)).split()
        assert (kind, count) == ("PACK", "4")
        print("STRICT_SPREAD of 3 on 3 nodes; PACK of 4 CPUs on", nodes)

        assert await stack.line(driver) == "asked"
        await stack.until(lambda: len(stack.alive()) == 4, "8 CPUs asked for are 4 nodes of 2")
        floor = {each.node_id for each in stack.alive()}
        await asyncio.sleep(3 * IDLE_TIMEOUT_S)
        assert {each.node_id for each in stack.alive()} == floor, "idle, but asked for: the same nodes stay"
        assert not any(each.activity for each in stack.alive())

        (stack.base / "down").touch()
        assert await stack.line(driver) == "taken back"
        await stack.until(stack.all_gone, "the nodes go once nobody asks for them")
        stack.assert_drained_before_their_end()
        print("floor of 8 CPUs kept", len(floor), "idle nodes; launched in all:", len(stack.launched()))

        before = stack.launched()
        (stack.base / "halves").touch()
        assert await stack.line(driver) == "halves 2 0.5 0.5"
        assert len(stack.launched() - before) == 2, stack.told()


REFUSALS = """
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

def told(task, **options):
    return task.options(**options).remote(BASE + "/go")

@ray.remote(num_cpus=1, max_retries=0)
def until_go(path):
    note("began", 0)
    while not os.path.exists(path):
        time.sleep(0.05)
    return ray.get_runtime_context().get_node_id()

else_b = told(until_go, label_selector={"zone": "a"}, fallback_strategy=[{"label_selector": {"zone": "b"}}])
while not os.path.exists(BASE + "/more"):
    time.sleep(0.1)
second = told(until_go, label_selector={"zone": "b"})
impossible = told(until_go, num_cpus=64)
nowhere = told(until_go, label_selector={"zone": "c"})
spread = told(until_go, num_cpus=0.75, scheduling_strategy="SPREAD")
worker = [each["NodeID"] for each in ray.nodes() if each["Alive"] and each["Resources"].get("CPU")][0]
bound = told(until_go, num_cpus=0.5, scheduling_strategy=NodeAffinitySchedulingStrategy(worker, soft=False))
print("submitted")
print(*ray.get([else_b, second]))
while True:
    time.sleep(1)
"""


async def test_labels_fall_back_limits_hold_and_each_refusal_has_its_reason():
    """And what Ray shows of tasks that say where to run (DK-22): with SPREAD a task is as any other, with node affinity it is not shown at all."""
    node_type = {"name": "in-b", "maxWorkers": 1, "resources": {"CPU": 1}, "labels": {"zone": "b"}}
    async with running_stack({**IDLE, "nodeTypes": [node_type]}) as stack:
        driver = await stack.start_driver(f"BASE = {str(stack.base)!r}\n{REFUSALS}")
        await stack.until(lambda: stack.ledger.lines() and stack.alive(), "the task that would rather be in zone a runs")
        (node,) = stack.alive()
        assert node.node_type == "in-b"

        (stack.base / "more").touch()
        assert await stack.line(driver) == "submitted"
        wanted = {"MAX_WORKERS_OF_TYPE", "NO_TYPE_FITS", "NO_TYPE_HAS_LABELS"}
        status = await stack.until_status(
            lambda said: (
                {each["reason"] for each in said["pending"]} >= wanted
                and len(said["pending"]) >= 4
                and "{CPU: 0.75}" in (each["shape"] for each in said["pending"])
            ),
            f"the reasons {wanted}",
        )
        for each in status["pending"]:
            print(each["count"], "x", each["shape"], "|", each["reason"], "|", each["detail"])
            assert each["detail"]
        shapes = [each["shape"] for each in status["pending"]]
        assert ("{CPU: 0.75}" in shapes, "{CPU: 0.5}" in shapes) == (True, False), shapes
        await stack.until(
            lambda: stack.infeasible == 1, "Ray's own GCS is told of the 64 CPUs; not of zone c, for Ray ignores labels where it cancels"
        )

        (stack.base / "go").touch()
        first, second = (await stack.line(driver)).split()
        assert stack.nodes[first].node_type == stack.nodes[second].node_type == "in-b"
        await stack.until(stack.all_gone, "what can never run keeps no node")
        most = max(
            sum(a.started_at <= b.started_at < (a.ended_at or b.started_at + 1) for a in stack.nodes.values()) for b in stack.nodes.values()
        )
        print("nodes at once, at most:", most, "; launched in all:", sorted(stack.launched()))
        assert most == 1


ACTOR = """
@ray.remote(num_cpus=2, max_restarts=-1, max_task_retries=-1)
class Actor:
    def here(self):
        return ray.get_runtime_context().get_node_id()

actor = Actor.remote()
print(ray.get(actor.here.remote()))
while not os.path.exists(BASE + "/again"):
    time.sleep(0.1)
print(ray.get(actor.here.remote()))
while True:
    time.sleep(1)
"""


async def test_a_minimum_is_kept_with_the_same_node_and_a_killed_worker_is_replaced():
    kept = {"name": "kept", "minWorkers": 1, "maxWorkers": 2, "resources": {"CPU": 1}}
    on_demand = {"name": "on-demand", "maxWorkers": 4, "resources": {"CPU": 2}}
    async with running_stack({**IDLE, "nodeTypes": [kept, on_demand]}, env=QUICK_LOSS) as stack:
        await stack.until(lambda: stack.alive("kept"), "the minimum comes without demand")
        (minimum,) = stack.alive()
        driver = await stack.start_driver(f"BASE = {str(stack.base)!r}\n{ACTOR}")
        first = await stack.line(driver)
        # Ray tells of the actor as pending for a while after it has landed: the loss of its node in that time is answered at once, with
        # a node that stays empty, for Ray itself finds the loss only some seconds later.
        await stack.until(lambda: not stack.pending, "the actor is pending no more")
        await asyncio.sleep(2.0)
        victim = stack.workers.seen[stack.nodes[first].instance_id]
        SystemProcesses().signal_group(victim.identity, signal.SIGKILL)
        await stack.until(lambda: not stack.nodes[first].is_alive, "Ray notices that the node is lost")
        assert stack.nodes[first].death != "AUTOSCALER_DRAIN_IDLE"
        await stack.until(lambda: stack.alive("on-demand"), "another node comes for the actor")
        (stack.base / "again").touch()
        second = await stack.line(driver)
        assert second != first
        assert stack.nodes[second].node_type == "on-demand"

        await driver.close()
        await stack.until(lambda: not stack.alive("on-demand"), "the other goes with its driver")
        await asyncio.sleep(2 * IDLE_TIMEOUT_S)
        assert [each.node_id for each in stack.alive()] == [minimum.node_id], "the minimum is the same node all the while"
        of_demand = {each for each in stack.launched() if "on-demand" in each}
        print(f"killed {victim.instance_id}, replaced by {stack.nodes[second].instance_id}; launched in all {sorted(stack.launched())}")
        assert len(of_demand) == 2, stack.told()
        assert len(stack.launched()) == 3, stack.told()


async def test_a_type_whose_workers_crash_is_backed_off_with_the_reason_while_another_serves():
    broken = {"name": "broken", "priority": 10, "maxWorkers": 5, "resources": {"CPU": 1}, "startParams": {"no-such-flag": "1"}}
    sound = {"name": "sound", "priority": 0, "maxWorkers": 5, "resources": {"CPU": 1}}
    async with running_stack({**IDLE, "nodeTypes": [broken, sound]}) as stack:
        code = """
@ray.remote(num_cpus=1, max_retries=0)
def task():
    return ray.get_runtime_context().get_node_id()
print(ray.get(task.remote()))
"""
        node_id = await stack.driver(code)
        await stack.until(lambda: node_id in stack.nodes, "the node is seen")
        assert stack.nodes[node_id].node_type == "sound"

        def failed(said: dict[str, Any]) -> list[str]:
            return [each["detail"] for each in said["actions"] if each["kind"] == "LAUNCH_FAILED"]

        # one may have been tried again until the sound one was there
        status = await stack.until_status(
            lambda said: len(failed(said)) == len({each for each in stack.launched() if "broken" in each}), "every try has failed"
        )
        types = {each["name"]: each for each in status["node_types"]}
        failures = failed(status)
        print("failed:", failures, "; back-off:", types["broken"]["backoff_detail"])
        assert failures
        assert all("no-such-flag" in each for each in failures)
        assert not types["sound"]["backoff_detail"]
        tries = {each for each in stack.launched() if "broken" in each}
        print("tries of the broken type:", sorted(tries))
        assert len(tries) == len(failures) <= 3
