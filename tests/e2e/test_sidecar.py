"""An executor beside the service, on a real node: it makes the workers with the service's rights, ends them, and goes with the release."""

import pytest

from rayscaler.k8s import labels
from tests.e2e import installed, pods

pytestmark = pytest.mark.tier("e2e")

SIDECAR = ("--set", "executor.sidecar.enabled=true,executor.sidecar.args={executor,serve,k8s},executor.sidecar.serviceAccountToken=true")
GONE_S = 120.0
"""For a worker to be drained and gone after its idle timeout; 3 s on an idle machine."""
JOB = (
    """
import json, os, time, ray

@ray.remote(num_cpus=1)
def task():
    return os.environ["RAY_CLOUD_INSTANCE_ID"]
"""
    + installed.CONNECT
    + """
print(json.dumps({"where": ray.get(task.remote())}), flush=True)
ray.shutdown()
"""
)


async def test_an_executor_beside_the_service_makes_the_workers_and_ends_them(kube_namespace, tmp_path):
    async with installed.install(kube_namespace, tmp_path, *SIDECAR) as site:
        async with installed.moments(site, "demo") as seen:
            await site.apply(installed.example(idleTimeout="1s"))
            client = await site.client("client", JOB)
            worker = (await client.said(lambda it: "where" in it))["where"]
            assert "created" in seen.of[worker]
            await seen.until(worker, "gone", GONE_S)
        (leader,) = await site.pods("rayscaler.io/leader=true")
        said = await pods.log(kube_namespace, leader["metadata"]["name"], container="rayscaler")
        assert "event=plugin.introduced" in said, "the service has no other executor"
        definition = await kube_namespace.api.get(kube_namespace.path("configmaps/demo"))
        assert labels.FINALIZER in definition["metadata"]["finalizers"]
        await installed.taken_away(site, is_service_needed=True)
