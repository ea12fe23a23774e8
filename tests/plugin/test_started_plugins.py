"""Plugins that rayscaler starts keep the promises of the port: one that the real go-plugin serves, and one of some lines of Python."""

from pathlib import Path

import pytest

from rayscaler.plugin.host import PluginHost
from tests.plugin import fake_plugin, go_plugin
from tests.plugin.door import Hosted, cases

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # the first builds Go


class Harness(Hosted):
    def __init__(self, host: PluginHost, killed: Path) -> None:
        super().__init__(host)
        self._killed = killed

    async def kill(self, instance_id: str) -> None:
        (self._killed / instance_id).touch()


@cases
@pytest.mark.parametrize("language", ["go", "python"])
async def test_a_started_plugin_conforms(case, language, stage, tmp_path, monkeypatch):
    killed = tmp_path / "killed"
    killed.mkdir()
    monkeypatch.setenv("FAKE_KILLED", str(killed))
    argv = [str(go_plugin.build())] if language == "go" else fake_plugin.ARGV
    host, _ = await stage.begun(*argv)
    await case(Harness(host, killed))
