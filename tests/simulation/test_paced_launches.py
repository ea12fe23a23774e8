"""Complaint D4: limits of how many launches are on their way, and begun in any minute, hold exactly; as the fake machines and the fake Ray saw it."""

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.model.demand import Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.counts import counted
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(120)]

R = Resources.of
MINUTE_S = 60.0


def kind_of(name: str) -> str:
    return name.split("-")[1]


def on_their_way(whole: Whole) -> Iterator[Counter[str]]:
    """Yield after each call for a launch how many of each type have been asked for, and have neither joined, nor failed, nor gone."""
    flying: set[str] = set()
    refused = set(whole.of("launch")) - {each.instance_id for each in whole.executor.launched}
    for _, what, name in whole.events:
        if what == "launch" and name not in refused:
            flying.add(name)
            yield Counter(map(kind_of, flying))
        elif what in ("join", "gone"):
            flying.discard(name)


def most_in_a_minute(whole: Whole, kind: str = "") -> int:
    """Return the most launches, also refused ones, that were asked for in any 60 seconds."""
    times = [at for at, what, name in whole.events if what == "launch" and kind in ("", kind_of(name))]
    return max((sum(at <= other < at + MINUTE_S for other in times) for at in times), default=0)


async def test_d4_with_limit_10_ten_are_on_their_way_and_never_eleven():
    config = ClusterConfig("demo", (NodeType("small", R(CPU=1)), NodeType("large", R(CPU=4))), max_concurrent_launches=10)
    async with running(config) as whole:
        whole.gcs.submit(R(CPU=1), 30)
        whole.gcs.submit(R(CPU=4), 15)
        await asyncio.sleep(120)
        assert len(whole.gcs.running()) == 45  # all is had all the same
        assert max(each.total() for each in on_their_way(whole)) == 10
        assert whole.of("terminate") == []


async def test_d4_a_type_has_a_limit_of_its_own_and_no_other_type_takes_its_work():
    kinds = NodeType("small", R(CPU=1), max_concurrent_launches=3), NodeType("gpu", R(GPU=1)), NodeType("spare", R(CPU=1), priority=-1)
    async with running(ClusterConfig("demo", kinds, max_concurrent_launches=8)) as whole:
        whole.gcs.submit(R(CPU=1), 12)
        whole.gcs.submit(R(GPU=1), 12)
        await asyncio.sleep(120)
        assert len(whole.gcs.running()) == 24
        seen = list(on_their_way(whole))
        assert (max(each["small"] for each in seen), max(each.total() for each in seen)) == (3, 8)
        assert whole.nodes() == {"small": 12, "gpu": 12}


async def test_d4_no_more_than_the_limit_are_begun_in_any_minute_and_the_next_come_by_themselves():
    config = ClusterConfig("demo", (NodeType("small", R(CPU=1)),), max_launches_per_minute=6)
    async with running(config) as whole:
        whole.gcs.submit(R(CPU=1), 15)
        await asyncio.sleep(30)
        assert len(whole.of("launch")) == 6
        (waits,) = [each for each in whole.reconciler.status().pending if each.reason is Reason.MAX_LAUNCHES_PER_MINUTE]
        assert (waits.count, "6 of at most 6 launches in 60 s were begun; the next can be in" in waits.detail) == (9, True)
        explained = whole.reconciler.explanation()
        (shape,), (small,) = explained.shapes, explained.node_types
        assert shape.because.reason is small.because.reason is Reason.MAX_LAUNCHES_PER_MINUTE
        assert shape.because.until == small.because.until == waits.until
        begun_at = whole.when("launch")[0]
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(begun_at + MINUTE_S - now - 0.5)
        assert len(whole.of("launch")) == 6
        await asyncio.sleep(1.0)
        assert len(whole.of("launch")) == 12  # nothing happened but that the minute was over
        await asyncio.sleep(70)
        assert (len(whole.gcs.running()), most_in_a_minute(whole)) == (15, 6)


