"""Ends that others announce, in virtual time: drain with the deadline, a replacement before it, and our own hand at the end."""

import asyncio

import pytest

from rayscaler.model.demand import Outcome
from rayscaler.model.instance import Reason
from rayscaler.model.node import DeathReason, NodeStatus
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


async def one_busy(w) -> str:
    w.ray.demands = tasks(1)
    await w.live(5)
    w.ray.demands = ()
    (name,) = w.launched
    w.ray.busy(name)
    await w.live(4)
    w.on_drain = lambda command: drains(w, command)
    return name


def drains(w, command) -> Outcome:
    """Ray takes the drain; the node works on."""
    w.ray.set(w.ray.nodes[command.ray_node_id].instance_id, status=NodeStatus.DRAINING, is_draining=True)
    return Outcome.DONE


async def test_lf_9_a_notice_is_a_drain_with_its_deadline_and_a_replacement_that_is_there_before():
    async with world() as w:
        name = await one_busy(w)
        w.machines.announce(name, w.machines.clock.now() + 120)
        began = w.machines.clock.now()
        await w.live(1)
        (command,) = w.commands
        assert command.is_preemption
        assert command.deadline_at == pytest.approx(began + 120, abs=1e-6)
        assert len(w.launched) == 2
        await w.live(5)
        assert w.instances == {name: "DRAINING", w.launched[1]: "RUNNING"}
        (told,) = [each for each in w.reconciler.status().instances if each.instance_id == name]
        assert (told.reason, "spot notice" in told.detail) == (Reason.PREEMPTED, True)
        await w.live(100)
        assert (w.executor.terminated, len(w.launched)) == ([], 2)  # the replacement waits, and is not taken for idle
        w.ray.die(name, DeathReason.DRAINED_PREEMPTED)
        w.ray.busy(w.launched[1])
        await w.live(10)
        assert w.instances == {w.launched[1]: "RUNNING"}


async def test_lf_9_a_node_that_is_busy_when_its_time_is_up_is_ended_by_us():
    async with world() as w:
        name = await one_busy(w)
        w.machines.announce(name, w.machines.clock.now() + 120)
        await w.live(119)
        assert w.executor.terminated == []
        await w.live(3)
        assert w.executor.terminated == [name]
        assert ("TERMINATING", name) in w.kinds


async def test_a_time_that_is_past_already_leaves_the_usual_time_of_a_drain():
    async with world() as w:
        name = await one_busy(w)
        w.machines.announce(name, w.machines.clock.now() - 1_000_000)
        await w.live(55)
        assert w.executor.terminated == []
        await w.live(10)
        assert w.executor.terminated == [name]


async def test_a_notice_that_ends_sooner_than_told_is_a_lost_node_and_its_replacement_is_there():
    async with world(config(node_type(min_workers=1))) as w:
        await w.live(5)
        (name,) = w.launched
        w.machines.announce(name, w.machines.clock.now() + 30)
        await w.live(5)
        w.executor.lose(name)
        await w.live(3)
        assert w.instances == {w.launched[1]: "RUNNING"}
        assert w.reconciler.status().backoffs == ()


async def test_a_launch_with_a_notice_is_replaced_and_is_no_failure_of_its_type():
    async with world() as w:
        w.machines.on_ready = lambda spec: None
        w.ray.demands = tasks(1)
        await w.live(2)
        w.machines.announce(w.launched[0], w.machines.clock.now() + 30)
        await w.live(2)
        assert w.executor.terminated == w.launched[:1]
        assert len(w.launched) == 2
        assert w.reconciler.status().backoffs == ()


async def test_a_notice_that_nobody_can_act_on_is_acted_on_once_there_is_sight_again():
    async with world() as w:
        name = await one_busy(w)
        await asyncio.sleep(15)
        w.machines.announce(name, w.machines.clock.now() + 120)
        await asyncio.sleep(5)
        assert w.commands == []
        (node,) = w.reconciler.explanation().nodes
        assert node.because.reason is Reason.REPORT_TOO_OLD
        await w.live(5)
        assert [each.is_preemption for each in w.commands] == [True]
