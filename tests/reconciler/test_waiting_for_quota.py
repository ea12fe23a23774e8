"""Launches of which a part waits for a quota, as gated pods do (I3), and what is told of launches that no machine comes for (H4); in virtual time."""

from collections import Counter

import pytest

from rayscaler.model.instance import Phase, Trouble
from rayscaler.testing.fake_executor import HeldUp
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

GATED = HeldUp(Phase.UNSCHEDULED, Trouble.GATED, "SchedulingGated: waits for quota")


def kinds(w: World) -> dict[str, dict[str, int]]:
    """Return how many instances of each type are in which status."""
    found: dict[str, Counter[str]] = {}
    for each in w.reconciler.status().instances:
        found.setdefault(each.node_type, Counter())[each.status.value] += 1
    return {name: dict(counts) for name, counts in found.items()}


def work(w: World, count: int) -> None:
    """Let as many tasks be there, each of which fills a node: those that run, and those that wait."""
    joined = [each for each in w.reconciler.status().instances if each.status.value == "RUNNING"]
    for each in joined[:count]:
        w.ray.busy(each.instance_id)
    w.ray.demands = tasks(count - len(joined), node_type().resources) if count > len(joined) else ()


async def test_i3_of_20_12_are_granted_8_wait_for_quota_and_no_more_than_8_are_launched_elsewhere():
    async with world(config(node_type("quota", cost=1.0), node_type("other", cost=2.0))) as w:
        work(w, 12)
        await w.live(10)
        assert kinds(w) == {"quota": {"RUNNING": 12}}
        w.machines.held_up["quota"] = GATED
        work(w, 20)
        await w.live(55)
        assert kinds(w) == {"quota": {"RUNNING": 12, "ALLOCATED": 8}}  # granted, and waiting; none has failed
        assert not w.reconciler.status().backoffs
        w.machines.held_up["other"] = GATED  # so that all 20 wait on
        most, failed = 0, []
        for _ in range(80):  # longer than a machine is waited for
            await w.live(10)
            most = max(most, kinds(w).get("other", {}).get("ALLOCATED", 0))
            failed += w.report().autoscaling_state.failed
        assert most == 8
        # The 8 left their place to those of the other type, which are waited for likewise; of the first, one is tried now and then.
        assert kinds(w) == {"quota": {"RUNNING": 12, "ALLOCATED": 1}, "other": {"ALLOCATED": 8}}
        assert (w.executor.terminated, failed) == (w.launched[12:20], [])
        assert not any(kind == "LAUNCH_FAILED" for kind, _ in w.kinds)


async def test_i3_what_waits_shrinks_first_and_what_is_granted_later_is_used():
    async with world(config(node_type("quota"))) as w:
        work(w, 12)
        await w.live(10)
        w.machines.held_up["quota"] = GATED
        work(w, 20)
        await w.live(30)
        granted = {name for name, status in w.instances.items() if status == "RUNNING"}
        work(w, 16)
        await w.live(40)
        assert Counter(w.instances.values()) == {"RUNNING": 12, "ALLOCATED": 4}
        assert granted <= set(w.instances)
        del w.machines.held_up["quota"]
        await w.live(10)
        assert Counter(w.instances.values()) == {"RUNNING": 16}
        assert len(w.launched) == 20
        assert w.commands == []  # nothing was drained


async def test_h4_of_a_launch_that_no_machine_comes_for_one_thing_is_told_with_cause_next_step_and_time():
    async with world(config(node_type("only"))) as w:
        w.machines.held_up["only"] = GATED
        w.ray.demands = tasks(1)
        await w.live(59)
        assert not [name for kind, name in w.kinds if kind == "STUCK"]
        for _ in range(20):
            await w.live(10)
            assert [name for kind, name in w.kinds if kind == "STUCK"] == w.launched[:1]  # once per change, not per cycle
            assert w.reconciler.status().failures == {("only", "GATED"): 1}
        (told,) = [each for each in w.reconciler.status().actions if each.kind == "STUCK"]
        assert told.detail == f"{GATED.error}; other node types are used meanwhile, and only is tried again in 300 s"
        (shape,) = w.reconciler.explanation().shapes
        assert "SchedulingGated: waits for quota" in shape.because.detail
        assert "tried again in" in shape.because.detail
