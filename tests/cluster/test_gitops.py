"""What GitOps tools do and see: they apply the same manifest again and again, and judge by what is written back (CD-14, CD-17)."""

import asyncio
import hashlib
import json
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
import yaml

from rayscaler.model.resources import Resources
from tests.cluster.api import SERVER_SIDE_APPLY
from tests.cluster.namespaces import BEHAVIOUR, condition
from tests.cluster.product import HEADS, LABEL, WORKERS, awaited, document, is_ready, until
from tests.counts import counted

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

SCHEMA = json.loads((Path(__file__).parents[2] / "schema/kubernetes-status.schema.json").read_text())
TIMES = counted(gate=10, full=24)
EVERY_S = counted(gate=1.0, full=5.0)
"""How often, and between two times: two minutes of it in full."""
SCHEMES = {"gcs": "", "client": "ray://", "dashboard": "http://", "serve": "http://"}


async def apply(ours, definition: dict) -> dict:
    """Apply a definition as a GitOps tool does; return the object."""
    name = definition["metadata"]["name"]
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {LABEL: name}},
        "data": {"cluster.yaml": yaml.safe_dump(definition)},
    }
    path = ours.namespace.path(f"configmaps/{name}")
    return await ours.namespace.api.patch(path, body, SERVER_SIDE_APPLY, fieldManager="gitops", force="true")


async def written(ours) -> dict:
    """Return the status as it is written back; {} before there is one."""
    path = ours.namespace.path("configmaps")
    found = await ours.namespace.api.get(path, fieldSelector="metadata.name=demo.rayscaler-status")
    return json.loads(found["items"][0]["data"]["status.json"]) if found["items"] else {}


async def test_cd14_applied_again_and_again_beside_the_status_writer_the_same_manifest_reverts_and_restarts_nothing(ours):
    service = await ours.serve()
    idle = {"name": "idle", "resources": {"CPU": 1}, "minWorkers": 2, "maxWorkers": 50}
    busy = {"name": "busy", "resources": {"busy": 1}, "maxWorkers": 50}
    definition = document("demo", idle, busy, idleTimeout="2s")
    applied = await apply(ours, definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(Resources.of(busy=1), 2)
        await until(lambda: (len(ray.gcs.running()), len(ray.joined)) == (2, 4))
        before, statuses, never = await _lives(ours), set(), list[int]()
        for index in range(TIMES):
            # What can never run makes the status change, and nothing else; each waits for two times, as Ray shows what has waited for a second.
            never += ray.gcs.submit(Resources.of(CPU=100 + index))
            assert (await apply(ours, definition))["metadata"] == applied["metadata"]
            status = await ours.namespace.api.get(ours.namespace.path("configmaps/demo.rayscaler-status"))
            assert {each["manager"] for each in status["metadata"]["managedFields"]} == {"rayscaler"}
            statuses.add(status["metadata"]["resourceVersion"])
            await asyncio.sleep(EVERY_S)  # the tool's pace
            ray.gcs.finish(*never[:-1])
            del never[:-1]
        assert len(statuses) > 2  # the status was written meanwhile
        assert await _lives(ours) == before
        assert {each["manager"] for each in applied["metadata"]["managedFields"]} == {"gitops"}
        assert len(ray.gcs.running()) == 2
        assert not [each for each in ray.gcs.tasks.values() if each.times_lost]
    assert (len(ours.created("demo")), ours.deleted("demo")) == (4, set())
    touched = {each["objectRef"].get("name") for verb in ("create", "update", "patch", "delete") for each in ours.deeds(verb, "configmaps")}
    assert "demo" not in touched  # nobody but the tool writes the definition
    assert len(service.told("definition.taken")) == 1


async def _lives(ours) -> set[tuple]:
    """Return by what pods and the head's Service would show that they were made, changed or started anew."""
    pods = [*await ours.workers("demo"), *await ours.pods(HEADS.format("demo"))]
    service = await ours.namespace.api.get(ours.namespace.path("services/demo-head"))
    restarts = [sum(each["restartCount"] for each in pod["status"].get("containerStatuses", ())) for pod in pods]
    made = [(pod["metadata"]["uid"], pod["metadata"]["resourceVersion"], count) for pod, count in zip(pods, restarts, strict=True)]
    return {*made, (service["metadata"]["uid"], service["metadata"]["resourceVersion"])}


def kind(name: str, count: int, *, spec: dict | None = None, requests: dict | None = None, minimum: int = 0, **behaviour: str) -> dict:
    """Return a node type for tasks that ask for it by name."""
    annotations = {BEHAVIOUR + key.replace("_", "-"): value for key, value in behaviour.items()}
    container = {"name": "ray", "image": "ray:test", "resources": {"requests": {"cpu": "10m", "memory": "16Mi", **(requests or {})}}}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [container], **(spec or {})}}
    return {"name": name, "resources": {name: 1}, "minWorkers": minimum, "maxWorkers": count, "template": template}


