"""Workers that no machine comes for, on a real API server: what is told of them."""

import asyncio
import json

import pytest

from rayscaler.model.resources import Resources
from tests.cluster.namespaces import BEHAVIOUR
from tests.cluster.product import awaited, document, until
from tests.counts import counted

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

ONE = Resources.of(CPU=1)
FACTOR = counted(gate=4, full=1)
"""So many times sooner than the 60 s of the complaint, and everything else of the service with it."""


def of_type(name: str, *, annotations: dict[str, str] | None = None, gates: tuple[str, ...] = (), **fields: object) -> dict:
    container = {"name": "ray", "image": "ray:test", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    spec = {"containers": [container], "schedulingGates": [{"name": each} for each in gates]}
    return {"name": name, "resources": {"CPU": 1}, "template": {"metadata": {"annotations": annotations or {}}, "spec": spec}, **fields}


async def told(ours, of: dict) -> list[dict]:
    """Return the LaunchStuck events of an object, found as `kubectl describe` finds them."""
    regards = {"kind": of["kind"], "name": of["metadata"]["name"], "uid": of["metadata"]["uid"]}
    query = ",".join(f"involvedObject.{key}={value}" for key, value in regards.items())
    found = await ours.namespace.api.get(ours.namespace.path("events"), fieldSelector=f"{query},reason=LaunchStuck")
    return list(found["items"])


async def failures(ours) -> dict[str, dict[str, int]]:
    """Return the counters of `rayscaler status --json`, by node type."""
    (cluster,) = json.loads(await ours.status("--json"))["clusters"]
    return {each["name"]: each["failures"] for each in cluster["node_types"]}


async def test_h4_a_pod_that_no_machine_comes_for_has_one_event_its_definition_has_one_and_it_is_counted_once(ours):
    """Complaint H4: unschedulable for 60 s, told with cause, next step and time."""
    service = await ours.serve(RAYSCALER_TIME_FACTOR=str(FACTOR))
    definition = document("demo", of_type("soldout", annotations={f"{BEHAVIOUR}unschedulable": "true"}, maxWorkers=5))
    await ours.define(definition)
    api, path = ours.namespace.api, ours.namespace.path
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(ONE)
        await until(lambda: len(ray.seen) == 1)
        (name,) = ray.seen
        pod = {"kind": "Pod", **await api.get(path(f"pods/{name}"))}
        owner = {"kind": "ConfigMap", **await api.get(path("configmaps/demo"))}
        assert await told(ours, pod) == []
        (on_pod,) = await awaited(lambda: told(ours, pod), 60.0 / FACTOR + 30.0)
        (on_owner,) = await awaited(lambda: told(ours, owner), 10.0)
        await asyncio.sleep(12.0 / FACTOR)  # more than ten reports, and nothing changes
        assert [[each["count"] for each in await told(ours, of)] for of in (pod, owner)] == [[1], [1]]
        assert await failures(ours) == {"soldout": {"UNSCHEDULABLE": 1}}
    cause = "Unschedulable: 0/20 nodes are available: 20 node(s) refused by the pod's own annotation"
    for each in (on_pod, on_owner):
        assert (each["type"], cause in each["message"]) == ("Warning", True)
        assert each["message"].endswith("; other node types are used meanwhile, and soldout is tried again in 300 s")
    assert on_pod["message"].startswith(cause)
    assert on_owner["message"].startswith("1 soldout on the way and not getting on: ")
    assert ours.created("demo") == [name]
