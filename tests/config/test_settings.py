"""Process settings: read once, flags win, nonsense is refused by name."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from rayscaler.errors import InvalidRequest
from rayscaler.settings import NamespaceSettings, PluginSettings, ServiceSettings, Timings, TlsFiles, WebhookSettings

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


def test_the_budget_of_a_plan_is_a_duration_like_the_others():
    env = {"RAYSCALER_PLAN_BUDGET_S": "0.5", "RAYSCALER_TIME_FACTOR": "10"}
    assert ServiceSettings.from_env(env).timings.plan_budget_s == pytest.approx(0.05)


@pytest.mark.parametrize("name", ["RAYSCALER_PLAN_BUDGET_S", "RAYSCALER_TIME_FACTOR", "RAYSCALER_MAX_MESSAGE_BYTES"])
@pytest.mark.parametrize("text", ["0", "-1", "x", "nan", "inf", "1e30"])
def test_a_number_that_makes_no_sense_is_refused_by_name(name, text):
    with pytest.raises(InvalidRequest, match=f"{name}: '{text}' is not a number above 0"):
        ServiceSettings.from_env({name: text})


def test_the_files_of_a_connection_to_plugins_are_read_and_a_certificate_goes_with_its_key():
    env = {f"RAYSCALER_EXECUTOR_{each}": f"/tls/{each}" for each in ("CA", "CERT", "KEY")}
    assert ServiceSettings.from_env(env).executor_tls == TlsFiles(Path("/tls/CA"), Path("/tls/CERT"), Path("/tls/KEY"))
    with pytest.raises(InvalidRequest, match="RAYSCALER_EXECUTOR_CERT: goes with RAYSCALER_EXECUTOR_KEY"):
        ServiceSettings.from_env({"RAYSCALER_EXECUTOR_CERT": "/tls/CERT"})


def test_a_plugin_knows_its_host_by_the_cookie_alone():
    assert PluginSettings.from_env({"RAYSCALER_PLUGIN": "executor.v1"}).is_child
    for other in ({}, {"RAYSCALER_PLUGIN": "executor.v2"}, {"RAYSCALER_PLUGIN": ""}):
        assert not PluginSettings.from_env(other).is_child


@pytest.mark.parametrize("given", [("CERT",), ("KEY",), ("CA",), ("CA", "KEY")], ids=" ".join)
def test_a_plugin_at_an_address_has_a_certificate_and_its_key_or_none(given):
    with pytest.raises(InvalidRequest, match=r"RAYSCALER_PLUGIN_(CERT|CA): goes with RAYSCALER_PLUGIN_(KEY|CERT and)"):
        PluginSettings.from_env({f"RAYSCALER_PLUGIN_{each}": "/x" for each in given})
    assert PluginSettings.from_env({}, listen="unix:///x") == PluginSettings(listen="unix:///x")


BAD = ["unix:", "unix:///", "unix:///run/", "unix:///run//x", "unix:x", "unix://x", "unix:/x", f"unix:///{'x' * 107}", "unix:///a b"]
BAD += [
    ":6390",
    "host",
    "host:",
    "host:x",
    "host:-1",
    "host:65536",
    "host:6390 ",
    "::1:6390",
    "dns:///host:6390",
    "http://host:1",
    "a,b:1",
    "h:²",
]


@pytest.mark.parametrize("address", BAD)
def test_a_plugin_listens_at_no_address_that_is_none(address):
    with pytest.raises(InvalidRequest) as told:
        PluginSettings.from_env({"RAYSCALER_PLUGIN_LISTEN": address})
    assert str(told.value).startswith(f"RAYSCALER_PLUGIN_LISTEN: {address!r}: is nowhere to listen: give unix:///PATH")
    with pytest.raises(InvalidRequest, match=f"--listen: {re.escape(repr(address))}: is nowhere"):
        PluginSettings.from_env({}, listen=address)
    env = {"RAYSCALER_PLUGIN": "executor.v1", "RAYSCALER_PLUGIN_LISTEN": address}
    assert PluginSettings.from_env(env).is_child, "whom a host starts listens where the host says"


@pytest.mark.parametrize(
    "address", ["unix:///x", f"unix:///run/{'x' * 102}", "127.0.0.1:0", "localhost:65535", "0.0.0.0:6390", "[::]:6390", "[::1]:1"]
)
def test_a_plugin_listens_at_a_socket_or_a_port(address):
    assert PluginSettings.from_env({}, listen=address).listen == address


def test_the_service_of_a_namespace_may_have_its_workers_made_by_a_plugin():
    assert NamespaceSettings.from_env("ns", {}).executor == ""
    assert NamespaceSettings.from_env("ns", {"RAYSCALER_EXECUTOR": "unix:///run/executor.sock"}).executor == "unix:///run/executor.sock"


def test_how_fast_pods_are_made_is_a_setting_of_a_namespace():
    assert NamespaceSettings.from_env("ns", {}).calls_per_second == 500
    assert NamespaceSettings.from_env("ns", {"RAYSCALER_CALLS_PER_SECOND": "20"}).calls_per_second == 20
    with pytest.raises(InvalidRequest, match="RAYSCALER_CALLS_PER_SECOND: '0' is not a number above 0"):
        NamespaceSettings.from_env("ns", {"RAYSCALER_CALLS_PER_SECOND": "0"})


GOOD_URLS = [
    "http://x",
    "http://127.0.0.1:8080/a?b=c",
    "https://[::1]:8443/",
    "HTTPS://alerts.ml.svc/hook",
    "http://x/a@b",
    "http://x/?u=//y@z",
]
BAD_URLS = [
    "x",
    "x:80",
    "ftp://x",
    "http:/x",
    "http://",
    "http://:80",
    "http://x:0",
    "http://x:",
    "http://x:99999",
    "http://x:y",
    "http://a b/",
]
BAD_URLS += ["http://x/#a", "http://x/\n", "http://x\\y", "http://[::1", "http://x_y/é", "http://*/"]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_webhook_is_an_address_of_http(url):
    assert ServiceSettings.from_env({"RAYSCALER_WEBHOOK_URL": url}).webhook == WebhookSettings(url)
    assert ServiceSettings.from_env({"RAYSCALER_WEBHOOK_URL": ""}).webhook == WebhookSettings()


@pytest.mark.parametrize("url", BAD_URLS)
def test_a_webhook_that_is_no_such_address_is_refused_with_variable_value_and_rule(url):
    with pytest.raises(InvalidRequest) as told:
        ServiceSettings.from_env({"RAYSCALER_WEBHOOK_URL": url})
    assert str(told.value).startswith(f"RAYSCALER_WEBHOOK_URL: {url!r}: is no address to post to: give http://HOST[:PORT]/PATH")


def test_a_webhook_has_no_password_in_its_address_and_none_is_shown():
    with pytest.raises(InvalidRequest) as told:
        ServiceSettings.from_env({"RAYSCALER_WEBHOOK_URL": "https://me:hunter2@x/"})
    assert str(told.value).startswith("RAYSCALER_WEBHOOK_URL: 'https://…@x/': is no address to post to")
    assert WebhookSettings("https://x:1/hunter2?hunter2").origin == "https://x:1"


def test_the_files_of_a_webhook_go_with_its_address():
    env = {"RAYSCALER_WEBHOOK_URL": "https://x/", "RAYSCALER_WEBHOOK_TOKEN_FILE": "/run/token", "RAYSCALER_WEBHOOK_CA": "/run/ca"}
    assert ServiceSettings.from_env(env).webhook == WebhookSettings("https://x/", Path("/run/token"), Path("/run/ca"))
    for name in ("RAYSCALER_WEBHOOK_TOKEN_FILE", "RAYSCALER_WEBHOOK_CA"):
        with pytest.raises(InvalidRequest, match=f"{name}: '/x': goes with RAYSCALER_WEBHOOK_URL; set that too"):
            ServiceSettings.from_env({name: "/x"})
