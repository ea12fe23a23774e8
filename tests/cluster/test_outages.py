"""The API server is cut off, forgets, refuses or is away: nothing is launched twice, nothing ends, and scaling goes on after it (complaint G1)."""

import asyncio
import contextlib

import pytest
import yaml
from structlog.testing import capture_logs

from rayscaler.errors import Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.cluster.product import document, until
from tests.cluster.relay import Relay
from tests.counts import counted
from tests.k8s import bed

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

ONE = Resources.of(CPU=1)
AWAY_S = counted(gate=20.0, full=60.0)
"""How long the API server is away: thrice what a leader bears."""
SMALL = {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 300}


def assert_exact(ours, count: int) -> None:
    """So many were created ever, each once, and none was deleted."""
    created = ours.created("demo")
    assert len(created) == len(set(created)) == count
    assert ours.deleted("demo") == set()


async def test_watches_that_are_cut_in_the_middle_of_a_scale_up_lose_and_double_nothing(ours):
    """Every connection of the service breaks five times while 100 pods come; it goes on leading."""
    async with bed.Line.opened(ours.namespace) as line:
        service = await ours.serve(by=line.url)
        definition = document("demo", SMALL)
        await ours.define(definition)
        async with ours.ray(definition, service.address) as ray:
            for _ in range(5):
                ray.gcs.submit(ONE, 20)
                await asyncio.sleep(1.2)  # demand shows after 1 s: the creates are under way
                line.cut()
            await until(lambda: len(ray.gcs.running()) == 100, what=lambda: len(ray.gcs.running()))
            await asyncio.sleep(2.0)  # what was under way has arrived
            assert len(ray.seen) == 100  # the record of a request that was cut does not tell what came of it
        assert service.process.returncode is None
        assert service.told("reflector.lost")
        assert len(ours.created("demo")) == len(set(ours.created("demo")))
        assert ours.deleted("demo") == set()
        await service.stop()


async def test_an_api_server_that_is_away_ends_the_leader_and_its_next_life_goes_on_with_what_is_there(ours):
    """Away, in full for a minute, beyond the 6 s of the Lease: the process ends, as a pod's would, is started anew, and waits for the API server."""
    definition = document("demo", SMALL)
    async with ours.kept_up() as first:
        await ours.define(definition)
        async with ours.ray(definition, first.address) as ray:
            ray.gcs.submit(ONE, 10)
            await until(lambda: len(ray.gcs.running()) == 10)
            async with ours.namespace.cluster.without_api_server():
                ray.gcs.submit(ONE, 10)
                await asyncio.sleep(AWAY_S)  # as long as it is away, besides its own start
                await until(lambda: first.process.returncode is not None)
                assert first.process.returncode != 0
            await until(lambda: len(ray.gcs.running()) == 20, 120.0, lambda: len(ray.gcs.running()))
            assert ray.unnamed == set()
            assert not [each for each in ray.gcs.tasks.values() if each.times_lost]
    assert_exact(ours, 20)


async def test_an_api_server_that_has_forgotten_the_version_says_410_and_all_is_listed_anew(namespace):
    """After its restart the API server's cache begins at etcd's newest version, so a watch from an older one is the real 410."""

    def spec(index: int) -> LaunchSpec:
        return LaunchSpec("c", f"c-small-1-{index}", NodeType("small", ONE, template=bed.template()), "c-head:6379")

    ended = []
    async with bed.entered(namespace) as client:
        executor = KubernetesExecutor(client, namespace.name, on_end=ended.append)
        for index in range(3):
            await executor.launch(spec(index))
            await namespace.settled(f"c-small-1-{index}", "Running")  # or the pods' own changes would be the newest
        assert len(await executor.list("c")) == 3
        with capture_logs() as logs:
            await namespace.api.create(namespace.path("configmaps"), {"metadata": {"name": "newer"}})
            async with namespace.cluster.without_api_server():
                pass
            path = namespace.path("pods/c-small-1-0")
            await namespace.api.delete(path, {"gracePeriodSeconds": 0})
            async with asyncio.timeout(60.0):
                while await _listed(executor) != {"c-small-1-1", "c-small-1-2"}:  # noqa: ASYNC110  # see below
                    await asyncio.sleep(0.1)  # the list is answered from memory
        expired = [each["error"] for each in logs if each["event"] == "reflector.lost" and each["error_name"] == "EXPIRED"]
        assert expired  # and again, where what is listed meanwhile is older than the cache
        assert all("too old resource version" in each for each in expired)
        await executor.launch(spec(3))
        assert len(await executor.list("c")) == 3
        await executor.close()
    assert ended == []


async def _listed(executor) -> set[str]:
    with contextlib.suppress(Unavailable):  # while it is blind
        return {each.instance_id for each in await executor.list("c")}
    return set()


KINDS = {"pods", "services", "configmaps"}


@contextlib.asynccontextmanager
async def blinded(ours, relay):
    """Cut every watch, and let nothing be read for the length of the block; what was known before it is too old after it."""
    relay.storms = lambda method, path: method == "GET" and path.rpartition("/")[2] in KINDS
    relay.refused.clear()
    relay.cut()
    yield
    await until(lambda: relay.refused["GET"] > 0)
    made = await ours.namespace.api.create(ours.namespace.path("secrets"), {"metadata": {"generateName": "newer-"}})
    relay.forgotten = int(made["metadata"]["resourceVersion"])
    relay.storms = lambda method, path: False


