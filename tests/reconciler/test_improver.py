"""The process that improves plans, really: it answers as the planner does, comes back when it is killed, and ends with its owner."""

import asyncio
import contextlib
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rayscaler.errors import Unavailable
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from rayscaler.processes import readable
from rayscaler.reconciler import improver
from rayscaler.reconciler.improver import ImproverProcess
from rayscaler.reconciler.improving import NICENESS
from tests.reconciler.builders import NOW, config, node_type, tasks

pytestmark = [pytest.mark.tier("protocol")]

STATE = ClusterState(now=NOW, config=config(node_type("small", cost=1.0), node_type("wide", 4, cost=3.0)), demands=tasks(9))
STEPS = 50
LEAST_NICE = 19
HANGS = (sys.executable, "-S", "-c", "import signal; signal.pause()")


@contextlib.asynccontextmanager
async def running(**given):
    """A door whose task runs; in the end no process of it is there."""
    door = ImproverProcess(**given)
    task = asyncio.create_task(door.run())
    pids = []
    try:
        yield door, pids
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert door.pid is None
    assert not [pid for pid in pids if is_there(pid)]


def is_there(pid):
    return Path(f"/proc/{pid}").exists()


async def started(door):
    """Wait until there is a process; return its pid."""
    async with asyncio.timeout(30):
        while door.pid is None:  # noqa: ASYNC110  # it tells nobody that it has started
            await asyncio.sleep(0.01)
    return door.pid


async def test_it_plans_as_the_planner_does_niced_in_a_process_that_ends_with_its_owner():
    async with running() as (door, pids):
        assert door.pid is None
        assert await door.improve(STATE, STEPS) == plan(STATE, STEPS)
        pids.append(door.pid)
        assert os.getpriority(os.PRIO_PROCESS, door.pid) == min(os.getpriority(os.PRIO_PROCESS, 0) + NICENESS, LEAST_NICE)
        assert await door.improve(STATE, STEPS) == plan(STATE, STEPS)
        assert pids == [door.pid]


async def test_prepared_it_starts_before_the_first_question():
    async with running() as (door, pids):
        door.prepare()
        pids.append(await started(door))


async def test_killed_it_says_so_and_comes_back_after_a_rest(monkeypatch):
    monkeypatch.setattr(improver, "FIRST_REST_S", 0.6)
    async with running() as (door, pids):
        await door.improve(STATE, STEPS)
        pids.append(door.pid)
        os.kill(door.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match="has ended"):
            await door.improve(STATE, STEPS)
        with pytest.raises(Unavailable, match="again later"):
            await door.improve(STATE, STEPS)
        await asyncio.sleep(0.65)  # the rest, which is the wall's
        assert await door.improve(STATE, STEPS) == plan(STATE, STEPS)
        pids.append(door.pid)
        assert len(set(pids)) == 2


async def test_one_that_hangs_is_killed():
    async with running(argv=HANGS, hang_s=0.3) as (door, pids):
        asked = asyncio.create_task(door.improve(STATE, STEPS))
        pids.append(await started(door))
        with pytest.raises(Unavailable):
            await asked
        assert door.pid is None


async def test_a_question_that_nobody_waits_for_any_more_is_passed_over():
    async with running(argv=HANGS, hang_s=0.3) as (door, _):
        first, second = (asyncio.create_task(door.improve(STATE, STEPS)) for _ in range(2))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(Unavailable, match="has ended"):
            await first
        third = asyncio.create_task(door.improve(STATE, STEPS))
        with pytest.raises(Unavailable, match="again later"):
            await third


async def test_what_the_planner_cannot_take_costs_the_others_nothing():
    async with running() as (door, pids):
        with pytest.raises(Unavailable, match="could not be improved"):
            await door.improve(replace(STATE, demands=None), STEPS)
        pids.append(door.pid)
        assert await door.improve(STATE, STEPS) == plan(STATE, STEPS)
        assert pids == [door.pid]


def test_the_service_itself_brings_no_solver():
    code = "import sys, rayscaler.app.local, rayscaler.app.kubernetes; print(sorted({'highspy', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


OWNER = """
import asyncio
from rayscaler.reconciler.improver import ImproverProcess
from rayscaler.reconciler.improving import NICENESS
from tests.reconciler.test_improver import STATE, STEPS

async def main():
    door = ImproverProcess()
    task = asyncio.create_task(door.run())
    await door.improve(STATE, STEPS)
    print(door.pid, flush=True)
    await task

asyncio.run(main())
"""


async def test_it_ends_when_its_owner_is_killed():
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, stdout=subprocess.PIPE)
    said = b""
    while not said.strip().isdigit():  # its log comes first
        said = await owner.stdout.readline()
        assert said, "it told its process"
    pid = int(said)
    fd = os.pidfd_open(pid)
    try:
        owner.kill()
        await owner.wait()
        async with asyncio.timeout(30):
            await readable(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("seed", ["1", "2"])
def test_resources_from_another_process_are_found_by_ours(seed):
    code = "import pickle, sys; from rayscaler.model.resources import Resources; sys.stdout.buffer.write(pickle.dumps(Resources.of(CPU=1)))"
    env = {**os.environ, "PYTHONHASHSEED": seed}  # by which names hash
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=env).stdout
    assert {Resources.of(CPU=1): "found"}[pickle.loads(told)] == "found"
