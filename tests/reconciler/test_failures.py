"""Launches that fail, in virtual time: a type that failed waits, others are used, what has no known outcome counts."""

import asyncio
from dataclasses import replace

import pytest

from rayscaler.errors import Denied, InsufficientCapacity, Unavailable
from rayscaler.model.instance import Phase
from rayscaler.reconciler import cluster
from rayscaler.settings import Timings
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


def now():
    return asyncio.get_running_loop().time()


# failures of launches


async def test_a_refused_launch_backs_its_type_off_and_another_type_is_used():
    types = (node_type("cheap", cost=0.1), node_type("dear", cost=9.0))
    async with world(config(*types)) as w:
        w.executor.fail_next_launch(InsufficientCapacity("no room in zone b"))
        w.ray.demands = tasks(1)
        await w.live(1)
        assert [each.node_type.name for each in w.executor.launched] == ["dear"]
        (backoff,) = w.reconciler.status().backoffs
        assert (backoff.node_type, backoff.failures) == ("cheap", 1)
        assert "no room in zone b" in backoff.detail
        assert ("LAUNCH_FAILED", "demo-cheap-1-0") in w.kinds


async def test_the_only_type_is_tried_again_after_its_back_off_one_at_a_time_until_one_joins():
    async with world() as w:
        for _ in range(3):
            w.executor.fail_next_launch(InsufficientCapacity("no room"))
        w.ray.demands = tasks(3)
        began = now()
        tries = []
        for _ in range(80):
            w.report()
            await asyncio.sleep(0.25)
            tries += [(round(now() - began, 2), len(w.instances), len(w.launched))]
        # All three of the first wave failed as one; the next try is one instance, five seconds later.
        assert [each for each in tries if each[0] < 4.9 and each[2]] == []
        assert max(launched for at, _, launched in tries if at < 8) == 1
        assert tries[-1][2] == 3
        assert w.reconciler.status().backoffs == ()


async def test_the_failure_is_told_to_ray_status_for_a_minute():
    async with world() as w:
        w.executor.fail_next_launch(Denied("no rights"))
        w.ray.demands = tasks(1)
        w.report()
        await asyncio.sleep(0.2)
        state = w.report().autoscaling_state
        assert state is not None
        assert [(each.node_type, each.detail) for each in state.failed] == [("small", "DENIED: no rights")]
        w.ray.demands = ()
        await w.live(62)
        assert w.report().autoscaling_state.failed == ()


async def test_an_unavailable_executor_is_asked_again_under_the_same_name():
    async with world() as w:
        w.executor.fail_next_launch(Unavailable("starting"))
        w.ray.demands = tasks(1)
        await w.live(2)
        assert w.launched == ["demo-small-1-0"]
        assert w.reconciler.status().backoffs == ()


async def test_a_launch_without_a_known_outcome_counts_until_it_is_surely_gone_and_its_type_waits():
    async with world(config(node_type(max_workers=1))) as w:
        for _ in range(3):
            w.executor.fail_next_launch(Unavailable("no answer"))
        w.ray.demands = tasks(1)
        await w.live(3)
        assert w.instances == {"demo-small-1-0": "TERMINATING"}
        assert w.reconciler.status().backoffs[0].failures == 1
        await w.live(40)  # a complete list has shown that it is not there
        assert "demo-small-1-0" not in w.instances
        assert len(w.launched) == 1


async def test_a_worker_that_dies_before_it_joins_is_a_failure_of_its_type():
    async with world() as w:
        w.ray.demands = tasks(1)
        await w.live(1)
        w.executor.lose(w.launched[0], "exit code 1")
        await asyncio.sleep(0.06)
        (backoff,) = w.reconciler.status().backoffs
        assert (backoff.failures, backoff.detail) == (1, "exit code 1")
        await w.live(10)
        assert len(w.launched) == 2


async def test_a_worker_that_never_joins_is_ended_after_its_phases_budget_and_the_next_one_waits():
    async with world(timings=replace(Timings(), registering_s=20)) as w:
        w.machines.on_ready = lambda spec: None
        w.ray.demands = tasks(1)
        await w.live(22)
        assert list(w.instances.values()) == ["ALLOCATED"]
        await w.live(4)
        assert w.executor.terminated == ["demo-small-1-0"]
        assert w.reconciler.status().backoffs[0].failures == 1
        assert "did not join in time: registering for 20 s" in w.reconciler.status().backoffs[0].detail


async def test_b5_slow_phases_one_after_another_are_no_reason_to_end_a_worker():
    timings = replace(Timings(), unscheduled_s=100, starting_s=100, registering_s=100)
    async with world(timings=timings) as w:
        w.machines.delays_s.update({Phase.UNSCHEDULED: 95.0, Phase.STARTING: 95.0, Phase.REGISTERING: 95.0})
        w.ray.demands = tasks(1)
        await w.live(290)
        assert w.executor.terminated == []
        assert w.instances == {"demo-small-1-0": "RUNNING"}


async def test_launches_that_nothing_needs_any_more_are_ended_after_the_grace():
    async with world() as w:
        w.machines.delays_s[Phase.STARTING] = 100.0
        w.ray.demands = tasks(2)
        await w.live(2)
        w.ray.demands = ()
        await w.live(9)
        assert w.executor.terminated == []
        await w.live(3)
        assert sorted(w.executor.terminated) == w.launched


async def test_fh_10_a_bug_in_planning_for_one_cluster_ends_nothing_and_is_tried_again(monkeypatch):
    real, calls = cluster.plan, 0

    def buggy(state):
        nonlocal calls
        calls += 1
        if state.demands and calls < 8:
            raise ZeroDivisionError("a bug")
        return real(state)

    async with world() as w:
        monkeypatch.setattr(cluster, "plan", buggy)
        w.ray.demands = tasks(1)
        await w.live(60)
        assert not w.task.done()
        assert list(w.instances.values()) == ["RUNNING"]
