"""Complaints that need a real API server to be shown gone, by the whole product: real service, monitor and pods; a fake Ray."""

import asyncio
import contextlib
import time
from pathlib import Path

import pytest
import yaml

from rayscaler.errors import Unavailable
from rayscaler.model.resources import Resources
from rayscaler.monitor.service import GrpcTransport
from tests.cluster.namespaces import create_all, pod
from tests.cluster.product import UP_S, awaited, document, until
from tests.cluster.timed import asked_at
from tests.counts import counted
from tests.k8s.bed import Line

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

ONE = Resources.of(CPU=1)
IDLE_S, BLIND_S = counted(gate=(3.0, 15.0), full=(60.0, 600.0))
"""Of C1: the idle timeout, and how long each blindness lasts: 15 s are beyond each of the limits that the service itself goes by."""


def small(count: int) -> dict:
    return {"name": "small", "resources": {"CPU": 1}, "maxWorkers": count}


async def test_b1_what_a_maximum_clipped_is_launched_when_the_maximum_is_raised(ours):
    """Complaint B1: max 40, 42 wanted, max raised to 60."""
    service = await ours.serve()
    definition = document("demo", small(40))
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(ONE, 42)
        await until(lambda: len(ray.gcs.running()) == 40)
        await asyncio.sleep(2.0)  # the service knows that two wait, and launches none
        assert len(ray.seen) == 40
        raised = {"data": {"cluster.yaml": yaml.safe_dump(document("demo", small(60)))}}
        await ours.namespace.api.patch(ours.namespace.path("configmaps/demo"), raised)
        await until(lambda: len(ray.gcs.running()) == 42)
    created = ours.created("demo")
    assert len(created) == len(set(created)) == 42
    assert ours.deleted("demo") == set()


async def test_b2_a_pod_that_a_finalizer_holds_in_its_end_keeps_no_scale_up_waiting_is_no_room_and_is_named(ours):
    """Complaint B2; an hour of it in virtual time is in tests/reconciler/test_ends.py. Here the finalizer stays for ever."""
    service = await ours.serve()
    definition = document("demo", small(30), idleTimeout="1s")
    await ours.define(definition)
    api, path = ours.namespace.api, ours.namespace.path
    async with ours.ray(definition, service.address) as ray:
        (task,) = ray.gcs.submit(ONE)
        await until(lambda: len(ray.gcs.running()) == 1)
        (stuck,) = [each["metadata"]["name"] for each in await ours.workers("demo")]
        await api.patch(path(f"pods/{stuck}"), {"metadata": {"finalizers": ["example.com/stuck"]}})
        ray.gcs.finish(task)
        await ours.counted("demo", 0)
        asked_for_at = time.time()
        ray.gcs.submit(ONE, 20)
        await until(lambda: len(ray.gcs.running()) == 20)
        assert len(created := ours.created("demo")) == len(set(created)) == 21  # it is no room
        later = [at for at in asked_at(ours.deeds("create"), "demo-small-").values() if at > asked_for_at]
        assert (len(later), max(later) - asked_for_at <= 5.0) == (20, True)

        async def is_named() -> bool:
            return any(stuck in line and "TERMINATING" in line for line in (await ours.status()).splitlines())

        await awaited(is_named)  # a status is written every two seconds at most
        assert ray.unnamed == set()
        there = (await api.get(path("pods")))["items"]
        assert stuck in {each["metadata"]["name"] for each in there if "deletionTimestamp" in each["metadata"]}


class Mute(GrpcTransport):
    """A monitor's way to the service that can be cut."""

    is_cut = False
    back_at = 0.0
    """When Ray was read for the first report that came through after a cut, in wall seconds."""

    async def report(self, request):
        if self.is_cut:
            self.back_at = 0.0
            raise Unavailable("cut")
        self.back_at = self.back_at or time.time() - request.age.ToTimedelta().total_seconds()
        return await super().report(request)


@pytest.mark.timeout(counted(gate=300, full=1800))
async def test_c1_blind_by_the_api_server_or_by_the_monitor_nothing_ends_and_nothing_is_launched(ours):
    """Complaint C1, scenario 3: 50 busy workers; in virtual time tests/simulation/test_blind.py has it in full."""
    definition = document("demo", small(60), idleTimeout=f"{IDLE_S:g}s")
    async with contextlib.AsyncExitStack() as stack:
        line = await stack.enter_async_context(Line.opened(ours.namespace))
        first = await stack.enter_async_context(ours.kept_up(by=line.url))
        await ours.define(definition)
        way = Mute(first.address)
        ray = await stack.enter_async_context(ours.ray(definition, first.address, transport=way))
        tasks = ray.gcs.submit(ONE, 50)
        await until(lambda: len(ray.gcs.running()) == 50)
        await line.close()
        await asyncio.sleep(BLIND_S)  # its Lease is lost after 6 s
        ray.gcs.submit(ONE, 5)
        await line.open()
        await until(lambda: len(ray.gcs.running()) == 55)
        assert (len(ray.seen), ours.deleted("demo")) == (55, set())
        assert len(ours.services) > 1  # it did end, and came back
        way.is_cut = True
        await asyncio.sleep(1.0)  # what was under way is done
        ray.gcs.finish(*tasks[:5])
        await asyncio.sleep(BLIND_S - 1.0)  # blind after 10 s; five are idle for far longer than the timeout, unseen
        assert (len(ray.seen), ours.deleted("demo")) == (55, set())
        ray.gcs.finish(*tasks[5:10])  # and five have been busy until now
        cut_until, way.is_cut = time.time(), False
        await ours.counted("demo", 45, IDLE_S + UP_S)
        await asyncio.sleep(1.0)  # the deeds are on record
        deeds = [each for each in ours.namespace.audit(ours.account.user, "pods") if each["verb"] == "delete"]
        assert way.back_at > cut_until - 1.0
        # A full timeout of being seen idle: no clock ran while nobody looked, whatever Ray says of that time.
        assert min(asked_at(deeds, "demo-").values()) - way.back_at >= IDLE_S
        assert ray.unnamed == set()
        assert not [each for each in ray.gcs.tasks.values() if each.times_lost]
        await asyncio.sleep(IDLE_S + 1.0)  # the busy ones stay
        assert len(ray.gcs.running()) == 45
        created = ours.created("demo")
        assert len(created) == len(set(created)) == 55
        assert len(ours.deleted("demo")) == 10


