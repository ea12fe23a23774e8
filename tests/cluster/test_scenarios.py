"""The acceptance scenarios that need a real API server, in full size: the whole product, simulated nodes, a fake Ray. Bounds are deadlines."""

import asyncio
import json

import pytest

from rayscaler.model.resources import Resources
from tests.cluster.namespaces import BEHAVIOUR
from tests.cluster.product import awaited, document, until
from tests.cluster.timed import Timed, asked_at
from tests.counts import counted

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(400)]

ONE = Resources.of(CPU=1)
RESTARTS = counted(gate=5, full=20)
SMALL_POD = {"cpu": "10m", "memory": "16Mi"}


async def test_scenario_1_a_burst_of_a_thousand_is_one_plan_a_thousand_pods_and_never_one_more(ours, capsys):
    """Scenario 1, complaint A1: 1,000 tasks of 15 CPUs, one type, from zero, as fast as it goes; tests/cluster/test_burst.py has it within limits."""
    service, clock = await ours.serve(), asyncio.get_running_loop().time
    definition = document("demo", {"name": "big", "resources": {"CPU": 15}, "maxWorkers": 1000})
    await ours.define(definition)
    timed = Timed(service.address)
    async with ours.ray(definition, service.address, transport=timed) as ray:
        began_at = clock()
        ray.gcs.submit(Resources.of(CPU=15), 1000)
        await until(lambda: len(ray.seen) >= 1000, 120.0, lambda: len(ray.seen))
        created_s = clock() - began_at
        await until(lambda: len(ray.gcs.running()) == 1000, 240.0, lambda: len(ray.gcs.running()))
        running_s = clock() - began_at
        await asyncio.sleep(3.0)  # what was not needed would come now
        gap_s = timed.longest_gap_s()
    first_s = min(asked_at(ours.deeds("create"), "demo-big-").values()) - timed.asked_at
    assert first_s <= 2.0, first_s  # of it the plan may take 1 s; the rest are two writes ahead of it and the create itself
    assert gap_s <= 5.0
    assert len(await ours.workers("demo")) == 1000
    created = ours.created("demo")
    assert len(created) == len(set(created)) == 1000
    (cycle,) = service.told("cycle")
    assert "'big (DEMAND)': 1000" in cycle
    assert ours.deleted("demo") == set()
    with capsys.disabled():
        print(f"\nscenario 1: created {created_s:.1f} s, all run {running_s:.1f} s after submission")
        print(f"report to first create, the plan within it: {first_s:.2f} s; longest gap of answers {gap_s:.2f} s")


def _type(name: str, count: int, *, behaviour: dict[str, str] | None = None, **requests: str) -> dict:
    annotations = {BEHAVIOUR + key: value for key, value in (behaviour or {}).items()}
    container = {"name": "ray", "image": "ray:test", "resources": {"requests": {**SMALL_POD, **requests}}}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [container]}}
    return {"name": name, "resources": {"CPU": 1}, "maxWorkers": count, "template": template}