async def test_d4_a_restart_of_the_service_begins_no_second_burst_and_failed_launches_count():
    config = ClusterConfig("demo", (NodeType("small", R(CPU=1)),), max_launches_per_minute=6)
    async with running(config) as whole:
        whole.executor.fail_next_launch(InsufficientCapacity("none left"))
        whole.gcs.submit(R(CPU=1), 15)
        await asyncio.sleep(3)
        for _ in range(4):
            await whole.kill("service")
            whole.start_service()
            await asyncio.sleep(12)
        assert len(whole.of("launch")) == 6
        await asyncio.sleep(240)
        assert (len(whole.gcs.running()), most_in_a_minute(whole)) == (15, 6)


class Late:
    """Turns that are given only from a moment on: other clusters had them before."""

    def __init__(self, until: float) -> None:
        self.until = until

    @contextlib.asynccontextmanager
    async def turn(self, of: str) -> AsyncIterator[None]:
        await asyncio.sleep(max(0.0, self.until - asyncio.get_running_loop().time()))
        yield


async def test_d4_launches_that_wait_for_their_turn_at_the_executor_count_from_when_they_are_sent():
    async with running(ClusterConfig("demo", (NodeType("small", R(CPU=1)),), max_launches_per_minute=6)) as whole:
        whole.executor.pace = Late(asyncio.get_running_loop().time() + 45)
        whole.gcs.submit(R(CPU=1), 12)
        await asyncio.sleep(100)
        assert len(whole.of("launch")) == 6
        await asyncio.sleep(60)
        assert (len(whole.gcs.running()), most_in_a_minute(whole)) == (12, 6)


async def test_d4_a_placement_group_larger_than_the_limit_comes_in_portions():
    config = ClusterConfig("demo", (NodeType("small", R(CPU=1)),), max_concurrent_launches=4, idle_timeout_s=5.0)
    async with running(config) as whole:
        whole.gcs.create_gang(Strategy.STRICT_SPREAD, [R(CPU=1)] * 10)
        await asyncio.sleep(120)
        assert whole.nodes() == {"small": 10}  # those that came first were kept for it, idle for longer than their timeout
        assert max(each.total() for each in on_their_way(whole)) == 4
        assert whole.of("terminate") == []


@pytest.mark.parametrize("seed", range(counted(gate=4, full=100)))
async def test_d4_no_limit_of_launches_is_passed_by_one_at_any_moment(seed):
    dice = random.Random(seed)

    def limits(least: int) -> dict[str, int]:
        keys = dice.choice(
            [("max_concurrent_launches",), ("max_launches_per_minute",), ("max_concurrent_launches", "max_launches_per_minute")]
        )
        return {key: dice.randint(least, 8) for key in keys}

    kinds = NodeType("small", R(CPU=1), **limits(1)), NodeType("large", R(CPU=4), hosts_per_replica=2, **limits(2))
    async with running(ClusterConfig("demo", kinds, idle_timeout_s=30.0, **limits(2))) as whole:
        for _ in range(8):
            whole.gcs.submit(R(CPU=dice.choice([0.5, 1, 2, 4])), dice.randint(1, 20))
            if dice.random() < 0.3:
                whole.executor.fail_next_launch(InsufficientCapacity("none left"))
            if dice.random() < 0.5:
                await whole.kill("service")
                whole.start_service()
            await asyncio.sleep(dice.uniform(0.1, 20.0))
        await asyncio.sleep(120)
        flying = list(on_their_way(whole))
        bound = 0
        for limited in (whole.config, *kinds):
            name = "" if limited is whole.config else limited.name
            most, rate = limited.max_concurrent_launches, limited.max_launches_per_minute
            seen = max(each[name] if name else each.total() for each in flying)
            assert most < 0 or seen <= most, (name, seen, most)
            assert rate < 0 or most_in_a_minute(whole, name) <= rate, name
            bound += seen in (most, most - 1) or most_in_a_minute(whole, name) in (rate, rate - 1)  # a replica of two needs two
        assert bound  # some limit was in the way
