"""Complaint D1 and scenario 9: what runs already is not paid for a second time, and as many nodes come as are needed, not one more.

Twelve actors three times, six repeated jobs and 24 idle CPUs are the soak's.
"""

import pytest

from tests.counts import counted
from tests.ray.stack import running_stack

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(900)]

TASKS = """
@ray.remote(num_cpus=CPUS, max_retries=0)
def task(index, hold_s):
    note("ran", index)
    time.sleep(hold_s)

@ray.remote(num_cpus=CPUS, max_retries=0)
def fellow(index, count, base):
    # None ends before the last has begun: all of them need their CPUs at once, however slowly the nodes come.
    open(f"{base}/began{index}", "w").close()
    while sum(name.startswith("began") for name in os.listdir(base)) < count:
        time.sleep(0.05)
    note("ran", index)

def job(count, hold_s, first):
    ray.get([task.remote(first + index, hold_s) for index in range(count)])
    print("job of", count)

def together(count, base):
    ray.get([fellow.remote(index, count, base) for index in range(count)])
"""


async def test_d1b_tasks_for_idle_cpus_launch_nothing():
    nodes, rounds = 3, 5
    cpus = counted(gate=3, full=8)  # each has a process of its own, which takes a second to start
    node_type = {"name": "worker", "minWorkers": nodes, "maxWorkers": 3 * nodes, "resources": {"CPU": cpus}}
    async with running_stack({"idleTimeout": "60s", "nodeTypes": [node_type]}) as stack:
        await stack.until(lambda: len(stack.alive()) == nodes, "the minimum is there")
        count = nodes * cpus
        said = await stack.driver(f"CPUS = 1\n{TASKS}\nfor each in range({rounds}): job({count}, 0.5 * (each % 3), each * {count})")
        assert said.count("job of") == rounds
        assert stack.ledger.counts("ran") == dict.fromkeys(range(rounds * count), 1)
        assert len(stack.launched()) == nodes, stack.told()
        print(
            f"{rounds} times {count} tasks on {count} idle CPUs: {len(stack.launched()) - nodes} launches; ran on",
            stack.ledger.nodes("ran"),
        )


async def test_d1c_a_job_repeated_with_no_pause_launches_nothing_the_second_time():
    nodes, repeats = 3, counted(gate=2, full=3)
    node_type = {"name": "worker", "maxWorkers": 4 * nodes, "resources": {"CPU": 2}}
    async with running_stack({"idleTimeout": "60s", "nodeTypes": [node_type]}) as stack:
        await stack.driver(f"CPUS = 1\n{TASKS}\ntogether({2 * nodes}, {str(stack.base)!r})")
        first = stack.launched()
        for each in range(1, repeats):
            await stack.driver(f"CPUS = 1\n{TASKS}\njob({2 * nodes}, 2.0, {2 * nodes * each})")
        code = f"CPUS = 1\n{TASKS}\nfor each in range({repeats}, {2 * repeats}): job({2 * nodes}, 0.7, {2 * nodes} * each)"
        await stack.driver(code)
        assert stack.ledger.counts("ran") == dict.fromkeys(range(4 * nodes * repeats), 1)
        print(f"first run launched {sorted(first)}; {2 * repeats - 1} more runs launched {sorted(stack.launched() - first)}")
        assert len(first) == nodes, stack.told()
        assert stack.launched() == first, stack.told()


ACTORS = """
@ray.remote(num_cpus=1)
class Actor:
    def here(self):
        return ray.get_runtime_context().get_node_id()

for run, count in enumerate(COUNTS):
    actors = [Actor.remote() for _ in range(count)]
    nodes = set(ray.get([actor.here.remote() for actor in actors]))
    print("run", run, len(nodes))
    while not os.path.exists(BASE + f"/next{run}"):
        time.sleep(0.1)
    for actor in actors:
        ray.kill(actor)
    del actors
    while sum(node["Alive"] for node in ray.nodes()) > 1:
        time.sleep(0.2)
    print("down", run)
"""


async def test_scenario_9a_twelve_actors_get_exactly_twelve_nodes_each_time():
    counts = counted(gate=(12, 3), full=(12, 12, 12))
    spec = {"idleTimeout": "2s", "nodeTypes": [{"name": "worker", "maxWorkers": 2 * max(counts), "resources": {"CPU": 1}}]}
    async with running_stack(spec) as stack:
        driver = await stack.start_driver(f"COUNTS, BASE = {counts}, {str(stack.base)!r}\n" + ACTORS)
        before: set[str] = set()
        for run, count in enumerate(counts):
            assert await stack.line(driver, 300.0) == f"run {run} {count}"
            launched = stack.launched() - before
            print(f"run {run}: {count} actors on {len(stack.alive())} nodes; launched {len(launched)}")
            (stack.base / f"next{run}").touch()
            assert await stack.line(driver, 300.0) == f"down {run}"
            launched = stack.launched() - before
            assert len(launched) == count, f"{sorted(launched)}\n{stack.told()}"
            before |= launched
        await stack.until(stack.all_gone, "every node goes after the last run")
        assert len(stack.launched()) == sum(counts)
        stack.assert_drained_before_their_end()