async def test_c2_whoever_is_deleted_while_tasks_arrive_was_drained_before_and_nobody_else_deletes(ours):
    """Complaint C2: 62 workers shrink to 10 while short tasks arrive; each deletion was named by a drain."""
    service = await ours.serve()
    definition = document("demo", small(62), idleTimeout="2s")
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        tasks = ray.gcs.submit(ONE, 62)
        await until(lambda: len(ray.gcs.running()) == 62)
        for index in range(52):
            ray.gcs.finish(tasks[index])
            ray.gcs.submit(ONE, 3, runtime_s=0.5)
            await asyncio.sleep(0.1)  # the pace of the user's job
        for _ in range(30):
            ray.gcs.submit(ONE, 3, runtime_s=0.5)
            await asyncio.sleep(0.1)  # likewise
        await until(lambda: len(ray.joined) == 10, what=lambda: len(ray.joined))
        await ours.counted("demo", 10)
        drained = {request.node_id.hex() for request in ray.gcs.drains}
        ended = [each for each in ray.gcs.nodes.values() if each.death is not None]
        assert {each.ray_node_id for each in ended} <= drained
        assert ray.unnamed == set()
        assert not [each for each in ray.gcs.tasks.values() if each.times_lost]
        await ours.has_deleted("demo", {each.instance_id for each in ended})
    everybody = {each["user"]["username"] for each in ours.namespace.audit(resource="pods") if each["verb"] == "delete"}
    assert everybody == {ours.account.user}


async def test_c2_a_node_that_comes_back_after_its_drain_keeps_its_pod_until_it_was_drained_itself(ours):
    """Complaint C2: Ray starts anew in the doomed pod and takes work before the pod is deleted."""
    service = await ours.serve()
    definition = document("demo", small(1), idleTimeout="1s")
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        drain, doomed = ray.gcs.drain, []

        async def drain_and_come_back(request):
            answer = await drain(request)
            node = ray.gcs.nodes[request.node_id.hex()]
            if not doomed and node.death is not None:
                doomed.append(node.ray_node_id)
                (name,) = ray.joined
                ray.joined[name] = ray.gcs.join(node.instance_id, node.node_type, node.total)
                doomed.extend(ray.gcs.submit(ONE))
            return answer

        ray.gcs.drain = drain_and_come_back
        (first,) = ray.gcs.submit(ONE)
        await until(lambda: len(ray.gcs.running()) == 1)
        ray.gcs.finish(first)
        await until(lambda: bool(doomed))
        await asyncio.sleep(4.0)  # the pod would be gone long ago
        assert [each.task_id for each in ray.gcs.running()] == doomed[1:]
        (pod_,) = await ours.workers("demo")
        assert ours.deleted("demo") == set()
        ray.gcs.finish(doomed[1])
        await ours.counted("demo", 0)
        name = pod_["metadata"]["name"]
        await ours.has_deleted("demo", {name})
        assert ray.unnamed == set()
        assert [each.node_id.hex() for each in ray.gcs.drains][:1] == doomed[:1]
        assert len({each.node_id.hex() for each in ray.gcs.drains}) == 2  # the one that came back had a drain of its own
        assert ours.created("demo") == [name]


def resident_mib(pid: int) -> float:
    """Return how much memory a process has."""
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


async def test_five_thousand_foreign_pods_are_never_listed_watched_or_kept(ours, capsys):
    """Namespaces are shared (design §2.11): what is not ours costs nothing."""
    service = await ours.serve()
    definition = document("demo", small(20))
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(ONE, 5)
        await until(lambda: len(ray.gcs.running()) == 5)
        before = resident_mib(service.process.pid)
        foreign = [pod(f"foreign-{index}", spec={"schedulerName": "none"}) for index in range(5000)]
        await create_all(ours.namespace, foreign)
        ray.gcs.submit(ONE, 5)
        await until(lambda: len(ray.gcs.running()) == 10)
        after = resident_mib(service.process.pid)
        address, service = service.address, await _anew(ours, service)
        ray.gcs.submit(ONE, 5)
        await until(lambda: len(ray.gcs.running()) == 15)
        anew = resident_mib(service.process.pid)
        assert service.address == address
    assert after - before < 20, (before, after)
    assert anew - before < 20, (before, anew)
    deeds = [each for each in ours.namespace.audit(ours.account.user, "pods") if each["verb"] in ("list", "watch")]
    assert deeds
    assert [each["requestURI"] for each in deeds if "labelSelector=" not in each["requestURI"]] == []
    named = {each["objectRef"].get("name", "") for each in ours.namespace.audit(ours.account.user, "pods")}
    assert not [each for each in named if each.startswith("foreign-")]
    with capsys.disabled():
        print(f"\nservice: {before:.0f} MiB, {after:.0f} after 5,000 foreign pods, {anew:.0f} when started among them")


async def _anew(ours, service):
    await service.stop()
    return await ours.serve(RAYSCALER_LISTEN=service.address)
