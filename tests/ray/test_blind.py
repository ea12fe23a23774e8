"""Scenario 3, the blind minutes: monitor silent, executor hung, both, and the service killed inside the gap. Nothing ends, nothing is launched.

Eight workers and an idle timeout of 4 s are the soak's.
"""

import asyncio
import time
from pathlib import Path

import pytest

from tests.counts import counted
from tests.ray.gated_service import GATE
from tests.ray.stack import Stack, running_stack

pytestmark = pytest.mark.tier("ray")

IDLE_TIMEOUT_S = counted(gate=3.0, full=4.0)
GAP_S = 3 * IDLE_TIMEOUT_S + 1.0
WORKERS, IDLE = counted(gate=(3, 1), full=(8, 2))
MORE = 2
CONVERGED_S = 30.0

JOB = f"""
@ray.remote(num_cpus=1, max_retries=0)
def until(path, index):
    note("start", index)
    while not os.path.exists(path):
        time.sleep(0.2)
    note("end", index)

refs = [until.remote(f"{{BASE}}/task{{index}}", index) for index in range({WORKERS})]
print("submitted")
more = f"{{BASE}}/more"
while not os.path.exists(more):
    time.sleep(0.2)
refs += [until.remote(f"{{BASE}}/task{{index}}", index) for index in range({WORKERS}, {WORKERS + MORE})]
ray.get(refs)
print("finished")
while True:
    time.sleep(1)
"""


async def gap(stack: Stack, what: str) -> None:
    """Let the gap pass; all that lives before it must live after it, and nothing more."""
    before, launched = {each.node_id for each in stack.alive()}, stack.launched()
    processes = {each.instance_id: each.identity for each in stack.workers.alive()}
    await asyncio.sleep(GAP_S)  # what may not happen needs time to happen
    assert {each.node_id for each in stack.alive()} == before, f"{what}: {stack.told()}"
    assert {each.instance_id: each.identity for each in stack.workers.alive()} == processes, what
    assert stack.launched() == launched, what


async def test_scenario_3_blind_for_three_idle_timeouts_nothing_ends_and_nothing_is_launched(tmp_path, monkeypatch):
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    spec = {"idleTimeout": f"{IDLE_TIMEOUT_S:g}s", "maxWorkers": 12, "nodeTypes": [{"name": "small", "resources": {"CPU": 1}}]}
    async with running_stack(spec, service=("-m", "tests.ray.gated_service")) as stack:
        driver = await stack.start_driver(f"BASE = {str(stack.base)!r}\n{JOB}")
        await stack.until(lambda: len(stack.ledger.nodes("start")) == WORKERS, "all workers work")
        assert len(stack.launched()) == WORKERS, stack.told()

        stack.pause("monitor", is_paused=True)
        finish(stack.base, range(IDLE))  # these workers fall idle where nobody sees it
        await gap(stack, "the monitor is silent")
        said = await stack.until_status(lambda said: said["blind"], "it is blind")
        assert said["blind"] == "REPORT_TOO_OLD"
        assert said["blind_since"]
        stack.pause("monitor", is_paused=False)
        back_at = time.time()
        await stack.until(lambda: len(stack.alive()) == len(stack.workers.alive()) == WORKERS - IDLE, "the idle ones go", CONVERGED_S)
        print(
            f"monitor silent for {GAP_S:g} s: blind since {said['blind_since']}; idle nodes gone {time.time() - back_at:.1f} s after it was back"
        )

        gate.touch()
        (stack.base / "more").touch()
        await gap(stack, "the executor is hung")
        gate.unlink()
        back_at = time.time()
        await stack.until(lambda: len(stack.ledger.counts("start")) == WORKERS + MORE, "the two that were asked for come", CONVERGED_S)
        print(f"executor hung for {GAP_S:g} s: the launches asked for meanwhile work {time.time() - back_at:.1f} s after it was back")
        assert len(stack.launched()) == WORKERS + MORE

        gate.touch()
        stack.pause("monitor", is_paused=True)
        await stack.kill("service")
        await stack.start_again("service")
        await gap(stack, "both, and the service was killed")
        stack.pause("monitor", is_paused=False)
        gate.unlink()
        back_at = time.time()
        await stack.until_status(lambda said: not said["blind"], "sight is back", CONVERGED_S)
        print(f"both for {GAP_S:g} s and the service killed: sight is back after {time.time() - back_at:.1f} s")
        assert len(stack.alive()) == WORKERS - IDLE + MORE

        finish(stack.base, range(WORKERS + MORE))
        assert await stack.line(driver) == "submitted"
        assert await stack.line(driver) == "finished"
        await stack.until(stack.all_gone, "then all go")
        assert len(stack.launched()) == WORKERS + MORE
        assert stack.ledger.counts("start") == stack.ledger.counts("end") == dict.fromkeys(range(WORKERS + MORE), 1)
        stack.assert_drained_before_their_end()


def finish(base: Path, tasks: range) -> None:
    """Let tasks end."""
    for index in tasks:
        (base / f"task{index}").touch()
