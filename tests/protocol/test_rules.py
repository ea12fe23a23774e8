"""No numbered rule of SPEC is forgotten: each is named by a conformance case, or is one that binds the service alone."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.tier("unit")

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "proto/SPEC.md"
OF_THE_SERVICE = {2, 3, 17, 26, 27, 28, 29, 54, 55, 63, 64}
"""No monitor can keep or break these."""
OF_ITS_CONVERSION = {40, 41, 42, 43, 44, 49, 50, 53}
"""Nor these, of what the service makes of a report and for its answer: tests/server names them."""


def numbers(pattern: str, text: str) -> set[int]:
    return {int(number) for found in re.findall(pattern, text) for number in re.findall(r"\d+", found)}


def named_in(directory: Path) -> set[int]:
    cases = "".join(each.read_text("utf-8") for each in sorted(directory.glob("test_*.py")))
    return numbers(r"def test((?:_h\d+)+)_", cases)


def test_no_two_rules_have_one_number():
    numbered = re.findall(r"\*\*H(\d+)\*\*", SPEC.read_text("utf-8"))
    assert sorted(numbered) == sorted(set(numbered))


def test_every_rule_that_binds_a_monitor_is_named_by_a_conformance_case():
    rules = numbers(r"\*\*H(\d+)\*\*", SPEC.read_text("utf-8"))
    assert len(rules) > 50
    named = named_in(HERE)
    assert sorted(rules - OF_THE_SERVICE - OF_ITS_CONVERSION - named) == []
    assert sorted(OF_ITS_CONVERSION - named_in(HERE.parent / "server")) == []
    assert sorted((named | OF_THE_SERVICE | OF_ITS_CONVERSION) - rules) == []
