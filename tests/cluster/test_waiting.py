"""Workers that no machine comes for, or that wait for a quota, on a real API server: what is told of them, and what is done meanwhile."""

import asyncio
import json

import pytest
import yaml

from rayscaler.model.resources import Resources
from tests.cluster.namespaces import BEHAVIOUR
from tests.cluster.product import awaited, document, until
from tests.counts import counted
from tests.webhook.builders import checked
from tests.webhook.server import served

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

ONE = Resources.of(CPU=1)
FACTOR = counted(gate=2, full=1)
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


async def failures(ours, node_type: str) -> dict[str, int]:
    """Return a node type's counters of `rayscaler status --json`, once there are some: a status is written every two seconds at most."""

    async def look() -> dict[str, int]:
        (cluster,) = json.loads(await ours.status("--json"))["clusters"]
        return {each["name"]: each["failures"] for each in cluster["node_types"]}[node_type]

    return await awaited(look)


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
        (on_owner,) = await awaited(lambda: told(ours, owner), 30.0)
        await asyncio.sleep(12.0 / FACTOR)  # more than ten reports, and nothing changes
        assert [[each["count"] for each in await told(ours, of)] for of in (pod, owner)] == [[1], [1]]
        assert await failures(ours, "soldout") == {"UNSCHEDULABLE": 1}
    cause = "Unschedulable: 0/20 nodes are available: 20 node(s) refused by the pod's own annotation"
    for each in (on_pod, on_owner):
        assert (each["type"], cause in each["message"]) == ("Warning", True)
        assert each["message"].endswith("; other node types are used meanwhile, and soldout is tried again in 300 s")
    assert on_pod["message"].startswith(cause)
    assert on_owner["message"].startswith("1 soldout on the way and not getting on: ")
    assert ours.created("demo") == [name]


async def test_h4_a_webhook_is_called_once_when_it_begins_and_once_when_it_ends_over_a_restart_and_a_receiver_that_fails(ours):
    """Complaint H4, outward: the receiver first does not answer, then fails, and is told the same until it takes it; planning waits for none of that."""
    definition = document("demo", of_type("soldout", annotations={f"{BEHAVIOUR}unschedulable": "true"}, maxWorkers=5))

    async def is_noted() -> bool:  # killed before that, the next life tells it again by the same id
        record = await ours.namespace.api.get(ours.namespace.path("configmaps/demo.rayscaler-record"))
        return '"told": "UNSCHEDULABLE"' in str(record["data"])

    async with served() as outside:
        outside.before = ["", "500 Internal Server Error"]
        env = {"RAYSCALER_TIME_FACTOR": str(2 * FACTOR), "RAYSCALER_WEBHOOK_URL": f"http://127.0.0.1:{outside.port}/hook"}
        first = await ours.serve(**env)
        await ours.define(definition)
        async with ours.ray(definition, first.address) as ray:
            ray.gcs.submit(ONE)
            await until(lambda: len(ray.seen) == 1)
            assert outside.requests == []
            await until(lambda: len(outside.requests) == 3, 60.0 / FACTOR + 30.0)
            await awaited(is_noted)
            await first.kill()
            second = await ours.serve(RAYSCALER_LISTEN=first.address, **env)
            await until(lambda: bool(second.told("leader.elected")))
            await asyncio.sleep(4.0)  # more than ten reports
            begun, *again = [body for _, _, body in outside.requests]
            assert again == [begun, begun]
            assert len(ours.created("demo")) == 1
            del definition["spec"]["nodeTypes"][0]["template"]["metadata"]  # the operator does something about it
            await ours.namespace.api.patch(ours.namespace.path("configmaps/demo"), {"data": {"cluster.yaml": yaml.safe_dump(definition)}})
            await until(lambda: len(ray.gcs.running()) == 1)
            await until(lambda: len(outside.requests) == 4)
            await asyncio.sleep(4.0)  # as long, for one too many
        began, ended = checked(begun), checked(outside.requests[-1][2])
        assert len(outside.requests) == 4
    assert (began["state"], began["cause"], began["cluster"], began["nodeType"]) == ("begun", "UNSCHEDULABLE", "demo", "soldout")
    assert (began["namespace"], began["launches"]) == (ours.namespace.name, 1)
    assert "Unschedulable: 0/20 nodes are available" in began["detail"]
    assert began["nextStep"].startswith("other node types are used meanwhile, and soldout is tried again in ")
    assert (ended["state"], ended["since"], ended["id"] != began["id"]) == ("ended", began["since"], True)


async def let_through(ours, pods: list[dict]) -> set[str]:
    """Take the gates away, as a queue does once it has the quota; return whose they were."""
    for each in pods:
        await ours.namespace.api.patch(ours.namespace.path(f"pods/{each['metadata']['name']}"), {"spec": {"schedulingGates": []}})
    return {each["metadata"]["name"] for each in pods}


def of(names: list[str] | set[str], node_type: str) -> set[str]:
    return {each for each in names if each.startswith(f"demo-{node_type}-")}


async def test_i3_of_20_gated_pods_12_are_granted_8_wait_for_quota_shrink_first_and_8_at_most_are_had_elsewhere(ours):
    """Complaint I3: the queue that shares out the quota is the test; tests/reconciler/test_waiting_for_quota.py has the long waits."""
    service = await ours.serve(RAYSCALER_TIME_FACTOR=str(FACTOR))
    queued = of_type("queued", gates=("kueue.x-k8s.io/admission",), cost=1, maxWorkers=30)
    definition = document("demo", queued, of_type("dear", cost=2, maxWorkers=30), idleTimeout="60s")
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        tasks = ray.gcs.submit(ONE, 20)
        granted = await let_through(ours, (await ours.counted("demo", 20))[:12])
        await until(lambda: len(ray.gcs.running()) == 12)

        async def are_waiting() -> bool:
            (cluster,) = json.loads(await ours.status("--json"))["clusters"]
            others = [each for each in cluster["instances"] if each["instance_id"] not in granted]
            return [(each["status"], each["detail"].partition(":")[0]) for each in others] == [("ALLOCATED", "SchedulingGated")] * 8

        await awaited(are_waiting)  # a status is written every two seconds at most
        running = {each.task_id for each in ray.gcs.running()}
        ray.gcs.finish(*[each for each in tasks if each not in running][:4])
        left = {each["metadata"]["name"] for each in await ours.counted("demo", 16)}
        assert granted < left  # those that waited went
        ray.gcs.submit(ONE, 4)
        await until(lambda: len(ray.gcs.running()) == 20, 60.0 / FACTOR + 30.0)  # the 8 were had elsewhere
        await ours.counted("demo", 20)
        assert {each["metadata"]["name"] for each in await ours.workers("demo")} == granted | of(ours.created("demo"), "dear")
        assert list(ray.gcs.told.failed_instance_requests) == []
        assert set(await failures(ours, "queued")) == {"GATED"}
    created = ours.created("demo")
    assert (len(of(created, "queued")), len(of(created, "dear"))) == (24, 8)
    assert not ours.deleted("demo") & granted
    assert ray.unnamed == set()
