"""`rayscaler conformance`: against plugins as processes, in Python and in Go and the local executor; what it lists, writes and leaves behind."""

import asyncio
import contextlib
import json
import re
import signal
import sys
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayscaler.__main__ import cli
from rayscaler.clock import SystemClock
from rayscaler.errors import RayscalerError
from rayscaler.local.executor import terminate_all
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin.conformance import suite
from rayscaler.plugin.conformance.check import Outcome, Patience, Want
from rayscaler.plugin.conformance.lab import Lab
from rayscaler.plugin.conformance.subject import Command
from rayscaler.plugin.conformance.unseen import UNSEEN
from rayscaler.plugin.serve import PluginServer
from rayscaler.processes import SystemProcesses
from rayscaler.testing.fake_executor import FakeMachines
from tests.plugin import fake_plugin, go_plugin, mutants
from tests.plugin.door import dialled, spec
from tests.plugin.judged import NAMES_NOTHING, OF_A_START, OVER_TLS, ROOT, command, failures, skipped, told
from tests.plugin.mutants import Mutant
from tests.plugin.stage import until

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # the first builds Go

SPEC = ROOT / "proto/SPEC.md"
FORGETFUL = {"instances-live-on", "knows-its-specs-after-a-crash"}
"""What plugins fail whose instances are entries of a map and end with them, as both in these tests say that they do."""
HASTE = ("--end-timeout", "20", "--settle", "1")
"""For a plugin of which nothing takes long."""
QUICK = Patience(call_s=4.0, end_s=4.0, settle_s=0.5)


