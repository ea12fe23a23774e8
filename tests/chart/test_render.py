"""What helm makes of the chart and its values, and what it refuses."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import rayscaler
from rayscaler.__main__ import cli
from rayscaler.config import load, native
from rayscaler.config.executors import is_address
from rayscaler.k8s import labels
from rayscaler.settings import NamespaceSettings, PluginSettings, ServiceSettings, TlsFiles
from tests.chart import manifests, tools
from tests.cluster import binary

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # helm is built where nobody has yet

OF_SECRETS = {"executor-tls", "webhook-token", "webhook-ca"}
LISTEN = "unix:///run/rayscaler/executor/executor.sock"
DIGEST = f"sha256:{'a' * 64}"
CLUSTER = {
    "apiVersion": "rayscaler.io/v1",
    "kind": "Cluster",
    "metadata": {"name": "demo"},
    "spec": {
        "maxWorkers": 1_000_000,
        "head": {"template": {"spec": {"containers": [{"name": "ray", "image": "ray:1"}]}}},
        "nodeTypes": [{"name": "a", "template": {"spec": {"containers": [{"name": "ray", "image": "ray:1"}]}}}],
    },
}
FULL = {
    "image": {"repository": "host:5000/team/rayscaler", "tag": "x", "digest": DIGEST, "pullPolicy": "Always"},
    "imagePullSecrets": [{"name": "mine"}],
    "replicas": 3,
    "tls": {"enabled": False},
    "nodeNotices": {"enabled": True},
    "resize": {"enabled": True},
    "webhook": {"url": "https://alerts.ml.svc:8443/hook?a=b", "tokenSecret": "alerts-token", "caSecret": "alerts-ca"},
    "gangScheduling": {"scheduler": "volcano"},
    "env": {"RAYSCALER_MAX_MESSAGE_BYTES": "67108864"},
    "executor": {"address": "dns:///rayscaler-executor.ml.svc:6390", "tlsSecret": "rayscaler-executor-client"},
    "resources": {"limits": {"memory": "2Gi"}},
    "runAsUser": None,
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "x", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "priorityClassName": "high",
    "podLabels": {"team": "ml", "app.kubernetes.io/component": "other"},
    "podAnnotations": {"note": "yes"},
    "clusters": [CLUSTER],
}


def helm(tmp_path: Path, command: str, values: dict | None = None, *more: str) -> subprocess.CompletedProcess[str]:
    """Run `helm template` or `helm lint` with values; nothing is kept in anybody's home."""
    (tmp_path / "values.json").write_text(json.dumps(values or {}))
    argv = [tools.build() / "helm", command, *(["r"] if command == "template" else []), tools.CHART, "--namespace", "ml", *more]
    env = {f"HELM_{kind}_HOME": str(tmp_path) for kind in ("CACHE", "CONFIG", "DATA")}
    return subprocess.run([*argv, "-f", tmp_path / "values.json"], check=False, capture_output=True, text=True, env=env)


def rendered(tmp_path: Path, values: dict | None = None) -> dict[tuple[str, str], dict]:
    """Return all objects, by kind and name."""
    done = helm(tmp_path, "template", values)
    assert done.returncode == 0, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    made = {(each["kind"], each["metadata"]["name"]): each for each in found}
    assert len(made) == len(found)
    return made


def deployed(objects: dict) -> tuple[dict, dict, dict[str, dict]]:
    """Return the Deployment's pod template, its container, and that one's variables."""
    template = objects["Deployment", "rayscaler"]["spec"]["template"]
    (container,) = template["spec"]["containers"]
    return template, container, {each["name"]: each for each in container["env"]}


def test_the_manifests_are_what_the_chart_renders():
    assert manifests.MANIFESTS.read_text() == manifests.rendered(), "deploy/rayscaler.yaml is stale: run `make manifests` and commit"


def test_the_go_sources_are_formatted():
    assert binary.unformatted(tools.SOURCE) == ""