async def test_after_a_410_of_every_watch_of_the_product_pods_heads_and_definitions_go_on(ours):
    """What happened meanwhile is found by the new lists: a worker that went, a maximum that was raised, a head that was deleted."""
    definition, raised = document("demo", {**SMALL, "maxWorkers": 3}), document("demo", {**SMALL, "maxWorkers": 5})
    api, path = ours.namespace.api, ours.namespace.path
    async with ours.namespace.cluster.without_api_server():
        pass  # its cache begins at etcd's newest version, so what the relay asks for is too old
    async with Relay.running(ours.namespace.cluster) as relay:
        service = await ours.serve(by=relay.url)
        await ours.define(definition)
        async with ours.ray(definition, service.address) as ray:
            ray.gcs.submit(ONE, 5)
            await until(lambda: len(ray.gcs.running()) == 3)
            (gone, *others) = await ours.workers("demo")
            async with blinded(ours, relay):
                await api.delete(path(f"pods/{gone['metadata']['name']}"), {"gracePeriodSeconds": 0})
                await api.patch(path("configmaps/demo"), {"data": {"cluster.yaml": yaml.safe_dump(raised)}})
            await until(lambda: len(ray.gcs.running()) == 5, what=lambda: len(ray.gcs.running()))
            assert {each["metadata"]["uid"] for each in others} < {each["metadata"]["uid"] for each in await ours.counted("demo", 5)}
        async with blinded(ours, relay):
            await api.delete(path("pods/demo-head-1"), {"gracePeriodSeconds": 0})
        assert (await ours.head("demo"))["metadata"]["name"] == "demo-head-2"

        def expired() -> list[str]:
            return [each for each in service.told("reflector.lost") if "error_name=EXPIRED" in each]

        await until(lambda: {kind for kind in KINDS if any(f" kind={kind} " in each for each in expired())} == KINDS, what=expired)
        assert all("too old resource version" in each for each in expired())
        created = ours.created("demo")
        assert len(created) == len(set(created)) == 6
        assert ours.deleted("demo") == {gone["metadata"]["name"]}
        assert service.process.returncode is None
        await service.stop()


async def test_a_storm_of_429_is_waited_out_without_one_pod_too_many(ours):
    """Every write of pods and ConfigMaps, and every list, is answered 429 for 6 s, while 100 launches and then 20 ends are due."""
    definition = document("demo", SMALL, idleTimeout="2s")
    async with Relay.running(ours.namespace.cluster) as relay:
        service = await ours.serve(by=relay.url)
        await ours.define(definition)
        async with ours.ray(definition, service.address) as ray:
            tasks = ray.gcs.submit(ONE, 20)
            await until(lambda: len(ray.gcs.running()) == 20)
            relay.storms = lambda method, path: "/leases/" not in path
            ray.gcs.submit(ONE, 100)
            await asyncio.sleep(6.0)  # the storm
            await until(lambda: relay.refused["PATCH"] + relay.refused["POST"] > 0)
            relay.refused.clear()
            relay.storms = lambda method, path: method == "POST" and path.endswith("/pods")
            await asyncio.sleep(4.0)  # likewise: the record can be written, no pod can be made
            await until(lambda: relay.refused["POST"] > 0, what=lambda: relay.refused)
            relay.storms = lambda method, path: False
            await until(lambda: len(ray.gcs.running()) == 120, 90.0, lambda: len(ray.gcs.running()))
            assert_exact(ours, 120)
            relay.storms = lambda method, path: method == "DELETE"
            ray.gcs.finish(*tasks)
            await until(lambda: relay.refused["DELETE"] >= 20, what=lambda: relay.refused)
            relay.storms = lambda method, path: False
            await ours.counted("demo", 100)
            await asyncio.sleep(3.0)  # longer than the timeout: the busy ones stay
            assert len(ray.gcs.running()) == 100
            assert ray.unnamed == set()
            assert len(ours.deleted("demo")) == 20
        assert service.process.returncode is None
        await service.stop()


async def test_a_storm_of_429_that_takes_the_lease_too_ends_the_leader_and_its_next_life_goes_on(ours):
    """Everything is answered 429 for 8 s, the renewals of the Lease too: who cannot renew it within 6 s must not lead on."""
    definition = document("demo", SMALL)
    async with Relay.running(ours.namespace.cluster) as relay, ours.kept_up(by=relay.url) as first:
        await ours.define(definition)
        async with ours.ray(definition, first.address) as ray:
            ray.gcs.submit(ONE, 20)
            await until(lambda: len(ray.gcs.running()) == 20)
            refused_leases: list[str] = []

            def storms(method: str, path: str) -> bool:
                refused_leases.extend([method] if "/leases/" in path else [])
                return True

            relay.storms = storms
            ray.gcs.submit(ONE, 40)
            await asyncio.sleep(8.0)  # the storm
            assert {"PUT", "PATCH"} & {*refused_leases}
            await until(lambda: first.process.returncode is not None)  # it goes on until it has ended
            assert first.process.returncode != 0
            assert first.told("leader.not_renewed")
            assert_exact(ours, 20)
            relay.storms = lambda method, path: False
            await until(lambda: len(ray.gcs.running()) == 60, 60.0, lambda: len(ray.gcs.running()))
            await asyncio.sleep(2.0)  # what was not needed would come now
            assert_exact(ours, 60)
            assert ray.unnamed == set()
            assert not [each for each in ray.gcs.tasks.values() if each.times_lost]
