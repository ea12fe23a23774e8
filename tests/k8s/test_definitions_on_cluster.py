"""Definitions, statuses and events on a real API server, with no right but the Role's: apply, label, delete, garbage collection."""

import asyncio
import contextlib
import json
import time

import pytest

from rayscaler.clock import SystemClock
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s import labels
from rayscaler.k8s.definitions import UNLABELLED
from rayscaler.k8s.events import EventReason, Events
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.k8s.objects import CONFIG_MAPS
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.statuses import STATUS, Options, Statuses, object_name, read
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing.memory_store import MemoryStore
from tests.cluster.api import SERVER_SIDE_APPLY
from tests.counts import counted
from tests.k8s import bed
from tests.k8s.sinks import TEMPLATE, config_map, following, text

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]

STATUSES = counted(gate=32, full=100)
GOOD, BETTER = text("a"), text("a", "b")


async def apply(namespace, body: dict, **query: str) -> dict:
    """Apply it as `kubectl apply --server-side` does."""
    path = f"{namespace.path('configmaps')}/{body['metadata']['name']}"
    return await namespace.api.patch(path, body, SERVER_SIDE_APPLY, fieldManager="gitops", **query)


async def label(namespace, name: str, value: str | None) -> None:
    await namespace.api.patch(f"{namespace.path('configmaps')}/{name}", {"metadata": {"labels": {labels.CLUSTER: value}}})


@contextlib.asynccontextmanager
async def entered(namespace, *, kept=None, clear=None, **way):
    """Follow the namespace's definitions with the Role alone."""
    async with bed.entered(namespace, **way) as client, following(client, namespace.name, kept, clear=clear) as sink:
        yield client, sink


@contextlib.asynccontextmanager
async def running(made):
    """Run something eternal for the length of the block."""
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        assert not task.done() or task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_cd14_applied_24_times_the_same_manifest_tells_nothing_and_an_edit_is_told_at_once(namespace):
    kept = MemoryStore()
    async with entered(namespace, kept=kept) as (_, sink):
        applied = await apply(namespace, config_map("demo", GOOD))
        assert await sink.until("defined") == [("defined", "demo", "a")]
        assert sink.owners["demo"] == Owner("v1", "ConfigMap", "demo", applied["metadata"]["uid"])
        for _ in range(24):
            await apply(namespace, config_map("demo", GOOD))
        await apply(namespace, config_map("demo", GOOD, annotations={"sync": "2"}))
        await apply(namespace, config_map("demo", BETTER))
        assert await sink.until("defined") == [("defined", "demo", "a", "b")]
        await apply(namespace, config_map("demo", text("a", idleTimeout="soon")))
        await sink.until("refused")
        assert await kept.last_good("demo") == BETTER


async def test_design_2b_9_a_lost_label_holds_and_deleting_what_has_lost_it_is_gone(namespace):
    async with entered(namespace) as (_, sink):
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("defined")
        await label(namespace, "demo", None)
        assert await sink.until("held") == [("held", "demo", UNLABELLED)]
        await label(namespace, "demo", "yes")
        assert await sink.until("defined") == [("defined", "demo", "a")]
        await label(namespace, "demo", None)
        await sink.until("held")
        await namespace.api.delete(f"{namespace.path('configmaps')}/demo")
        await sink.until("gone")


async def test_design_2b_9_a_name_with_kustomizes_hash_is_refused_with_the_hint_and_any_value_of_the_label_counts(namespace):
    async with entered(namespace) as (_, sink):
        hashed = config_map("demo-5hk7b2m9tg", GOOD)
        hashed["metadata"]["labels"][labels.CLUSTER] = "whatever"
        await apply(namespace, hashed)
        (refused,) = await sink.until("refused")
        assert "set generatorOptions.disableNameSuffixHash to true" in refused[2]


async def test_cd11_replaced_by_another_of_the_same_name_is_gone_and_defined_anew(namespace):
    async with entered(namespace) as (_, sink):
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("defined")
        uid = sink.owners["demo"].uid
        await namespace.api.delete(f"{namespace.path('configmaps')}/demo")
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("gone", "defined")
        assert sink.owners["demo"].uid != uid


async def test_a_foreground_deletion_behind_a_finalizer_holds_until_it_is_gone(namespace):
    async with entered(namespace) as (_, sink):
        await apply(namespace, config_map("demo", GOOD, finalizers=["rayscaler.io/test"]))
        await sink.until("defined")
        await namespace.api.delete(f"{namespace.path('configmaps')}/demo", {"propagationPolicy": "Foreground"})
        await sink.until("held")
        await namespace.api.patch(f"{namespace.path('configmaps')}/demo", {"metadata": {"finalizers": None}})
        await sink.until("gone")


async def test_what_rayscaler_writes_is_no_definition_and_a_map_without_the_label_is_none(namespace):
    async with entered(namespace) as (client, sink):
        await client.create(CONFIG_MAPS, namespace.name, {"metadata": {"name": "theirs"}, "data": {"a": "b"}})
        ours = config_map("demo.rayscaler-record", "x")
        ours["metadata"]["labels"][labels.MANAGED_BY] = labels.MANAGER
        await client.create(CONFIG_MAPS, namespace.name, ours)
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("defined")