async def test_scenario_2_a_head_that_dies_half_way_up_loses_no_worker_and_doubles_none(ours, capsys):
    """Scenario 2: of 200 workers 80 run, 60 are pending, 60 have no room; the head's pod is deleted, later its GCS restarts 5 times, 20 in full."""
    await ours.namespace.quota("q", **{"requests.ephemeral-storage": "0"})
    service = await ours.serve()
    late = _type("late", 60, **{"ephemeral-storage": "1Mi"})
    extra = {**_type("extra", 1), "resources": {"CPU": 0, "extra": 1}}
    definition = document("demo", _type("quick", 80), _type("slow", 60, behaviour={"ready-after": "never"}), late, extra, idleTimeout="60s")
    await ours.define(definition)
    async with ours.ray(definition, service.address) as old:
        old.gcs.submit(ONE, 200)
        await until(lambda: (len(old.joined), len(old.seen)) == (80, 140), what=lambda: (len(old.joined), len(old.seen)))
        await until(lambda: "quick" not in _awaited_types(old))  # the service has heard of those that joined
        old.gcs.is_down = True
        await ours.namespace.api.delete(ours.namespace.path("pods/demo-head-1"))
        await ours.head("demo")
    before = await _uids(ours)
    timed = Timed(service.address)
    async with ours.ray(definition, service.address, are_away=True, transport=timed) as ray:
        ray.gcs.submit(Resources.of(extra=1))  # what is right at once: nobody who is on the way could run it
        await asyncio.sleep(6.0)  # the new head knows no worker and no other task yet: they are waited for
        assert await _uids(ours) == before
        ray.let_join(40)
        ray.gcs.submit(ONE, 200)  # the job comes back
        await asyncio.sleep(4.0)  # half of the workers are still on the way
        assert await _uids(ours) == before
        ray.let_join(41)
        await until(lambda: len(ray.gcs.running()) == 81)
        await _make_room(ours, ray)
        await until(lambda: len(ray.gcs.running()) == 201, 120.0, lambda: (len(ray.gcs.running()), len(ray.seen)))
        for _ in range(RESTARTS):
            ray.gcs.is_down = True
            await asyncio.sleep(0.7)
            ray.gcs.restart(keeps_id=True)
            ray.gcs.is_down = False
            await asyncio.sleep(0.7)
        await asyncio.sleep(3.0)  # what the restarts might have brought
        assert before <= await _uids(ours)
        assert (len(ray.gcs.running()), ray.unnamed) == (201, set())
        await _assert_nothing_stale(ours, ray)
    created = ours.created("demo")
    assert len(created) == len(set(created)) == 201
    assert ours.deleted("demo") == set()
    (acted_at,) = asked_at(ours.deeds("create"), "demo-extra-").values()
    acted_s = acted_at - timed.connected_at
    assert acted_s <= 15.0
    with capsys.disabled():
        print(
            f"\nscenario 2: first right action {acted_s:.1f} s after the monitor of the new head was first heard; {RESTARTS} restarts of its GCS"
        )


def _awaited_types(ray) -> set[str]:
    """Return of which types Ray is told that nodes are on the way."""
    return {each.ray_node_type_name for each in (*ray.gcs.told.pending_instance_requests, *ray.gcs.told.pending_instances)}


async def _uids(ours) -> set[str]:
    """Return the workers but that of the extra task."""
    return {each["metadata"]["uid"] for each in await ours.workers("demo") if "-extra-" not in each["metadata"]["name"]}


async def _assert_nothing_stale(ours, ray) -> None:
    """Every pod is a node of Ray's that lives and an instance that runs, and the reverse; no launch and no drain stands open on record."""
    api, path = ours.namespace.api, ours.namespace.path
    pods = (await api.get(path("pods")))["items"]
    names = {each["metadata"]["name"] for each in pods}
    assert names - {"demo-head-2"} == {each.instance_id for each in ray.gcs.alive()}

    async def is_told() -> bool:
        status = json.loads((await api.get(path("configmaps/demo.rayscaler-status")))["data"]["status.json"])
        return status["workers"] == {"desired": len(names) - 1, "instances": {"RUNNING": len(names) - 1}}

    await awaited(is_told)

    async def is_settled() -> bool:
        record = json.loads((await api.get(path("configmaps/demo.rayscaler-record")))["data"]["record.json"])
        return [record[each] for each in ("open_batches", "drains", "backoffs")] == [[], [], []]

    await awaited(is_settled)  # besides the writes ahead of launches it is written once a second


async def _make_room(ours, ray) -> None:
    """Let what is pending become ready, and the quota grow."""
    path, patch = ours.namespace.path, ours.namespace.api.patch
    ready = {"metadata": {"annotations": {BEHAVIOUR + "ready-after": "0s"}}}
    await asyncio.gather(*(patch(path(f"pods/{each}"), ready) for each in ray.seen if "-slow-" in each))
    await patch(path("resourcequotas/q"), {"spec": {"hard": {"requests.ephemeral-storage": "1Gi"}}})
