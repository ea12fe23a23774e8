"""`validate`, `version`, `completion`, and the exit codes that all commands share."""

import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

import rayscaler
from rayscaler.__main__ import cli
from rayscaler.cli.completion import ENABLE, PROGRAM, VARIABLE
from rayscaler.cli.exits import EPILOG, MEANING, Exit
from rayscaler.cli.validate import validate
from rayscaler.cli.version import version

pytestmark = pytest.mark.tier("unit")

ROOT = Path(__file__).parents[2]
GOOD = ROOT / "examples" / "demo.yaml"
FAULTY = ROOT / "tests" / "config" / "faulty"


def run(*args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rayscaler", *args]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, env={**os.environ, **environ})


def test_validate_tells_every_problem_of_every_file_and_exits_2():
    files = [GOOD, FAULTY / "limits.yaml", FAULTY / "missing.yaml", FAULTY / "twice.yaml"]
    result = CliRunner().invoke(validate, [str(each) for each in files])
    assert result.exit_code == Exit.USAGE
    expected = [f"good: {GOOD}: cluster demo, node types: cpu-small, cpu-large, accel"]
    expected += [f"error: {FAULTY}/limits.yaml: {each}" for each in (FAULTY / "limits.txt").read_text().splitlines()]
    expected += [f"error: {FAULTY}/missing.yaml: cannot be read: No such file or directory"]
    expected += [f"error: {FAULTY}/twice.yaml: {each}" for each in (FAULTY / "twice.txt").read_text().splitlines()]
    assert result.output.splitlines() == expected


def test_validate_takes_a_file_with_warnings_and_tells_them(tmp_path):
    path = tmp_path / "hasty.yaml"
    path.write_text(GOOD.read_text().replace("idleTimeout: 10s", "idleTimeout: 1s"))
    result = CliRunner().invoke(validate, [str(path)])
    assert result.exit_code == Exit.DONE
    assert [line.split(": ")[0] for line in result.output.splitlines()] == ["good", "warning"]
    told = json.loads(CliRunner().invoke(validate, ["--json", str(path)]).output)
    (file,) = told["files"]
    assert (file["file"], file["cluster"], file["problems"]) == (str(path), "demo", [])
    assert (file["warnings"][0]["path"], file["warnings"][0]["value"]) == ("spec.idleTimeout", "'1s'")


DEMAND = ROOT / "examples" / "demand.yaml"


def test_validate_knows_a_demand_file_by_its_content_and_the_definition_beside_it():
    result = CliRunner().invoke(validate, [str(DEMAND), str(GOOD)])
    assert result.exit_code == Exit.DONE
    assert result.output.splitlines()[0] == f"good: {DEMAND}: demand file: 2 demands, 1 gang, 1 constraint, 1 node"
    assert len(result.output.splitlines()) == 2
    alone = CliRunner().invoke(validate, [str(DEMAND)])
    assert alone.exit_code == Exit.DONE
    assert alone.output.splitlines()[1:] == [
        f"warning: {DEMAND}: nodes: node types are not checked: give the one definition that they are of as well"
    ]


@pytest.mark.parametrize("is_with_definition", [True, False])
def test_validate_tells_every_problem_of_a_demand_file(tmp_path, is_with_definition):
    path = tmp_path / "demand.yaml"
    path.write_text(
        "demands: [{resources: {CPU: x}, count: 0}]\ngangs: [{}]\nnodes: [{type: cpu-smal, used: {CPU: 99}}, {type: 7}]\ndemands: []\n"
    )
    result = CliRunner().invoke(validate, [str(path), *([str(GOOD)] if is_with_definition else [])])
    assert result.exit_code == Exit.USAGE
    told = [line.removeprefix(f"error: {path}: ") for line in result.output.splitlines() if line.startswith("error: ")]
    assert [each.split(": ")[0] for each in told] == [
        "demands",
        "gangs[0].bundles",
        *["nodes[0].type"] * is_with_definition,
        "nodes[1].type",
    ]
    assert not is_with_definition or "did you mean cpu-small?" in told[2]


def test_a_demand_file_with_a_kind_or_without_a_key_of_one_is_taken_for_a_definition(tmp_path):
    for text in ("kind: Cluster\ndemands: []\n", "demans: []\n", "[]", ""):
        (tmp_path / "x.yaml").write_text(text)
        result = CliRunner().invoke(validate, [str(tmp_path / "x.yaml")])
        assert result.exit_code == Exit.USAGE
        assert "apiVersion" in result.output or "is empty" in result.output


def test_validate_json_tells_a_demand_file_apart(tmp_path):
    told = json.loads(CliRunner().invoke(validate, ["--json", str(DEMAND), str(GOOD)]).output)
    assert [(each["kind"], each["cluster"], each["problems"], each["warnings"]) for each in told["files"]] == [
        ("demand", None, [], []),
        ("cluster", "demo", [], []),
    ]


def test_validate_json_has_path_value_and_rule_apart():
    result = CliRunner().invoke(validate, ["--json", str(FAULTY / "limits.yaml")])
    assert result.exit_code == Exit.USAGE
    (file,) = json.loads(result.output)["files"]
    assert file["cluster"] is None
    assert file["problems"][0] == {"path": "spec.upscalingSpeed", "value": "-1", "rule": "must be a number from 0 to 1000000"}
    assert len(file["problems"]) == 10


def test_version_names_all_four_without_importing_ray():
    found = json.loads(CliRunner().invoke(version, ["--json"]).output)
    assert found.pop("ray") is not None
    assert found == {"rayscaler": rayscaler.__version__, "python": platform.python_version(), "protocol": "rayscaler.api.head.v1"}
    rows = CliRunner().invoke(version).output.splitlines()
    assert [row.split()[0] for row in rows] == ["rayscaler", "python", "protocol", "ray"]


def completed(*words: str) -> list[str]:
    *args, incomplete = words
    return [each.value for each in BashComplete(cli, {}, PROGRAM, VARIABLE).get_completions(list(args), incomplete)]


def test_commands_flags_and_values_are_completed(tmp_path, monkeypatch):
    assert completed("v") == ["validate", "version"]
    assert completed("completion", "") == sorted(ENABLE)
    assert "--json" in completed("validate", "--")
    (tmp_path / "up" / "mine").mkdir(parents=True)
    (tmp_path / "up" / "mine" / "head.json").write_text("{}")
    assert completed("down", "--state-dir", str(tmp_path), "m") == ["mine"]
    assert completed("down", "--state-dir", str(tmp_path), "x") == []
    monkeypatch.setenv("RAYSCALER_STATE_DIR", str(tmp_path))
    for command in ("status", "explain", "monitor"):
        assert completed(command, "--cluster", "m") == ["mine"]


def test_the_exit_codes_are_in_the_help_each_with_its_meaning():
    assert set(MEANING) == set(Exit)
    assert cli.epilog == EPILOG
    assert [line.split()[0] for line in EPILOG.splitlines()[2:]] == ["0", "1", "2", "130"]


def test_every_command_that_prints_has_json():
    prints = set(cli.commands) - {"monitor", "completion", "executor"}
    assert prints >= {"up", "down", "serve", "demo", "status", "validate", "version"}
    assert [name for name in sorted(prints) if not any(each.name == "as_json" for each in cli.commands[name].params)] == []


@pytest.mark.tier("protocol")
def test_each_exit_code_is_what_a_shell_sees(tmp_path):
    assert run("validate", str(GOOD)).returncode == Exit.DONE
    away = run("status", "--service", "127.0.0.1:1")
    assert (away.returncode, away.stdout) == (Exit.FAILED, "")
    assert away.stderr.startswith("error: no service answers at 127.0.0.1:1")
    refused = run("serve", "-f", str(FAULTY / "limits.yaml"), "--state-dir", str(tmp_path))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (Exit.USAGE, 10)
    assert run("validate", "--jsn", str(GOOD)).returncode == Exit.USAGE


@pytest.mark.tier("protocol")
def test_ctrl_c_ends_a_command_with_130_and_a_sentence():
    monitor = subprocess.Popen(
        [sys.executable, "-m", "rayscaler", "monitor", "--cluster", "x", "--gcs", "127.0.0.1:1", "--service", "127.0.0.1:1"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert "monitor" in monitor.stderr.readline()  # it runs: it says that nobody answers
        monitor.send_signal(signal.SIGINT)
        _, said = monitor.communicate(timeout=30)
    finally:
        monitor.kill()
        monitor.wait()
    assert monitor.returncode == Exit.INTERRUPTED
    assert said.splitlines()[-1] == "interrupted: monitor has ended"


@pytest.mark.tier("protocol")
@pytest.mark.parametrize("shell", sorted(ENABLE))
def test_completion_prints_a_script_for_each_shell(shell):
    made = run("completion", shell)
    assert (made.returncode, made.stderr) == (Exit.DONE, "")
    assert VARIABLE in made.stdout


@pytest.mark.tier("protocol")
def test_bash_completes_with_the_printed_script(tmp_path):
    program = tmp_path / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m rayscaler "$@"\n')
    program.chmod(0o755)
    words = 'eval "$(rayscaler completion bash)"; COMP_WORDS=(rayscaler val); COMP_CWORD=1; _rayscaler_completion rayscaler; echo "${COMPREPLY[@]}"'
    environ = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", words], capture_output=True, text=True, timeout=30, check=True, env=environ)
    assert done.stdout.split() == ["validate"]
