"""Where Ray's token is found."""

import pytest

from rayscaler.monitor.auth import TokenSource

pytestmark = pytest.mark.tier("unit")


@pytest.fixture
def places(tmp_path):
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("from-home\n")
    (tmp_path / "named").write_text(" from-file \n")
    return {"RAY_AUTH_TOKEN": "from-env", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "named"), "HOME": str(tmp_path)}


@pytest.mark.parametrize(
    ("without", "token"),
    [
        ((), "from-env"),
        (("RAY_AUTH_TOKEN",), "from-file"),
        (("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"), "from-home"),
        (("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "HOME"), ""),
    ],
)
def test_places_are_searched_in_rays_order(places, without, token):
    environ = {key: value for key, value in places.items() if key not in without}
    assert TokenSource(environ).read() == token


def test_a_replaced_file_is_read_anew(places, tmp_path):
    source = TokenSource({"RAY_AUTH_TOKEN_PATH": places["RAY_AUTH_TOKEN_PATH"]})
    assert source.read() == "from-file"
    (tmp_path / "named").write_text("rotated")
    assert source.read() == "rotated"


def test_the_mode_disabled_sends_none(places):
    assert TokenSource({**places, "RAY_AUTH_MODE": "disabled"}).read() == ""


@pytest.mark.parametrize("without", [(), ("RAY_AUTH_TOKEN",), ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")])
def test_the_description_names_the_place_and_never_the_token(places, without):
    source = TokenSource({key: value for key, value in places.items() if key not in without})
    assert source.read() not in source.describe()
    assert "from" in source.describe()