async def test_a_hundred_definitions_are_one_list_and_one_watch(namespace, capsys):
    names = [f"demo-{index}" for index in range(100)]
    for name in names:
        await apply(namespace, config_map(name, text("a", name=name)))
    async with entered(namespace) as (_, sink):
        told = await sink.until(*["defined"] * 100, seconds=60.0)
        assert sorted(each[1] for each in told) == sorted(names)
        for name in names:
            await apply(namespace, config_map(name, text("a", "b", name=name)))
        applied_at = time.monotonic()
        told = await sink.until(*["defined"] * 100, seconds=60.0)
        assert {each[2:] for each in told} == {("a", "b")}
    with capsys.disabled():
        print(f"\n100 definitions: the last edit was told {1000 * (time.monotonic() - applied_at):.0f} ms after its answer")
    deeds = await namespace.audited(f"system:serviceaccount:{namespace.name}:rayscaler-0", at_least=2)
    assert [(each["verb"], each["objectRef"]["resource"]) for each in deeds] == [("list", "configmaps"), ("watch", "configmaps")]


async def test_a_cut_watch_and_an_api_server_that_is_away_end_nothing_and_lose_nothing(namespace):
    line = bed.Line(namespace)
    await line.open()
    await apply(namespace, config_map("demo", GOOD))
    await apply(namespace, config_map("other", text("a", name="other")))
    async with entered(namespace, port=line.port) as (_, sink):
        await sink.until("defined", "defined")
        await line.close()
        await apply(namespace, config_map("demo", BETTER))
        await namespace.api.delete(f"{namespace.path('configmaps')}/other")
        await asyncio.sleep(1.0)  # it is away for so long
        assert sink.told == []
        await line.open()
        told = await sink.until("defined", "gone")
        assert [each[1] for each in told] == ["demo", "other"]
    await line.close()


async def test_a_label_that_is_lost_while_the_api_server_is_away_holds(namespace):
    line = bed.Line(namespace)
    await line.open()
    await apply(namespace, config_map("demo", GOOD))
    async with entered(namespace, port=line.port) as (_, sink):
        await sink.until("defined")
        await line.close()
        await label(namespace, "demo", None)
        await line.open()
        assert await sink.until("held") == [("held", "demo", UNLABELLED)]
    await line.close()


async def test_cd10_deleting_the_definition_deletes_all_that_is_owned_without_rayscaler_and_metadata_is_not_copied(namespace):
    maps = namespace.path("configmaps")
    theirs = {labels.CLUSTER: "", "team": "theirs", "app.kubernetes.io/instance": "gitops"}
    await apply(namespace, config_map("demo", GOOD, annotations={"secret": "theirs"}, labels=theirs))
    async with entered(namespace) as (client, sink):
        await sink.until("defined")
        owner = sink.owners["demo"]
        executor = KubernetesExecutor(client, namespace.name, on_end=[].append, owner=lambda _: owner)
        statuses = Statuses(client, namespace.name, clock=SystemClock())
        async with running(statuses):
            small = NodeType("a", Resources.of(CPU=1), template=json.dumps(TEMPLATE))
            await executor.launch(LaunchSpec("demo", "demo-a-1-0", small, "demo-head:6379"))
            statuses.put("demo", owner, {STATUS: "{}"})
            await namespace.api.wait(maps, object_name("demo"), lambda it: it is not None)
        await executor.close()
    children = [*(await namespace.api.get(namespace.path("pods")))["items"], *(await namespace.api.get(maps))["items"]]
    owned = [each for each in children if each["metadata"]["name"] not in {"demo", "kube-root-ca.crt"}]
    assert len(owned) == 3
    for each in owned:
        (reference,) = each["metadata"]["ownerReferences"]
        assert (reference["uid"], reference["controller"], reference.get("blockOwnerDeletion")) == (owner.uid, True, None)
        assert "secret" not in each["metadata"].get("annotations", {})
        assert not {"team", "app.kubernetes.io/instance"} & set(each["metadata"]["labels"])
    await namespace.api.delete(f"{maps}/demo")
    for each in owned:
        path = namespace.path("pods") if each.get("kind") == "Pod" or "spec" in each else maps
        await namespace.api.wait(path, each["metadata"]["name"], lambda it: it is None)


