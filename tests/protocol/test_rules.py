"""No numbered rule of SPEC is forgotten: each is named by a conformance case, or is one that binds the service alone."""

import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.tier("unit")

HERE = Path(__file__).parent
SPEC = HERE.parents[1] / "proto/SPEC.md"
OF_THE_SERVICE = {2, 3, 17, 26, 27, 28, 29, 54, 55}
"""No monitor can keep or break these."""


def numbers(pattern: str, text: str) -> set[int]:
    return {int(number) for found in re.findall(pattern, text) for number in re.findall(r"\d+", found)}


def test_every_rule_that_binds_a_monitor_is_named_by_a_conformance_case():
    rules = numbers(r"\*\*H(\d+)\*\*", SPEC.read_text("utf-8"))
    assert len(rules) > 50
    cases = "".join(each.read_text("utf-8") for each in sorted(HERE.glob("test_*.py")))
    named = numbers(r"def test((?:_h\d+)+)_", cases)
    assert sorted(rules - OF_THE_SERVICE - named) == []
    assert sorted(named - rules) == []
    assert sorted(OF_THE_SERVICE - rules) == []
