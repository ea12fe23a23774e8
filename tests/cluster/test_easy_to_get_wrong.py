"""What is easy to get wrong (design §2b), shown on the whole product; items not here have their tests named `2b_N` where the rule lives."""

import asyncio
import itertools
import time

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2 as ray_pb
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.errors import InvalidRequest, RayscalerError
from rayscaler.model.demand import Bundle, Strategy
from rayscaler.model.resources import Resources
from rayscaler.monitor.service import GrpcTransport
from rayscaler.store.fit import MOST_BYTES
from rayscaler.testing.fake_ray import by_count
from tests.cluster.namespaces import BEHAVIOUR
from tests.cluster.product import HEADS, LABEL, UNCEASING, awaited, document, is_ready, quiet, until
from tests.cluster.relay import Relay
from tests.counts import counted

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(240)]

ONE = Resources.of(CPU=1)
SMALL = {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 50}


async def record(ours) -> dict:
    """Return the cluster's record as it is stored."""
    return await ours.namespace.api.get(ours.namespace.path("configmaps/demo.rayscaler-record"))


async def test_2b_1_creates_that_land_after_the_next_lifes_list_are_its_own_and_no_name_comes_twice(ours):
    """Design §2b.1: killed with 20 of 30 creates on the way, which land when the next life has sent them again."""
    async with Relay.running(ours.namespace.cluster) as relay:
        first = await ours.serve(by=relay.url)
        definition = document("demo", SMALL, idleTimeout="2s")
        await ours.define(definition)
        async with ours.ray(definition, first.address) as ray:
            passed = itertools.count(1)
            relay.holds = lambda method, path: method == "POST" and path.endswith("/pods") and next(passed) > 10
            ray.gcs.submit(ONE, 30)
            await until(lambda: relay.held == 20, what=lambda: relay.held)
            before = await record(ours)
            await first.kill()
        second = await ours.serve()
        async with ours.ray(definition, second.address) as ray:
            ray.gcs.submit(ONE, 30)
            await until(lambda: len(ray.gcs.running()) == 30)
            relay.released.set()
            await until(lambda: refused(ours) >= 20, what=lambda: refused(ours))  # they land now, and each that was sent twice meets itself
            await asyncio.sleep(1.0)  # what would come of that
            assert refused(ours) == 20
            assert len(await ours.workers("demo")) == 30
            assert sorted(ours.created("demo")) == sorted(f"demo-small-1-{index}" for index in range(30))
            assert ours.deleted("demo") == set()
            assert int(epoch(await record(ours))) > int(epoch(before))
            ray.gcs.finish(*ray.gcs.tasks)
            await ours.counted("demo", 0)
            ray.gcs.submit(ONE, 2)
            await until(lambda: len(ray.gcs.running()) == 2)
    assert set(ours.created("demo")[30:]) == {"demo-small-2-0", "demo-small-2-1"}


def refused(ours) -> int:
    """Return how many creates of pods met one that was there."""
    creates = [each for each in ours.namespace.audit(ours.account.user, "pods") if each["verb"] == "create"]
    return sum(each["responseStatus"]["code"] == 409 for each in creates)


def epoch(found: dict) -> str:
    """Return the epoch in which a record was written."""
    return found["data"]["epoch"]


async def refusal(address: str, incarnation: str, session: pb.Session, **content: object) -> str:
    """Report as the monitor of an incarnation, the newest of all, that 40 tasks wait, or what is given; return with which error that is refused."""
    state = ray_pb.ClusterResourceState(pending_resource_requests=[by_count(Bundle(ONE), 40)])
    content = content or {"snapshot": pb.Snapshot(state=state, jobs=[ray_pb.JobTableData(job_id=b"job1")])}
    request = pb.ReportDemandRequest(cluster="demo", session=session, head_incarnation=incarnation, sequence=1, **content)
    request.monitor_epoch = int(time.time() * 1000) + (10**6 if "snapshot" in content else 0)
    transport = GrpcTransport(address)
    try:
        await transport.report(request)
    except RayscalerError as error:
        return type(error).__name__
    finally:
        await transport.close()
    return ""


class Sessions(GrpcTransport):
    """Notes of which session was reported last."""

    session = pb.Session()

    async def report(self, request):
        self.session = request.session
        return await super().report(request)