def test_the_chart_sets_what_nobody_else_may(tmp_path):
    refused = json.loads((tools.CHART / "values.schema.json").read_text())["properties"]["env"]["properties"]
    assert {name for name, rule in refused.items() if rule is False} == {
        name for values in ({}, FULL) for name in deployed(rendered(tmp_path, values))[2] if name not in FULL["env"]
    }


def test_the_command_lines_are_those_of_this_version(tmp_path):
    made = rendered(tmp_path)
    _, container, _ = deployed(made)
    (version,) = made["Pod", "rayscaler-test"]["spec"]["initContainers"]
    serve = [each.replace("$(RAYSCALER_NAMESPACE)", "ml") for each in container["args"]]
    assert (container["command"], version["command"][0]) == (["rayscaler"], "rayscaler")
    for arguments in (serve, version["command"][1:]):
        assert CliRunner().invoke(cli, [*arguments, "--help"]).exit_code == 0


def test_the_service_reads_the_variables(tmp_path):
    for values, is_tls_on in (({}, True), (FULL, False)):
        env = {name: each["value"] for name, each in deployed(rendered(tmp_path, values))[2].items() if "value" in each}
        found = NamespaceSettings.from_env("ml", env | {"RAYSCALER_POD_NAME": "rayscaler-1"})
        assert found.is_tls_on is is_tls_on
        assert (found.image, found.image_pull_policy) == (env["RAYSCALER_IMAGE"], env["RAYSCALER_IMAGE_PULL_POLICY"])
        assert found.monitor_service == "rayscaler-leader.ml.svc:6380"
        assert ServiceSettings.from_env(env).listen == "0.0.0.0:6380"


def test_chart_and_package_have_one_version():
    chart = yaml.safe_load((tools.CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == rayscaler.__version__


@pytest.mark.parametrize("values", [{}, FULL], ids=["default", "full"])
def test_lint_has_nothing_to_say(tmp_path, values):
    done = helm(tmp_path, "lint", values, "--strict")
    assert done.returncode == 0, done.stdout
    assert not re.search("ERROR|WARNING", done.stdout)


def test_every_value_is_in_the_schema_has_a_word_beside_it_and_is_used():
    text = (tools.CHART / "values.yaml").read_text()
    known = json.loads((tools.CHART / "values.schema.json").read_text())["properties"]
    templates = "".join(each.read_text() for each in tools.CHART.glob("templates/**/*.*"))
    values = yaml.safe_load(text)
    assert set(values) == set(known) - {"global"}
    for key, value in values.items():
        assert re.search(rf"(#.*\n|\n){key}:", text)
        assert f".Values.{key}" in templates
        if isinstance(value, dict) and value and key != "resources":
            assert set(value) == set(known[key]["properties"])
            assert all(f".{each}" in templates for each in value)


def test_by_default_nothing_reaches_beyond_the_namespace_and_nothing_is_random(tmp_path):
    made = rendered(tmp_path)
    assert sorted(made) == [
        ("Deployment", "rayscaler"),
        ("Pod", "rayscaler-test"),
        ("PodDisruptionBudget", "rayscaler"),
        ("Role", "rayscaler"),
        ("RoleBinding", "rayscaler"),
        ("Service", "rayscaler"),
        ("Service", "rayscaler-leader"),
        ("ServiceAccount", "rayscaler"),
        ("ServiceAccount", "rayscaler-head"),
    ]
    assert [name for (_, name), each in made.items() if "helm.sh/hook" in each["metadata"].get("annotations", {})] == ["rayscaler-test"]
    assert not [name for (_, name), each in made.items() if "namespace" in each["metadata"]]
    assert made == rendered(tmp_path)
    assert not made["ServiceAccount", "rayscaler-head"]["automountServiceAccountToken"]


def test_services_select_the_pods_of_the_service_and_not_the_test(tmp_path):
    made = rendered(tmp_path)
    every = made["Service", "rayscaler"]["spec"]["selector"].items()
    leader = made["Service", "rayscaler-leader"]["spec"]["selector"].items()
    assert leader - every == {("rayscaler.io/leader", "true")}
    assert every <= deployed(made)[0]["metadata"]["labels"].items()
    assert not every <= made["Pod", "rayscaler-test"]["metadata"]["labels"].items()
    assert dict(every) == made["PodDisruptionBudget", "rayscaler"]["spec"]["selector"]["matchLabels"]


def test_the_values_arrive(tmp_path):
    made = rendered(tmp_path, FULL)
    template, container, env = deployed(made)
    spec = template["spec"]
    image = f"host:5000/team/rayscaler@{DIGEST}"
    assert container["image"] == env["RAYSCALER_IMAGE"]["value"] == image
    assert container["imagePullPolicy"] == env["RAYSCALER_IMAGE_PULL_POLICY"]["value"] == "Always"
    assert env["RAYSCALER_TLS"]["value"] == "off"
    assert env["RAYSCALER_MAX_MESSAGE_BYTES"]["value"] == "67108864"
    assert all(made["ServiceAccount", name]["imagePullSecrets"] == [{"name": "mine"}] for name in ("rayscaler", "rayscaler-head"))
    assert made["Deployment", "rayscaler"]["spec"]["replicas"] == 3
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert "runAsUser" not in spec["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    for key in ("nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert spec[key] == FULL[key]
    assert template["metadata"]["labels"].items() >= {("team", "ml"), ("app.kubernetes.io/component", "service")}
    assert template["metadata"]["annotations"] == {"note": "yes"}
    resizes = {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]}
    assert resizes in made["Role", "rayscaler"]["rules"]
    assert resizes not in manifests.objects("Role")[0]["rules"]  # which the administrator of one namespace could not give
    groups = {"apiGroups": ["scheduling.volcano.sh"], "resources": ["podgroups"], "verbs": ["create", "delete", "get", "list", "patch"]}
    assert groups in made["Role", "rayscaler"]["rules"]
    assert not any("podgroups" in each["resources"] for each in manifests.objects("Role")[0]["rules"])
    assert made["ClusterRole", "rayscaler-nodes-ml"]["rules"] == [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]}
    ]
    assert made["ClusterRoleBinding", "rayscaler-nodes-ml"]["subjects"][0]["namespace"] == "ml"
    pods = [spec, made["Pod", "rayscaler-test"]["spec"]]
    assert {each["image"] for pod in pods for each in [*pod["containers"], *pod.get("initContainers", ())]} == {image}


TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount"
SIDECAR = {
    "enabled": True,
    "image": "host:5000/team/plugin:1",
    "command": ["/plugin"],
    "args": ["--fleet", "/etc/a b"],
    "env": {"FLEET": "1"},
    "resources": {"limits": {"memory": "1Gi"}},
}


def with_sidecar(tmp_path: Path, **values) -> tuple[dict, dict[str, dict], dict[str, dict[str, str]]]:
    """Return the spec of the pods, its containers by name, and where each mounts what."""
    spec = rendered(tmp_path, {"executor": {"sidecar": SIDECAR | values}})["Deployment", "rayscaler"]["spec"]["template"]["spec"]
    containers = {each["name"]: each for each in [*spec["initContainers"], *spec["containers"]]}
    mounts = {name: {mount["name"]: mount["mountPath"] for mount in each["volumeMounts"]} for name, each in containers.items()}
    return spec, containers, mounts


def test_a_sidecar_serves_in_a_directory_that_only_the_pods_user_can_enter(tmp_path):
    spec, containers, mounts = with_sidecar(tmp_path)
    assert list(containers) == ["executor-dir", "rayscaler", "executor"]
    sidecar = containers["executor"]
    assert {key: sidecar[key] for key in ("image", "command", "args", "resources")} == {
        key: SIDECAR[key] for key in ("image", "command", "args", "resources")
    }
    env = {each["name"]: each.get("value") for each in sidecar["env"]}
    service = {each["name"]: each["value"] for each in containers["rayscaler"]["env"] if "value" in each}
    assert NamespaceSettings.from_env("ml", service).executor == LISTEN
    assert env == {"RAYSCALER_NAMESPACE": None, "RAYSCALER_PLUGIN_LISTEN": LISTEN, "HOME": "/tmp", "FLEET": "1"}
    assert PluginSettings.from_env({"RAYSCALER_PLUGIN_LISTEN": LISTEN}).listen == LISTEN
    socket = Path(LISTEN.removeprefix("unix://"))
    assert {each["executor"] for each in mounts.values()} == {str(socket.parent.parent)}
    made = tmp_path / "made"
    argv = [
        sys.executable if each == "python3" else each.replace(str(socket.parent), str(made))
        for each in containers["executor-dir"]["command"]
    ]
    for _ in "twice":
        subprocess.run(argv, check=True)
    assert made.stat().st_mode & 0o7777 == 0o700
    for each in containers.values():
        assert each["securityContext"] == containers["rayscaler"]["securityContext"]
    volumes = {each["name"] for each in spec["volumes"]}
    assert volumes == {name for each in mounts.values() for name in each}


