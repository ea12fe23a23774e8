"""What GitOps tools do and see: they apply the same manifest again and again, and see that nothing comes of it (CD-14)."""

import asyncio

import pytest
import yaml

from rayscaler.model.resources import Resources
from tests.cluster.api import SERVER_SIDE_APPLY
from tests.cluster.product import HEADS, LABEL, document, until
from tests.counts import counted

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

TIMES = counted(gate=10, full=24)
EVERY_S = counted(gate=1.0, full=5.0)
"""How often, and between two times: two minutes of it in full."""


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


async def test_cd14_applied_again_and_again_beside_the_status_writer_the_same_manifest_reverts_and_restarts_nothing(ours):
    service = await ours.serve()
    idle = {"name": "idle", "resources": {"CPU": 1}, "minWorkers": 2, "maxWorkers": 50}
    busy = {"name": "busy", "resources": {"busy": 1}, "maxWorkers": 50}
    definition = document("demo", idle, busy, idleTimeout="2s")
    applied = await apply(ours, definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(Resources.of(busy=1), 2)
        await until(lambda: (len(ray.gcs.running()), len(ray.joined)) == (2, 4))
        before, statuses = await _lives(ours), set()
        for index in range(TIMES):
            # What can never run makes the status change, and nothing else.
            never = ray.gcs.submit(Resources.of(CPU=100 + index))
            assert (await apply(ours, definition))["metadata"] == applied["metadata"]
            status = await ours.namespace.api.get(ours.namespace.path("configmaps/demo.rayscaler-status"))
            assert {each["manager"] for each in status["metadata"]["managedFields"]} == {"rayscaler"}
            statuses.add(status["metadata"]["resourceVersion"])
            await asyncio.sleep(EVERY_S)  # the tool's pace
            ray.gcs.finish(*never)
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
