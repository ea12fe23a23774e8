"""Heads against a small API server: losses, refusals, races, and what is told of them. Pauses are a hundredth of the real ones."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from rayscaler.clock import SystemClock
from rayscaler.k8s import labels
from rayscaler.k8s.head import Heads, Options
from rayscaler.k8s.reflector import Pauses
from rayscaler.k8s.succession import HeadPhase
from tests.k8s.fake_api import serving
from tests.k8s.test_heads import OWNER, PLAIN_SIDECAR, config

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(60)]
FAST = Options(pauses_s=(0.0, 0.05, 0.1, 0.2), unreachable_s=0.3, reflector=Pauses(first_s=0.05, longest_s=0.1))
RUNNING = {
    "phase": "Running",
    "conditions": [{"type": "Ready", "status": "True"}, {"type": "ContainersReady", "status": "True"}],
    "containerStatuses": [{"name": "main", "started": True, "state": {"running": {}}}],
}


class Told:
    """What was told of heads, in order."""

    def __init__(self):
        self.facts = []
        self._news = asyncio.Condition()

    def __call__(self, cluster, fact):
        self.facts.append((cluster, fact))
        self._waker = asyncio.get_running_loop().create_task(self._wake())

    async def _wake(self):
        async with self._news:
            self._news.notify_all()

    async def until(self, phase, epoch=None, reason="", cluster="demo"):
        """Wait for a fact like this, now or to come, and return it."""
        async with asyncio.timeout(45), self._news:
            while True:
                for name, each in self.facts:
                    if name == cluster and each.phase is phase and epoch in (None, each.epoch) and reason in each.reason:
                        return each
                await self._news.wait()


@contextlib.asynccontextmanager
async def tending(client, options=FAST, namespace="ns"):
    told = Told()
    heads = Heads(client, namespace, sidecar=PLAIN_SIDECAR, told=told, clock=SystemClock(), options=options)
    task = asyncio.create_task(heads.run())
    try:
        yield heads, told
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def ready(api, epoch, cluster="demo", **fields):
    """Be kubelet: the head is up."""
    pod = api.pods[f"{cluster}-head-{epoch}"]
    await api.put({**pod, "spec": {**pod["spec"], "nodeName": "n"}, "status": {**RUNNING, **fields}})


def selected(api):
    return int(api.services["demo-head"]["spec"]["selector"][labels.HEAD_EPOCH])


async def test_at_first_there_is_the_service_then_the_pod_and_nothing_is_polled():
    async with serving() as (api, client), tending(client) as (heads, told):
        assert heads.incarnation("demo") == ""
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        await ready(api, 1)
        await told.until(HeadPhase.READY, 1)
        assert heads.incarnation("demo") == api.pods["demo-head-1"]["metadata"]["uid"]
        before = dict(api.calls)
        await asyncio.sleep(0.5)
        assert dict(api.calls) == before == {"list": 2, "watch": 2, "create": 3}


async def test_design_2b_4_a_lost_pod_has_a_successor_of_the_next_epoch_and_only_that_one_is_selected():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        seen = []
        for epoch in range(1, 6):
            await told.until(HeadPhase.UNSCHEDULED, epoch)
            await ready(api, epoch)
            await told.until(HeadPhase.READY, epoch)
            seen.append(heads.incarnation("demo"))
            assert (selected(api), list(api.pods)) == (epoch, [f"demo-head-{epoch}"])
            await api.drop(f"demo-head-{epoch}")
            await told.until(HeadPhase.LOST, epoch, "its pod was deleted")
        assert len(set(seen)) == 5
        assert "" not in seen


async def test_design_2b_4_a_head_whose_node_is_out_of_sight_is_replaced_and_fenced_while_it_runs_on():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        await ready(api, 1)
        await told.until(HeadPhase.READY, 1)
        old = heads.incarnation("demo")
        api.has_kubelet = True  # from now on a deleted pod on a node ends only when its kubelet says so
        api._stop_pod = lambda name: asyncio.sleep(0)  # which that node's never does
        await ready(api, 1, conditions=[{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}])
        assert (await told.until(HeadPhase.UNREADY, 1)).reason == "its node is out of sight"
        await told.until(HeadPhase.LOST, 1, "its node has been out of sight for 0.3 s")
        await told.until(HeadPhase.UNSCHEDULED, 2)
        assert selected(api) == 2
        assert "demo-head-1" in api.pods
        assert heads.incarnation("demo") == api.pods["demo-head-2"]["metadata"]["uid"] != old


async def test_a_node_that_is_back_in_time_keeps_its_head():
    async with serving() as (api, client), tending(client, replace(FAST, unreachable_s=30.0)) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        await ready(api, 1, conditions=[{"type": "Ready", "status": "Unknown"}])
        await told.until(HeadPhase.UNREADY, 1)
        await ready(api, 1)
        await told.until(HeadPhase.READY, 1)
        assert [fact.epoch for _, fact in told.facts] == [1] * len(told.facts)


async def test_a_head_that_dies_again_and_again_waits_longer_each_time_and_says_until_when():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        waits = []
        for epoch in range(1, 6):
            await told.until(HeadPhase.UNSCHEDULED, epoch)
            died = [{"name": "main", "state": {"terminated": {"exitCode": 1, "message": "no such flag"}}}]
            await api.put({**api.pods[f"demo-head-{epoch}"], "status": {"phase": "Failed", "containerStatuses": died}})
            fact = await told.until(HeadPhase.LOST, epoch, "no such flag")
            waits.append(0.0 if not fact.next_at else round(fact.next_at - fact.since, 2))
        assert waits == pytest.approx([0.0, 0.05, 0.1, 0.2, 0.2], abs=0.04)


async def test_a_head_that_lived_long_has_its_successor_at_once_again():
    async with serving() as (api, client), tending(client, replace(FAST, pauses_s=(0.0, 600.0), lived_s=0.0)) as (heads, told):
        heads.want(config(), OWNER)
        for epoch in (1, 2, 3):
            await told.until(HeadPhase.UNSCHEDULED, epoch)
            await api.drop(f"demo-head-{epoch}")
        await told.until(HeadPhase.UNSCHEDULED, 4)


async def test_what_is_refused_is_told_tried_again_and_at_once_when_the_definition_changes():
    quota = (403, {}, {"reason": "Forbidden", "message": 'pods "demo-head-1" is forbidden: exceeded quota: q'})
    async with serving() as (api, client), tending(client, replace(FAST, pauses_s=(0.0, 600.0))) as (heads, told):
        api.refuse["create"] = [quota]
        heads.want(config(), OWNER)
        fact = await told.until(HeadPhase.MISSING, reason="exceeded quota: q")
        assert fact.next_at > fact.since + 500
        heads.want(config(env=(("A", "1"),)), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)


async def test_an_api_server_that_fails_is_asked_again_soon_however_long_one_that_refuses_is_left_alone():
    async with serving() as (api, client), tending(client, replace(FAST, pauses_s=(0.0, 600.0), away_s=0.05)) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        api.refuse["patch"] = [(500, {}, {"message": "etcd has no leader"})] * 3
        await api.drop("demo-head-1")
        await told.until(HeadPhase.LOST, 1, "etcd has no leader")
        await told.until(HeadPhase.UNSCHEDULED, 2)
        assert api.calls["patch"] == 4


async def test_a_swap_that_somebody_else_won_is_no_second_one():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        api.refuse["patch"] = [(409, {}, {"reason": "Conflict", "message": "the object has been modified"})]
        moved = api.services["demo-head"]
        selector = {**moved["spec"]["selector"], labels.HEAD_EPOCH: "2"}
        await api.put({**moved, "spec": {**moved["spec"], "selector": selector}}, "services")
        await api.drop("demo-head-1")
        await told.until(HeadPhase.UNSCHEDULED, 2)
        assert (selected(api), list(api.pods)) == (2, ["demo-head-2"])


async def test_a_head_that_comes_too_late_is_deleted_and_never_selected():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        stray = api.pods["demo-head-1"]
        await api.drop("demo-head-1")
        await told.until(HeadPhase.UNSCHEDULED, 2)
        await api.put(stray)
        async with asyncio.timeout(10), api._news:
            await api._news.wait_for(lambda: list(api.pods) == ["demo-head-2"])
        assert selected(api) == 2


async def test_a_deleted_service_is_made_again_for_the_head_that_serves():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        for epoch in (1, 2):
            await told.until(HeadPhase.UNSCHEDULED, epoch)
            if epoch == 1:
                await api.drop("demo-head-1")
        uid = heads.incarnation("demo")
        await api.drop("demo-head", plural="services")
        async with asyncio.timeout(10), api._news:
            await api._news.wait_for(lambda: "demo-head" in api.services)
        assert (selected(api), heads.incarnation("demo"), list(api.pods)) == (2, uid, ["demo-head-2"])


async def test_a_changed_definition_restarts_no_head_that_was_up_and_says_so():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        await ready(api, 1)
        fact = await told.until(HeadPhase.READY, 1)
        heads.want(config(env=(("A", "1"),)), OWNER)
        async with asyncio.timeout(10):
            while "spec.head has changed since" not in told.facts[-1][1].detail:
                async with told._news:
                    await told._news.wait()
        assert (told.facts[-1][1].phase, told.facts[-1][1].since, list(api.pods)) == (HeadPhase.READY, fact.since, ["demo-head-1"])


async def test_what_is_forgotten_is_left_alone_and_still_known_as_the_one_that_serves():
    async with serving() as (api, client), tending(client) as (heads, told):
        heads.want(config(), OWNER)
        heads.want(config(name="other"), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        await told.until(HeadPhase.UNSCHEDULED, 1, cluster="other")
        uid = heads.incarnation("demo")
        heads.forget("demo")
        await api.drop("demo-head-1")
        await api.drop("other-head-1")
        await told.until(HeadPhase.UNSCHEDULED, 2, cluster="other")
        assert (list(api.pods), heads.incarnation("demo")) == (["other-head-2"], uid)
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 2)


async def test_between_the_swap_and_the_next_pod_no_head_is_heard():
    async with serving() as (api, client), tending(client, replace(FAST, pauses_s=(0.0, 600.0))) as (heads, told):
        heads.want(config(), OWNER)
        await told.until(HeadPhase.UNSCHEDULED, 1)
        uid = heads.incarnation("demo")
        api.refuse["create"] = [(403, {}, {"reason": "Forbidden", "message": "a policy says no"})]
        await api.drop("demo-head-1")
        await told.until(HeadPhase.MISSING, 2, "a policy says no")
        assert heads.incarnation("demo") == "demo-head-2" != uid


async def test_what_is_there_under_our_name_and_not_ours_is_told_and_left_alone():
    async with serving() as (api, client), tending(client) as (heads, told):
        api.services["demo-head"] = {"metadata": {"name": "demo-head", "uid": "x", "resourceVersion": "1"}, "spec": {}}
        listed = api._list
        api._list = lambda request: listed(request) if request.match_info["plural"] == "pods" else _nothing(api)
        heads.want(config(), OWNER)
        await told.until(
            HeadPhase.MISSING, reason="Service demo-head is there, and is not rayscaler's; delete it, or name the cluster otherwise"
        )
        assert api.services["demo-head"]["spec"] == {}


async def _nothing(api):
    from aiohttp import web

    return web.json_response({"metadata": {"resourceVersion": str(api.version)}, "items": []})


async def test_two_services_at_once_make_one_head_of_each_epoch():
    async with serving() as (api, client), tending(client) as (first, told), tending(client) as (second, other):
        for heads in (first, second):
            heads.want(config(), OWNER)
        for epoch in range(1, 8):
            await told.until(HeadPhase.UNSCHEDULED, epoch)
            await other.until(HeadPhase.UNSCHEDULED, epoch)
            assert (selected(api), list(api.pods)) == (epoch, [f"demo-head-{epoch}"])
            assert first.incarnation("demo") == second.incarnation("demo") == api.pods[f"demo-head-{epoch}"]["metadata"]["uid"]
            await api.drop(f"demo-head-{epoch}")
