"""The executor on a real API server, with real admission, quota, scheduler and garbage collection; only the nodes are simulated."""

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import replace

import pytest

from rayscaler.errors import Denied, InsufficientCapacity, InvalidRequest, Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s.executor import KubernetesExecutor, Options
from rayscaler.k8s.objects import PODS
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.reflector import Pauses
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.cluster.namespaces import RESTRICTED
from tests.k8s import bed

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]


def spec(index: int = 0, sim=None, **container) -> LaunchSpec:
    return LaunchSpec(
        "c", f"c-small-1-{index}", NodeType("small", Resources.of(CPU=1), template=bed.template(sim, **container)), "c-head:6379"
    )


@contextlib.asynccontextmanager
async def running(client, namespace, *, options=None, owner=None):
    ended = []
    executor = KubernetesExecutor(client, namespace.name, on_end=ended.append, options=options, owner=lambda _: owner)
    try:
        yield executor
    finally:
        await executor.close()
    assert ended == []


async def until(watch, phase: Phase, *, count: int = 1, error: str = "", seconds: float = 60.0) -> InstanceObservation:
    """Wait until so many instances were told to be in the phase, with an error that has these words; return the last."""
    seen: set[str] = set()
    async with asyncio.timeout(seconds):
        async for each in watch:
            if each.phase is phase and error in each.error:
                seen.add(each.instance_id)
                if len(seen) == count:
                    return each
    raise AssertionError("the watch ended")


async def test_a_pod_is_made_runs_and_ends_with_no_right_but_the_role(namespace):
    async with bed.entered(namespace) as client, running(client, namespace) as executor:
        watch = executor.watch("c")
        assert await executor.list("c") == []
        name = await executor.launch(spec())
        await until(watch, Phase.REGISTERING)
        assert (await namespace.settled(name, "Running"))["metadata"]["name"] == name
        await executor.terminate("c", "c-small-1-0")
        assert (await until(watch, Phase.GONE)).error == ""


async def test_all_clusters_of_a_namespace_share_one_list_and_one_watch_and_nothing_is_polled(namespace):
    async with bed.entered(namespace) as client, running(client, namespace) as executor:
        watches = [executor.watch(f"c{index}") for index in range(3)]
        for index, watch in enumerate(watches):
            await executor.launch(replace(spec(), cluster=f"c{index}", instance_id=f"c{index}-small-1-0"))
            await until(watch, Phase.REGISTERING)
            assert len(await executor.list(f"c{index}")) == 1
        await asyncio.sleep(3.0)
        deeds = await namespace.audited(f"system:serviceaccount:{namespace.name}:rayscaler-0", at_least=8)
    done = Counter((each["verb"], each["objectRef"]["resource"]) for each in deeds)
    assert done == {("list", "pods"): 1, ("watch", "pods"): 1, ("create", "pods"): 3, ("create", "configmaps"): 3}


async def test_each_right_of_the_role_is_needed_and_its_lack_is_named(namespace):
    async with bed.entered(namespace) as client:
        await bed.disenfranchise(namespace)
        async with running(client, namespace, options=Options(list_wait_s=1.0)) as executor:
            with pytest.raises(Denied, match=r"lacks the right to list pods in t"):
                await executor.list("c")
            with pytest.raises(Denied, match=r"lacks the right to create configmaps in t"):
                await executor.launch(spec())
            with pytest.raises(Denied, match=r"lacks the right to get pods in t"):
                await executor.terminate("c", "c-small-1-0")


async def test_a_quota_is_no_room_and_what_admission_refuses_says_why(namespace):
    async with bed.entered(namespace) as client, running(client, namespace) as executor:
        await namespace.quota("q", pods="1")
        with pytest.raises(InvalidRequest, match=r"spec\.containers\[0\]\.image"):
            await executor.launch(spec(image=" "))
        await executor.launch(spec(1))
        with pytest.raises(InsufficientCapacity, match="exceeded quota: q"):
            await executor.launch(spec(2))
        assert [each.instance_id for each in await executor.list("c")] == ["c-small-1-1"]


async def test_pt1_the_restricted_profile_takes_a_restricted_template_with_all_that_is_ours(namespace):
    await namespace.restrict()
    async with bed.entered(namespace) as client, running(client, namespace) as executor:
        with pytest.raises(InvalidRequest, match="violates PodSecurity"):
            await executor.launch(spec())
        watch = executor.watch("c")
        await executor.launch(spec(1, securityContext=RESTRICTED))
        await until(watch, Phase.REGISTERING)