async def test_cd17_what_is_written_back_is_what_the_api_server_has(ours):
    """Types in every state at once: ready, never ready, refused by a quota, and stuck while it ends."""
    await ours.namespace.quota("q", **{"requests.ephemeral-storage": "0"})
    service = await ours.serve()
    stuck = {"terminationGracePeriodSeconds": 3600}
    types = [
        kind("quick", 3),
        kind("slow", 9, minimum=2, ready_after="never"),
        kind("refused", 9, requests={"ephemeral-storage": "1Mi"}),
        kind("ending", 9, spec=stuck, ends_after="never"),
    ]
    definition = document("demo", *types, idleTimeout="1s")
    await apply(ours, definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(Resources.of(quick=1), 4)
        ray.gcs.submit(Resources.of(refused=1))
        gone = ray.gcs.submit(Resources.of(ending=1), 2)
        await until(lambda: len(ray.gcs.running()) == 5, what=lambda: len(ray.gcs.running()))
        ray.gcs.finish(*gone)
        expected = {"quick": {"RUNNING": 3}, "slow": {"ALLOCATED": 2}, "refused": {}, "ending": {"TERMINATING": 2}}
        statuses = {
            "Ready": "False",
            "DefinitionValid": "True",
            "HeadReady": "True",
            "MinimumsMet": "False",
            "DemandMet": "False",
            "Blind": "False",
            "LaunchesFailing": "True",
        }
        told = await _settled(ours, expected, desired=5, pending=2, **statuses)
        conditions = _conditions(told)
        assert conditions.keys() == statuses.keys()
        assert conditions["MinimumsMet"]["message"] == "slow has 0 of 2"
        assert "exceeded quota: q" in conditions["LaunchesFailing"]["message"]
        assert "quick" in conditions["DemandMet"]["message"]
        ready = {"metadata": {"annotations": {BEHAVIOUR + "ready-after": "0s"}}}
        for name in [each["metadata"]["name"] for each in await ours.workers("demo") if "-slow-" in each["metadata"]["name"]]:
            await ours.namespace.api.patch(ours.namespace.path(f"pods/{name}"), ready)
        await _settled(ours, {**expected, "slow": {"RUNNING": 2}}, MinimumsMet="True", Ready="True")
        definition["spec"]["nodeTypes"][0]["maxWorkers"] = 4
        await apply(ours, definition)
        again = await _settled(ours, {**expected, "slow": {"RUNNING": 2}, "quick": {"RUNNING": 4}})
        assert again["observedVersion"]["hash"] != told["observedVersion"]["hash"]
    await ours.namespace.api.delete(ours.namespace.path("pods/demo-head-1"))
    await _settled(ours, None, HeadReady="True", pod="demo-head-2")


def _conditions(told: dict) -> dict[str, dict]:
    return {each["type"]: each for each in told["conditions"]}


async def _settled(
    ours, expected: dict[str, dict[str, int]] | None, *, pod: str = "demo-head-1", desired: int = -1, pending: int = -1, **conditions: str
) -> dict:
    """Wait until all that is written back is what the API server has, and as expected; return it."""
    last: list[object] = []

    async def is_so() -> dict | None:
        told, seen = await written(ours), await _seen(ours)
        last[:] = [told, seen]
        known = {each["name"]: each["instances"] for each in told.get("nodeTypes", ())}
        is_expected = (expected is None or known == expected) and told.get("head", {}).get("pod") == pod
        for count, is_told in ((desired, ("workers", "desired")), (pending, ("pending", "count"))):
            is_expected = is_expected and count in (-1, told[is_told[0]][is_told[1]])
        is_expected = is_expected and all(_conditions(told)[name]["status"] == status for name, status in conditions.items())
        return told if is_expected and _claims(told) == seen else None

    try:
        told: dict = await awaited(is_so)
    except TimeoutError:
        raise AssertionError(json.dumps(last, indent=1)) from None
    jsonschema.validate(told, SCHEMA)
    return told


def _claims(told: dict) -> dict:
    """Return of a status what the API server knows better."""
    return {
        "instances": {each["name"]: each["instances"] for each in told["nodeTypes"] if each["instances"]},
        "all": told["workers"]["instances"],
        "limits": {each["name"]: (each["min"], each["max"]) for each in told["nodeTypes"]},
        "version": told["observedVersion"],
        "head": (told["head"]["pod"], _conditions(told)["HeadReady"]["status"]),
        "endpoints": told["head"]["endpoints"],
    }


async def _seen(ours) -> dict:
    """Return the same from pods, Service and ConfigMap."""
    api, path = ours.namespace.api, ours.namespace.path
    workers = (await api.get(path("pods"), labelSelector=WORKERS.format("demo")))["items"]
    by_type: dict[str, Counter[str]] = {}
    for each in workers:
        by_type.setdefault(each["metadata"]["labels"]["rayscaler.io/node-type"], Counter())[_state(each)] += 1
    defined = await api.get(path("configmaps/demo"))
    text = defined["data"]["cluster.yaml"]
    service = await api.get(path("services/demo-head"))
    selector = ",".join(f"{key}={value}" for key, value in service["spec"]["selector"].items())
    heads = (await api.get(path("pods"), labelSelector=selector))["items"]
    host = f"demo-head.{ours.namespace.name}.svc"
    return {
        "instances": {name: dict(counts) for name, counts in by_type.items()},
        "all": dict(sum(by_type.values(), Counter())),
        "limits": {each["name"]: (each["minWorkers"], each["maxWorkers"]) for each in yaml.safe_load(text)["spec"]["nodeTypes"]},
        "version": {"hash": hashlib.sha256(text.encode()).hexdigest()[:16], "resourceVersion": defined["metadata"]["resourceVersion"]},
        "head": (heads[0]["metadata"]["name"], condition(heads[0], "Ready").get("status")) if heads else ("", ""),
        "endpoints": {each["name"]: f"{SCHEMES[each['name']]}{host}:{each['port']}" for each in service["spec"]["ports"]},
    }


def _state(pod: dict) -> str:
    if "deletionTimestamp" in pod["metadata"]:
        return "TERMINATING"
    return "RUNNING" if is_ready(pod) else "ALLOCATED"
