"""`rayscaler executor serve`: a built-in executor behind a plugin's door, as a process of its own."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest
from click.testing import CliRunner

from rayscaler.__main__ import cli
from rayscaler.errors import InvalidRequest
from rayscaler.local.executor import terminate_all
from rayscaler.processes import SystemProcesses
from tests.config.test_file import text
from tests.plugin.door import dialled, listed, spec

pytestmark = pytest.mark.tier("protocol")


@contextlib.asynccontextmanager
async def process(*argv: str, **options) -> AsyncIterator[asyncio.subprocess.Process]:
    made = await asyncio.create_subprocess_exec(sys.executable, "-m", "rayscaler", *argv, **options)
    try:
        yield made
    finally:
        if made.returncode is None:
            made.terminate()
        await made.wait()


async def test_the_local_executor_is_served_at_a_socket_and_its_instances_live_over_its_restart(short_path):
    socket, state = short_path / "s", short_path / "state"
    argv = ("executor", "serve", "local", "--listen", f"unix://{socket}", "--state-dir", str(state))
    async with process(*argv) as first:
        executor = dialled(socket)
        assert await listed(executor) == []
        watch = executor.watch("c")
        assert await executor.launch(spec("a")) == "a"
        assert (await anext(watch)).instance_id == "a"
        assert [each.instance_id for each in await executor.list("c")] == ["a"]
        async with process(*argv[:4], f"unix://{short_path / 'other'}", *argv[5:], stderr=asyncio.subprocess.PIPE) as second:
            _, said = await second.communicate()
            assert (second.returncode, b"another executor holds it" in said) == (1, True)
        first.terminate()
        assert await first.wait() == 0
    async with process(*argv):
        assert await listed(executor) == ["a"]
        await executor.close()
    assert await terminate_all(SystemProcesses(), state / "executor/run", grace_s=0.0) == 1


def test_without_an_address_or_a_namespace_it_says_what_is_missing():
    asked = CliRunner().invoke(cli, ["executor", "serve", "local"], env={"RAYSCALER_PLUGIN": ""})
    assert isinstance(asked.exception, InvalidRequest)
    assert "--listen: give an address" in str(asked.exception)
    asked = CliRunner().invoke(cli, ["executor", "serve", "k8s", "--listen", "unix:///run/x"], env={"RAYSCALER_NAMESPACE": ""})
    assert asked.exit_code == 2
    assert "-n before the command" in asked.output


def test_an_address_that_is_none_is_refused_before_anything_is_done(tmp_path):
    asked = CliRunner().invoke(cli, ["executor", "serve", "local", "--listen", "unix:///", "--state-dir", str(tmp_path / "state")])
    assert isinstance(asked.exception, InvalidRequest)
    assert str(asked.exception).startswith("--listen: 'unix:///': is nowhere to listen: give unix:///PATH")
    assert not (tmp_path / "state").exists()


def test_plain_text_is_not_served_to_everybody():
    asked = CliRunner().invoke(cli, ["executor", "serve", "local", "--listen", "0.0.0.0:0", "--state-dir", "/tmp/never"])
    assert "is served over TLS only" in str(asked.exception)


def test_up_takes_no_plugin_whose_instances_down_could_not_end(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(text("small", executor="unix:///run/executor.sock"))
    asked = CliRunner().invoke(cli, ["up", "-f", str(path), "--state-dir", str(tmp_path / "state")])
    assert "with a plugin run `rayscaler serve`" in str(asked.exception)
    assert not (tmp_path / "state").exists()
