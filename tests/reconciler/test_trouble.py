"""Launches that do not get on, in virtual time: the reason is told everywhere, others take over, late ones are used or removed."""

import asyncio

import pytest

from rayscaler.model.instance import Phase, Reason, Trouble
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing.fake_executor import HeldUp
from rayscaler.testing.loop_clock import LoopClock
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

NO_ROOM = HeldUp(Phase.UNSCHEDULED, Trouble.UNSCHEDULABLE, "Unschedulable: 0/3 nodes are available")
NO_IMAGE = HeldUp(Phase.STARTING, Trouble.RETRIED, "ray: ImagePullBackOff: not found")
NO_NAME = HeldUp(Phase.STARTING, Trouble.HOPELESS, "ray: InvalidImageName: bad")


def zones(*names: str, **fields):
    return config(*(node_type(name, cost=float(index + 1)) for index, name in enumerate(names)), **fields)


def now():
    return asyncio.get_running_loop().time()


async def launches(w, seconds: float) -> list[tuple[float, str]]:
    """Let time pass; return when each launch of that time was seen, and of which type."""
    began, seen = now(), len(w.executor.launched)
    found = []
    while now() < began + seconds:
        await w.live(0.5)
        found += [(now() - began, each.node_type.name) for each in w.executor.launched[seen:]]
        seen = len(w.executor.launched)
    return found


async def test_h1_zones_that_are_sold_out_are_passed_over_in_order_and_the_stuck_launches_go():
    async with world(zones("zone1", "zone2", "steady")) as w:
        w.machines.held_up.update({"zone1": NO_ROOM, "zone2": NO_ROOM})
        w.ray.demands = tasks(1)
        found = await launches(w, 180)
        assert [name for _, name in found] == ["zone1", "zone2", "steady"]
        assert found[1][0] <= 90
        assert found[2][0] <= 180
        assert {each.node_type for each in w.reconciler.status().backoffs} == {"zone1", "zone2"}
        w.ray.demands = ()
        w.ray.busy(w.launched[-1])
        await w.live(12)
        assert w.executor.terminated == w.launched[:2]
        assert w.instances == {w.launched[2]: "RUNNING"}


async def test_fh_5_what_holds_a_launch_up_is_told_in_status_explain_and_ray_status():
    async with world() as w:
        w.machines.held_up["small"] = NO_IMAGE
        w.ray.demands = tasks(1)
        await w.live(4)
        state = w.report().autoscaling_state
        assert [each.detail for each in state.pending] == ["starting: ray: ImagePullBackOff: not found"]
        (told,) = w.reconciler.status().instances
        assert told.detail == NO_IMAGE.error
        (node,) = w.reconciler.explanation().nodes
        assert (node.because.reason, NO_IMAGE.error in node.because.detail) == (Reason.LAUNCHING, True)
        await w.live(12)
        (node,) = w.reconciler.explanation().nodes
        assert (node.because.reason, NO_IMAGE.error in node.because.detail) == (Reason.STUCK, True)
        (shape,) = w.reconciler.explanation().shapes
        assert (shape.because.reason, NO_IMAGE.error in shape.because.detail) == (Reason.BACKED_OFF, True)
        assert [each.detail for each in w.report().autoscaling_state.failed] == [NO_IMAGE.error]
        assert ("STUCK", w.launched[0]) in w.kinds


async def test_b6_a_type_whose_every_launch_hangs_is_tried_at_most_three_times_in_ten_minutes():
    async with world(config(node_type(max_workers=4))) as w:
        w.machines.held_up["small"] = NO_NAME
        w.ray.demands = tasks(4)
        found = await launches(w, 600)
        waves = sorted({round(at) for at, _ in found})
        assert len(waves) <= 3
        assert [len([at for at, _ in found if round(at) == wave]) for wave in waves] == [4, 1]  # then by one
        assert max(len(w.instances), len(w.machines.machines)) <= 4
        assert NO_NAME.error in w.reconciler.status().backoffs[0].detail


async def test_b5_a_machine_that_takes_minutes_to_come_still_comes_and_makes_its_type_well():
    async with world() as w:
        w.machines.held_up["small"] = NO_ROOM
        w.ray.demands = tasks(2)
        await w.live(290)
        assert len(w.reconciler.status().backoffs) == 1
        del w.machines.held_up["small"]
        await w.live(5)
        assert (w.executor.terminated, sorted(w.instances.values())) == ([], ["RUNNING", "RUNNING"])
        assert w.reconciler.status().backoffs == ()
        assert len(w.launched) == 2


async def test_b6_a_launch_that_makes_way_once_its_type_may_be_tried_again_is_a_try_that_failed():
    first = NodeType("first", Resources.of(CPU=1, disk=1), priority=1)
    async with world(config(first, node_type("second"), max_workers=1)) as w:
        w.machines.held_up["first"] = NO_ROOM
        disk = tasks(1, Resources.of(disk=1))
        w.ray.demands = disk
        await w.live(400)
        (before,) = w.reconciler.status().backoffs
        assert before.until < LoopClock().now()
        w.ray.demands = disk + tasks(1)
        found = await launches(w, 60)
        assert [name for _, name in found] == ["second"]  # and not the first anew, in the place that was made for the second
        assert w.executor.terminated == w.launched[:1]
        (after,) = w.reconciler.status().backoffs
        assert (after.failures, after.detail) == (before.failures + 1, before.detail)
        assert after.until > LoopClock().now()


async def test_h1_a_late_arrival_is_used_and_its_substitute_removed():
    async with world(zones("spot", "steady")) as w:
        w.machines.held_up.update({"spot": NO_ROOM, "steady": NO_ROOM})
        w.ray.demands = tasks(1)
        await w.live(65)
        assert len(w.launched) == 2
        del w.machines.held_up["spot"]
        await w.live(5)
        w.ray.demands = ()
        w.ray.busy(w.launched[0])
        await w.live(12)
        assert w.instances == {w.launched[0]: "RUNNING"}


async def test_h1_the_memory_of_a_sold_out_type_survives_the_service():
    async with world(zones("spot", "steady")) as w:
        w.machines.held_up["spot"] = NO_ROOM
        w.ray.demands = tasks(1)
        await w.live(75)
        await w.kill()
        async with world(w.reconciler.config, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            again.ray.demands = tasks(2)
            await again.live(5)
            assert [each.node_type.name for each in again.executor.launched] == ["steady"]


async def test_a_stuck_launch_is_not_noted_while_the_executor_is_silent():
    async with world() as w:
        w.machines.held_up["small"] = NO_ROOM
        w.ray.demands = tasks(1)
        await w.live(29)
        for _ in range(4):
            w.executor.hang_next("list")
        await w.live(60)
        assert w.reconciler.status().backoffs == ()
