"""Plugins that misbehave as processes: each way has its name, none harms whoever hosts it, and nothing of it is left."""

import errno
import fcntl
import math
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from rayscaler.errors import Unavailable
from rayscaler.plugin import output
from rayscaler.plugin.faults import Fault, State
from rayscaler.processes import SystemProcesses
from tests.plugin import fake_plugin, go_plugin
from tests.plugin.stage import until
from tests.plugin.test_host_go import info, is_there

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # the first builds Go
ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def rogue(how: str) -> list[str]:
    return [sys.executable, "-m", "tests.plugin.rogue", how]


@pytest.mark.parametrize(
    ("how", "fault", "text"),
    [
        ("exits", Fault.EXITED_AT_START, "it exited with code 3 before it said where it listens"),
        ("exits_half_way", Fault.EXITED_AT_START, "it exited with code 0 before it said where it listens"),
        ("endless_line", Fault.LONG_LINE, "more than 4096 bytes: 'xxxx"),
        ("noise", Fault.GARBAGE, "its first line of output is '�[2Jwelcome to my plugin'"),
        ("old_core", Fault.WRONG_CORE_VERSION, "it speaks version 0, rayscaler 1"),
        ("mtls", Fault.AUTO_MTLS, "AutoMTLS is not spoken here"),
        ("elsewhere", Fault.WRONG_ADDRESS, "its socket '/tmp/rogue' is not below"),
        ("no_health", Fault.NO_HEALTH, "it does not serve grpc.health.v1 for the service 'plugin'"),
    ],
)
async def test_a_start_that_cannot_go_well_has_a_name(stage, how, fault, text):
    host, _ = await stage.failed(*rogue(how))
    assert host.status.fault is fault
    assert text in host.status.detail
    with pytest.raises(Unavailable, match=fault):
        await host.channel()


@pytest.mark.parametrize(
    ("how", "fault", "text"),
    [
        ("hangs", Fault.SILENT_AT_START, "it did not say within 1.5 s where it listens; print CORE|APP|NETWORK|ADDRESS|PROTOCOL"),
        ("nobody_there", Fault.UNHEALTHY, "it said where it listens and was not healthy within 1.5 s"),
        ("mute", Fault.UNHEALTHY, "was not healthy within 1.5 s"),
        ("drips", Fault.UNHEALTHY, "was not healthy within 1.5 s"),
        ("unwell", Fault.UNHEALTHY, "was not healthy within 4 s"),  # gRPC takes its time to begin
    ],
)
async def test_a_start_that_never_ends_is_ended(stage, how, fault, text):
    with capture_logs() as logs:
        host, _ = await stage.failed(*rogue(how), plugin_start_s=4.0 if how == "unwell" else 1.5, plugin_grace_s=0.5)
    assert host.status.fault is fault
    assert text in host.status.detail
    assert [each for each in logs if each["event"] == "plugin.awaited"]


async def test_a_status_has_the_last_lines_that_were_printed_and_nothing_that_steers_a_terminal(stage):
    host, _ = await stage.failed(*rogue("exits"))
    assert host.status.printed.splitlines() == ["Traceback (most recent call last):", "  �[31mKeyError�[0m: 'region'"]
    with pytest.raises(Unavailable, match=r"EXITED_AT_START: it exited with code 3 .*; it printed last:   �\[31mKeyError"):
        await host.channel()


async def test_one_that_hears_no_asking_is_forced_and_its_own_children_go_with_it(stage):
    with capture_logs() as logs:
        host, _ = await stage.begun(*rogue("leaves_children"), plugin_grace_s=0.3)
        await until(lambda: any(each.get("line", "").startswith("child ") for each in logs))
    child = next(int(each["line"].split()[1]) for each in logs if each.get("line", "").startswith("child "))
    parent = host.status.pid
    assert is_there(child)
    await stage.stopped(host)
    assert not is_there(parent)
    await until(lambda: not is_there(child))  # whoever collects orphans here may take a moment


