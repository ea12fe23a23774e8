"""Plugins that rayscaler starts keep the promises of the port: one that the real go-plugin serves, and one of some lines of Python."""

import sys

import pytest

from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.host import PluginHost
from rayscaler.plugin.started import Started
from rayscaler.testing import conformance
from tests.plugin import go_plugin
from tests.plugin.conftest import stage  # noqa: F401 - a fixture
from tests.plugin.door import QUICK

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # the first builds Go
cases = pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)

PYTHON = """
import asyncio, os, pathlib
from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.plugin import serve
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines

class Fake(FakeExecutor):
    async def launch(self, spec):
        self.reaping = getattr(self, "reaping", None) or asyncio.create_task(reap())
        return await super().launch(spec)

async def reap():
    killed = pathlib.Path(os.environ["FAKE_KILLED"])
    while True:
        for each in killed.iterdir():
            machines.lose(each.name)
            each.unlink()
        await asyncio.sleep(0.02)

machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys((Phase.UNSCHEDULED, Phase.STARTING, Phase.REGISTERING, Phase.ENDING), 0.05))
serve(Fake(machines), name="fake.rayscaler.io", version="0.1")
"""


class Harness:
    patience_s = 30.0

    def __init__(self, host: PluginHost, killed) -> None:
        self._host = host
        self._killed = killed

    def executor(self) -> Executor:
        return PluginExecutor(Started(self._host), timings=QUICK)

    def spec(self, instance_id: str) -> LaunchSpec:
        return LaunchSpec("c", instance_id, NodeType("small", Resources.of(CPU=1), labels=(("zone", "a"),)), "192.0.2.9:6379")

    async def kill(self, instance_id: str) -> None:
        (self._killed / instance_id).touch()


@cases
@pytest.mark.parametrize("language", ["go", "python"])
async def test_a_started_plugin_conforms(case, language, stage, tmp_path, monkeypatch):  # noqa: F811 - the fixture
    killed = tmp_path / "killed"
    killed.mkdir()
    monkeypatch.setenv("FAKE_KILLED", str(killed))
    argv = [str(go_plugin.build())] if language == "go" else [sys.executable, "-c", PYTHON]
    host, _ = await stage.begun(*argv)
    await case(Harness(host, killed))
