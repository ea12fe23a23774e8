"""Telling people: news of a moment are told once, and what takes long to write down leaves the event loop to others."""

import asyncio

import pytest

from rayscaler.app.telling import LONGEST_REST_S, REST_S, SHARE, Scene, Telling
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.statusdocument import DefinitionStanding, HeadStanding
from rayscaler.testing.loop_clock import LoopClock

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

OWNER = Owner("v1", "ConfigMap", "demo", "uid")


class Slow(LoopClock):
    """A clock on which it takes `takes_s` to look at a cluster, which in virtual time it does not."""

    takes_s = 0.0
    spent_s = 0.0

    def mono(self) -> float:
        return super().mono() + self.spent_s

    def scene(self, cluster: str) -> Scene | None:
        self.spent_s += self.takes_s
        return None if cluster == "gone" else Scene(OWNER, None, DefinitionStanding(), HeadStanding())


class Written:
    """Notes what was put down, and when."""

    def __init__(self) -> None:
        self.told: list[tuple[float, str]] = []

    async def load(self) -> dict[str, str]:
        return {}

    def put(self, cluster: str, owner: Owner, documents: dict[str, str]) -> None:
        assert owner == OWNER
        assert documents
        self.told.append((asyncio.get_running_loop().time(), cluster))


@pytest.fixture
async def told():
    clock, written = Slow(), Written()
    telling = Telling(written, None, clock.scene, clock)
    task = asyncio.create_task(telling.run())
    yield telling, clock, written
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_news_of_a_moment_are_told_once_and_a_cluster_that_is_gone_is_told_of_no_more(told):
    telling, _, written = told
    for name in ("demo", "gone", "demo", "other", "demo"):
        telling.note(name)
    await asyncio.sleep(REST_S + 0.1)
    assert [name for _, name in written.told] == ["demo", "other"]


@pytest.mark.parametrize(("takes_s", "apart_s"), [(0.0, REST_S), (0.5, SHARE * 0.5), (5.0, LONGEST_REST_S)])
async def test_what_takes_long_to_tell_is_told_the_less_often_up_to_a_limit(told, takes_s, apart_s):
    telling, clock, written = told
    clock.takes_s = takes_s
    for _ in range(400):
        telling.note("demo")
        await asyncio.sleep(0.1)
    first, second, third = [at for at, _ in written.told[:3]]
    assert (second - first, third - second) == (pytest.approx(apart_s, abs=0.11), pytest.approx(apart_s, abs=0.11))
