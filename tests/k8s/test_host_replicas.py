"""Hosts of replicas on a small API server: what is told of them, which number a replica gets, and the Service by which they find each other."""

import asyncio
from dataclasses import replace

import pytest

from rayscaler.errors import Conflict, InsufficientCapacity
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s import labels, services
from rayscaler.k8s.objects import SERVICES
from rayscaler.k8s.replicas import Replicas
from rayscaler.model.instance import Phase
from tests.k8s.test_executor import OWNER, SPEC, running, until

pytestmark = pytest.mark.tier("protocol")
HOSTS = 4


def hosts(number: int) -> list[LaunchSpec]:
    node_type = replace(SPEC.node_type, hosts_per_replica=HOSTS)
    return [
        replace(SPEC, instance_id=f"c-small-{number}-{host}", node_type=node_type, replica=f"c-small-{number}-r", host=host)
        for host in range(HOSTS)
    ]


def indices(api) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in api.pods.values():
        known = found.setdefault(each["metadata"]["annotations"][labels.REPLICA], set())
        known.add(each["metadata"]["labels"][labels.RAY_REPLICA_INDEX])
    return found


async def test_cd16_a_host_is_told_with_its_replica_and_another_is_another_spec():
    async with running() as (_, executor):
        watch = executor.watch("c")
        one, other, *_ = hosts(1)
        await executor.launch(one)
        assert [(each.replica, each.host) for each in (await anext(watch), *await executor.list("c"))] == [("c-small-1-r", 0)] * 2
        assert await executor.launch(one) == one.instance_id
        for changed in (replace(one, host=1), replace(one, replica="c-small-9-r")):
            with pytest.raises(Conflict):
                await executor.launch(changed)
        await executor.launch(other)
        assert {(each.instance_id, each.replica, each.host) for each in await executor.list("c")} == {
            (each.instance_id, each.replica, each.host) for each in (one, other)
        }


async def test_cd16_a_replica_has_one_number_the_lowest_that_is_free_and_keeps_it():
    async with running() as (api, executor):
        for number in range(3):
            await asyncio.gather(*map(executor.launch, hosts(number)))
        assert indices(api) == {"c-small-0-r": {"0"}, "c-small-1-r": {"1"}, "c-small-2-r": {"2"}}
        watch = executor.watch("c")
        for each in hosts(1)[:-1]:
            await executor.terminate("c", each.instance_id)
            await until(watch, Phase.GONE)
        await asyncio.gather(*map(executor.launch, hosts(3)))
        assert indices(api)["c-small-3-r"] == {"3"}, "of the other a host lives"
        await executor.terminate("c", hosts(1)[-1].instance_id)
        await until(watch, Phase.GONE)
        await asyncio.gather(*map(executor.launch, hosts(4)))
        assert indices(api) == {"c-small-0-r": {"0"}, "c-small-2-r": {"2"}, "c-small-3-r": {"3"}, "c-small-4-r": {"1"}}


async def test_cd16_the_next_life_goes_on_with_the_numbers_that_stand_on_pods():
    async with running() as (api, executor):
        await asyncio.gather(*map(executor.launch, [*hosts(0), *hosts(1)[:2]]))
        again = type(executor)(executor._client, "ns", on_end=executor._on_end, owner=lambda _: OWNER)
        try:
            await again.launch(hosts(2)[0])
            await asyncio.gather(*map(again.launch, hosts(1)[2:]))
            assert indices(api) == {"c-small-0-r": {"0"}, "c-small-1-r": {"1"}, "c-small-2-r": {"2"}}
        finally:
            await again.close()


async def test_cd16_a_launch_that_failed_keeps_no_number():
    async with running() as (api, executor):
        await executor.launch(hosts(0)[0])  # so that what pods need beside them is there
        api.refuse["create"] = [(403, {}, {"reason": "Forbidden", "message": 'pods "a" is forbidden: exceeded quota: q'})]
        with pytest.raises(InsufficientCapacity):
            await executor.launch(hosts(1)[0])
        await executor.launch(hosts(2)[0])
        assert indices(api) == {"c-small-0-r": {"0"}, "c-small-2-r": {"1"}}


def test_cd16_a_number_that_somebody_took_off_a_pod_is_none():
    replicas = Replicas()
    replicas.joined("c", "small", "r", "u", "")
    replicas.joined("c", "small", "s", "v", "-1")
    with replicas.launching(hosts(0)[0]) as index:
        assert index == 0


async def test_nw6_the_service_is_there_before_the_first_host_and_for_hosts_alone():
    async with running() as (api, executor):
        await executor.launch(SPEC)
        assert api.services == {}
        await asyncio.gather(*map(executor.launch, hosts(0)))
        (made,) = api.services.values()
        assert made["metadata"]["name"] == "c-headless"
        assert made["metadata"]["ownerReferences"][0]["uid"] == OWNER.uid
        assert made["spec"] == {"clusterIP": "None", "selector": labels.headless_selector("c"), "publishNotReadyAddresses": True}
        selected = [name for name, pod in api.pods.items() if made["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
        assert sorted(selected) == [each.instance_id for each in hosts(0)]


async def test_nw6_a_service_that_somebody_changed_is_mended_and_what_is_theirs_stays():
    async with running() as (api, executor):
        await executor.launch(hosts(0)[0])
        whole = await executor._client.get(SERVICES, "ns", "c-headless")
        assert services.headless_mending(whole, OWNER) == {}
        changed = api.services["c-headless"]
        await api.put({**changed, "spec": {**changed["spec"], "selector": {"app": "x"}, "publishNotReadyAddresses": False}}, "services")
        broken = await executor._client.get(SERVICES, "ns", "c-headless")
        assert services.headless_mending(broken, OWNER)["spec"] == {
            "selector": {"app": None, **labels.headless_selector("c")},
            "publishNotReadyAddresses": True,
        }
