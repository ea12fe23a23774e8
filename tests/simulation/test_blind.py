"""Ten blind minutes (complaint C1, scenario 3), in full and in virtual time: nothing ends, nothing is launched, and idleness that nobody saw does not count."""

import asyncio

import pytest

from rayscaler.errors import Unavailable
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.simulation.test_whole import check_ends
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(60)]

CPU, OTHER = Resources.of(CPU=1), Resources.of(other=1)
WORKERS, BLIND_S, IDLE_S = 50, 600.0, 60.0
BACK_S = 30.0
"""For all to be as it should after sight is back (scenario 3); `relist_s` is as long."""


def definition() -> ClusterConfig:
    types = (NodeType("small", CPU, max_workers=60), NodeType("other", OTHER, max_workers=5))
    return ClusterConfig("demo", types, idle_timeout_s=IDLE_S)


def cut_api(whole: Whole) -> None:
    """The API does not answer."""

    async def away(*_: object) -> None:
        raise Unavailable("connection refused")

    whole.executor.list = whole.executor.launch = whole.executor.terminate = away  # type: ignore[method-assign]


@pytest.mark.parametrize("what", ["api", "monitor", "both", "both, and the service started anew"])
async def test_c1_ten_blind_minutes_end_nothing_and_idleness_counts_from_when_it_is_seen(what):
    async with running(definition()) as whole:
        clock = asyncio.get_running_loop().time
        tasks = whole.gcs.submit(CPU, WORKERS)
        await asyncio.sleep(30)
        assert len(whole.gcs.running()) == WORKERS
        before = list(whole.events)
        calls = whole.executor.list, whole.executor.launch, whole.executor.terminate
        if what != "monitor":
            cut_api(whole)
        whole.transport.is_down = what != "api"
        await asyncio.sleep(20)
        whole.gcs.finish(*tasks[:20])  # nobody sees it where the monitor is cut off
        if "anew" in what:
            await asyncio.sleep(BLIND_S / 2)
            await whole.kill("service")
            whole.start_service()
            await asyncio.sleep(BLIND_S / 2 - 20)
        else:
            await asyncio.sleep(BLIND_S - 20)
        whole.gcs.submit(OTHER, 5)
        await asyncio.sleep(5)
        assert whole.events == before
        whole.executor.list, whole.executor.launch, whole.executor.terminate = calls  # type: ignore[method-assign]
        whole.transport.is_down, back_at = False, clock()
        await asyncio.sleep(BACK_S + 5)
        assert len(whole.of("launch")) == WORKERS + 5
        assert sum(each.bundle.resources == OTHER for each in whole.gcs.running()) == 5
        await asyncio.sleep(2 * IDLE_S)
        assert whole.nodes() == {"small": WORKERS - 20, "other": 5}
        if what != "api":  # there the reports went on, and it was seen
            assert min(whole.when("drained")) - back_at >= IDLE_S
        assert len(whole.gcs.running()) == WORKERS - 20 + 5
        check_ends(whole)


@pytest.mark.parametrize("away_s", [1.0, 8.0])
async def test_a_moment_without_a_reading_is_no_blindness_and_starts_no_clock_anew(away_s):
    """The GCS is out of reach for a moment, again and again: nodes still go after their timeout."""
    async with running(definition()) as whole:
        tasks = whole.gcs.submit(CPU, 5)
        await asyncio.sleep(20)
        whole.gcs.finish(*tasks)
        idle_from = asyncio.get_running_loop().time()
        for _ in range(4):
            await asyncio.sleep(13.0)
            whole.gcs.is_down = True
            await asyncio.sleep(away_s)
            whole.gcs.is_down = False
        await asyncio.sleep(10.0)
        assert len(whole.of("drained")) == 5
        assert IDLE_S <= min(whole.when("drained")) - idle_from <= IDLE_S + 25
