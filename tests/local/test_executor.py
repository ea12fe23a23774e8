"""The local executor over stand-ins for `ray start`: slots, deaths, adoption, ends."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from dataclasses import replace

import pytest

from rayscaler.errors import InvalidRequest, Unavailable
from rayscaler.local import command
from rayscaler.local.executor import LocalExecutor, LocalTimings, terminate_all
from rayscaler.local.rundir import Record, RunDir
from rayscaler.model.instance import Phase
from rayscaler.processes import Identity, SystemProcesses
from tests.local import workers
from tests.local.workers import running, spec
from tests.rejoin import standin
from tests.rejoin.supervised import tree

pytestmark = pytest.mark.tier("protocol")


@pytest.fixture
def processes():
    return SystemProcesses()


@pytest.fixture
async def make(processes, tmp_path):
    """Make executors over one run directory; whatever is left is ended."""
    made = []

    def executor(code=workers.GOOD, build=None, **timings):
        made.append(LocalExecutor(processes, tmp_path, build=build or running(code), timings=LocalTimings(**timings)))
        return made[-1]

    yield executor
    for each in made:
        await each.close()
    await terminate_all(processes, tmp_path, grace_s=0.0)


def identity(tmp_path, instance_id):
    return Identity(**json.loads((tmp_path / "c" / f"{instance_id}.json").read_text())["identity"])


async def reach(watch, instance_id, phase):
    async for seen in watch:
        if seen.instance_id == instance_id and seen.phase is phase:
            return seen
    return None


def children(tmp_path):
    """Return the pids that the workers named when they were up."""
    lines = (tmp_path / "c" / "i.log").read_text().splitlines()
    return [int(line.split()[-1]) for line in lines if line.startswith("Ray runtime started.")]


@pytest.fixture
def gcs():
    made = standin.Gcs()
    made.open()
    yield made
    made.end()


async def phases(executor):
    return Counter(seen.phase for seen in await executor.list("c"))


@pytest.mark.parametrize(("timings", "at_once"), [({}, 1), ({"starting_at_once": 3}, 3)], ids=["one by itself", "three if told"])
async def test_only_so_many_start_at_a_time_and_the_rest_waits(make, timings, at_once):
    executor = make(workers.SLOW, **timings)
    watch = executor.watch("c")
    for index in range(12):
        await executor.launch(spec(f"i-{index}"))
    assert await phases(executor) == {Phase.UNSCHEDULED: 12}
    for index in range(at_once):
        await reach(watch, f"i-{index}", Phase.STARTING)
    assert await phases(executor) == {Phase.STARTING: at_once, Phase.UNSCHEDULED: 12 - at_once}


async def test_a_slot_is_free_again_when_a_worker_is_up_or_dead(make):
    for code, last in ((workers.GOOD, Phase.REGISTERING), (workers.CRASHING, Phase.GONE)):
        executor = make(code, starting_at_once=1)
        watches = [executor.watch("c") for _ in range(4)]
        for index in range(4):
            await executor.launch(spec(f"{last}-{index}"))
        for index in range(4):
            await reach(watches[index], f"{last}-{index}", last)


async def test_a_start_that_takes_too_long_makes_room_but_goes_on(make):
    executor = make(workers.SLOW, starting_at_once=1, start_slot_s=0.05)
    watch = executor.watch("c")
    for index in range(3):
        await executor.launch(spec(f"i-{index}"))
    await reach(watch, "i-2", Phase.STARTING)
    assert await phases(executor) == {Phase.STARTING: 3}


async def test_a_crash_at_the_start_is_told_with_the_end_of_the_log(make, tmp_path):
    executor = make(workers.CRASHING)
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    gone = await reach(watch, "i", Phase.GONE)
    assert gone.detail == "exited while it started, exit code 3"
    assert "the port is taken" in gone.error
    assert (tmp_path / "c" / "i.log").exists()
    assert await executor.list("c") == []


async def test_what_a_dead_worker_left_running_is_killed_before_it_is_told(make, tmp_path):
    executor = make(workers.LEAVING)
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    gone = await reach(watch, "i", Phase.GONE)
    assert gone.detail == "exited, exit code 7"
    left = children(tmp_path)
    assert len(left) > 3  # it was restarted in place first
    assert not any(workers.runs(pid) for pid in left)


async def test_a_worker_that_ignores_sigterm_is_killed_after_the_grace(make, tmp_path):
    executor = make(workers.STUBBORN, grace_s=0.1)
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    (child,) = children(tmp_path)
    await executor.terminate("c", "i")
    gone = await reach(watch, "i", Phase.GONE)
    assert (gone.detail, gone.error) == ("killed: it did not end within 0.1 s", "")
    assert not workers.runs(child)


async def test_a_worker_that_is_not_up_gets_the_short_grace(make):
    # A process that ignores SIGTERM for as long as the test lasts; the executor kills it.
    stubborn_at_start = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)"
    executor = make(stubborn_at_start, grace_s=500.0, starting_grace_s=1.0)
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    await reach(watch, "i", Phase.STARTING)
    await executor.terminate("c", "i")
    await reach(watch, "i", Phase.GONE)


async def test_a_queued_launch_that_is_ended_never_runs(make, tmp_path):
    executor = make(workers.SLOW, starting_at_once=1)
    watch = executor.watch("c")
    await executor.launch(spec("first"))
    await executor.launch(spec("queued"))
    await reach(watch, "first", Phase.STARTING)
    await executor.terminate("c", "queued")
    gone = await reach(watch, "queued", Phase.GONE)
    assert gone.detail == "ended before it was started"
    assert not (tmp_path / "c" / "queued.log").exists()
    assert [seen.instance_id for seen in await executor.list("c")] == ["first"]


async def test_survivors_are_adopted_and_their_death_is_noticed(make, processes, tmp_path):
    before = make()
    watch = before.watch("c")
    await before.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    await before.close()
    assert processes.is_alive(identity(tmp_path, "i"))
    after = make()
    watch = after.watch("c")
    assert [seen.phase for seen in await after.list("c")] == [Phase.REGISTERING]
    processes.signal_leader(identity(tmp_path, "i"), signal.SIGKILL)
    assert (await reach(watch, "i", Phase.GONE)).detail == "exited, killed by signal 9"


async def test_an_adopted_worker_that_is_up_needs_no_slot(make, processes, tmp_path):
    before = make()
    watch = before.watch("c")
    await before.launch(spec("up"))
    await reach(watch, "up", Phase.REGISTERING)
    await before.close()
    after = make(workers.SLOW, starting_at_once=1)
    await after.launch(spec("slow"))
    watch = after.watch("c")
    await reach(watch, "slow", Phase.STARTING)
    processes.signal_leader(identity(tmp_path, "up"), signal.SIGKILL)
    await reach(watch, "up", Phase.GONE)


async def test_who_died_meanwhile_is_never_told_and_cleaned_up(make, processes, tmp_path):
    before = make()
    watch = before.watch("c")
    await before.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    await before.close()
    processes.signal_leader(identity(tmp_path, "i"), signal.SIGKILL)
    await processes.wait(identity(tmp_path, "i"))
    assert await make().list("c") == []
    assert not (tmp_path / "c" / "i.json").exists()


async def test_a_record_whose_pid_is_anothers_now_harms_nobody(make, processes, tmp_path):
    stranger = processes.spawn(["/bin/sleep", "600"], env={}, log_path=tmp_path / "stranger.log")
    try:
        rundir = RunDir(tmp_path)
        record = Record(spec("i"), rundir.log_path("c", "i"), replace(stranger, started=stranger.started - 1, mark="A=1"))
        rundir.write(record)
        executor = make()
        assert await executor.list("c") == []
        await executor.terminate("c", "i")
        rundir.write(record)
        assert await terminate_all(processes, tmp_path, grace_s=0.0) == 1
        assert processes.is_alive(stranger)
    finally:
        processes.signal_leader(stranger, signal.SIGKILL)
        await processes.wait(stranger)
        processes.reap(stranger)


async def test_a_launch_whose_process_was_not_noted_is_found_not_started_again(make, processes, tmp_path):
    before = make()
    watch = before.watch("c")
    await before.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    await before.close()
    running_now = identity(tmp_path, "i")
    RunDir(tmp_path).write(Record(spec("i"), tmp_path / "c" / "i.log"))
    assert [seen.phase for seen in await make().list("c")] == [Phase.REGISTERING]
    assert identity(tmp_path, "i") == running_now


async def test_what_a_killed_supervisor_leaves_is_killed(make, processes, tmp_path):
    executor = make(workers.STUBBORN)
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    (child,) = children(tmp_path)
    processes.signal_leader(identity(tmp_path, "i"), signal.SIGKILL)
    assert (await reach(watch, "i", Phase.GONE)).detail == "exited, killed by signal 9"
    assert not workers.runs(child)
    assert await executor.list("c") == []


async def test_a_worker_without_its_head_is_starting_again_and_needs_no_slot(make, gcs):
    executor = make()
    watch = executor.watch("c")
    await executor.launch(replace(spec("i"), head_address=gcs.address))
    await reach(watch, "i", Phase.REGISTERING)
    gcs.close()
    seen = await reach(watch, "i", Phase.STARTING)
    assert seen.detail.startswith(f"waiting: the head at {gcs.address} does not answer; the raylet runs on; pid ")
    await executor.launch(replace(spec("next"), head_address=gcs.address))
    await reach(watch, "next", Phase.STARTING)
    await executor.launch(spec("elsewhere"))
    await reach(watch, "elsewhere", Phase.REGISTERING)
    watches = {each: executor.watch("c") for each in ("i", "next")}
    gcs.open()
    for instance_id, each in watches.items():
        await reach(each, instance_id, Phase.REGISTERING)
    assert await phases(executor) == {Phase.REGISTERING: 3}


async def test_the_phase_of_an_adopted_worker_is_known_at_once(make, gcs):
    before = make()
    watch = before.watch("c")
    await before.launch(replace(spec("waits"), head_address=gcs.address))
    await before.launch(spec("up"))
    for instance_id in ("waits", "up"):
        await reach(watch, instance_id, Phase.REGISTERING)
    gcs.close()
    await reach(watch, "waits", Phase.STARTING)
    await before.close()
    after = make()
    watch = after.watch("c")
    assert {seen.instance_id: seen.phase for seen in await after.list("c")} == {"up": Phase.REGISTERING, "waits": Phase.STARTING}
    gcs.open()
    await reach(watch, "waits", Phase.REGISTERING)


async def test_a_worker_that_waits_for_a_head_ends_at_once(make, gcs):
    executor = make(grace_s=500.0, starting_grace_s=500.0)
    watch = executor.watch("c")
    await executor.launch(replace(spec("i"), head_address=gcs.address))
    await reach(watch, "i", Phase.REGISTERING)
    gcs.close()
    await reach(watch, "i", Phase.STARTING)
    await executor.terminate("c", "i")
    assert (await reach(watch, "i", Phase.GONE)).detail == "ended"


@pytest.mark.parametrize("is_adopted", [False, True], ids=["by its exit code", "adopted, by its last word"])
async def test_a_drained_worker_goes_by_itself_and_that_is_no_error(make, processes, tmp_path, is_adopted):
    ray = standin.Ray(tmp_path)
    executor = make(build=lambda _: (ray.argv, ray.env))
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    if is_adopted:
        await executor.close()
        stranger = make(build=lambda _: (ray.argv, ray.env))
        stranger._processes = Strangers()
        watch = stranger.watch("c")
        await stranger.list("c")
        await reach(watch, "i", Phase.REGISTERING)  # told again as soon as it is heard
    (raylet,) = [pid for pid, (name, _, _) in tree(identity(tmp_path, "i").pid).items() if name == "raylet"]
    os.kill(raylet, signal.SIGTERM)
    gone = await reach(watch, "i", Phase.GONE)
    assert (gone.detail, gone.error) == ("exited, its node was drained", "")


class Strangers(SystemProcesses):
    """As an executor of another process sees them: none is its child, no exit code is known."""

    async def wait(self, identity):
        await super().wait(identity)


async def test_a_queued_launch_is_started_by_the_next_executor(make):
    before = make(workers.SLOW, starting_at_once=1)
    await before.launch(spec("i"))
    await before.close()
    after = make()
    watch = after.watch("c")
    await reach(watch, "i", Phase.REGISTERING)


async def test_an_end_goes_on_after_a_restart(make, tmp_path):
    before = make(workers.STUBBORN, grace_s=500.0)
    watch = before.watch("c")
    await before.launch(spec("i"))
    await reach(watch, "i", Phase.REGISTERING)
    await before.terminate("c", "i")
    await before.close()
    after = make(grace_s=0.1)
    watch = after.watch("c")
    assert [seen.phase for seen in await after.list("c")] == [Phase.ENDING]
    await reach(watch, "i", Phase.GONE)


async def test_a_refused_spec_begins_nothing(make, tmp_path):
    executor = make(build=command.ray_worker)
    with pytest.raises(InvalidRequest, match=r"resources\.CPU: 0\.5"):
        await executor.launch(spec("i", cpus=0.5))
    assert await executor.list("c") == []
    assert not (tmp_path / "c" / "i.json").exists()


async def test_a_process_that_cannot_be_started_is_told_as_gone(make, tmp_path):
    executor = make(build=lambda _: ([str(tmp_path / "missing")], {}))
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    gone = await reach(watch, "i", Phase.GONE)
    assert gone.detail == "exited while it started, `ray` cannot be run"
    assert "No such file or directory" in gone.error


async def test_a_supervisor_that_cannot_be_started_is_told_as_gone(make, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "missing"))
    executor = make(build=lambda _: (["ray"], {}))
    watch = executor.watch("c")
    await executor.launch(spec("i"))
    assert (await reach(watch, "i", Phase.GONE)).error.startswith("UNAVAILABLE: ")


async def test_an_unreadable_record_stops_the_list(make, tmp_path):
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "i.json").write_text("{}")
    with pytest.raises(Unavailable, match=r"i\.json"):
        await make().list("c")
    (tmp_path / "c" / "i.json").unlink()


async def test_all_instances_of_a_directory_are_ended_whoever_began_them(make, processes, tmp_path):
    executor = make(workers.SLOW, starting_at_once=2)
    watch = executor.watch("d")
    for cluster, instance_id in (("c", "a"), ("d", "b"), ("d", "queued")):
        await executor.launch(spec(instance_id, cluster))
    await reach(watch, "b", Phase.STARTING)
    await executor.close()
    ended = Identity(**json.loads((tmp_path / "d" / "b.json").read_text())["identity"])
    assert await terminate_all(processes, tmp_path, grace_s=0.0) == 3
    assert not processes.is_alive(ended)
    assert await terminate_all(processes, tmp_path, grace_s=0.0) == 0


async def test_closing_an_executor_leaves_no_task(make):
    executor = make()
    await executor.launch(spec("i"))
    await executor.terminate("c", "i")
    await executor.close()
    assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("worker ")] == []