@pytest.mark.parametrize("kind", ["missing", "no program", "not executable", "a directory"])
async def test_a_command_that_cannot_be_run_says_so(stage, tmp_path, kind):
    command = tmp_path / "plugin"
    if kind == "no program":
        command.write_text("no interpreter is named")
        command.chmod(0o700)
    elif kind == "not executable":
        command.write_text("#!/bin/sh\n")
    elif kind == "a directory":
        command.mkdir()
    host, _ = await stage.failed(str(command))
    assert host.status.fault is Fault.NO_PROGRAM
    assert str(command) in host.status.detail


async def test_one_on_tcp_of_this_machine_serves(stage):
    host, _ = await stage.begun(*rogue("tcp"))
    assert host.status.state is State.SERVING


async def test_one_that_falls_ill_is_started_again(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("ROGUE_FILE", str(tmp_path / "ill"))
    with capture_logs() as logs:
        host, _ = await stage.begun(*rogue("falls_ill"), plugin_health_s=0.5)
        first = host.status.pid
        (tmp_path / "ill").touch()
        await until(lambda: host.status.fault is Fault.UNHEALTHY)
        assert "its health was missed 3 times in a row, the last time with: it says NOT_SERVING" in host.status.detail
        (tmp_path / "ill").unlink()
        await until(lambda: host.status.state is State.SERVING)
    assert host.status.pid != first
    assert [each["misses"] for each in logs if each["event"] == "plugin.health_missed"][-3:] == [1, 2, 3]


async def test_one_that_slows_down_to_a_byte_now_and_then_is_started_again(stage, tmp_path, monkeypatch):
    monkeypatch.setenv("ROGUE_FILE", str(tmp_path / "slow"))
    host, _ = await stage.begun(*rogue("slows_down"), plugin_health_s=0.4, plugin_grace_s=0.5)
    first = host.status.pid
    (tmp_path / "slow").touch()
    await until(lambda: host.status.fault is Fault.UNHEALTHY)
    assert "its health was missed 3 times in a row, the last time with: DEADLINE_EXCEEDED" in host.status.detail
    (tmp_path / "slow").unlink()
    await until(lambda: host.status.state is State.SERVING)
    assert host.status.pid != first


async def test_answers_that_are_no_messages_are_a_missed_health_and_nothing_worse(stage):
    with capture_logs() as logs:
        host, running = await stage.begun(*rogue("garbled"), plugin_health_s=0.5, plugin_grace_s=0.5)
        await until(lambda: host.status.fault is Fault.UNHEALTHY)
    assert "the last time with: its answer is no message of grpc.health.v1" in host.status.detail
    assert not running.done()
    assert [each for each in logs if each["log_level"] == "error"] == []


async def test_one_that_stands_still_is_found_by_its_health_and_forced(stage):
    program = str(go_plugin.build())
    host, _ = await stage.begun(program, plugin_health_s=0.4, plugin_grace_s=0.5)
    pid = host.status.pid
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: host.status.fault is Fault.UNHEALTHY)
    await until(lambda: host.status.state is State.SERVING)
    assert host.status.pid != pid
    assert not is_there(pid)


async def test_the_wait_before_another_start_grows_to_a_limit(stage):
    with capture_logs() as logs:
        host, _ = await stage.failed("/bin/false", plugin_retry_s=0.1, plugin_retry_max_s=0.3)
        await until(lambda: len([each for each in logs if each["event"] == "plugin.failed"]) >= 5)
    waits = [each["wait_s"] for each in logs if each["event"] == "plugin.failed"][:5]
    for wait, least in zip(waits, (0.1, 0.2, 0.3, 0.3, 0.3), strict=True):
        assert least <= wait <= round(1.5 * least, 1) + 0.1
    assert host.status.starts == 0


