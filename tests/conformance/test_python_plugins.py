"""The examples in Python keep the protocol's rules, their crashes in the middle included."""

import ast
import shlex
import sys
from pathlib import Path

import pytest

from tests.plugin.judged import NAMES_NOTHING, OVER_TLS, failures, skipped, told

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]

EXAMPLES = Path(__file__).parents[2] / "examples/plugin-python"


def test_the_smallest_has_30_lines_besides_its_imports():
    text = (EXAMPLES / "smallest.py").read_text()
    body = ast.parse(text).body
    beside = [each for each in body if isinstance(each, ast.Import | ast.ImportFrom) or (isinstance(each, ast.Expr) and each is body[0])]
    left_out = {number for each in beside for number in range(each.lineno, each.end_lineno + 1)}
    lines = [line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in left_out]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 30


KILL = """for each in /proc/[0-9]*; do
  if grep -qsF "\\"instance_id\\": \\"$INSTANCE_ID\\"" $each/environ; then kill -9 ${each#/proc/}; fi
done"""
"""An instance of processes.py has in its environment who it is."""


@pytest.mark.parametrize(
    ("words", "kill", "unmade"),
    [
        (("smallest.py", "machines"), (), {"a-death-is-told"}),  # entries of a file that it holds do not die by themselves
        (("processes.py", "sleep", "600"), ("--kill", KILL), set()),
    ],
    ids=["smallest.py", "processes.py"],
)
async def test_an_example_conforms(tmp_path, monkeypatch, words, kill, unmade):
    monkeypatch.chdir(tmp_path)
    command = shlex.join([sys.executable, str(EXAMPLES / words[0]), *words[1:]])
    code, document = await told("--exec", command, *kill)
    assert (failures(document), code, document["left"]) == ({}, 0, [])
    assert skipped(document) == {NAMES_NOTHING, *OVER_TLS, *unmade}