async def test_what_holds_an_instance_up_or_ended_it_is_told(namespace):
    async with bed.entered(namespace) as client, running(client, namespace) as executor:
        watches = [executor.watch("c") for _ in range(5)]
        await executor.launch(spec(0, {"image-pull": "fail"}))
        await executor.launch(spec(1, {"unschedulable": "true"}))
        await executor.launch(spec(2, {"exit-after": "0.2s", "exit-code": "91"}))
        await executor.launch(spec(3, {"exit-after": "0.2s", "exit-code": "90"}))
        await executor.launch(spec(4, {"spot-notice": "0.1s", "spot-grace": "0.2s"}))
        assert (await until(watches[0], Phase.PULLING, error="ImagePullBackOff")).instance_id == "c-small-1-0"
        assert (await until(watches[1], Phase.UNSCHEDULED, error="Unschedulable")).instance_id == "c-small-1-1"
        assert (await until(watches[2], Phase.GONE, error="`ray` cannot be run")).instance_id == "c-small-1-2"
        assert "TerminationByKubelet" in (await until(watches[3], Phase.GONE, error="TerminationByKubelet")).error
        await until(watches[4], Phase.GONE, count=3)
        assert sorted(each.instance_id for each in await executor.list("c")) == ["c-small-1-0", "c-small-1-1"]
        async with asyncio.timeout(60.0):  # pods that ended go
            while len((await client.list(PODS, namespace.name))[0]) != 2:  # noqa: ASYNC110  # to list is what is asked for
                await asyncio.sleep(0.05)


async def test_a_pod_stuck_in_its_end_is_forced_when_that_is_asked_again(namespace):
    options = Options(force_after_s=0.0)
    async with bed.entered(namespace) as client, running(client, namespace, options=options) as executor:
        watch = executor.watch("c")
        slow = spec(0, {"ends-after": "never"})
        text = json.loads(slow.node_type.template)
        text["spec"]["terminationGracePeriodSeconds"] = 1
        slow = replace(slow, node_type=replace(slow.node_type, template=json.dumps(text)))
        await executor.launch(slow)
        await until(watch, Phase.REGISTERING)
        await executor.terminate("c", "c-small-1-0")
        await until(watch, Phase.ENDING)
        await asyncio.sleep(2.1)
        await executor.terminate("c", "c-small-1-0")
        await until(watch, Phase.GONE)


async def test_cd10_deleting_the_owner_deletes_pods_and_supervisor_without_rayscaler(namespace):
    async with bed.entered(namespace) as client:
        maps = namespace.path("configmaps")
        found = await namespace.api.create(maps, {"metadata": {"name": "c"}})
        owner = Owner("v1", "ConfigMap", "c", found["metadata"]["uid"])
        async with running(client, namespace, owner=owner) as executor:
            await executor.launch(spec())
        await namespace.api.delete(f"{maps}/c")

        async def left() -> list[dict]:
            pods = await namespace.api.get(namespace.path("pods"))
            ours = await namespace.api.get(maps, labelSelector="app.kubernetes.io/managed-by=rayscaler")
            return [*pods["items"], *ours["items"]]

        async with asyncio.timeout(60.0):  # the garbage collector's time
            while await left():  # noqa: ASYNC110  # no one watch covers both kinds
                await asyncio.sleep(0.05)


async def test_a_cut_watch_and_an_api_server_that_is_away_lose_nothing(namespace):
    options = Options(list_wait_s=0.3, pauses=Pauses(first_s=0.05, longest_s=0.5, blind_s=0.5))
    line = bed.Line(namespace)
    await line.open()
    async with (
        bed.entered(namespace) as direct,
        bed.entered(namespace, port=line.port) as client,
        running(direct, namespace) as other,
        running(client, namespace, options=options) as executor,
    ):
        watch = executor.watch("c")
        await executor.launch(spec(0))
        await until(watch, Phase.REGISTERING)
        line.cut()
        await other.launch(spec(1))
        await until(watch, Phase.REGISTERING)
        await line.close()
        await other.launch(spec(2))
        await other.terminate("c", "c-small-1-0")
        await asyncio.sleep(1.0)
        with pytest.raises(Unavailable):
            await executor.list("c")
        with pytest.raises(Unavailable):
            await executor.launch(spec(3))
        await line.open()
        seen = {each.instance_id: each.phase async for each in _take(watch, Phase.GONE, Phase.REGISTERING)}
        assert seen["c-small-1-0"] is Phase.GONE
        assert seen["c-small-1-2"] is Phase.REGISTERING
        assert sorted(each.instance_id for each in await executor.list("c")) == ["c-small-1-1", "c-small-1-2"]
    await line.close()


async def _take(watch, *phases: Phase):
    """Yield observations until each of the phases was told."""
    left = set(phases)
    async with asyncio.timeout(60.0):
        while left:
            each = await anext(watch)
            left.discard(each.phase)
            yield each


async def in_turn(executor, launched: LaunchSpec) -> None:
    async with executor.pace.turn(launched.cluster):
        await executor.launch(launched)


async def test_three_hundred_pods_from_one_burst(namespace, capsys):
    async with bed.entered(namespace) as client, running(client, namespace) as executor:
        watch = executor.watch("c")
        await executor.list("c")
        began_at = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for index in range(300):
                tasks.create_task(in_turn(executor, spec(index)))
        created_s = time.monotonic() - began_at
        await until(watch, Phase.REGISTERING, count=300, seconds=120.0)
        running_s = time.monotonic() - began_at
        assert len(await executor.list("c")) == 300
    with capsys.disabled():
        print(f"\n300 pods: all created after {created_s:.1f} s, all told to run after {running_s:.1f} s")
