"""What the gate does less of, the soak does in full."""

from pathlib import Path

import pytest

from tests import counts, soak

pytestmark = pytest.mark.tier("unit")

ROOT = Path(__file__).parents[1]


def test_it_is_little_in_the_gate_and_all_where_the_soak_says_so(monkeypatch):
    monkeypatch.delenv(counts.IN_FULL, raising=False)
    assert counts.counted(gate=1, full=10) == 1
    monkeypatch.setenv(counts.IN_FULL, "1")
    assert counts.counted(gate=1, full=10) == 10


def test_the_soak_runs_every_file_that_asks():
    paths = set((ROOT / "tests").rglob("*.py")) - {Path(__file__)}
    asking = {path.relative_to(ROOT) for path in paths if "counted(gate=" in path.read_text()}
    assert asking
    assert {work.keywords["path"] for name, work in soak.rounds() if name.startswith("in full ")} == asking
