"""Complaint C3: a node that holds anything is never taken, though it uses no CPU: an actor of zero CPUs, a blocked task, an object.

Half as long as in the soak.
"""

import asyncio

import pytest

from tests.counts import counted
from tests.ray.stack import running_stack

pytestmark = pytest.mark.tier("ray")

IDLE_TIMEOUT_S = 2.0
HELD_S = counted(gate=3, full=6) * IDLE_TIMEOUT_S
KINDS = ("actor", "blocked", "object", "nothing")
"""What the node of each type holds; the one with nothing shows that the idle timeout is at work all the while."""

DRIVER = """
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

def at(node):
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}

@ray.remote(num_cpus=0)
class Nothing:
    def here(self):
        return ray.get_runtime_context().get_node_id()

@ray.remote(max_retries=0)
def until_told(path):
    while not os.path.exists(path):
        time.sleep(0.05)
    return "told"

@ray.remote(num_cpus=1, max_retries=0)
def blocked(refs):
    note("blocked", 0)
    return ray.get(refs[0])

@ray.remote(max_retries=0)
def big():
    return bytes(4_000_000)

head = ray.get_runtime_context().get_node_id()
holders = {kind: Nothing.options(resources={kind: 1}).remote() for kind in KINDS}
nodes = {kind: ray.get(holder.here.remote()) for kind, holder in holders.items()}
actor = Nothing.options(**at(nodes["actor"])).remote()
assert ray.get(actor.here.remote()) == nodes["actor"]
answer = blocked.options(scheduling_strategy=at(nodes["blocked"])["scheduling_strategy"]).remote(
    [until_told.options(**at(head)).remote(BASE + "/go")]
)
object_ref = big.options(**at(nodes["object"])).remote()
ray.wait([object_ref], fetch_local=False)
for holder in holders.values():
    ray.kill(holder)
print(*(nodes[kind] for kind in KINDS))
while not os.path.exists(BASE + "/release"):
    time.sleep(0.05)
released = time.time()
ray.kill(actor)
del object_ref
open(BASE + "/go", "w").close()
print(ray.get(answer), released)
while True:
    time.sleep(1)
"""


async def test_c3_no_node_that_holds_something_is_taken_and_each_goes_once_it_is_let_go():
    spec = {
        "idleTimeout": f"{IDLE_TIMEOUT_S:g}s",
        "nodeTypes": [{"name": kind, "maxWorkers": 1, "resources": {"CPU": 1, kind: 1}} for kind in KINDS],
    }
    async with running_stack(spec) as stack:
        driver = await stack.start_driver(f"KINDS = {KINDS}\nBASE = {str(stack.base)!r}\n" + DRIVER)
        ids = dict(zip(KINDS, (await stack.line(driver)).split(), strict=True))
        await stack.until(lambda: stack.nodes.keys() >= set(ids.values()), "the nodes are seen")
        nodes = {kind: stack.nodes[node_id] for kind, node_id in ids.items()}
        assert {kind: node.node_type for kind, node in nodes.items()} == {kind: kind for kind in KINDS}
        held = {kind: ids[kind] for kind in KINDS if kind != "nothing"}

        await stack.until(lambda: not stack.nodes[ids["nothing"]].is_alive, "the node with nothing on it goes")
        await asyncio.sleep(HELD_S)  # what may not happen needs time to happen
        kept = {kind: stack.nodes[node_id] for kind, node_id in held.items()}
        status = await stack.status()
        told = {each["node_type"]: each for each in status["instances"]}
        for kind, node in kept.items():
            assert node.is_alive, f"{kind}: {node}\n{stack.told()}"
            assert node.activity, f"Ray says nothing of what keeps the node of {kind}"
            assert told[kind]["status"] == "RUNNING"
            assert any(each in told[kind]["detail"] for each in node.activity), f"{told[kind]['detail']!r} tells nothing of {node.activity}"
            print(f"{kind}: held, Ray's words: {node.activity}; status: {told[kind]['detail']}")
        asked = {each["node_type"] for each in status["actions"] if each["kind"] == "DRAINING"}
        print("drains asked for meanwhile:", sorted(asked))

        (stack.base / "release").touch()
        said, released_at = (await stack.line(driver)).split()
        assert said == "told"
        await stack.until(stack.all_gone, "every node goes once it holds nothing")
        for kind, node_id in held.items():
            assert stack.nodes[node_id].ended_at > float(released_at) - 1.0, kind
        stack.assert_drained_before_their_end()
        assert len(stack.launched()) == len(KINDS)
