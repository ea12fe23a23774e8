"""Statuses are written back seldom, the newest wins, and one that cannot be written keeps no other waiting."""

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest

from rayscaler.clock import SystemClock
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.statuses import STATUS, Options, Statuses, fitted, manifest
from rayscaler.testing.loop_clock import LoopClock
from tests.k8s.fake_api import serving

pytestmark = pytest.mark.tier("protocol")
OWNER = Owner("v1", "ConfigMap", "demo", "uid-1")
QUICK = Options(least_s=0.2, first_retry_s=0.02, longest_retry_s=0.1)
DENIED = (403, {}, {"message": 'User "x" cannot patch resource "configmaps"', "reason": "Forbidden"})


@contextlib.asynccontextmanager
async def writing(options: Options = QUICK):
    async with serving() as (api, client):
        statuses = Statuses(client, "ns", clock=SystemClock(), options=options)
        task = asyncio.create_task(statuses.run())
        try:
            yield api, statuses
        finally:
            assert not task.done() or task.result()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(api, count: int, seconds: float = 10.0) -> list[tuple[str, dict]]:
    """Wait until so much was written; return names and data."""
    async with asyncio.timeout(seconds):
        while len(api.written) < count:  # noqa: ASYNC110  # the API server tells nobody what was patched
            await asyncio.sleep(0.01)
    return [(name, body["data"]) for _, name, body in api.written]


async def test_a_status_is_one_config_map_with_our_labels_and_owner():
    assert manifest("demo", OWNER, {STATUS: "{}"}) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": "demo.rayscaler-status",
            "labels": {"app.kubernetes.io/managed-by": "rayscaler", "rayscaler.io/cluster": "demo"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "demo", "uid": "uid-1", "controller": True}],
        },
        "data": {STATUS: "{}"},
    }


async def test_the_newest_wins_and_equal_documents_are_not_written_again():
    async with writing() as (api, statuses):
        statuses.put("demo", OWNER, {STATUS: "0"})
        await until(api, 1)
        for index in range(1, 50):
            statuses.put("demo", OWNER, {STATUS: str(index)})
        assert [data[STATUS] for _, data in await until(api, 2)] == ["0", "49"]
        for _ in range(10):
            statuses.put("demo", OWNER, {STATUS: "49"})
        await asyncio.sleep(2 * QUICK.least_s)  # what must not be written has the time to be
        assert len(api.written) == 2


async def test_two_writes_of_a_cluster_have_their_distance():
    loop = asyncio.get_running_loop()
    async with writing() as (api, statuses):
        began_at = loop.time()
        for index in range(4):
            statuses.put("demo", OWNER, {STATUS: str(index)})
            await until(api, index + 1)
        assert loop.time() - began_at >= 3 * QUICK.least_s


async def test_another_owner_is_another_status():
    async with writing() as (api, statuses):
        statuses.put("demo", OWNER, {STATUS: "1"})
        await until(api, 1)
        statuses.put("demo", Owner("v1", "ConfigMap", "demo", "uid-2"), {STATUS: "1"})
        await until(api, 2)
        assert [body["metadata"]["ownerReferences"][0]["uid"] for _, _, body in api.written] == ["uid-1", "uid-2"]


async def test_what_fails_is_tried_again_with_the_newest_and_blocks_nobody():
    async with writing() as (api, statuses):
        api.refuse["patch"] = [DENIED] * 3
        statuses.put("demo", OWNER, {STATUS: "old"})
        await asyncio.sleep(0.01)  # until the first try is on its way
        statuses.put("demo", OWNER, {STATUS: "new"})
        assert await until(api, 1) == [("demo.rayscaler-status", {STATUS: "new"})]
        assert api.calls["patch"] == 4


async def test_one_that_hangs_holds_up_no_other():
    async with writing() as (api, statuses):
        api.hang_s = 3.0
        statuses.put("slow", OWNER, {STATUS: "1"})
        async with asyncio.timeout(2.0):
            while not api.calls["patch"]:  # noqa: ASYNC110  # the API server tells nobody
                await asyncio.sleep(0.01)
            api.hang_s = 0.0
            statuses.put("quick", OWNER, {STATUS: "1"})
            assert await until(api, 1) == [("quick.rayscaler-status", {STATUS: "1"})]


async def test_what_is_forgotten_is_not_written_and_may_come_again():
    async with writing() as (api, statuses):
        api.refuse["patch"] = [DENIED] * 100
        statuses.put("demo", OWNER, {STATUS: "1"})
        async with asyncio.timeout(2.0):
            while not api.calls["patch"]:  # noqa: ASYNC110  # the API server tells nobody
                await asyncio.sleep(0.005)
        statuses.forget("demo")
        await asyncio.sleep(0.3)  # longer than the longest pause between tries
        assert api.written == []
        statuses.put("demo", OWNER, {STATUS: "1"})
        api.refuse["patch"] = []
        await until(api, 1)


async def test_what_is_forgotten_while_it_is_written_or_waits_for_its_turn_is_as_if_it_had_never_been():
    async with writing(replace(QUICK, in_flight=1)) as (api, statuses):
        api.hang_s = 0.3
        statuses.put("first", OWNER, {STATUS: "1"})
        statuses.put("second", OWNER, {STATUS: "1"})
        async with asyncio.timeout(2.0):
            while not api.calls["patch"]:  # noqa: ASYNC110  # the API server tells nobody
                await asyncio.sleep(0.005)
        statuses.forget("first")
        statuses.forget("second")
        await until(api, 1)
        await asyncio.sleep(2 * QUICK.least_s)  # what must not be written has the time to be
        assert [name for _, name, _ in api.written] == ["first.rayscaler-status"]
        statuses.put("first", OWNER, {STATUS: "1"})
        await until(api, 2)


@pytest.mark.looptime
async def test_what_has_not_changed_for_long_is_written_again_as_somebody_may_have_deleted_it():
    tries = []

    class Api:
        async def patch(self, *_args, **_query):
            tries.append(asyncio.get_running_loop().time())

    statuses = Statuses(Api(), "ns", clock=LoopClock())
    task = asyncio.create_task(statuses.run())
    for _ in range(21):
        statuses.put("demo", OWNER, {STATUS: "1"})
        await asyncio.sleep(60.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [round(each, -1) for each in tries] == [0, 600, 1200]


def test_what_does_not_fit_is_left_out_largest_first_and_the_status_says_so():
    whole = {STATUS: '{"a": 1}', "full.json": "f" * 500, "explain.json": "ü" * 400}
    assert fitted(whole, 2000) == whole
    assert set(fitted(whole, 1000)) == {STATUS, "full.json"}
    assert json.loads(fitted(whole, 1000)[STATUS]) == {"a": 1, "leftOut": ["explain.json"]}
    assert json.loads(fitted(whole, 100)[STATUS]) == {"a": 1, "leftOut": ["explain.json", "full.json"]}
    assert fitted({"full.json": "f" * 500}, 100) == {}
