"""Scenario 8, complaints B3 and K1: a definition is edited while workers run and four more start; only what an edit speaks of is touched.

Eight that run are the soak's; here six.
"""

import copy
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.counts import counted
from tests.ray.stack import Stack, running_stack

pytestmark = pytest.mark.tier("ray")

TOLD_S = 20.0
"""An edit is taken within a second; on a machine under load it may take some more."""
SPEC: dict[str, Any] = {
    "idleTimeout": "300s",
    "maxWorkers": 20,
    "nodeTypes": [
        {"name": "worker", "maxWorkers": 12, "resources": {"CPU": 1}},
        {"name": "doomed", "maxWorkers": 3, "resources": {"doomed": 1}},
        {"name": "steady", "minWorkers": 1, "maxWorkers": 1, "resources": {"steady": 1}},
    ],
}
FIRST, MORE = counted(gate=(0, 1), full=(0, 1, 2, 3)), (4, 5, 6, 7)
DOOMED, BRIEF, EXTRA = (10, 11), 12, 20
ALL = (*FIRST, *MORE, *DOOMED, BRIEF, EXTRA)
CALLED_OFF = 2
DRIVER = """
def until(name):
    while not os.path.exists(f"{BASE}/{name}"):
        time.sleep(0.05)

@ray.remote(max_retries=0)
def work(index, name):
    note("began", index)
    until(name)
    note("done", index)

def submit(indices, name, **options):
    return [work.options(**options).remote(index, name) for index in indices]

refs = submit(FIRST, "release", num_cpus=1)
refs += submit(DOOMED, "release", num_cpus=0, resources={"doomed": 1})
refs += submit([BRIEF], "brief", num_cpus=0, resources={"doomed": 1})
until("more")
refs += submit(MORE, "release", num_cpus=1)
until("extra")
refs += submit([EXTRA], "release", num_cpus=0, resources={"extra": 1})
failed = 0
for ref in refs:
    try:
        ray.get(ref)
    except ray.exceptions.RayError as error:
        failed += 1
        print("failed", repr(error)[:300].replace(chr(10), " "))
print("submitted", len(refs), "failed", failed)
"""


