"""A plugin that the real go-plugin serves: started, called, heard, stopped, taken over."""

import asyncio
import os
import shutil
import signal
import sys
from pathlib import Path

import grpc
import pytest
from structlog.testing import capture_logs

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.api.executor.v1 import executor_pb2_grpc
from rayscaler.errors import Unavailable
from rayscaler.plugin.faults import Fault, State
from tests.plugin import go_plugin
from tests.plugin.stage import until

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # the first builds Go


ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program() -> str:
    return str(go_plugin.build())


def inside(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


def mode(path: Path) -> str:
    return oct(path.stat().st_mode & 0o777)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def info(host) -> pb.GetInfoResponse:
    return await executor_pb2_grpc.ExecutorServiceStub(await host.channel()).GetInfo(pb.GetInfoRequest(protocol_version=1), timeout=5)


@pytest.mark.parametrize("length", [0, 90], ids=["in the run directory", "in a run directory with a path too long for a socket"])
async def test_it_is_started_called_and_stopped_and_nothing_is_left(stage, program, short_path, length):
    stage.directory = short_path / ("p" * length)
    host, _ = await stage.begun(program)
    assert host.status.state is State.SERVING
    answer = await info(host)
    assert (answer.name, answer.protocol_version) == ("fake.rayscaler.io", 1)
    assert int(answer.manifest["pid"]) == host.status.pid
    sockets = stage.sockets("fake")
    assert (stage.directory in sockets.parents) == (length == 0)
    assert [each.is_socket() for each in inside(sockets)] == [True]
    assert [mode(sockets), mode(stage.directory / "fake")] == ["0o700", "0o700"]
    pid = host.status.pid
    with capture_logs() as logs:
        await stage.stopped(host)
    assert not [each for each in logs if each["event"] == "plugin.forced"]  # asking was enough
    assert not is_there(pid)
    assert inside(stage.directory) == inside(sockets) == []
    with pytest.raises(Unavailable, match="the plugin fake is stopped"):
        await host.channel()


async def test_what_it_prints_is_in_our_log_line_by_line_on_whatever_way_it_comes(stage, program):
    with capture_logs() as logs:
        host, _ = await stage.begun(program)
        await info(host)

        def heard():
            return {(each["stream"], each["line"], each["log_level"]) for each in logs if each["event"] == "plugin.output"}

        await until(lambda: len([each for each in heard() if "ask" in each[1] or "other" in each[1] or "told" in each[1]]) == 3)
    assert ("stdout", "asked who this is", "info") in heard()  # streamed by go-plugin
    assert ("stderr", "and on the other channel too", "info") in heard()
    assert ("stderr", f"fake: told who this is pid={host.status.pid}", "info") in heard()  # hclog's JSON, from the pipe
    assert any(level == "debug" and "plugin address" in line for _, line, level in heard())


async def test_one_that_dies_is_started_again_and_calls_meanwhile_name_why(stage, program):
    host, _ = await stage.begun(program)
    first = host.status.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: host.status.state is State.WAITING)
    assert host.status.fault is Fault.CRASHED
    with pytest.raises(Unavailable, match=r"(?s)CRASHED: it was ended by signal 9 \(SIGKILL\) unasked.*it is started again in"):
        await host.channel()
    await until(lambda: host.status.state is State.SERVING)
    assert host.status.pid != first
    assert host.status.starts == 2
    assert (await info(host)).name == "fake.rayscaler.io"


async def test_a_call_under_way_when_it_dies_is_unavailable_and_no_cancelled_task(stage, program):
    host, _ = await stage.begun(program)
    watching = executor_pb2_grpc.ExecutorServiceStub(await host.channel()).Watch(pb.WatchRequest(cluster="one"))
    assert (await watching.read()).bookmark
    reading = asyncio.create_task(watching.read())
    os.kill(host.status.pid, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reading
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_the_next_service_takes_over_what_the_one_before_left_running(stage, program):
    first, running = await stage.begun(program)
    pid = first.status.pid
    launch = pb.LaunchRequest(
        cluster="one", specs=[pb.LaunchSpec(instance_id="a", node_type=pb.NodeType(name="small"), head_address="192.0.2.1:1")]
    )
    await executor_pb2_grpc.ExecutorServiceStub(await first.channel()).Launch(launch, timeout=5)
    await stage.cancelled(running)
    await first.leave()
    with capture_logs() as logs:
        second, _ = await stage.begun(program)
        assert second.status.pid == pid
        listed = await executor_pb2_grpc.ExecutorServiceStub(await second.channel()).List(pb.ListRequest(cluster="one"), timeout=5)
        assert [each.instance_id for each in listed.observations] == ["a"]
        await info(second)
        await until(lambda: any(each.get("line") == "asked who this is" for each in logs))
        await until(lambda: any("told who this is" in each.get("line", "") for each in logs))
    await stage.stopped(second)
    assert not is_there(pid)


async def test_a_killed_services_plugin_lives_on_prints_on_and_is_taken_over(stage, program):
    """With a pipe whose reader is gone it would end at its next line on stderr."""
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.plugin.hosting", str(stage.directory), program, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    said = b""
    while not said.strip().isdigit():  # its log goes there too
        said = await service.stdout.readline()
        assert said
    pid = int(said)
    service.kill()
    await service.wait()
    os.kill(pid, signal.SIGUSR1)
    with capture_logs() as logs:
        host, _ = await stage.begun(program)
        await until(lambda: any(each.get("line") == "fake: still here" for each in logs))
    assert host.status.pid == pid
    assert (await info(host)).manifest["pid"] == str(pid)
    os.kill(pid, signal.SIGKILL)  # which is seen though it is no child of ours
    await until(lambda: host.status.fault is Fault.CRASHED)
    await until(lambda: host.status.state is State.SERVING)
    assert host.status.pid != pid


async def test_another_program_under_the_same_name_is_not_taken_over(stage, program, tmp_path):
    copy = tmp_path / "copy"
    shutil.copy(program, copy)
    first, running = await stage.begun(str(copy))
    pid = first.status.pid
    await stage.cancelled(running)
    await first.leave()
    os.utime(copy, (1, 1))  # as a new version would have another time
    second, _ = await stage.begun(str(copy))
    assert second.status.pid != pid
    assert not is_there(pid)


async def test_what_a_host_above_us_told_us_as_its_plugin_is_not_told_on(stage, program, monkeypatch):
    for name in ("PLUGIN_CLIENT_CERT", "PLUGIN_MULTIPLEX_GRPC", "PLUGIN_UNIX_SOCKET_GROUP"):
        monkeypatch.setenv(name, "nobody")  # any of them would make it end, or speak otherwise
    host, _ = await stage.begun(program)
    assert (await info(host)).name == "fake.rayscaler.io"


@pytest.mark.parametrize(
    ("variables", "fault", "text"),
    [
        ({"FAKE_APP_VERSION": "7"}, Fault.WRONG_APP_VERSION, "it speaks version 7, rayscaler 1, of the executor protocol"),
        ({"FAKE_COOKIE": "another"}, Fault.WRONG_COOKIE, "it does not know RAYSCALER_PLUGIN=executor.v1"),
        ({"FAKE_NETRPC": "1"}, Fault.WRONG_PROTOCOL, "it speaks 'netrpc', rayscaler only grpc"),
    ],
    ids=["another version of the protocol", "another cookie", "net/rpc"],
)
async def test_what_the_real_go_plugin_may_say_instead_has_a_name_and_an_advice(stage, program, monkeypatch, variables, fault, text):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    host, _ = await stage.failed(program)
    assert host.status.fault is fault
    assert text in host.status.detail