def test_a_sidecar_has_the_services_token_only_where_it_is_given_it(tmp_path):
    for is_given in (False, True):
        spec, _, mounts = with_sidecar(tmp_path, serviceAccountToken=is_given)
        assert spec["automountServiceAccountToken"] is False
        assert mounts["rayscaler"]["token"] == TOKEN
        assert mounts["executor"].get("token") == (TOKEN if is_given else None)


def test_a_sidecar_without_an_image_is_of_the_services_own(tmp_path):
    _, containers, _ = with_sidecar(tmp_path, image="", command=[], args=["executor", "serve", "k8s"])
    assert containers["executor"]["image"] == containers["rayscaler"]["image"] == containers["executor-dir"]["image"]
    assert "command" not in containers["executor"]
    assert CliRunner().invoke(cli, [*containers["executor"]["args"], "--help"]).exit_code == 0


def test_a_plugin_elsewhere_is_dialled_over_tls(tmp_path):
    template, container, env = deployed(rendered(tmp_path, FULL))
    env = {name: each["value"] for name, each in env.items() if "value" in each}
    assert is_address(NamespaceSettings.from_env("ml", env).executor)
    files = TlsFiles.from_env(env, "RAYSCALER_EXECUTOR")
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    names = [str(each.relative_to(mounts["executor-tls"])) for each in (files.ca, files.cert, files.key)]
    assert names == ["ca.crt", "tls.crt", "tls.key"]
    assert {"name": "executor-tls", "secret": {"secretName": FULL["executor"]["tlsSecret"]}} in template["spec"]["volumes"]


def test_a_webhook_is_told_with_what_secrets_have(tmp_path):
    template, container, env = deployed(rendered(tmp_path, FULL))
    found = ServiceSettings.from_env({name: each["value"] for name, each in env.items() if "value" in each}).webhook
    assert found.url == FULL["webhook"]["url"]
    mounts = {each["name"]: Path(each["mountPath"]) for each in container["volumeMounts"]}
    assert (found.token, found.ca) == (mounts["webhook-token"] / "token", mounts["webhook-ca"] / "ca.crt")
    secrets = {each["name"]: each["secret"]["secretName"] for each in template["spec"]["volumes"] if each["name"] in OF_SECRETS}
    assert (secrets["webhook-token"], secrets["webhook-ca"]) == ("alerts-token", "alerts-ca")
    _, _, env = deployed(rendered(tmp_path, {"webhook": {"urlSecret": "alerts"}}))
    reference = {"secretKeyRef": {"name": "alerts", "key": "url"}}
    assert env["RAYSCALER_WEBHOOK_URL"] == {"name": "RAYSCALER_WEBHOOK_URL", "valueFrom": reference}


@pytest.mark.parametrize("url", ["ftp://x/", "x", "https://me:pw@x/", "https://x/#a", "https://x/ a", "https://"])
def test_an_address_that_the_service_would_refuse_is_refused_with_its_path(tmp_path, url):
    done = helm(tmp_path, "template", {"webhook": {"url": url}})
    assert (done.returncode != 0, f"at '/webhook/url': '{url}' does not match pattern" in done.stderr) == (True, True)