async def serves(ours) -> list[str]:
    """Return the pods that the head's Service leads to now, by name."""
    path = ours.namespace.path("endpointslices", "discovery.k8s.io/v1")
    slices = await ours.namespace.api.get(path, labelSelector="kubernetes.io/service-name=demo-head")
    ends = [end for each in slices["items"] for end in each.get("endpoints") or () if end["conditions"]["ready"]]
    return [each["targetRef"]["name"] for each in ends]


@pytest.mark.parametrize("how", counted(gate=["deleted"], full=["deleted", "node out of sight"]))
async def test_2b_3_and_2b_4_of_two_heads_that_run_one_is_served_and_the_retired_one_is_never_heard_again(ours, how):
    """Design §2b.3, §2b.4: the old head runs on, as behind a partition, and reports under the session of both; also after a restart."""
    service = await ours.serve()
    stuck = {
        "metadata": {"annotations": {BEHAVIOUR + "ends-after": "never"}},
        "spec": {"containers": [{"name": "ray", "image": "ray:test"}]},
    }
    definition = document("demo", SMALL, head={"template": stuck})
    await ours.define(definition)
    api, path = ours.namespace.api, ours.namespace.path
    noted = Sessions(service.address)
    async with ours.ray(definition, service.address, transport=noted) as old:
        old.gcs.submit(ONE, 2)
        await until(lambda: len(old.gcs.running()) == 2)
        lost_at = time.monotonic()
        if how == "deleted":
            await api.delete(path("pods/demo-head-1"))
        else:  # as the node's controller says it, and no kubelet is there to take it back
            unready = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
            await api.patch(path("pods/demo-head-1/status"), unready, "application/strategic-merge-patch+json")
        new = await awaited(lambda: _ready_head(ours, 2))
        assert how == "deleted" or 30.0 <= time.monotonic() - lost_at <= 45.0
        await awaited(lambda: _is_served_alone(ours, "demo-head-2"))
        running = {each["metadata"]["name"] for each in (await api.get(path("pods"), labelSelector=HEADS.format("demo")))["items"]}
        assert running == {"demo-head-1", "demo-head-2"}
        service_ = await api.get(path("services/demo-head"))
        assert service_["spec"]["selector"]["rayscaler.io/head-epoch"] == new["metadata"]["labels"]["rayscaler.io/head-epoch"] == "2"
        assert not service_["spec"].get("publishNotReadyAddresses")
        (ray_container,) = [each for each in new["spec"]["containers"] if each["name"] == "ray"]
        probe = ray_container["readinessProbe"]
        assert (probe["tcpSocket"]["port"], probe["periodSeconds"], probe.get("initialDelaySeconds", 0)) == (6379, 1, 0)
        assert {"name": "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S", "value": "0"} in ray_container["env"]
        assert new["spec"]["terminationGracePeriodSeconds"] == 10
    # A fault-tolerant GCS: the next head reports under the same session. The old one's reports are newer by every number.
    uid = new["metadata"]["uid"]
    assert await refusal(service.address, old.head_uid, noted.session) == "Superseded"
    assert await refusal(service.address, uid, noted.session, gcs_error="not up yet") == ""
    another = pb.Session(cluster_id="ab" * 28, session_name="session_other")
    for session in (noted.session, another):
        assert await refusal(service.address, old.head_uid, session) == "Superseded"
    await service.stop()  # who was retired stands in the record
    again = await ours.serve(RAYSCALER_LISTEN=service.address)
    await until(lambda: bool(again.told("leader.elected")))
    assert await awaited(lambda: _answer(service.address, old.head_uid, noted.session)) == "Superseded"
    await asyncio.sleep(2.0)  # forty would come now
    assert len(ours.created("demo")) == 2


async def _answer(address: str, incarnation: str, session: pb.Session) -> str:
    """Return the refusal, once the service has read its record."""
    found = await refusal(address, incarnation, session)
    return "" if found in ("Unavailable", "NotFound") else found


async def _ready_head(ours, number: int) -> dict:
    heads = await ours.pods(HEADS.format("demo"))
    return next((each for each in heads if each["metadata"]["name"] == f"demo-head-{number}" and is_ready(each)), {})


