"""Cycles that take long leave the event loop to others, those that decide nothing most of it."""

import asyncio
from collections import Counter

import pytest

from rayscaler.model.instance import Phase
from rayscaler.reconciler import cluster, pacing
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import DELAYS_S, FakeMachines
from rayscaler.testing.loop_clock import LoopClock
from tests.reconciler.builders import tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit")]

TIMINGS = Timings()
PLAN_S = 0.2


@pytest.mark.parametrize(("took_s", "apart_s"), [(0.0, 0.05), (0.05, 0.05), (0.1, 0.4), (0.3, 1.2), (5.0, 2.0)])
def test_long_cycles_begin_four_times_their_length_apart_up_to_a_limit(took_s, apart_s):
    assert pacing.apart_s(took_s, TIMINGS) == pytest.approx(apart_s)


@pytest.mark.parametrize(("took_s", "step_s"), [(0.0, 0.0), (0.002, 0.04), (0.2, 4.0), (2.0, 10.0)])
def test_steps_are_told_the_later_the_longer_a_cycle_takes(took_s, step_s):
    assert pacing.Turns().next(100.0, took_s, TIMINGS) == pytest.approx(100.0 + step_s)


def test_a_hundred_clusters_go_round_so_that_all_of_them_take_a_twentieth_of_the_time():
    turns = pacing.Turns()
    begins = [turns.next(100.0, 0.01, TIMINGS) for _ in range(100)]
    assert begins == pytest.approx([100.2 + 0.2 * index for index in range(100)])
    assert turns.next(500.0, 0.01, TIMINGS) == pytest.approx(500.2)


class Slow(LoopClock):
    """A clock on which planning takes time, which in virtual time it does not."""

    planned = 0

    def mono(self) -> float:
        return super().mono() + self.planned * PLAN_S


@pytest.fixture
def clock(monkeypatch):
    slow, plan = Slow(), cluster.plan

    def slowly(state):
        slow.planned += 1
        return plan(state)

    monkeypatch.setattr(cluster, "plan", slowly)
    return slow


class OneAfterAnother(dict):
    """How long machines start: each a tenth of a second longer than the one before, so that they get on one after another, as pods do."""

    def __init__(self) -> None:
        super().__init__(DELAYS_S)
        self.starting = 0

    def __getitem__(self, phase: Phase) -> float:
        if phase is not Phase.STARTING:
            return super().__getitem__(phase)
        self.starting += 1
        return self.starting * 0.1


@pytest.mark.looptime
async def test_steps_of_launches_make_few_cycles_and_a_loss_makes_one_at_once(clock):
    machines = FakeMachines(clock, delays_s=OneAfterAnother())
    async with world(clock=clock, machines=machines) as w:
        w.ray.demands = tasks(60)
        w.report()
        await asyncio.sleep(0.1)
        assert len(w.launched) == 60
        before = w.reconciler.status().cycle
        await asyncio.sleep(2)
        phases = Counter(each.phase for each in w.reconciler.status().instances)
        assert phases[Phase.REGISTERING] >= 18  # known, each when it came
        assert w.reconciler.status().cycle == before
        await asyncio.sleep(pacing.STEP_SHARE * PLAN_S - 1.9)
        assert w.reconciler.status().cycle == before + 1
        machines.lose(w.launched[-1])
        await asyncio.sleep(pacing.CYCLE_SHARE * PLAN_S)
        assert w.reconciler.status().cycle == before + 2
    await machines.close()
