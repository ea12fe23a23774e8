"""A worker that may grow in place, on a real node: the kubelet gives its pod more, then Ray's own table says so, and no pod is made."""

import pytest

from tests.chart import tools
from tests.chart.deployer import Deployer
from tests.cluster.api import JSON
from tests.e2e import installed

pytestmark = pytest.mark.tier("e2e")

HELD_S = 45.0
"""For which the first task holds all that its worker began with: long enough for the worker to grow beside it on a busy machine."""
JOB = (
    """
import json, os, time, ray

@ray.remote(num_cpus=1)
def task(seconds):
    began = time.time()
    time.sleep(seconds)
    return {"where": os.environ["RAY_CLOUD_INSTANCE_ID"], "began": began, "ended": time.time()}
"""
    + installed.CONNECT
    + f"""
first = task.remote({HELD_S})
while not any(each["Alive"] and "CPU" in each["Resources"] for each in ray.nodes()):
    time.sleep(0.2)
time.sleep(3.0)  # the first has begun, and is no demand any more
second = ray.get(task.remote(0.1))
total = ray.cluster_resources()["CPU"]
print(json.dumps({{"first": ray.get(first), "second": second, "total": total}}), flush=True)
ray.shutdown()
"""
)


def definition() -> JSON:
    pod = installed.template()
    pod["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}
    small = {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 3, "resize": {"maxResources": {"CPU": 2}}, "template": pod}
    return {"idleTimeout": "1m", "head": {"template": installed.template()}, "nodeTypes": [small]}


async def test_j4_a_busy_worker_grows_in_its_pod_and_the_next_task_runs_there(kube_namespace, tmp_path):
    """Complaint J4, features PT-27."""
    async with installed.install(kube_namespace, tmp_path) as site, installed.moments(site, "demo") as seen:
        root = Deployer(kube_namespace, kube_namespace.cluster.directory / "admin.kubeconfig", tmp_path)
        await root.helm("upgrade", "any-name", tools.CHART, "--reuse-values", "--set", "resize.enabled=true", "--wait")
        await site.define("demo", **definition())
        client = await site.client("client", JOB)
        told = await client.said(lambda it: "second" in it, 4 * HELD_S)
        (pod,) = await site.workers("demo")
        name = pod["metadata"]["name"]
        assert {told["first"]["where"], told["second"]["where"]} == {name}
        assert told["second"]["ended"] < told["first"]["ended"], "it ran beside the first"
        assert told["total"] == 2.0
        (status,) = [each for each in pod["status"]["containerStatuses"] if each["name"] == "ray"]
        assert status["resources"]["requests"]["cpu"] == "1100m", "what the kubelet says that it gives"
        assert status["restartCount"] == 0
        assert [each for each in seen.of if each.startswith("demo-small-")] == [name]
