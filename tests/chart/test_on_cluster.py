"""The chart and the manifests on a real API server, installed by somebody who administers one namespace and nothing else.

The namespace enforces the restricted profile of pod security. The simulated nodes run no rayscaler: what it would make is made by hand.
"""

import asyncio
import contextlib
import json
import re
import socket
import ssl
import sys

import pytest
import yaml

from rayscaler.config import load
from tests.chart import manifests, tools
from tests.chart.deployer import Deployer, token_of
from tests.cluster.api import Api, ApiError
from tests.cluster.namespaces import Namespace
from tests.cluster.product import awaited

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

RBAC = "rbac.authorization.k8s.io/v1"
REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
EXAMPLE = tools.ROOT / "examples/kubernetes/cluster.yaml"
OWN = [("secrets", "", "rayscaler-tls"), ("configmaps", "", "rayscaler-ca"), ("leases", "coordination.k8s.io/v1", "rayscaler")]
"""What the service makes for itself and keeps."""


async def ready(namespace: Namespace, replicas: int = 2) -> None:
    """Wait until so many pods of the service run: admitted, scheduled, ready."""
    await namespace.api.wait(
        namespace.path("deployments", "apps/v1"), "rayscaler", lambda it: it is not None and it["status"].get("readyReplicas") == replicas
    )