async def _is_served_alone(ours, name: str) -> bool:
    return await serves(ours) == [name]


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
        old.gcs.restart(keeps_id=True)
        old.gcs.request_resources([ONE] * 3)  # by somebody who was faster: that is no gap to fill
        await asyncio.sleep(2.0)  # it would be told now
        assert len(old.gcs.constraint) == 3
        old.gcs.request_resources([ONE] * 4)
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
        # Nor does what the dead wait for count.
        ray.gcs.live_jobs = 0
        gang = ray.gcs.create_gang(Strategy.SPREAD, [ONE] * 3)
        ray.gcs.submit(ONE, 2)
        await asyncio.sleep(3.0)  # it would be launched for now
        assert (len(ray.seen), [each.gang_id for each in ray.gcs.gangs.values()]) == (4, [gang])
        ray.gcs.live_jobs = 1
        await ours.counted("demo", 5)


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

        def done() -> tuple[int, int, list[str]]:
            """Return how many cycles and snapshots there were, and every request but those that are made at all times."""
            deeds = [each for each in ours.namespace.audit(ours.account.user) if each["objectRef"]["resource"] not in UNCEASING]
            return len(service.told("cycle")), weighed.snapshots, [f"{each['verb']} {each['requestURI']}" for each in deeds]

        await asyncio.sleep(15.0)  # until demand's lags are over and the batch of launches is closed
        await quiet(done, 2.0)  # until that is written
        before, read = done(), ray.gcs.version
        await asyncio.sleep(6.0)  # it is steady
        assert ray.gcs.version > read
        assert done() == before
    small = await ours.serve(RAYSCALER_MAX_MESSAGE_BYTES="1000000")
    with pytest.raises(InvalidRequest, match=r"1000000.*RAYSCALER_MAX_MESSAGE_BYTES"):
        await GrpcTransport(small.address).report(pb.ReportDemandRequest(cluster="x" * 2_000_000))


async def until_held(ours) -> None:
    """Wait until people are told that the definition holds the cluster."""
    query = {"fieldSelector": "involvedObject.name=demo"}
    async with asyncio.timeout(60.0):
        while True:
            events = await ours.namespace.api.get(ours.namespace.path("events"), **query)
            if "DefinitionHeld" in {each["reason"] for each in events["items"]}:
                return
            await asyncio.sleep(0.2)  # the witness looks by itself


async def assert_children(ours, theirs: dict[str, str]) -> None:
    """What was made of a definition belongs to it, blocks nobody's deletion of it, and has nothing of what a GitOps tool finds its own by."""
    api, path = ours.namespace.api, ours.namespace.path
    uid = (await api.get(path("configmaps/demo")))["metadata"]["uid"]
    found = [each["metadata"] for kind in ("pods", "services", "configmaps") for each in (await api.get(path(kind)))["items"]]
    children = [each for each in found if each["name"].startswith("demo") and each["name"] != "demo"]
    assert {each["name"].partition("-")[0].partition(".")[0] for each in children} == {"demo"}
    assert len(children) >= 5 + 1 + 1 + 2  # workers, head, its Service, record and status
    for each in children:
        (owner,) = each["ownerReferences"]
        assert (owner["uid"], owner.get("blockOwnerDeletion", False)) == (uid, False)
        assert not theirs.keys() & {*each.get("labels", {}), *each.get("annotations", {})}, each["name"]


async def test_2b_9_a_definition_that_lost_its_label_ends_and_starts_nothing_until_it_has_it_back(ours):
    """Design §2b.9: to a selector's watch it looks deleted; nothing ends on that."""
    service = await ours.serve()
    definition = document("demo", SMALL, idleTimeout="2s")
    theirs = {"argocd.argoproj.io/instance": "mine"}
    await ours.define(definition, labels={LABEL: "demo", **theirs}, annotations=theirs)
    path, patch = ours.namespace.path, ours.namespace.api.patch
    async with ours.ray(definition, service.address) as ray:
        tasks = ray.gcs.submit(ONE, 5)
        await until(lambda: len(ray.gcs.running()) == 5)
        await assert_children(ours, theirs)
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
        marks = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
        assert all(each["metadata"]["annotations"].items() >= marks.items() for each in await ours.workers("demo"))
        await until(lambda: not ray.gcs.running() and len(ray.seen) >= 50)
        await ours.counted("demo", 0)
        lasted_s = clock() - began_at
        found = await ours.namespace.api.get(record)
    assert sum(map(len, found["data"].values())) + sum(map(len, found.get("binaryData", {}).values())) < MOST_BYTES
    writes = [each for each in ours.deeds("patch", "configmaps") if each["objectRef"]["name"] == "demo.rayscaler-record"]
    guarding = len(service.told("cycle"))
    assert len(writes) <= guarding + lasted_s + 5, (len(writes), guarding, lasted_s)
    assert ray.unnamed == set()
