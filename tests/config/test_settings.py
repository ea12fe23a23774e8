"""Process settings: read once, flags win, nonsense is refused by name."""

from dataclasses import fields
from pathlib import Path

import pytest

from rayscaler.errors import InvalidRequest
from rayscaler.settings import ServiceSettings, Timings

pytestmark = pytest.mark.tier("unit")


def test_nothing_set_gives_the_defaults_and_an_empty_variable_counts_as_not_set():
    empty = dict.fromkeys(("RAYSCALER_LISTEN", "RAYSCALER_STATE_DIR", "RAYSCALER_MAX_MESSAGE_BYTES", "RAYSCALER_TIME_FACTOR"), "")
    assert ServiceSettings.from_env(empty) == ServiceSettings.from_env({})
    assert ServiceSettings.from_env({}).listen == "127.0.0.1:6380"
    assert ServiceSettings.from_env({}).state_dir == Path("~/.rayscaler").expanduser()


def test_flags_win_over_the_environment():
    env = {"RAYSCALER_LISTEN": "a:1", "RAYSCALER_STATE_DIR": "/env"}
    assert ServiceSettings.from_env(env).listen == "a:1"
    assert ServiceSettings.from_env(env).state_dir == Path("/env")
    flagged = ServiceSettings.from_env(env, listen="b:2", state_dir=Path("/flag"))
    assert (flagged.listen, flagged.state_dir) == ("b:2", Path("/flag"))


def test_the_time_factor_divides_every_duration():
    timings = ServiceSettings.from_env({"RAYSCALER_TIME_FACTOR": "10"}).timings
    assert {f.name: getattr(timings, f.name) * 10 for f in fields(timings)} == pytest.approx(
        {f.name: getattr(Timings(), f.name) for f in fields(timings)}
    )


@pytest.mark.parametrize("name", ["RAYSCALER_TIME_FACTOR", "RAYSCALER_MAX_MESSAGE_BYTES"])
@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e30"])
def test_a_number_that_makes_no_sense_is_refused_by_name(name, text):
    with pytest.raises(InvalidRequest, match=f"{name}: '{text}' is not a number above 0"):
        ServiceSettings.from_env({name: text})
