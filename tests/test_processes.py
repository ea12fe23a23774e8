"""Real small processes: a wrong pid is never signalled, a session never outlives its end."""

import asyncio
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rayscaler.errors import Denied, Unavailable
from rayscaler.processes import SystemProcesses, end, end_stragglers
from tests.local import workers

pytestmark = pytest.mark.tier("protocol")


@pytest.fixture
def processes():
    return SystemProcesses()


@pytest.fixture
async def spawn(processes, tmp_path):
    """Start Python code; everything it left is killed in the end."""
    begun = []

    def start(code, **env):
        mark = f"TEST_MARK={tmp_path}"
        argv = [sys.executable, "-S", "-c", code]
        environment = {**os.environ, "TEST_MARK": str(tmp_path), **env}
        begun.append(processes.spawn(argv, env=environment, log_path=tmp_path / "log", mark=mark))
        return begun[-1]

    yield start
    for identity in begun:
        await end(processes, identity, 0.0)
        assert processes.session_members(identity) == ()


async def printed(tmp_path, words=4):
    """Wait until a worker has printed its line, and return its last word."""
    while True:
        text = (tmp_path / "log").read_text().split()
        if len(text) == words:
            return text[-1]
        await asyncio.sleep(0.01)


def is_listed(pid):
    return Path(f"/proc/{pid}").exists()


def orphan():
    """Start a process whose parent is gone."""
    sleep = "subprocess.Popen(['sleep', '600'], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    code = f"import subprocess; print({sleep}.pid)"
    return int(subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True).stdout)


async def test_a_spawned_process_leads_a_session_and_writes_to_its_log(processes, spawn, tmp_path):
    identity = spawn("import os; print(os.getsid(0) == os.getpid()); raise SystemExit(5)")
    assert await processes.wait(identity) == 5
    assert (tmp_path / "log").read_text() == "True\n"


async def test_a_process_that_has_ended_is_not_alive_even_before_it_is_collected(processes, spawn):
    identity = spawn("pass")
    await processes.wait(identity)
    assert is_listed(identity.pid)
    assert not processes.is_alive(identity)
    processes.reap(identity)
    assert not is_listed(identity.pid)


async def test_every_waiter_learns_the_exit_code(processes, spawn):
    identity = spawn(workers.SLOW)
    waiters = [asyncio.create_task(processes.wait(identity)) for _ in range(3)]
    await asyncio.sleep(0)
    processes.signal_leader(identity, signal.SIGKILL)
    assert await asyncio.gather(*waiters) == [-9, -9, -9]


@pytest.mark.parametrize("change", [{"started": 1}, {"boot_id": "another boot"}], ids=["recycled pid", "another boot"])
async def test_a_pid_that_is_anothers_now_is_never_touched(processes, spawn, change):
    identity = spawn(workers.SLOW)
    recycled = replace(identity, **change)
    assert not processes.is_alive(recycled)
    assert not processes.signal_leader(recycled, signal.SIGKILL)
    assert processes.signal_group(recycled, signal.SIGKILL) == 0
    assert processes.session_members(recycled) == ()
    assert await processes.wait(recycled) is None
    assert await end(processes, recycled, 0.0)
    assert processes.is_alive(identity)


async def test_without_its_leader_a_session_is_known_by_its_mark(processes, spawn, tmp_path):
    identity = spawn(workers.LEAVING)
    child = int(await printed(tmp_path))
    await processes.wait(identity)
    processes.reap(identity)
    assert processes.session_members(replace(identity, mark="TEST_MARK=a stranger's")) == ()
    assert processes.session_members(identity) == (child,)
    await end_stragglers(processes, identity)
    assert not workers.runs(child)


async def test_who_ignores_sigterm_is_killed_with_its_whole_session(processes, spawn, tmp_path):
    identity = spawn(workers.STUBBORN)
    child = int(await printed(tmp_path))
    assert os.getpgid(child) != identity.pid
    assert not await end(processes, identity, 0.1)
    assert not workers.runs(identity.pid)
    assert not workers.runs(child)


async def test_who_heeds_sigterm_is_not_killed(processes, spawn):
    identity = spawn(workers.SLOW)
    assert await end(processes, identity, 30.0)


async def test_an_unnoted_process_is_found_by_its_mark(processes, spawn, tmp_path):
    identity = spawn(workers.SLOW)
    assert processes.find(f"TEST_MARK={tmp_path}") == identity
    assert processes.find(f"TEST_MARK={tmp_path}/other") is None


async def test_an_adopted_process_is_awaited_without_being_our_child(processes):
    identity = processes.identify(orphan())
    waiter = asyncio.create_task(processes.wait(identity))
    await asyncio.sleep(0)
    assert await end(processes, identity, 30.0)
    assert await waiter is None
    assert not workers.runs(identity.pid)


async def test_what_cannot_be_started_is_an_error_of_ours(processes, tmp_path):
    with pytest.raises(Unavailable, match="does not start: No such file"):
        processes.spawn([str(tmp_path / "missing")], env={}, log_path=tmp_path / "log")
    (tmp_path / "plain").write_text("")
    with pytest.raises(Denied, match="may not be started"):
        processes.spawn([str(tmp_path / "plain")], env={}, log_path=tmp_path / "log")