def test_without_a_sidecar_nothing_of_it_is_there(tmp_path):
    for values in ({}, FULL):
        spec = deployed(rendered(tmp_path, values))[0]["spec"]
        assert "initContainers" not in spec
        assert [each["name"] for each in spec["volumes"] if each["name"] not in OF_SECRETS] == ["tmp"]
        assert spec["automountServiceAccountToken"] is True


def test_clusters_become_config_maps_that_the_service_takes(tmp_path):
    made = rendered(tmp_path, FULL)["ConfigMap", "demo"]
    assert labels.CLUSTER in made["metadata"]["labels"]
    assert labels.MANAGED_BY not in made["metadata"]["labels"]
    text = made["data"]["cluster.yaml"]
    assert yaml.safe_load(text) == CLUSTER
    assert load.check_text(text, native.KUBERNETES).problems == ()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"replica": 1}, "additional properties 'replica' not allowed"),
        ({"replicas": "2"}, "at '/replicas': got string, want integer"),
        ({"replicas": -1}, "at '/replicas': minimum: got -1, want 0"),
        ({"image": {"pullpolicy": "Always"}}, "at '/image': additional properties 'pullpolicy' not allowed"),
        ({"image": {"pullPolicy": "always"}}, "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ({"image": {"repository": "rayscaler:1"}}, "at '/image/repository': 'rayscaler:1' does not match pattern"),
        ({"image": {"tag": 1.5}}, "at '/image/tag': got number, want string"),
        ({"imagePullSecrets": ["mine"]}, "at '/imagePullSecrets/0': got string, want object"),
        ({"tls": {"enabled": "yes"}}, "at '/tls/enabled': got string, want boolean"),
        ({"env": {"RAYSCALER_TLS": "off"}}, "at '/env/RAYSCALER_TLS': false schema"),
        ({"env": {"A B": "1"}}, "at '/env': additional properties 'A B' not allowed"),
        ({"env": {"A": 1}}, "at '/env/A': got number, want string"),
        ({"executor": {"address": "http://x"}}, "at '/executor/address': 'http://x' does not match pattern"),
        ({"executor": {"address": "dns:///x:1"}}, "executor.tlsSecret: is required with executor.address"),
        (
            {"executor": {"address": "dns:///x:1", "tlsSecret": "a", "sidecar": {"enabled": True}}},
            "executor: address and sidecar.enabled exclude each other",
        ),
        ({"executor": {"sidecar": {"enable": True}}}, "at '/executor/sidecar': additional properties 'enable' not allowed"),
        ({"executor": {"sidecar": {"env": {"HOME": "/"}}}}, "at '/executor/sidecar/env/HOME': false schema"),
        ({"executor": {"sidecar": {"image": "a b"}}}, "at '/executor/sidecar/image': 'a b' does not match pattern"),
        ({"webhook": {"url": "http://x", "urlSecret": "y"}}, "webhook: url and urlSecret exclude each other"),
        ({"webhook": {"tokenSecret": "x"}}, "webhook.url: is required with webhook.tokenSecret"),
        ({"resources": {"limits": {"memory": "1 GB"}}}, "at '/resources/limits/memory': '1 GB' does not match pattern"),
        ({"runAsUser": 0}, "at '/runAsUser': minimum: got 0, want 1"),
        ({"clusters": {"demo": {}}}, "at '/clusters': got object, want array"),
        ({"clusters": [{"metadata": {"name": "demo"}}]}, "at '/clusters/0': missing properties 'apiVersion', 'kind'"),
        ({"clusters": [CLUSTER | {"metadata": {"name": "Demo"}}]}, "at '/clusters/0/metadata/name': 'Demo' does not match pattern"),
        ({"clusters": [CLUSTER, CLUSTER]}, "clusters: demo stands there twice; names are unique"),
    ],
    ids=lambda it: None if isinstance(it, dict) else it.split(":")[0],
)
def test_a_bad_value_is_refused_with_its_path(tmp_path, values, said):
    done = helm(tmp_path, "template", values)
    assert done.returncode != 0
    assert said in done.stderr