async def test_a_status_is_applied_replaced_whole_and_never_written_twice_alike(namespace):
    maps = namespace.path("configmaps")
    found = await apply(namespace, config_map("demo", GOOD))
    owner = Owner("v1", "ConfigMap", "demo", found["metadata"]["uid"])
    async with bed.entered(namespace) as client:
        async with running(Statuses(client, namespace.name, clock=SystemClock(), options=Options(least_s=0.2))) as statuses:
            statuses.put("demo", owner, {STATUS: '{"n": 1}', "full.json": "x"})
            await namespace.api.wait(maps, object_name("demo"), lambda it: it is not None)
            statuses.put("demo", owner, {STATUS: '{"n": 2}'})
            done = await namespace.api.wait(maps, object_name("demo"), lambda it: it["data"] == {STATUS: '{"n": 2}'})
            for _ in range(20):
                statuses.put("demo", owner, {STATUS: '{"n": 2}'})
                await asyncio.sleep(0.02)  # twice as long in all as two writes are apart
        again = await namespace.api.get(f"{maps}/{object_name('demo')}")
        assert again["metadata"]["resourceVersion"] == done["metadata"]["resourceVersion"]
        assert await read(client, namespace.name) == {"demo": {STATUS: '{"n": 2}'}}
        deeds = await namespace.audited(f"system:serviceaccount:{namespace.name}:rayscaler-0", at_least=3)
        assert [each["verb"] for each in deeds] == ["patch", "patch", "list"]


async def test_a_status_too_large_for_a_config_map_loses_its_largest_document(namespace):
    found = await apply(namespace, config_map("demo", GOOD))
    owner = Owner("v1", "ConfigMap", "demo", found["metadata"]["uid"])
    async with bed.entered(namespace) as client, running(Statuses(client, namespace.name, clock=SystemClock())) as statuses:
        statuses.put("demo", owner, {STATUS: "{}", "explain.json": "x" * 400_000, "full.json": "y" * 700_000})
        done = await namespace.api.wait(namespace.path("configmaps"), object_name("demo"), lambda it: it is not None)
        assert set(done["data"]) == {STATUS, "explain.json"}
        assert json.loads(done["data"][STATUS]) == {"leftOut": ["full.json"]}


async def test_many_statuses_share_one_pace(namespace):
    found = await apply(namespace, config_map("demo", GOOD))
    owner = Owner("v1", "ConfigMap", "demo", found["metadata"]["uid"])
    maps, ours = namespace.path("configmaps"), f"{labels.MANAGED_BY}={labels.MANAGER}"
    async with bed.entered(namespace) as client, running(Statuses(client, namespace.name, clock=SystemClock())) as statuses:
        began_at = asyncio.get_running_loop().time()
        for index in range(STATUSES):
            statuses.put(f"demo-{index}", owner, {STATUS: "{}"})
        seen = set()
        async with asyncio.timeout(60.0):
            async for _, each in namespace.api.follow(maps, labelSelector=ours):
                seen.add(each["metadata"]["name"])
                if len(seen) == STATUSES:
                    break
        assert asyncio.get_running_loop().time() - began_at >= 0.8 * STATUSES / Options().per_second


async def test_events_are_counted_together_and_shown_on_the_definition(namespace):
    found = await apply(namespace, config_map("demo", GOOD))
    owner = Owner("v1", "ConfigMap", "demo", found["metadata"]["uid"])
    path = namespace.path("events")
    async with bed.entered(namespace) as client, running(Events(client, namespace.name, clock=SystemClock())) as events:
        for _ in range(12):
            events.tell(owner, EventReason.LAUNCHED, "tasks wait", of="cpu-large")
        events.tell(owner, EventReason.DEFINITION_REFUSED, "data.cluster.yaml: is empty")
        seen = {}
        async with asyncio.timeout(30.0):
            async for _, each in namespace.api.follow(path, fieldSelector="involvedObject.name=demo,involvedObject.kind=ConfigMap"):
                assert each["involvedObject"]["uid"] == owner.uid
                seen[each["reason"]] = (each["type"], each["message"], each["count"])
                if len(seen) == 2 and "DefinitionRefused" in seen and seen["DefinitionRefused"][2] == 1:
                    events.tell(owner, EventReason.DEFINITION_REFUSED, "data.cluster.yaml: is empty")
                if seen.get("DefinitionRefused", (0, 0, 0))[2] == 2:
                    break
    assert seen == {
        "Launched": ("Normal", "launched 12 cpu-large: tasks wait", 1),
        "DefinitionRefused": ("Warning", "data.cluster.yaml: is empty", 2),
    }


async def test_the_rights_of_the_role_are_all_needed_and_their_lack_ends_nothing(namespace):
    async with bed.entered(namespace) as client:
        await bed.disenfranchise(namespace)
        owner = Owner("v1", "ConfigMap", "demo", "0")
        async with (
            following(client, namespace.name) as sink,
            running(Statuses(client, namespace.name, clock=SystemClock())) as statuses,
            running(Events(client, namespace.name, clock=SystemClock())) as events,
        ):
            statuses.put("demo", owner, {STATUS: "{}"})
            events.tell(owner, EventReason.HEAD_MADE, "demo-head-1")
            user = f"system:serviceaccount:{namespace.name}:rayscaler-0"
            async with asyncio.timeout(60.0):
                refused = set()
                while not {("list", "configmaps"), ("patch", "configmaps"), ("create", "events")} <= refused:
                    deeds = namespace.audit(user)
                    refused = {(each["verb"], each["objectRef"]["resource"]) for each in deeds if each["responseStatus"]["code"] == 403}
                    await asyncio.sleep(0.1)  # a file tells nobody
            assert sink.told == []