class Definition:
    """The stack's definition file, as a user edits it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document = yaml.safe_load(path.read_text())
        self.types = {each["name"]: each for each in copy.deepcopy(SPEC["nodeTypes"])}

    def write(self, *, by_rename: bool = False, **spec: Any) -> None:
        document = {**self.document, "spec": {**self.document["spec"], **spec, "nodeTypes": list(self.types.values())}}
        path = self.path.with_name("draft") if by_rename else self.path
        path.write_text(yaml.safe_dump(document))
        path.replace(self.path)


def instances(status: dict[str, Any], node_type: str, *kinds: str) -> set[str]:
    return {each["instance_id"] for each in status["instances"] if each["node_type"] == node_type and each["status"] in kinds}


def done(status: dict[str, Any], kind: str) -> dict[str, str]:
    return {each["instance_id"]: each["reason"] for each in status["actions"] if each["kind"] == kind}


def pids(stack: Stack, names: set[str]) -> dict[str, tuple[int, bool]]:
    return {name: (stack.workers.seen[name].identity.pid, stack.workers.seen[name].is_alive) for name in names}


async def test_scenario_8_edits_among_running_and_starting_workers_end_no_busy_node_and_lose_no_task():
    async with running_stack(SPEC) as stack:
        definition = Definition(stack.base / "cluster.yaml")
        facts = f"FIRST, MORE, DOOMED, BRIEF, EXTRA, BASE = {FIRST}, {MORE}, {DOOMED}, {BRIEF}, {EXTRA}, {str(stack.base)!r}\n"
        driver = await stack.start_driver(facts + DRIVER)
        busy_ones = len(FIRST) + len(DOOMED) + 1
        await stack.until(
            lambda: len(stack.ledger.counts("began")) == busy_ones and len(stack.alive()) == busy_ones + 1, "all busy but the steady one"
        )
        (stack.base / "brief").touch()
        await stack.until(lambda: stack.ledger.counts("done") == {BRIEF: 1}, "one of the doomed is idle")
        began = {index: node for kind, index, node, _ in stack.ledger.lines() if kind == "began"}
        (stack.base / "more").touch()
        said = await stack.until_status(  # on a busy machine the first of them may be up by then
            lambda all_: len(instances(all_, "worker", "REQUESTED", "ALLOCATED", "RUNNING")) == len(FIRST) + len(MORE), "more start"
        )
        untouched = instances(said, "worker", "RUNNING") | instances(said, "steady", "RUNNING")
        assert len(untouched) >= len(FIRST) + 1
        before = pids(stack, untouched)

        # A lower maximum calls off launches, and nothing else.
        definition.types["worker"]["maxWorkers"] = len(FIRST) + len(MORE) - CALLED_OFF
        definition.write()
        edited_at = time.monotonic()
        said = await stack.until_status(lambda all_: len(done(all_, "TERMINATING")) >= CALLED_OFF, "launches are called off", TOLD_S)
        print(f"the lower maximum acted {time.monotonic() - edited_at:.1f} s after the edit, as `rayscaler status` tells")
        assert set(done(said, "TERMINATING").values()) == {"MAX_WORKERS_OF_TYPE"}
        called_off = set(done(said, "TERMINATING"))
        assert len(called_off) == CALLED_OFF
        assert done(said, "DRAINING") == {}

        # A bad edit changes nothing and is told whole.
        good = definition.path.read_text()
        definition.types["worker"]["maxWorkers"] = "many"
        definition.write(by_rename=True, idleTimeout="soon")
        said = await stack.until_status(lambda all_: all_["definition"]["problems"], "the bad edit is told", TOLD_S)
        assert len(said["definition"]["problems"]) == len([each for each in said["notices"] if "stays in force" in each]) == 2
        assert set(done(said, "TERMINATING")) == called_off
        assert done(said, "DRAINING") == {}
        definition.path.write_text(good)
        await stack.until_status(lambda all_: not all_["definition"]["problems"], "it is mended", TOLD_S)

        # One type goes, with two busy workers and an idle one; one comes; the maximum is raised.
        (stack.base / "extra").touch()
        del definition.types["doomed"]
        definition.types["worker"]["maxWorkers"] = len(FIRST) + len(MORE)
        definition.types["extra"] = {"name": "extra", "maxWorkers": 1, "resources": {"extra": 1}}
        definition.write(by_rename=True)
        idle = began[BRIEF]
        await stack.until(lambda: not stack.nodes[idle].is_alive, "the idle one of the removed type goes")
        await stack.until(lambda: len(stack.ledger.counts("began")) == len(ALL), "all tasks run, also on the added type")
        busy = {began[index] for index in DOOMED}
        assert all(stack.nodes[node].is_alive for node in busy)
        left = "node type doomed is not defined any more: 2 left"  # the idle one's process ends a while after its node
        await stack.until_status(lambda all_: any(left in each for each in all_["notices"]), "two of the removed type are left")
        assert pids(stack, untouched) == before
        assert all(alive for _, alive in before.values())

        (stack.base / "release").touch()
        assert await stack.line(driver) == f"submitted {len(ALL)} failed 0"
        await stack.until(lambda: not any(stack.nodes[node].is_alive for node in busy), "the busy ones go once their work is done")
        await stack.until_status(lambda all_: not any(each["node_type"] == "doomed" for each in all_["instances"]), "no trace is left")
        once = dict.fromkeys(ALL, 1)
        assert (stack.ledger.counts("began"), stack.ledger.counts("done")) == (once, once)
        ended = {node.node_id: node.death for node in stack.nodes.values() if not node.is_alive}
        print(f"nodes that ended: {sorted(ended.values())}; called off: {sorted(called_off)}")
        assert {idle, *busy} <= set(ended)
        worked = stack.ledger.nodes("began")
        assert {death for node, death in ended.items() if node in worked} == {"AUTOSCALER_DRAIN_PREEMPTED"}
        assert pids(stack, untouched) == before
