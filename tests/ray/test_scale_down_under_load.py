"""Complaint C4: while tasks arrive all the time, ten and more scale-downs lose none of them, for Ray takes each drain before the end.

The ten are the soak's; each of the three here ends two nodes at least.
"""

import pytest

from tests.counts import counted
from tests.ray.stack import running_stack

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(900)]

CYCLES = counted(gate=3, full=10)
PER_SECOND = 20
WIDTH = 3
"""Nodes that each burst needs; the trickle in between needs one."""
SPEC = {
    "idleTimeout": "2s",
    "maxWorkers": 4,
    "nodeTypes": [{"name": "worker", "resources": {"CPU": 2}}],
}
DRIVER = """
@ray.remote(num_cpus=0.5, max_retries=0)
def short(index):
    note("began", index)
    time.sleep(0.02)
    note("done", index)

@ray.remote(num_cpus=1.5, max_retries=0)
def wide(index, fellows):
    # Each wide task needs a node of its own, with room beside it for short ones; all hold until the last has its node.
    note("began", index)
    here = f"{BASE}/wide-{fellows}"
    open(f"{here}-{index}", "w").close()
    while sum(name.startswith(f"wide-{fellows}-") for name in os.listdir(BASE)) < WIDTH:
        time.sleep(0.05)
    note("done", index)

spread = short.options(scheduling_strategy="SPREAD")
refs, stop, lock = [], threading.Event(), threading.Lock()

def submit(task, *args):
    with lock:
        refs.append(task.remote(len(refs), *args))
        return refs[-1]

def trickle():
    # One in 50 goes to a node that is idle for about its timeout: the very moment at which that node is drained.
    due, count = time.monotonic(), 0
    while not stop.is_set():
        submit(spread if count % 50 in (0, 1) else short)
        count += 1
        due += 1 / PER_SECOND
        time.sleep(max(0.0, due - time.monotonic()))

def workers():
    return sum(node["Alive"] for node in ray.nodes()) - 1

thread = threading.Thread(target=trickle)
thread.start()
for cycle in range(CYCLES):
    burst = [submit(wide, cycle) for _ in range(WIDTH)]
    ray.wait(burst, num_returns=WIDTH)
    while workers() >= WIDTH:
        time.sleep(0.1)
    print("cycle", cycle, "down to", workers())
submit(short)  # begins after the last end
stop.set()
thread.join()
failed = 0
for index, ref in enumerate(refs):
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        failed += 1
        print("failed", index, repr(error)[:300].replace(chr(10), " "))
print("submitted", len(refs), "failed", failed)
"""


async def test_c4_no_task_is_lost_in_scale_downs_while_twenty_arrive_each_second():
    async with running_stack(SPEC) as stack:
        facts = f"CYCLES, PER_SECOND, WIDTH, BASE = {CYCLES}, {PER_SECOND}, {WIDTH}, {str(stack.base)!r}\n"
        said = await stack.driver(facts + DRIVER, patience_s=600.0)
        await stack.until(stack.all_gone, "every node goes after the last task")
        print(said)
        submitted = int(said.split("submitted ")[1].split()[0])
        assert said.endswith("failed 0")
        once = dict.fromkeys(range(submitted), 1)
        assert stack.ledger.counts("began") == once, "each task ran exactly once"
        assert stack.ledger.counts("done") == once, "and to its end"

        ended = [node for node in stack.nodes.values() if not node.is_alive]
        began = [at for kind, _, _, at in stack.ledger.lines() if kind == "began"]
        under_load = [node for node in ended if node.ended_at < max(began)]
        print(f"{submitted} tasks from {len(stack.ledger.nodes('began'))} nodes; {len(ended)} drains, {len(under_load)} while tasks ran")
        assert len(under_load) >= CYCLES
        stack.assert_drained_before_their_end()
