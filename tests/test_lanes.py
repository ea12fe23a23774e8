"""The two lanes of the gate."""

import sys

import pytest

from tests import lanes
from tests.conftest import TIERS

pytestmark = pytest.mark.tier("unit")


def test_every_tier_but_e2e_has_one_lane():
    assert sorted(",".join(lanes.LANES.values()).split(",")) == sorted(set(TIERS) - {"e2e"})


@pytest.mark.parametrize(("codes", "exit_code"), [((0, 0), 0), ((0, 5), 0), ((5, 5), 5), ((0, 1), 1), ((5, 2), 1), ((-9, 0), 1)])
def test_one_lane_that_fails_fails_all_and_one_without_tests_does_not(codes, exit_code):
    assert lanes.verdict(codes) == exit_code


def test_lanes_run_at_once_and_each_line_has_its_lanes_name(capfd, tmp_path):
    # each waits for what the other wrote: one after the other they would never end
    meet = "import sys, time, pathlib; a, b = map(pathlib.Path, sys.argv[1:]); a.touch(); print('here')\nwhile not b.exists(): time.sleep(0.01)"
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    code = lanes.run({"one": [sys.executable, "-c", meet, a, b], "two": [sys.executable, "-c", meet + "\nsys.exit(3)", b, a]})
    assert code == 1
    assert sorted(capfd.readouterr().out.splitlines()) == ["one | here", "two | here"]
