"""The Service by which hosts of replicas find each other, on a small API server: when it is there, what is put right, and when it goes."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from rayscaler.clock import SystemClock
from rayscaler.k8s import labels, services
from rayscaler.k8s.hostnames import HostNames, Options
from rayscaler.k8s.reflector import Pauses
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.k8s import bed
from tests.k8s.fake_api import pod, serving
from tests.k8s.test_heads import OWNER, config
from tests.plugin.stage import until as counted

pytestmark = [pytest.mark.timeout(60)]
on_fake = pytest.mark.tier("protocol")
FAST = Options(again_s=0.02, longest_s=0.1, left_s=0.05, reflector=Pauses(first_s=0.02, longest_s=0.1))
PLAIN = replace(config(), node_types=(NodeType("small", Resources.of(CPU=1)),))
SLICES = replace(PLAIN, node_types=(*PLAIN.node_types, NodeType("slice", Resources.of(TPU=4), hosts_per_replica=4)))
NAME = "demo-headless"


@contextlib.asynccontextmanager
async def keeping(client, namespace="ns"):
    told = []
    names = HostNames(client, namespace, told=lambda *each: told.append(each), clock=SystemClock(), options=FAST)
    task = asyncio.create_task(names.run())
    try:
        yield names, told
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(api, claim):
    async with asyncio.timeout(20), api._news:
        while not claim():
            await api._news.wait()


def is_whole(api) -> bool:
    made = services.headless("demo", OWNER)
    found = api.services.get(NAME, {"spec": {}})
    return found["spec"] == made["spec"] and found["metadata"]["ownerReferences"] == made["metadata"]["ownerReferences"]


@on_fake
async def test_nw6_it_is_there_for_clusters_with_several_hosts_and_nothing_is_polled():
    async with serving() as (api, client), keeping(client) as (names, told):
        names.want(replace(PLAIN, name="plain"), OWNER)
        names.want(SLICES, OWNER)
        await until(api, lambda: is_whole(api))
        names.want(SLICES, OWNER)
        names.want(replace(SLICES, name="other"), OWNER)
        await until(api, lambda: "other-headless" in api.services)
        assert sorted(api.services) == [NAME, "other-headless"]
        assert {verb: api.calls[verb] for verb in ("create", "list", "get", "patch", "delete")} == {
            "create": 2,
            "list": 1,
            "get": 0,
            "patch": 0,
            "delete": 0,
        }
        assert told == []


@on_fake
async def test_nw6_it_is_made_again_and_put_right_and_what_is_its_users_stays():
    async with serving() as (api, client), keeping(client) as (names, _):
        names.want(SLICES, OWNER)
        await until(api, lambda: is_whole(api))
        await api.drop(NAME, plural="services")
        await until(api, lambda: is_whole(api))
        found = api.services[NAME]
        metadata = {**found["metadata"], "annotations": {"theirs": "yes"}, "ownerReferences": []}
        await api.put(
            {**found, "metadata": metadata, "spec": {**found["spec"], "selector": {"app": "x"}, "publishNotReadyAddresses": False}},
            "services",
        )
        await until(api, lambda: is_whole(api))
        assert api.services[NAME]["metadata"]["annotations"] == {"theirs": "yes"}


@on_fake
async def test_nw6_it_goes_with_the_last_host_once_no_type_has_several():
    async with serving() as (api, client), keeping(client) as (names, _):
        names.want(SLICES, OWNER)
        await until(api, lambda: is_whole(api))
        await api.put(pod("demo-slice-1-0"))
        names.want(PLAIN, OWNER)
        looked = api.calls["list"]
        await counted(lambda: api.calls["list"] >= looked + 3)
        assert is_whole(api), "a host is left"
        await api.drop("demo-slice-1-0")
        await until(api, lambda: not api.services)


@on_fake
async def test_nw6_a_service_of_somebody_elses_is_left_alone_and_told_of_once():
    async with serving() as (api, client), keeping(client) as (names, told):
        await counted(lambda: api.calls["watch"])
        theirs = {"metadata": {"name": NAME, "uid": "u", "resourceVersion": "1"}, "spec": {"selector": {"app": "x"}}}
        api.services[NAME] = theirs  # unseen: the selector selects what is ours
        names.want(SLICES, OWNER)
        await counted(lambda: api.calls["create"] >= 4)
        ((cluster, why),) = told
        assert cluster == "demo"
        assert why.startswith("Service demo-headless is there, and is not rayscaler's")
        assert api.services[NAME] == theirs
        await api.drop(NAME, plural="services")
        await until(api, lambda: is_whole(api))


@on_fake
async def test_nw6_one_that_is_forgotten_stays_as_it_is():
    async with serving() as (api, client), keeping(client) as (names, _):
        names.want(SLICES, OWNER)
        await until(api, lambda: is_whole(api))
        names.forget("demo")
        names.want(replace(SLICES, name="other"), OWNER)
        await until(api, lambda: "other-headless" in api.services)
        await api.drop(NAME, plural="services")
        names.want(replace(SLICES, name="third"), OWNER)
        await until(api, lambda: "third-headless" in api.services)
        assert NAME not in api.services
        assert labels.headless_service("third") in api.services


@pytest.mark.tier("cluster")
@pytest.mark.timeout(180)
async def test_nw6_with_the_roles_rights_it_is_made_put_right_and_removed_on_a_real_api_server(namespace):
    path = namespace.path("services")
    async with bed.entered(namespace) as client, keeping(client, namespace.name) as (names, told):
        names.want(SLICES, None)
        made = await namespace.api.wait(path, NAME, lambda it: it is not None)
        await namespace.api.patch(f"{path}/{NAME}", {"spec": {"selector": {"app": "x"}, "publishNotReadyAddresses": False}})
        await namespace.api.wait(path, NAME, lambda it: it["spec"]["selector"] == labels.headless_selector("demo"))
        mended = await namespace.api.wait(path, NAME, lambda it: it["spec"]["publishNotReadyAddresses"])
        assert mended["metadata"]["uid"] == made["metadata"]["uid"]
        names.want(PLAIN, None)
        await namespace.api.wait(path, NAME, lambda it: it is None)
        assert told == []
