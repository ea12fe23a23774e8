"""The smallest example in Python keeps the protocol's rules, its crashes in the middle included."""

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayscaler.__main__ import cli
from tests.plugin.judged import failures

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]

EXAMPLE = Path(__file__).parents[2] / "examples/plugin-python/smallest.py"


def test_the_smallest_example_conforms(tmp_path):
    command = shlex.join([sys.executable, str(EXAMPLE), str(tmp_path / "machines")])
    made = CliRunner().invoke(cli, ["conformance", "--exec", command, "--json"])
    assert (failures(json.loads(made.stdout)), made.exit_code) == ({}, 0)
