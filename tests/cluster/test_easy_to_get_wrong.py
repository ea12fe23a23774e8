"""What is easy to get wrong (design §2b), shown on the whole product; items not here have their tests named `2b_N` where the rule lives."""

import asyncio

import pytest

from rayscaler.model.resources import Resources
from rayscaler.monitor.service import GrpcTransport
from rayscaler.store.fit import MOST_BYTES
from tests.cluster.product import LABEL, document, until

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(240)]

ONE = Resources.of(CPU=1)
SMALL = {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 50}


async def test_2b_7_a_floor_is_told_again_to_the_same_cluster_and_never_to_the_next_one(ours):
    """Design §2b.7: by its id a GCS that forgot is told; a new cluster is not, has its workers held, and ends the floor with its first word."""
    service = await ours.serve()
    definition = document("demo", SMALL, idleTimeout="12s")
    await ours.define(definition)
    async with ours.ray(definition, service.address) as old:
        old.gcs.request_resources([ONE] * 4)
        await until(lambda: len(old.joined) == 4)
        await asyncio.sleep(2.0)  # the service hears of them
        old.gcs.restart(keeps_id=True)
        await until(lambda: bool(old.gcs.constraint))
        assert len(old.gcs.constraint) == 4
        before = {each["metadata"]["uid"] for each in await ours.workers("demo")}
        old.gcs.is_down = True
        await ours.namespace.api.delete(ours.namespace.path("pods/demo-head-1"))
        await ours.head("demo")
    async with ours.ray(definition, service.address) as ray:
        assert ray.gcs.cluster_id != old.gcs.cluster_id
        await asyncio.sleep(8.0)  # shorter than the hold, which is counted anew
        assert {each["metadata"]["uid"] for each in await ours.workers("demo")} == before
        assert ray.gcs.constraint is None
        ray.gcs.request_resources([ONE] * 2)
        await ours.counted("demo", 2)
        await asyncio.sleep(3.0)  # the floor of the new cluster alone is kept
        assert len(await ours.workers("demo")) == 2
        ray.gcs.request_resources([])
        await ours.counted("demo", 0)
        assert (ray.unnamed, len(ray.seen)) == (set(), 4)


class Weighed(GrpcTransport):
    """Notes how big reports are, and how many of them bring a snapshot."""

    largest = 0
    snapshots = 0

    async def report(self, request):
        self.largest = max(self.largest, request.ByteSize())
        self.snapshots += request.HasField("snapshot")
        return await super().report(request)


async def test_2b_8_thousands_of_nodes_fit_into_a_report_and_an_unchanged_cluster_asks_nobody_for_anything(ours):
    """Design §2b.8: 6 MiB are beyond gRPC's default; what differs in every reading is no change: no snapshot, no cycle, no API request."""
    service = await ours.serve()
    definition = document("demo", SMALL)
    await ours.define(definition)
    weighed = Weighed(service.address)
    async with ours.ray(definition, service.address, transport=weighed) as ray:
        for _ in range(3000):
            ray.gcs.join("", "", Resources.of(memory=1), {"padding": "x" * 2000})
        ray.gcs.submit(ONE, 20)
        await until(lambda: len(ray.gcs.running()) == 20)
        assert weighed.largest > 6_000_000
        await asyncio.sleep(15.0)  # demand's lags are over, the status is written
        cycles, snapshots, read = len(service.told("cycle")), weighed.snapshots, ray.gcs.version
        asked = len(ours.namespace.audit(ours.account.user))
        await asyncio.sleep(8.0)  # it is steady
        assert ray.gcs.version > read
        assert (len(service.told("cycle")), weighed.snapshots) == (cycles, snapshots)
        steady = ours.namespace.audit(ours.account.user)[asked:]
        assert {(each["verb"], each["objectRef"]["resource"]) for each in steady} <= {("patch", "leases")}


async def until_held(ours) -> None:
    """Wait until people are told that the definition holds the cluster."""
    query = {"fieldSelector": "involvedObject.name=demo"}
    async with asyncio.timeout(30.0):
        while True:
            events = await ours.namespace.api.get(ours.namespace.path("events"), **query)
            if "DefinitionHeld" in {each["reason"] for each in events["items"]}:
                return
            await asyncio.sleep(0.2)  # the witness looks by itself


async def test_2b_9_a_definition_that_lost_its_label_ends_and_starts_nothing_until_it_has_it_back(ours):
    """Design §2b.9: to a selector's watch it looks deleted; nothing ends on that."""
    service = await ours.serve()
    definition = document("demo", SMALL, idleTimeout="2s")
    await ours.define(definition)
    path, patch = ours.namespace.path, ours.namespace.api.patch
    async with ours.ray(definition, service.address) as ray:
        tasks = ray.gcs.submit(ONE, 5)
        await until(lambda: len(ray.gcs.running()) == 5)
        await patch(path("configmaps/demo"), {"metadata": {"labels": {LABEL: None}}})
        await until_held(ours)
        ray.gcs.finish(*tasks[:2])
        ray.gcs.submit(ONE, 5)
        await asyncio.sleep(6.0)  # three times the idle timeout
        assert (len(ray.seen), ours.deleted("demo")) == (5, set())
        await patch(path("configmaps/demo"), {"metadata": {"labels": {LABEL: "again"}}})
        await until(lambda: len(ray.gcs.running()) == 8)
        assert ours.deleted("demo") == set()


async def test_2b_10_the_record_stays_small_and_is_seldom_written_while_much_happens(ours):
    """Design §2b.10: at most 64 KiB; besides the writes before launches, at most one a second."""
    service, clock = await ours.serve(), asyncio.get_running_loop().time
    definition = document("demo", {**SMALL, "maxWorkers": 300}, idleTimeout="2s")
    await ours.define(definition)
    record = ours.namespace.path("configmaps/demo.rayscaler-record")
    async with ours.ray(definition, service.address) as ray:
        began_at = clock()
        for count in range(10, 60, 10):
            ray.gcs.submit(ONE, count, runtime_s=4.0)
            await asyncio.sleep(1.5)  # the pace of the user's job
        await until(lambda: not ray.gcs.running() and len(ray.seen) >= 50)
        await ours.counted("demo", 0)
        lasted_s = clock() - began_at
        found = await ours.namespace.api.get(record)
    assert sum(map(len, found["data"].values())) + sum(map(len, found.get("binaryData", {}).values())) < MOST_BYTES
    writes = [each for each in ours.deeds("patch", "configmaps") if each["objectRef"]["name"] == "demo.rayscaler-record"]
    guarding = len(service.told("cycle"))
    assert len(writes) <= guarding + lasted_s + 5, (len(writes), guarding, lasted_s)
    assert ray.unnamed == set()