def flat(rules: list[dict]) -> set[tuple[str, str, str, str]]:
    """Return rules as (group, resource, name, verb)."""
    return {
        (group, resource, name, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames") or [""]
        for verb in rule["verbs"]
    }


async def rights(namespace: Namespace, account: str) -> set[tuple[str, str, str, str]]:
    """Return what an account may do here, as the API server tells it."""
    async with Api(namespace.cluster, await token_of(namespace, account)) as api:
        answer = await api.create(REVIEW, {"spec": {"namespace": namespace.name}})
    assert not answer["status"]["incomplete"]
    return flat(answer["status"]["resourceRules"])


async def has_rights(namespace: Namespace, account: str, rules: list[dict]) -> None:
    """Wait until an account may do here, besides what everybody may, just what is in these rules: the API server hears of Roles a moment later."""
    own: set = set()
    try:
        async with asyncio.timeout(60.0):
            while (own := await rights(namespace, account) - await rights(namespace, "default")) != flat(rules):  # noqa: ASYNC110  # see above
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{account} has {own - flat(rules)} and has not {flat(rules) - own}") from None


async def test_helm_installs_it_as_the_administrator_of_one_namespace(namespace, deployer):
    said = await deployer.install()
    assert f"rayscaler -n {namespace.name} status --cluster demo" in said
    await ready(namespace)
    pods = await namespace.api.get(namespace.path("pods"))
    assert [each["spec"]["serviceAccountName"] for each in pods["items"]] == ["rayscaler"] * 2
    assert len({each["spec"]["nodeName"] for each in pods["items"]}) == 2
    await deployer.helm("upgrade", "any-name", tools.CHART, "--set", "image.tag=next", "--wait", "--timeout", "60s")
    pods = await namespace.api.get(namespace.path("pods"), fieldSelector="status.phase=Running")
    assert {each["spec"]["containers"][0]["image"] for each in pods["items"] if "deletionTimestamp" not in each["metadata"]} == {
        "rayscaler:next"
    }
    with pytest.raises(RuntimeError, match="cannot be imported into the current release"):
        await deployer.helm("install", "another", tools.CHART)


async def test_kubectl_applies_it_likewise_and_again_to_no_effect(namespace, deployer):
    await deployer.kubectl("apply", "-f", manifests.MANIFESTS)
    await ready(namespace)
    again = await deployer.kubectl("apply", "-f", manifests.MANIFESTS)
    # kubectl says of every budget that it has configured it: it always sends the selector whole. Nothing changes in it.
    assert [line for line in again.splitlines() if not line.endswith(" unchanged")] == ["poddisruptionbudget.policy/rayscaler configured"]
    budget = await namespace.api.get(namespace.path("poddisruptionbudgets/rayscaler", "policy/v1"))
    assert budget["metadata"]["generation"] == 1


async def test_the_service_has_the_rights_of_its_role_and_a_head_has_none(namespace, deployer):
    await deployer.kubectl("apply", "-f", manifests.MANIFESTS)
    (role,) = manifests.objects("Role")
    await has_rights(namespace, "rayscaler", role["rules"])
    assert await rights(namespace, "rayscaler-head") == await rights(namespace, "default")


async def test_what_is_not_in_the_role_is_refused(cluster, namespace, deployer):
    await deployer.kubectl("apply", "-f", manifests.MANIFESTS)
    await namespace.api.create(namespace.path("secrets"), {"metadata": {"name": "theirs"}})
    await namespace.api.create(namespace.path("secrets"), {"metadata": {"name": "rayscaler-tls"}})
    await namespace.authorized(f"system:serviceaccount:{namespace.name}:rayscaler", manifests.objects("Role")[0]["rules"][0])
    async with Api(cluster, await token_of(namespace, "rayscaler")) as api:
        await api.get(namespace.path("secrets/rayscaler-tls"))
        for refused in (
            api.get(namespace.path("secrets")),
            api.get(namespace.path("secrets/theirs")),
            api.delete(namespace.path("secrets/rayscaler-tls")),
            api.create(namespace.path("pods/any/exec"), {}),
            api.create(namespace.path("roles", RBAC), {"metadata": {"name": "more"}}),
            api.create(namespace.path("serviceaccounts/deployer/token"), {"spec": {}}),
            api.get("/api/v1/nodes"),
            api.get("/api/v1/pods"),
            api.get("/api/v1/namespaces/default/configmaps"),
        ):
            with pytest.raises(ApiError, match="403 Forbidden"):
                await refused


async def test_nodes_are_read_only_where_the_cluster_s_administrator_says_so(cluster, namespace, deployer, tmp_path):
    with pytest.raises(RuntimeError, match=r"clusterroles.* is forbidden"):
        await deployer.install("--set", "nodeNotices.enabled=true")
    root = Deployer(namespace, cluster.directory / "admin.kubeconfig", tmp_path)
    await root.helm("upgrade", "--install", "any-name", tools.CHART, "--set", "nodeNotices.enabled=true")
    async with Api(cluster, await token_of(namespace, "rayscaler")) as api:

        async def nodes() -> list[dict]:
            with contextlib.suppress(ApiError):  # the right is some moments old
                return (await api.get("/api/v1/nodes"))["items"]
            return []

        assert await awaited(nodes)
        with pytest.raises(ApiError, match="403 Forbidden"):
            await api.get("/api/v1/pods")
    await root.helm("uninstall", "any-name")
    left = await namespace.api.get("/apis/rbac.authorization.k8s.io/v1/clusterroles", labelSelector="app.kubernetes.io/name=rayscaler")
    assert left["items"] == []


async def test_the_right_to_resize_pods_is_none_that_the_administrator_of_a_namespace_has(deployer):
    with pytest.raises(RuntimeError, match=r"pods/resize"):
        await deployer.install("--set", "resize.enabled=true")


async def test_uninstalling_leaves_what_the_service_made_and_what_the_user_did(namespace, deployer):
    before = await everything(namespace)
    cluster = yaml.safe_load(EXAMPLE.read_text())["data"]["cluster.yaml"].replace("{name: demo}", "{name: released}")
    await deployer.install("--set-json", f"clusters={json.dumps([yaml.safe_load(cluster)])}")
    await deployer.kubectl("apply", "-f", EXAMPLE)
    for resource, group, name in OWN:
        await namespace.api.create(namespace.path(resource, group), {"metadata": {"name": name}})
    selector = "rayscaler.io/cluster,app.kubernetes.io/managed-by!=rayscaler"
    found = await namespace.api.get(namespace.path("configmaps"), labelSelector=selector)
    assert [each["metadata"]["name"] for each in found["items"]] == ["demo", "released"]
    await deployer.helm("uninstall", "any-name", "--wait")
    await namespace.api.wait(namespace.path("deployments", "apps/v1"), "rayscaler", lambda it: it is None)
    expected = before | {("configmaps", "demo")} | {(resource, name) for resource, _, name in OWN}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(60.0):  # the garbage collector follows
            while (left := await everything(namespace)) != expected:  # noqa: ASYNC110  # no one watch covers all kinds
                await asyncio.sleep(0.1)
    assert left == expected


async def everything(namespace: Namespace) -> set[tuple[str, str]]:
    """Return all that is in the namespace and can be deleted, but for what others keep there of their own accord."""
    found = set()
    groups = {"": ["v1"], **{each["name"]: [each["preferredVersion"]["version"]] for each in (await namespace.api.get("/apis"))["groups"]}}
    for group, (version,) in groups.items():
        base = f"apis/{group}/{version}" if group else f"api/{version}"
        for resource in (await namespace.api.get(f"/{base}"))["resources"]:
            kind = resource["name"]
            if (
                resource["namespaced"]
                and {"list", "delete"} <= set(resource["verbs"])
                and kind not in {"events", "endpoints", "endpointslices"}
            ):
                listed = await namespace.api.get(f"/{base}/namespaces/{namespace.name}/{kind}")
                found |= {(kind, each["metadata"]["name"]) for each in listed["items"]}
    return found - {("configmaps", "kube-root-ca.crt")}  # Kubernetes' own, which comes a moment after the namespace


async def test_the_example_s_pods_are_admitted_where_pods_are_restricted(namespace, deployer):
    config = load.check_all([EXAMPLE])[EXAMPLE].config
    for index, template in enumerate([config.head.template, *(each.template for each in config.node_types)]):
        pod = {"metadata": {"name": f"p{index}"}, **json.loads(template)}
        await namespace.api.create(namespace.path("pods") + "?dryRun=All", pod)


async def test_the_pod_of_helm_test_tells_who_is_good_and_who_is_not(cluster, namespace, deployer):
    made = yaml.safe_load(await deployer.helm("template", "r", tools.CHART, "-s", "templates/tests/answers.yaml"))
    script, *arguments = made["spec"]["containers"][0]["args"]
    places = [f"{name}.{namespace.name}.svc:6380" for name in ("rayscaler", "rayscaler-leader")]
    assert arguments == ["on", "/ca/ca.crt", "60", *places]

    async def ask(tls: str, place: str, tries: int = 1) -> str:
        argv = [sys.executable, "-c", script, tls, cluster.ca, f"{tries}", place]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        out, _ = await process.communicate()
        return f"{process.returncode} {out.decode()}"

    port = cluster.url.rsplit(":", 1)[1]
    good = f"127.0.0.1:{port}"  # the API server itself, which speaks HTTP/2 within TLS too
    assert await ask("on", good, 20) == f"0 {good}: answers with TLSv1.3, its certificate is good\n"
    assert await ask("off", good, 20) == f"0 {good}: connects\n"
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # and does not listen
        for tls in ("on", "off"):
            assert re.match(r"1 127\.0\.0\.1:\d+: .*Connection refused", await ask(tls, f"127.0.0.1:{silent.getsockname()[1]}"))
    assert re.match(r"1 127\.1:\d+: .*CERTIFICATE_VERIFY_FAILED", await ask("on", f"127.1:{port}"))  # another name of the same place
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cluster.ca, cluster.ca.with_suffix(".key"))
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context) as old:
        bad = f"127.0.0.1:{old.sockets[0].getsockname()[1]}"
        assert await ask("on", bad) == f"1 {bad}: does not speak HTTP/2\n"