@pytest.fixture(autouse=True)
def _at_root(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("GRPC_VERBOSITY", "NONE")


def test_every_rule_of_the_specification_is_checked_or_has_its_reason():
    rules = set(re.findall(r"^- \*\*(X\d+)\*\*", SPEC.read_text(), re.MULTILINE))
    checked = {rule for each in suite.CHECKS for rule in each.rules}
    assert len(rules) >= 54
    assert checked | set(UNSEEN) == rules
    assert checked & set(UNSEEN) == set(), "a rule that is checked is seen"
    assert all(reason for reason in UNSEEN.values())


def test_names_are_unique_and_every_check_says_what_it_checks():
    names = [each.name for each in suite.CHECKS]
    assert len(set(names)) == len(names)
    assert all(each.sentence.endswith(".") and each.rules for each in suite.CHECKS)


def test_the_list_has_every_check_with_its_rules_and_what_none_can_see():
    asked = CliRunner().invoke(cli, ["conformance", "--list"], terminal_width=400)
    assert asked.exit_code == 0
    for each in suite.CHECKS:
        assert f"{' '.join(each.rules):10}{each.name}: {each.sentence}" in asked.output
    for rule, reason in UNSEEN.items():
        assert f"{rule:10}{reason}" in asked.output


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ((), "give the plugin that is meant"),
        (("--exec", "x", "--address", "unix:///x"), "give the plugin that is meant"),
        (("--exec", "x", "--prefix", "No Good"), "--prefix: 'No Good': must be lower-case letters"),
        (("--exec", "x", "--only", "X14"), "--only: 'X14': what a node registers is seen at Ray's GCS only"),
        (("--exec", "x", "--only", "none"), "--only: 'none': is no check and no rule; --list prints them"),
        (("--address", "ftp://x"), "--address: 'ftp://x': must be a plugin's address: unix:///PATH or dns:///HOST:PORT"),
        (("--address", "dns:///x:1"), "RAYSCALER_EXECUTOR_CA is not set"),
        (("--address", "dns:///x:1", "--ca", "nowhere.crt"), "'nowhere.crt' does not exist"),
        (("--address", "dns:///x:1", "--cert", "README.md"), "RAYSCALER_EXECUTOR_CERT: goes with RAYSCALER_EXECUTOR_KEY"),
        (("--exec", "x", "--node-type", "examples/demo.yaml"), "must be the name of one of its node types: cpu-small, cpu-large, accel"),
        (("--exec", "x", "--node-type", "nowhere.yaml"), "nowhere.yaml: cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(flags, text):
    asked = CliRunner().invoke(cli, ["conformance", *flags])
    assert asked.exit_code in (1, 2)
    assert text in (str(asked.exception) if isinstance(asked.exception, RayscalerError) else asked.output)


def test_a_node_type_is_read_from_a_file_of_its_own_or_from_a_definition(tmp_path):
    from rayscaler.cli.conformance import nodetype

    path = tmp_path / "type.yaml"
    path.write_text("name: big\nresources: {CPU: 8}\ntemplate: {image: x}\n")
    made = nodetype.chosen(path, "", "unix:///run/x")
    assert (made.name, made.resources, json.loads(made.template)) == ("big", Resources.of(CPU=8), {"image": "x"})
    assert nodetype.chosen(ROOT / "examples/demo.yaml", "accel", {"exec": ["x"]}).name == "accel"


class Noting(fake_plugin.Mortal):
    """Notes what it was asked to begin and to end."""

    def __init__(self, machines: FakeMachines) -> None:
        super().__init__(machines)
        self.asked: set[tuple[str, str]] = set()

    async def launch(self, spec):
        self.asked.add((spec.cluster, spec.instance_id))
        return await super().launch(spec)

    async def terminate(self, cluster, instance_id):
        self.asked.add((cluster, instance_id))
        await super().terminate(cluster, instance_id)


@contextlib.asynccontextmanager
async def with_others(socket: Path) -> AsyncIterator[tuple[Noting, list[InstanceObservation]]]:
    """Serve a plugin in Python that has instances of two clusters; gives it, and what it lists of them. In the end it lists the same."""
    machines = FakeMachines(SystemClock(), delays_s=fake_plugin.QUICK_S)
    plugin = Noting(machines)
    server = PluginServer(plugin, name="fake.rayscaler.io")
    await server.start(f"unix:{socket}")
    caller = dialled(socket)

    async def there() -> list[InstanceObservation]:
        return [replace(each, observed_at=0.0) for cluster in ("theirs", "other") for each in await caller.list(cluster)]

    try:
        for cluster, name in (("theirs", "a-1"), ("theirs", "mine-1"), ("other", "a-1")):
            await caller.launch(spec(name, cluster))
        await until(lambda: all(each.phase is Phase.REGISTERING for each in machines.machines.values()))
        before = await there()
        plugin.asked.clear()
        yield plugin, before
        assert await there() == before
    finally:
        await caller.close()
        await server.stop()
        await machines.close()


async def test_a_plugin_in_python_passes_beside_others_instances_and_everything_asked_of_it_has_the_prefix(short_path, monkeypatch):
    address, junit, killed = f"unix://{short_path / 's'}", short_path / "junit.xml", short_path / "killed"
    killed.mkdir()
    monkeypatch.setenv("FAKE_KILLED", str(killed))
    async with with_others(short_path / "s") as (plugin, theirs):
        kill = f"touch {killed}/$INSTANCE_ID"
        code, document = await told(*HASTE, "--address", address, "--junit", str(junit), "--prefix", "mine", "--kill", kill)
        assert len(theirs) == 3
    assert (failures(document), code, document["left"]) == ({}, 0, [])
    assert skipped(document) == {*OF_A_START, *OVER_TLS}
    clusters, ids = ({each[index] for each in plugin.asked} for index in (0, 1))
    assert len(ids) > 20
    assert [each for each in (*clusters, *ids) if not each.startswith("mine-")] == []
    assert document["passed"] + document["skipped"] == len(suite.CHECKS)
    written = ET.parse(junit).getroot()
    (tests,) = written.findall("testsuite")
    assert (tests.get("tests"), tests.get("failures"), tests.get("skipped")) == (str(len(suite.CHECKS)), "0", str(document["skipped"]))
    assert {each.get("name") for each in tests.findall("testcase")} == {each.name for each in suite.CHECKS}


async def test_the_plugin_in_go_fails_only_what_it_says_it_cannot(tmp_path):
    killed = tmp_path / "killed"
    killed.mkdir()
    kill = f"touch {killed}/$INSTANCE_ID"
    code, document = await told(*HASTE, "--exec", str(go_plugin.build()), "--kill", kill, env={"FAKE_KILLED": str(killed)})
    assert (set(failures(document)), code, document["left"]) == (FORGETFUL, 1, []), failures(document)
    assert skipped(document) == {NAMES_NOTHING, *OVER_TLS}


KILL_LOCAL = "import json, os, sys; os.killpg(json.load(open(sys.argv[1]))['identity']['pid'], 9)"


async def test_the_local_executor_as_a_plugin_that_is_started_passes(short_path):
    """Its workers wait for a head that there is none of: nothing here needs one to join."""
    argv = f"{sys.executable} -m rayscaler executor serve local --state-dir {short_path}"
    kill = f'{sys.executable} -c "{KILL_LOCAL}" {short_path}/executor/run/$CLUSTER/$INSTANCE_ID.json'
    try:
        code, document = await told(*HASTE, "--exec", argv, "--kill", kill)
    finally:
        left = await terminate_all(SystemProcesses(), short_path / "executor/run", grace_s=0.0)
    assert (failures(document), code, document["left"], left) == ({}, 0, [], 0)
    assert skipped(document) == OVER_TLS


STARTED = [each for each in suite.CHECKS if each.want is Want.STARTED]


async def started(argv: list[str], directory: Path) -> dict[str, str]:
    """Make the checks that need a started plugin; return the rule that each failed one says is broken."""
    subject = Command(argv, directory, 32 << 20)
    lab = Lab(subject, "started", NodeType("small", Resources.of(CPU=1)), patience=QUICK)
    try:
        results = await suite.run(lab, STARTED, lambda check, result: None)
    finally:
        await subject.close()
    return {each.check.name: each.rule for each in results if each.outcome is Outcome.FAILED}


@pytest.mark.parametrize(
    ("how", "caught"),
    [
        ("honest", {}),
        ("cookieless", {"serves-nobody-without-its-cookie": "X45"}),
        ("stubborn", {"ends-with-sigterm": "X47"}),
        ("slow", {"ends-when-it-is-told-to": "X47", "ends-with-sigterm": "X47"}),  # both wait for its end
        ("unstoppable", {"ends-when-it-is-told-to": "X47"}),
        ("loud", {"prints-no-secrets": "X38"}),
    ],
)
async def test_a_mutant_that_is_started_is_caught_by_the_check_that_should(how, caught, short_path):
    assert await started([sys.executable, "-m", "tests.plugin.started_mutants", how], short_path) == caught


@pytest.mark.parametrize(
    ("how", "rule"), [("noise", "X44"), ("old_core", "X44"), ("exits", "X44"), ("mtls", "X46"), ("elsewhere", "X49"), ("no_health", "X43")]
)
async def test_a_start_that_cannot_go_well_names_its_rule_and_nothing_else_is_tried(how, rule, short_path):
    assert await started([sys.executable, "-m", "tests.plugin.rogue", how], short_path) == {"greets-its-host": rule}


@contextlib.asynccontextmanager
async def slow_world(directory: Path):
    """Serve an honest plugin whose instances take long to come and do not go by themselves."""
    async with mutants.served(Mutant, directory / "s") as subject:
        yield subject


async def test_ctrl_c_ends_everything_that_was_begun(short_path):
    async with slow_world(short_path) as subject:
        made = await command(*HASTE, "--address", subject.address, "--only", "a-watch-tells-what-list-tells", "--only", "X32")
        await until(lambda: subject.machines.machines)
        made.send_signal(signal.SIGINT)
        _, err = await made.communicate()
        assert made.returncode == 130, err.decode()
        assert b"interrupted: what was launched has been ended" in err
        assert subject.machines.machines == {}


async def test_a_cancelled_run_leaves_nothing(short_path):
    async with slow_world(short_path) as subject:
        lab = Lab(subject, "cancelled", NodeType("small", Resources.of(CPU=1)), patience=QUICK)
        running = asyncio.create_task(suite.run(lab, suite.CHECKS, lambda check, result: None))
        await until(lambda: subject.machines.machines)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert subject.machines.machines == {}
        assert lab.alive == set()


async def test_a_plugin_that_is_gone_is_asked_nothing_more_and_what_may_be_left_is_named(short_path):
    async with slow_world(short_path) as subject:
        lab = Lab(subject, "gone", NodeType("small", Resources.of(CPU=1)), patience=replace(QUICK, end_s=1.0, introduce_s=0.5))
        begin = subject.machines.begin
        stopping: list[asyncio.Task] = []
        subject.machines.begin = lambda spec: (begin(spec), stopping.append(asyncio.create_task(subject.stop())))
        results = await suite.run(lab, suite.CHECKS, lambda check, result: None)
        failed = [each.check.name for each in results if each.outcome is Outcome.FAILED]
        assert len(failed) == 1, failed
        assert results[-1].detail == "it does not answer any more"
        assert {key for _, key in lab.alive} >= {spec for _, spec in subject.machines.machines}
        await asyncio.gather(*stopping)


@pytest.mark.parametrize("most", [0, 1])
async def test_never_more_are_alive_than_the_budget(most, short_path):
    async with slow_world(short_path) as subject:
        seen = []
        begin = subject.machines.begin
        subject.machines.begin = lambda spec: (begin(spec), seen.append(len(subject.machines.machines)))
        lab = Lab(subject, "budget", NodeType("small", Resources.of(CPU=1)), max_instances=most, patience=QUICK)
        checks = [each for each in suite.CHECKS if "X32" not in each.rules]
        results = await suite.run(lab, checks, lambda check, result: None)
        assert max(seen, default=0) == most
        assert [each.detail for each in results if each.outcome is Outcome.FAILED] == []
        reasons = {each.check.name: each.detail for each in results if each.outcome is Outcome.SKIPPED}
        assert reasons["lists-all"] == f"needs 3 instances at once, --max-instances is {most}"
