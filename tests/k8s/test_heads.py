"""Manifests of heads and their Service are goldens; what may be changed in a Service, and what is put right."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml

from rayscaler.config import native
from rayscaler.errors import InvalidRequest
from rayscaler.k8s import heads, labels, services
from rayscaler.k8s.heads import Sidecar
from rayscaler.k8s.objects import SERVICES
from rayscaler.model.nodetype import ClusterConfig, Head
from rayscaler.model.resources import Resources
from tests.k8s.test_pods import OWNER, PLAIN, RICH

pytestmark = pytest.mark.tier("unit")
GOLDEN = Path(__file__).parent / "golden"
PLAIN_SIDECAR = Sidecar("rayscaler:1", "rayscaler-leader.ml.svc:6380")
TLS = Sidecar("rayscaler:1", "rayscaler-leader.ml.svc:6380", "Never", has_tls=True)


def config(template=PLAIN, name="demo", **fields) -> ClusterConfig:
    return ClusterConfig(
        name, (), executor="k8s", head=Head(Resources.of(CPU=0), template=json.dumps(template) if template else "", **fields)
    )


def head(template=PLAIN, sidecar=PLAIN_SIDECAR, **fields):
    return heads.head(config(template, **fields), 7, namespace="ml", entry="demo-rejoin-0", sidecar=sidecar, owner=OWNER)


def monitor_of(pod):
    (found,) = (each for each in pod["spec"]["initContainers"] if each["name"] == "rayscaler-monitor")
    return found


def ray_of(pod):
    return next(each for each in pod["spec"]["containers"] if each["name"] in ("ray-worker", "main"))


def golden(name, made):
    path = GOLDEN / f"{name}.yaml"
    written = yaml.safe_dump(json.loads(json.dumps(made)), sort_keys=False, allow_unicode=True)
    assert yaml.safe_load(path.read_text()) == made, f"if that is meant, write {path}:\n{written}"


@pytest.mark.parametrize(
    ("name", "template", "sidecar", "fields"),
    [
        ("head-plain", PLAIN, PLAIN_SIDECAR, {}),
        (
            "head-rich",
            RICH,
            TLS,
            {"env": (("A", "$(no)"), ("RAY_AUTH_TOKEN", "t")), "start_params": (("port", "7000"), ("temp-dir", "/data"))},
        ),
    ],
)
def test_a_head_is_its_template_with_what_is_ours(name, template, sidecar, fields):
    made = head(template, sidecar, **fields)
    assert len(made["metadata"]["annotations"].pop("rayscaler.io/spec-hash")) == 64
    golden(name, made)


def test_the_service_before_the_heads():
    golden("head-service", services.head("demo", 7, OWNER))
    assert services.address("demo", "ml") == "demo-head.ml.svc:6379"


def test_pt8_what_the_template_runs_goes_before_the_supervisor_once_or_finds_both_commands():
    command = ray_of(head(RICH))["command"]
    assert command[:2] == ["/bin/sh", "-c"]
    assert command[2] == "/bin/sh -c 'pip install '\"'\"'my lib'\"'\"'' && exec \"$@\""
    assert command[4:] == ray_of(head(PLAIN))["command"]
    kept = ray_of(head({**RICH, "metadata": {"annotations": {"ray.io/overwrite-container-cmd": "true"}}}))
    assert kept["command"] == ["/bin/sh", "-c"]
    env = {each["name"]: each.get("value") for each in kept["env"]}
    assert shlex.split(env["KUBERAY_GEN_RAY_START_CMD"]) == heads.start_command(config())
    assert shlex.split(env["RAYSCALER_START_COMMAND"]) == ray_of(head(PLAIN))["command"]


def test_design_2b_4_a_head_is_up_when_its_gcs_answers_and_ends_within_ten_seconds():
    made = head(start_params=(("port", "7000"),))
    ray = ray_of(made)
    assert ray["readinessProbe"] == {"tcpSocket": {"port": 7000}, "periodSeconds": 1}
    assert ray["startupProbe"] == {"tcpSocket": {"port": 7000}, "periodSeconds": 1, "failureThreshold": 2**31 - 1}
    assert made["spec"]["terminationGracePeriodSeconds"] == 10
    assert {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"} in ray["env"]
    assert {"name": "GRPC_ENABLE_FORK_SUPPORT", "value": "0"} in ray["env"]
    assert ray["command"][3:6] == ["/opt/rayscaler/rejoin.py", "keep", "--"]


def test_the_monitor_runs_again_whatever_the_pods_policy_and_its_container_never_seems_to_end():
    made = head()
    monitor = monitor_of(made)
    assert (made["spec"]["restartPolicy"], monitor["restartPolicy"]) == ("Never", "Always")
    assert monitor["command"][:8] == ["python3", "-I", "-S", "/opt/rayscaler/rejoin.py", "keep", "--", "rayscaler", "monitor"]
    assert monitor["env"][0]["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.uid"


def test_a_head_that_ends_keeps_its_address_until_its_service_leads_nobody_there():
    made = head()
    (*_, nap) = monitor_of(made)["lifecycle"]["preStop"]["exec"]["command"]
    assert nap == f"import time; time.sleep({heads.LINGER_S})"
    assert made["spec"]["terminationGracePeriodSeconds"] > heads.LINGER_S
    assert "lifecycle" not in ray_of(made)  # what Ray does at its end stays the user's


def test_the_token_of_the_service_is_mounted_in_the_monitors_container_only():
    made = head(RICH, TLS)
    mounting = [
        each["name"]
        for each in (*made["spec"]["containers"], *made["spec"]["initContainers"])
        if any(mount["name"] == "rayscaler-monitor" for mount in each.get("volumeMounts", []))
    ]
    assert mounting == ["rayscaler-monitor"]
    assert "rayscaler-monitor" not in [each["name"] for each in head(RICH)["spec"]["volumes"]]


def test_the_monitor_finds_rays_own_token_where_the_head_finds_it():
    env = [
        {"name": "RAY_AUTH_MODE", "value": "token"},
        {"name": "RAY_AUTH_TOKEN_PATH", "value": "/etc/ray/token"},
        {"name": "B", "value": "1"},
    ]
    mounts = [{"name": "auth", "mountPath": "/etc/ray"}, {"name": "data", "mountPath": "/data"}]
    monitor = monitor_of(head({"spec": {"containers": [{"name": "main", "image": "ray", "env": env, "volumeMounts": mounts}]}}))
    assert monitor["env"][1:] == env[:2]
    assert monitor["volumeMounts"][1:] == [{"name": "auth", "mountPath": "/etc/ray", "readOnly": True}]


@pytest.mark.parametrize(
    ("said", "account", "automount"),
    [
        ({}, {"serviceAccountName": "rayscaler-head"}, False),
        ({"serviceAccountName": "mine"}, {"serviceAccountName": "mine"}, False),
        ({"serviceAccount": "mine", "automountServiceAccountToken": True}, {"serviceAccount": "mine"}, True),
    ],
)
def test_a_head_has_an_account_without_rights_unless_its_template_names_another(said, account, automount):
    spec = head({"spec": {**said, **PLAIN["spec"]}})["spec"]
    assert {key: spec[key] for key in spec if key.startswith("serviceAccount")} == account
    assert spec["automountServiceAccountToken"] is automount


def test_the_monitor_is_nobody_where_the_pod_is_root():
    made = head({"spec": {**PLAIN["spec"], "securityContext": {"runAsUser": 0}}})
    assert monitor_of(made)["securityContext"] == {**heads.RESTRICTED, "runAsUser": 65532}
    assert monitor_of(head())["securityContext"] == heads.RESTRICTED


def test_ports_follow_the_start_parameters_and_a_template_may_move_serve():
    ports = [{"containerPort": 9000, "name": "ray-serve"}, {"containerPort": 1, "name": "ray-gcs"}, {"containerPort": 5, "name": "client"}]
    container = {"name": "main", "image": "ray", "ports": ports}
    made = head({"spec": {"containers": [container]}}, start_params=(("ray-client-server-port", "7001"), ("dashboard-port", "$PORT")))
    found = [(each["name"], each["containerPort"]) for each in ray_of(made)["ports"]]
    assert found == [("ray-serve", 9000), ("client", 5), ("ray-gcs", 6379), ("ray-client", 7001), ("ray-dashboard", 8265)]


def test_without_a_template_a_definition_is_refused_and_so_is_a_head():
    document = {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "demo"}, "spec": {"head": {}, "nodeTypes": []}}
    with pytest.raises(InvalidRequest, match=r"spec\.head\.template: None: must be a pod template: the executor 'k8s' needs"):
        native.cluster(document, "k8s")
    with pytest.raises(InvalidRequest, match=r"spec\.head\.template: is missing"):
        head(None)


@pytest.mark.parametrize(
    ("pod", "epoch"),
    [
        ("demo-head-7", 7),
        ("demo-head-07", 0),
        ("demo-head-0", 0),
        ("demo-head-x", 0),
        ("demo-head-1-0", 0),
        ("demo-head", 0),
        ("a-head-7", 0),
    ],
)
def test_the_epoch_stands_in_the_name_of_the_pod(pod, epoch):
    assert labels.head_epoch("demo", pod) == epoch


def service(**spec):
    made = services.head("demo", 7, OWNER)
    made = {**made, "metadata": {**made["metadata"], "resourceVersion": "5"}, "spec": {**made["spec"], **spec}}
    return SERVICES.one.decode(msgspec.json.encode(made))


PORTS = services.head("demo", 7, None)["spec"]["ports"]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"type": "LoadBalancer", "externalTrafficPolicy": "Local"},
        {"ports": [*({**each, "nodePort": 30000 + index} for index, each in enumerate(PORTS)), {"name": "mine", "port": 7}]},
    ],
)
def test_what_its_user_may_change_in_a_service_is_left_alone(spec):
    assert services.mending(service(**spec), 7, OWNER) == {}


@pytest.mark.parametrize(
    ("spec", "patch"),
    [
        ({"selector": {"app": "x"}}, {"selector": {"app": None, **labels.head_selector("demo", 7)}}),
        ({"publishNotReadyAddresses": True}, {"publishNotReadyAddresses": False}),
        (
            {"ports": [{"name": "mine", "port": 7}, {"name": "other", "port": 8265}, {**PORTS[0], "port": 1, "nodePort": 30000}]},
            {"ports": [{**PORTS[0], "nodePort": 30000}, *PORTS[1:], {"name": "mine", "port": 7}]},
        ),
    ],
)
def test_what_breaks_its_contract_is_put_right_if_it_is_still_that_version(spec, patch):
    assert services.mending(service(**spec), 7, OWNER) == {"metadata": {"resourceVersion": "5"}, "spec": patch}


def test_the_next_epoch_is_a_swap_of_the_selector_and_a_new_definition_takes_the_service_over():
    assert services.mending(service(), 8, OWNER)["spec"] == {"selector": labels.head_selector("demo", 8)}
    taken = services.mending(service(), 7, replace(OWNER, uid="new"))
    assert (taken["metadata"]["resourceVersion"], taken["metadata"]["ownerReferences"][0]["uid"]) == ("5", "new")
    assert services.epoch_of(service(selector=labels.head_selector("demo", 12))) == 12
    assert services.epoch_of(service(selector={labels.HEAD_EPOCH: "many"})) == 0
