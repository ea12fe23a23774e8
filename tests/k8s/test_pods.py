"""Manifests are goldens: the template, with what rayscaler owns put in."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rayscaler.errors import InvalidRequest
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import spec_hash
from rayscaler.k8s import pods
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.cluster.namespaces import RESTRICTED

pytestmark = pytest.mark.tier("unit")
GOLDEN = Path(__file__).parent / "golden"
OWNER = pods.Owner("v1", "ConfigMap", "demo", "0b6a")
RICH = {
    "metadata": {"labels": {"team": "x", "rayscaler": "no"}, "annotations": {"note": "y"}},
    "spec": {
        "serviceAccountName": "workers",
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "initContainers": [{"name": "fetch", "image": "fetch:1"}],
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 120,
        "volumes": [{"name": "data", "emptyDir": {}}],
        "fieldOfTomorrow": {"a": [1, None]},
        "containers": [
            {"name": "proxy", "image": "proxy:1"},
            {
                "name": "ray-worker",
                "image": "rayproject/ray:2.60.0",
                "command": ["/bin/sh", "-c"],
                "args": ["pip install 'my lib'"],
                "env": [
                    {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "RAY_NODE_TYPE_NAME", "value": "liar"},
                    {"name": "RAY_CLUSTER_NAME", "value": "theirs"},
                ],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "securityContext": RESTRICTED,
            },
        ],
    },
}
PLAIN = {"spec": {"containers": [{"name": "main", "image": "ray"}]}}


def spec(template=None, **fields) -> LaunchSpec:
    amounts = Resources.of(CPU=2, memory=1 << 30, object_store_memory=1 << 28, licence=1)
    node_type = NodeType("gpu-a100", amounts, **fields, template="" if template is None else json.dumps(template))
    return LaunchSpec("demo", "demo-gpu-a100-3-0", node_type, "demo-head.ml.svc:6379")


def worker(template, **fields):
    return pods.worker(spec(template, **fields), namespace="ml", entry="demo-rejoin-0", owner=OWNER)


def host(template, number=1, replica="demo-gpu-a100-3-0", **fields):
    one = replace(spec(template, hosts_per_replica=4, **fields), replica=replica, host=number)
    return pods.worker(one, namespace="ml", entry="demo-rejoin-0", owner=OWNER, replica_index=2)


def environment(pod) -> dict[str, str | None]:
    return {each["name"]: each.get("value") for each in ray_of(pod)["env"]}


def ray_of(pod):
    return next(each for each in pod["spec"]["containers"] if each["name"] in ("ray-worker", "main"))


@pytest.mark.parametrize(
    ("name", "template", "fields"),
    [
        ("plain", PLAIN, {}),
        (
            "rich",
            RICH,
            {"env": (("A", "$(no) expansion"),), "labels": (("zone", "a"),), "is_spot": True, "start_params": (("temp-dir", "/data"),)},
        ),
    ],
)
def test_a_pod_is_its_template_with_what_is_ours(name, template, fields):
    golden(name, worker(template, **fields))


def golden(name, made):
    made["metadata"]["annotations"] = {key: value if len(value) < 100 else "…" for key, value in made["metadata"]["annotations"].items()}
    made["metadata"]["annotations"]["rayscaler.io/spec-hash"] = "…"
    path = GOLDEN / f"{name}.yaml"
    assert yaml.safe_load(path.read_text()) == made, "if that is meant, write:\n" + yaml.safe_dump(
        made, sort_keys=False, allow_unicode=True
    )


def test_cd16_a_host_of_a_replica_says_which_it_is_and_has_a_name_that_the_others_know():
    golden("host", host(PLAIN))
    names = environment(host(PLAIN))["RAYSCALER_HOST_NAMES"].split(",")
    made = [host(PLAIN, number) for number in range(4)]
    assert names == [f"{each['spec']['hostname']}.{each['spec']['subdomain']}" for each in made]
    assert {each["spec"]["subdomain"] for each in made} == {"demo-headless"}


def test_cd16_names_of_hosts_are_names_and_labels_however_long_the_replicas_is():
    long = f"demo-{'x' * 52}-12345-12345"
    made, other = host(PLAIN, 3, replica=long), host(PLAIN, 3, replica=f"{long[:-1]}6")
    labels = made["metadata"]["labels"]
    assert max(map(len, [made["spec"]["hostname"], *labels.values()])) <= 63
    assert made["spec"]["hostname"] == f"{labels['ray.io/worker-group-replica-name']}-3" != other["spec"]["hostname"]
    assert made["metadata"]["annotations"]["rayscaler.io/replica"] == long
    with pytest.raises(InvalidRequest, match="replica: 'A/b'"):
        host(PLAIN, replica="A/b")


def test_cd16_a_templates_own_variables_can_be_made_of_a_hosts():
    mine = [{"name": "TPU_WORKER_HOSTNAMES", "value": "$(RAYSCALER_HOST_NAMES)"}, {"name": "RAYSCALER_REPLICA", "value": "no"}]
    pod = host({"spec": {"hostname": "no", "subdomain": "no", "containers": [{"name": "main", "image": "ray", "env": mine}]}})
    names = [each["name"] for each in ray_of(pod)["env"]]
    assert names.index("RAYSCALER_HOST_NAMES") < names.index("TPU_WORKER_HOSTNAMES")  # Kubernetes looks only at those before
    assert environment(pod)["RAYSCALER_REPLICA"] == "demo-gpu-a100-3-0"
    assert pod["spec"]["hostname"] == "demo-gpu-a100-3-0-1"


def test_2b_10_machines_under_pods_are_left_alone_unless_the_template_says_otherwise():
    mark, said = "karpenter.sh/do-not-disrupt", {"karpenter.sh/do-not-disrupt": "false"}
    made = [worker({**PLAIN, "metadata": metadata}) for metadata in ({}, {"annotations": said})]
    assert [each["metadata"]["annotations"][mark] for each in made] == ["true", "false"]
    assert {each["metadata"]["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] for each in made} == {"false"}


def test_the_same_spec_makes_the_same_pod_and_its_template_is_part_of_the_spec():
    assert worker(RICH) == worker(RICH)
    assert spec_hash(spec(RICH)) != spec_hash(spec(PLAIN))
    assert json.loads(worker(RICH)["metadata"]["annotations"]["rayscaler.io/made-as"])["template"] == spec(RICH).node_type.template


def test_without_a_template_there_is_no_image():
    with pytest.raises(InvalidRequest, match=r"nodeTypes\.gpu-a100\.template: is missing"):
        worker(None)


def test_pt8_a_command_of_the_template_runs_once_before_ray_start_or_instead_of_it():
    command = ray_of(worker(RICH))["command"]
    assert shlex.split(command[command.index("--prelude") + 1]) == ["/bin/sh", "-c", "pip install 'my lib'"]
    kept = {**RICH, "metadata": {"annotations": {"ray.io/overwrite-container-cmd": "true"}}}
    container = ray_of(worker(kept))
    assert (container["command"], container["args"]) == (["/bin/sh", "-c"], ["pip install 'my lib'"])
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert shlex.split(env["KUBERAY_GEN_RAY_START_CMD"]) == pods.start_command(spec(RICH))
    assert shlex.split(env["RAYSCALER_START_COMMAND"]) == ray_of(worker(PLAIN))["command"]


def test_decimals_are_passed_on_by_the_images_python():
    found = pods.start_command(replace(spec(PLAIN), node_type=NodeType("t", Resources.of(disk=0.5), template="{}")))
    assert found[:4] == ["python3", "-c", raystart.START, "start"]


def test_what_the_template_mounts_is_not_mounted_twice():
    mounts = [{"name": "a", "mountPath": "/dev/shm/"}, {"name": "b", "mountPath": "/tmp/ray"}]
    container = {"name": "main", "image": "ray", "volumeMounts": mounts, "securityContext": RESTRICTED}
    made = worker({"spec": {"containers": [container]}})
    assert [each["mountPath"] for each in ray_of(made)["volumeMounts"]] == ["/dev/shm/", "/tmp/ray", "/opt/rayscaler"]
    assert [each["name"] for each in made["spec"]["volumes"]] == ["rayscaler-entry"]


def test_the_supervisors_config_map_is_the_file_and_another_text_or_owner_is_another():
    text = pods.entry_text()
    made = pods.entry_config_map("demo", text, OWNER)
    assert (made["data"]["rejoin.py"], made["immutable"]) == (text, True)
    compile(text, "rejoin.py", "exec")
    names = {pods.entry_config_map("demo", *each)["metadata"]["name"] for each in [(text, OWNER), (text, None), (text + "#", OWNER)]}
    assert len(names) == 3
