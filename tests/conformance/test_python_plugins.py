"""The examples in Python keep the protocol's rules, their crashes in the middle included."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayscaler.__main__ import cli
from tests.plugin.judged import failures

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples/plugin-python"


@pytest.mark.parametrize("words", [("smallest.py", "machines"), ("processes.py", "sleep", "600")], ids=lambda words: words[0])
def test_an_example_conforms(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    command = shlex.join([sys.executable, str(EXAMPLES / words[0]), *words[1:]])
    made = CliRunner().invoke(cli, ["conformance", "--exec", command, "--json"])
    assert (failures(json.loads(made.stdout)), made.exit_code) == ({}, 0)
