"""A supervisor's command line is a golden; its exit codes are told in words."""

import sys
from pathlib import Path

import pytest

from rayscaler import rejoin
from rayscaler.executor import exits
from rayscaler.local import supervisor
from rayscaler.local.rundir import RunDir
from rayscaler.model.instance import Phase

pytestmark = pytest.mark.tier("unit")


def test_a_worker_runs_under_the_file_itself():
    assert supervisor.argv(["ray", "start", "--block"], gcs="192.0.2.9:6379", socket_path=Path("/s"), lock_path=Path("/l")) == [
        *(sys.executable, "-I", "-S", rejoin.__file__, "worker"),
        *("--gcs", "192.0.2.9:6379", "--socket", "/s", "--lock", "/l", "--", "ray", "start", "--block"),
    ]
    assert "--lock" not in supervisor.argv(["ray"], gcs="192.0.2.9:6379", socket_path=Path("/s"), lock_path=None)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (rejoin.DRAINED, "its node was drained"),
        (rejoin.NOT_RUNNABLE, "`ray` cannot be run"),
        (1, "exit code 1"),
        (-9, "killed by signal 9"),
        (None, "exit code unknown (started by an earlier process)"),
    ],
)
def test_an_exit_code_is_told_in_words(code, words):
    assert exits.meaning(code) == words


@pytest.mark.parametrize(
    ("state", "phase", "is_settled"),
    [
        ("starting", Phase.STARTING, False),
        ("running", Phase.REGISTERING, True),
        ("waiting", Phase.STARTING, True),
        ("rejoining", Phase.STARTING, False),
    ],
)
def test_a_state_is_a_phase(state, phase, is_settled):
    status = supervisor.Status(state, "")
    assert (status.phase, status.is_settled) == (phase, is_settled)


def test_a_socket_that_nobody_answers_tells_nothing(tmp_path):
    assert supervisor.peek(tmp_path / "none") is None


def test_the_socket_of_a_long_id_has_a_short_name_and_no_other_instances(tmp_path):
    rundir = RunDir(tmp_path)
    paths = [rundir.socket_path("c", "i" * 190 + str(index)) for index in range(2)]
    assert paths[0] != paths[1]
    assert max(len(path.name) for path in paths) < 30
