"""The example in Go for machines reached by SSH: its own tests, what it is made of, and the conformance of its workers through a host."""

import os
import shlex
import subprocess
import sys

import pytest

from rayscaler.plugin.host import PluginHost
from tests.cluster import binary
from tests.plugin import fleet, judged
from tests.plugin.door import Hosted, cases, listed

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600)]
machines = pytest.mark.skipif(bool(fleet.missing()), reason=fleet.missing())
KILL = "import json, os, sys; os.kill(json.load(open(sys.argv[1]))['pid'], 9)"


class Harness(Hosted):
    """Two machines with room for all that a case launches."""

    patience_s = 60.0
    head = fleet.HEAD

    def __init__(self, host: PluginHost, machines: fleet.Fleet) -> None:
        super().__init__(host)
        self._machines = machines

    async def kill(self, instance_id: str) -> None:
        record = f"/tmp/rayscaler-ssh/c/{instance_id}.json"
        assert any(self._machines.on(each, "python3", "-c", KILL, record).returncode == 0 for each in ("m1", "m2"))


async def reached(harness: Harness) -> None:
    """Wait until the plugin has tried all machines: until then it is not ready, which its caller asks again."""
    executor = harness.executor()
    await listed(executor)
    await executor.close()


@machines
@cases
async def test_it_conforms_on_machines_with_a_stand_in_for_ray(case, stage, tmp_path):
    async with fleet.running(tmp_path, 2, workers=4) as running:
        host, _ = await stage.begun(*running.plugin())
        harness = Harness(host, running)
        await reached(harness)
        await case(harness)


@machines
async def test_it_keeps_every_rule_that_can_be_seen(tmp_path):
    async with fleet.running(tmp_path, 2, workers=4) as running:
        record = "/tmp/rayscaler-ssh/$CLUSTER/$INSTANCE_ID.json"
        kill = " || ".join(f'TESTBED={running.directory} {fleet.TESTBED} on {each} python3 -c "{KILL}" {record}' for each in ("m1", "m2"))
        what = ("--end-timeout", "60", "--head", fleet.HEAD, "--exec", shlex.join(running.plugin()), "--kill", kill)
        code, document = await judged.told(*what)
    assert (judged.failures(document), code, document["left"]) == ({}, 0, [])
    assert judged.skipped(document) == {judged.NAMES_NOTHING, *judged.OVER_TLS}


@machines
def test_its_own_tests_pass_on_machines_with_a_real_sshd():
    print(binary.run_go(fleet.SOURCE, "test", "-count=1", "./..."))


def test_it_is_made_with_the_real_go_plugin_and_ssh():
    packages = set(binary.run_go(fleet.SOURCE, "list", "-deps", ".").split())
    assert {"github.com/hashicorp/go-plugin", "golang.org/x/crypto/ssh", "rayscaler.io/api/executor/v1"} <= packages


def test_its_modules_are_verified():
    binary.run_go(fleet.SOURCE, "mod", "verify")


def test_by_hand_it_says_what_it_is_and_what_is_wrong_with_a_fleet(tmp_path):
    program, file = fleet.build(), tmp_path / "fleet.yaml"
    file.write_text("machines:\n- {name: a, workers: 0}\n")
    done = subprocess.run([program, "-fleet", file, "-check"], check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "machines[0].hostKey: is missing" in done.stderr
    assert "machines[0].workers: 0: must be 1 at least" in done.stderr


@machines
@pytest.mark.tier("ray")
def test_its_demo_runs_a_real_ray_on_two_machines_over_the_loss_of_plugin_and_head():
    env = {**os.environ, "PYTHON": sys.executable, "PATH": binary.PATH}
    done = subprocess.run([fleet.SOURCE / "demo.sh"], env=env, check=False, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr
    assert "all of it was seen" in done.stdout
