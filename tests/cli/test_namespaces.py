"""`-n`: which commands know of namespaces, and what is said where one cannot be had."""

import pytest
from click.testing import CliRunner

from rayscaler.__main__ import cli
from rayscaler.cli.exits import Exit
from rayscaler.errors import InvalidRequest
from rayscaler.settings import NamespaceSettings, kubeconfig

pytestmark = pytest.mark.tier("unit")


@pytest.mark.parametrize("command", ["plan", "validate", "up", "down", "demo", "version"])
def test_a_command_that_knows_no_namespace_refuses_one(command):
    result = CliRunner().invoke(cli, ["-n", "ml", command])
    assert result.exit_code == Exit.USAGE
    assert f"{command} knows no namespace" in result.output


def test_a_namespace_of_the_environment_is_left_unused_by_those():
    assert CliRunner().invoke(cli, ["version"], env={"RAYSCALER_NAMESPACE": "ml"}).exit_code == Exit.DONE


@pytest.mark.parametrize("command", ["status", "explain"])
def test_a_namespace_and_a_service_are_one_too_many(command):
    result = CliRunner().invoke(cli, ["-n", "ml", command, "--service", "127.0.0.1:1"])
    assert result.exit_code == Exit.USAGE
    assert "-n and --service are two places to ask" in result.output


def test_serve_wants_definitions_or_a_namespace():
    result = CliRunner().invoke(cli, ["serve"], env={"RAYSCALER_NAMESPACE": ""})
    assert result.exit_code == Exit.USAGE
    assert "with -f, or a namespace with -n" in result.output


def test_the_settings_of_a_namespace_come_from_the_environment():
    env = {"RAYSCALER_POD_NAME": "rayscaler-0", "RAYSCALER_IMAGE": "mine:1", "RAYSCALER_TLS": "on", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    found = NamespaceSettings.from_env("ml", env)
    assert (found.pod_name, found.image, found.is_tls_on, found.kubeconfig) == ("rayscaler-0", "mine:1", True, None)
    assert found.monitor_service == "rayscaler-leader.ml.svc:6380"


def test_tls_is_on_or_off():
    with pytest.raises(InvalidRequest, match="RAYSCALER_TLS: 'yes' is neither on nor off"):
        NamespaceSettings.from_env("ml", {"RAYSCALER_TLS": "yes"})


@pytest.mark.parametrize(
    ("env", "ends_with"),
    [
        ({}, ".kube/config"),
        ({"KUBECONFIG": "/etc/kube"}, "/etc/kube"),
        ({"KUBECONFIG": "/etc/kube", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "/etc/kube"),
    ],
    ids=["as kubectl has it", "named", "named in a pod"],
)
def test_access_to_kubernetes_is_found_as_kubectl_finds_it(env, ends_with):
    assert str(kubeconfig(env)).endswith(ends_with)
