"""Executors apart from the service, on a real API server that takes restricted pods only: beside it, and with rights of their own.

The simulated nodes run no rayscaler: the plugin with the example's rights is a process of this machine.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import yaml

from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import Phase
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.chart import tools
from tests.chart.deployer import token_of
from tests.chart.test_on_cluster import has_rights
from tests.cluster.namespaces import RESTRICTED
from tests.k8s.bed import template
from tests.plugin import judged
from tests.plugin.conftest import short_path  # noqa: F401 - a fixture
from tests.plugin.door import dialled, listed

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

EXAMPLE = tools.ROOT / "examples/kubernetes/executor.yaml"
ACCOUNT = "rayscaler-executor"
WITHIN_S = 60.0
"""Deadline of anything waited for."""
POD = template(image="ray", securityContext=RESTRICTED)


async def keeps_every_rule(directory: Path, kill: str) -> None:
    """Have the executor that serves there judged rule by rule."""
    node_type = {"name": "small", "resources": {"CPU": 1}, "template": json.loads(POD)}
    (directory / "type.yaml").write_text(json.dumps(node_type))
    what = ("--address", f"unix://{directory / 's'}", "--node-type", str(directory / "type.yaml"), "--end-timeout", str(WITHIN_S))
    code, document = await judged.told(*what, "--kill", kill)
    assert (judged.failures(document), code, document["left"]) == ({}, 0, [])
    assert judged.skipped(document) == {*judged.OF_A_START, *judged.OVER_TLS}


async def test_a_sidecar_is_admitted_where_pods_are_restricted(namespace, deployer):
    await deployer.install("--set", "executor.sidecar.enabled=true", "--set", "executor.sidecar.args={executor,serve,k8s}")
    pods = await namespace.api.get(namespace.path("pods"))
    assert [[each["name"] for each in pod["spec"]["containers"]] for pod in pods["items"]] == [["rayscaler", "executor"]] * 2
    for pod in pods["items"]:
        mounts = {each["name"]: {mount["mountPath"] for mount in each["volumeMounts"]} for each in pod["spec"]["containers"]}
        token = "/var/run/secrets/kubernetes.io/serviceaccount"
        assert (token in mounts["rayscaler"], token in mounts["executor"]) == (True, False)


async def test_a_plugin_elsewhere_is_dialled_with_the_secret_of_the_release(namespace, deployer):
    files = [f"--from-literal={name}=x" for name in ("ca.crt", "tls.crt", "tls.key")]
    await deployer.kubectl("create", "secret", "generic", "rayscaler-executor-client", *files)
    address = ("--set", "executor.address=dns:///rayscaler-executor.ml.svc:6390", "--set", "executor.tlsSecret=rayscaler-executor-client")
    await deployer.install(*address)
    pods = await namespace.api.get(namespace.path("pods"))
    assert [[each["name"] for each in pod["spec"]["volumes"] if "secret" in each] for pod in pods["items"]] == [["executor-tls"]] * 2


async def test_the_example_has_the_rights_that_an_executor_needs_and_no_more(cluster, namespace, deployer, short_path):  # noqa: F811 - the fixture
    await deployer.kubectl("apply", "-f", EXAMPLE)
    (role,) = (each for each in yaml.safe_load_all(EXAMPLE.read_text()) if each["kind"] == "Role")
    await has_rights(namespace, ACCOUNT, role["rules"])
    await namespace.api.wait(
        namespace.path("deployments", "apps/v1"), ACCOUNT, lambda it: it is not None and it["status"].get("readyReplicas") == 1
    )
    kubeconfig = cluster.kubeconfig(f"{namespace.name}-executor", await token_of(namespace, ACCOUNT), namespace.name)
    argv = ("-m", "rayscaler", "-n", namespace.name, "executor", "serve", "k8s", "--listen", f"unix://{short_path / 's'}")
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, env={**os.environ, "KUBECONFIG": str(kubeconfig)})
    executor = dialled(short_path / "s")
    spec = LaunchSpec("c", "c-1", NodeType("small", Resources.of(CPU=1), template=POD), "c-head:6379")
    try:
        async with asyncio.timeout(WITHIN_S):
            assert await listed(executor) == []
            watch = executor.watch("c")
            name = await executor.launch(spec)
            assert [each.external_id for each in await executor.list("c")] == [name]
            assert (await namespace.api.get(namespace.path(f"pods/{name}")))["spec"]["containers"][0]["image"] == "ray"
            await executor.terminate("c", "c-1")
            while (await anext(watch)).phase is not Phase.GONE:
                pass
            assert await executor.list("c") == []
        await keeps_every_rule(short_path, deployer.line("delete pod $EXTERNAL_ID --grace-period 0 --force"))
    finally:
        await executor.close()
        process.terminate()
        await process.wait()