async def test_one_that_served_long_enough_begins_with_a_short_wait_again(stage):
    program = str(go_plugin.build())
    with capture_logs() as logs:
        host, _ = await stage.begun(program, plugin_retry_s=0.1, plugin_retry_max_s=10.0, plugin_steady_s=0.0)
        for _ in range(4):
            await until(lambda: host.status.state is State.SERVING)
            os.kill(host.status.pid, signal.SIGKILL)
            await until(lambda: host.status.state is not State.SERVING)
    assert [each["wait_s"] <= 0.2 for each in logs if each["event"] == "plugin.failed"] == [True] * 4


async def test_one_that_floods_its_output_is_slowed_and_another_ones_calls_go_on(stage):
    program = str(go_plugin.build())
    with capture_logs() as logs:
        good, _ = await stage.begun(program, name="good")
        bad, _ = await stage.begun(*rogue("floods"), name="bad")
        for _ in range(200):
            await info(good)
        await until(lambda: any(each["event"] == "plugin.output_left_out" and each["plugin"] == "bad" for each in logs))
        began = time.monotonic()
        told = len(logs)
        for _ in range(200):
            await info(good)
        lines = [each for each in logs[told:] if each["event"] == "plugin.output" and each["plugin"] == "bad"]
        seconds = time.monotonic() - began + 1.0
    assert len(lines) <= output.LINES_PER_S * math.ceil(seconds)
    assert bad.status.state is State.SERVING


async def test_what_was_begun_and_not_noted_down_is_ended_before_another_start(stage):
    program = str(go_plugin.build())
    first, running = await stage.begun(program)
    pid = first.status.pid
    await stage.cancelled(running)
    await first.leave()
    (stage.directory / "fake/plugin.json").write_text("{half a rec")
    second, _ = await stage.begun(program)
    assert second.status.pid != pid
    assert not is_there(pid)


@pytest.mark.parametrize("what", ["is a file", "leads nowhere"])
async def test_a_directory_that_cannot_be_used_is_this_machines_fault_and_ends_nobody(stage, what):
    if what == "is a file":
        stage.directory.write_text("")
    else:
        stage.directory.symlink_to(stage.directory / "itself")
    host, running = await stage.failed("/bin/true")
    assert host.status.fault is Fault.HOST
    assert "cannot be used for its files" in host.status.detail
    assert not running.done()
    await stage.cancelled(running)
    await host.stop()
    stage.directory.unlink()


async def test_a_place_that_vanishes_under_a_plugin_does_not_end_its_host(stage):
    host, running = await stage.begun(str(go_plugin.build()))
    pid = host.status.pid
    shutil.rmtree(stage.directory)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: host.status.state is not State.SERVING)
    await until(lambda: host.status.state is State.SERVING)
    assert host.status.pid != pid
    assert not running.done()


async def test_a_plugin_may_print_a_mebibyte_with_nobody_reading(stage):
    _, running = await stage.begun(str(go_plugin.build()))
    fd = os.open(stage.directory / "fake/stderr", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) == 1 << 20
    finally:
        os.close(fd)
    assert not running.done()


async def test_one_that_the_python_half_serves_ends_when_asked(stage):
    with capture_logs() as logs:
        host, _ = await stage.begun(*fake_plugin.ARGV)
        assert (await info(host)).name == "fake.rayscaler.io"
        await stage.stopped(host)
    assert [each for each in logs if each["event"] == "plugin.forced"] == []
    assert any("plugin.serves" in each.get("line", "") for each in logs)


class Exhausted(SystemProcesses):
    """A machine that has no descriptor left to await a process with, for a while."""

    lacks = 2

    async def wait(self, identity):
        if self.lacks:
            self.lacks -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await super().wait(identity)


async def test_a_machine_that_runs_out_of_something_is_waited_for(stage):
    stage.processes = Exhausted()
    host, running = await stage.failed(str(go_plugin.build()))
    assert host.status.fault is Fault.HOST
    assert "Too many open files" in host.status.detail
    await until(lambda: host.status.state is State.SERVING)
    assert not running.done()
