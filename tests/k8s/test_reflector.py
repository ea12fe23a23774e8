"""The copy of the pods stays true over cut watches, forgotten versions, storms of refusals and an API server that is away."""

import asyncio
import contextlib
import json
from typing import Self

import pytest

from rayscaler.clock import SystemClock
from rayscaler.errors import Denied, Unavailable
from rayscaler.k8s import labels
from rayscaler.k8s.objects import PODS, Pod
from rayscaler.k8s.reflector import Pauses, Reflector
from tests.k8s.fake_api import pod, serving

pytestmark = pytest.mark.tier("protocol")
QUICK = Pauses(first_s=0.02, longest_s=0.2, blind_s=0.3)
FORBIDDEN = {"reason": "Forbidden", "message": 'pods is forbidden: User "x" cannot list resource "pods" in API group ""'}


class Following:
    """A reflector that runs, and what it told."""

    def __init__(self, client) -> None:
        self.told: list[tuple[str, bool]] = []
        self._news = asyncio.Event()
        self.reflector = Reflector(client, PODS, "ns", labels.OURS_SELECTOR, tell=self._tell, clock=SystemClock(), pauses=QUICK)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.reflector.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def _tell(self, found: Pod, is_gone: bool) -> None:
        self.told.append((found.metadata.name, is_gone))
        self._news.set()

    async def until(self, *names: str) -> None:
        """Wait until the copy has just these names."""
        async with asyncio.timeout(10.0):
            while sorted(self.reflector.objects) != sorted(names):
                self._news.clear()
                await self._news.wait()


@contextlib.asynccontextmanager
async def following(**refuse):
    """Follow a small API server that refuses as told from its start on."""
    async with serving() as (api, client):
        api.refuse |= refuse
        async with Following(client) as made:
            yield api, made


async def test_what_is_there_and_what_comes_is_told_by_one_list_and_one_watch():
    async with serving() as (api, client):
        for index in range(1001):
            await api.put(pod(f"a{index}"))
        made = Following(client)
        async with made:
            await made.reflector.synced(5.0)
            assert len(made.reflector.objects) == 1001
            assert api.calls["list"] == 3, "pages of 500"
            await api.put(pod("b"))
            await api.drop("a0")
            await made.until(*(f"a{index}" for index in range(1, 1001)), "b")
            assert made.told[-2:] == [("b", False), ("a0", True)]
            assert api.calls == {"list": 3, "watch": 1}


async def test_an_event_may_come_in_any_pieces():
    async with following() as (api, made):
        await made.reflector.synced(5.0)
        api.chunk = 7
        await asyncio.gather(*(api.put(pod(f"p{index}", message="ü" * 500)) for index in range(3)))
        await made.until("p0", "p1", "p2")


async def test_a_bookmark_as_the_api_server_sends_it_moves_the_version_alone():
    async with following() as (api, made):
        await api.put(pod("a"))
        await made.until("a")
        await made.reflector.synced(5.0)
        blank = {"metadata": {"resourceVersion": "257", "creationTimestamp": None}, "spec": {"containers": None}, "status": {}}
        api.version = 257
        await api.say({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1", **blank}})
        await api.put(pod("b"))
        await made.until("a", "b")
        assert api.calls == {"list": 1, "watch": 1}
        assert made.told == [("a", False), ("b", False)]


async def test_a_cut_watch_goes_on_where_it_was_and_nothing_is_listed_again():
    async with following() as (api, made):
        await api.put(pod("a"))
        await made.until("a")
        await made.reflector.synced(5.0)
        await api.cut()
        await api.put(pod("b"))
        await api.drop("a")
        await made.until("b")
        assert api.calls["list"] == 1
        assert made.told == [("a", False), ("b", False), ("a", True)]


@pytest.mark.parametrize("is_in_the_stream", [False, True])
async def test_a_forgotten_version_means_listing_again_and_what_vanished_is_told(is_in_the_stream):
    async with following() as (api, made):
        await api.put(pod("a"))
        await made.until("a")
        await api.drop("a", silently=True)
        await api.put(pod("b"))
        if is_in_the_stream:
            await api.say({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
        else:
            api.refuse["watch"] = [(410, {}, {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"})]
            await api.cut()
        await made.until("b")
        assert api.calls["list"] == 2
        assert ("a", True) in made.told


async def test_a_storm_of_429_is_waited_out_as_it_asks():
    busy = (429, {"Retry-After": "1"}, {"message": "too many requests"})
    began_at = asyncio.get_running_loop().time()
    async with following(list=[busy], watch=[busy]) as (api, made):
        await made.reflector.synced(10.0)
        assert asyncio.get_running_loop().time() - began_at >= 1.0
        await api.put(pod("a"))
        await made.until("a")
        assert api.calls == {"list": 2, "watch": 2}
        assert asyncio.get_running_loop().time() - began_at >= 2.0


async def test_an_api_server_that_is_away_makes_the_copy_unknown_until_it_is_back():
    async with following() as (api, made):
        await api.put(pod("a"))
        await made.until("a")
        await api.stop()
        await asyncio.sleep(QUICK.blind_s + 0.1)
        with pytest.raises(Unavailable):
            await made.reflector.synced(0.05)
        await api.start()
        await made.reflector.synced(5.0)
        assert (api.calls["list"], made.told) == (1, [("a", False)])


async def test_a_missing_right_is_told_as_such():
    loop = asyncio.get_running_loop()
    async with following(list=[(403, {}, FORBIDDEN)] * 1000) as (api, made):
        began_at = loop.time()
        async with asyncio.timeout(20.0):
            while api.calls["list"] < 2:  # noqa: ASYNC110  # the fake has no event for it
                await asyncio.sleep(0.01)
        with pytest.raises(Denied, match=r"the Role of the service's account lacks the right to list pods in ns"):
            await made.reflector.synced(0.6)
        assert api.calls["list"] <= 6 + (loop.time() - began_at) / QUICK.longest_s, "with growing pauses"


async def test_what_a_call_returns_is_known_at_once_unless_the_watch_is_past_it():
    async with following() as (api, made):
        await made.reflector.synced(5.0)
        stored = await api.put(pod("a"))
        early = PODS.one.decode(json.dumps(stored))
        await made.until("a")
        await api.drop("a")
        await made.until()
        made.reflector.note(early)
        assert made.reflector.objects == {}, "it has gone since"
        early.metadata.resource_version = str(api.version + 5)
        early.metadata.name = "b"
        made.reflector.note(early)
        assert list(made.reflector.objects) == ["b"]
