"""Node types in trouble, told outward once per change: over many cycles, over restarts, and whatever the receiver does (complaint H4); in virtual time."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial

import pytest

from rayscaler.errors import InsufficientCapacity, Unavailable
from rayscaler.model.instance import Phase, Trouble
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import HeldUp
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.webhook.delivery import Webhook
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

NO_ROOM = HeldUp(Phase.UNSCHEDULED, Trouble.UNSCHEDULABLE, "Unschedulable: 0/3 nodes are available")
NO_IMAGE = HeldUp(Phase.STARTING, Trouble.RETRIED, "ray: ImagePullBackOff: not found")


class Outside:
    """The receiver, and what carries to it: as `rayscaler serve` has it, but that it looks twice a second."""

    def __init__(self) -> None:
        self.came: list[dict] = []
        self.is_there = True
        self.hangs_s = 0.0

    async def post(self, w: World, body: bytes) -> None:
        await asyncio.sleep(1e6 if w.is_killed else self.hangs_s)
        if not self.is_there:
            raise Unavailable("away")
        self.came.append(json.loads(body))

    @property
    def told(self) -> list[tuple[str, str]]:
        return [(each["state"], each["cause"]) for each in self.came]

    @contextlib.asynccontextmanager
    async def life(self, *nodes, is_told: bool = True, **parts) -> AsyncIterator[World]:
        """One life of the service."""
        async with world(config(*(nodes or (node_type(),))), has_webhook=is_told, **parts) as w:
            webhook = Webhook(partial(self.post, w), namespace="", clock=LoopClock(), timings=Timings())
            tasks = [asyncio.create_task(each) for each in (webhook.run(), self._note(w, webhook))]
            try:
                yield w
                assert not [each for each in tasks if each.done()]
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _note(self, w: World, webhook: Webhook) -> None:
        while True:
            await asyncio.sleep(0.5)
            for each in () if w.is_killed else w.reconciler.announcements():
                webhook.tell(each, partial(w.reconciler.take_told, each))


def parts(w: World) -> dict:
    """What outlives a life of the service."""
    return {"machines": w.machines, "store": w.store, "ray": w.ray}


async def test_h4_what_is_told_begins_changes_and_ends_once_each_over_hundreds_of_cycles():
    outside = Outside()
    async with outside.life() as w:
        w.machines.held_up["small"] = NO_ROOM
        w.ray.demands = tasks(1)
        await w.live(59)
        assert outside.came == []
        await w.live(60)
        assert outside.told == [("begun", "UNSCHEDULABLE")]
        w.machines.held_up["small"] = NO_IMAGE
        await w.live(60)
        assert outside.told[1:] == [("changed", "RETRIED")]
        del w.machines.held_up["small"]
        await w.live(120)
    assert outside.told[2:] == [("ended", "RETRIED")]
    begun, changed, ended = outside.came
    assert begun["since"] == changed["since"] == ended["since"]
    assert len({each["id"] for each in outside.came}) == 3
    assert begun["detail"] == NO_ROOM.error
    assert begun["nextStep"].startswith("other node types are used meanwhile, and small is tried again in ")
    assert (begun["launches"], changed["launches"]) == (1, 2)


async def test_h4_one_trouble_is_told_of_all_launches_of_a_burst_and_of_all_tries_after_them():
    outside = Outside()
    async with outside.life() as w:
        w.machines.held_up["small"] = NO_ROOM
        w.ray.demands = tasks(10)
        await w.live(1800, every_s=6)  # launches are given up after 600 s, and one is tried now and then
        assert outside.told == [("begun", "UNSCHEDULABLE")]
        assert outside.came[0]["launches"] == 10
        assert len(w.launched) > 10
        w.ray.demands = ()
        await w.live(1500, every_s=6)
    assert outside.told[1:] == [("ended", "UNSCHEDULABLE")], "nothing wants one any more"


async def test_h4_a_refused_launch_is_told_and_its_end_once_another_gets_through():
    outside = Outside()
    async with outside.life() as w:
        w.executor.fail_next("launch", InsufficientCapacity("no quota"))
        w.ray.demands = tasks(1)
        await w.live(60)
    assert outside.told == [("begun", "NO_CAPACITY"), ("ended", "NO_CAPACITY")]


async def test_h4_nothing_ends_while_nobody_can_see_whether_it_has():
    outside = Outside()
    async with outside.life() as w:
        for _ in range(2):
            w.executor.fail_next("launch", InsufficientCapacity("no quota"))
        w.ray.demands = tasks(1)
        await w.live(8)
        assert outside.told == [("begun", "NO_CAPACITY")]
        await asyncio.sleep(600)  # no report comes, so that nothing is tried
        assert len(outside.came) == 1
        await w.live(1)
        assert len(outside.came) == 1
        await w.live(30)
    assert outside.told[1:] == [("ended", "NO_CAPACITY")]


async def has_trouble(w: World) -> None:
    """Have a launch for which there is no room, for long enough."""
    w.machines.held_up["small"] = NO_ROOM
    w.ray.demands = tasks(1)
    await w.live(90)


async def test_h4_the_next_life_tells_nothing_again_and_goes_on_with_the_same_trouble():
    outside = Outside()
    async with outside.life() as first:
        await has_trouble(first)
        await first.kill()
        assert outside.told == [("begun", "UNSCHEDULABLE")]
        async with outside.life(**parts(first)) as second:
            await second.live(90, every_s=1)
            await second.kill()
            assert len(outside.came) == 1
            async with outside.life(**parts(first)) as third:
                third.machines.held_up["small"] = NO_IMAGE
                await third.live(60)
                assert outside.told[1:] == [("changed", "RETRIED")]
                del third.machines.held_up["small"]
                third.ray.demands = ()
                await third.live(900, every_s=6)
    assert outside.told[2:] == [("ended", "RETRIED")]
    assert len({each["since"] for each in outside.came}) == 1


async def test_h4_killed_between_the_post_and_the_note_of_it_it_tells_it_again_by_the_same_id():
    outside = Outside()
    async with outside.life() as first:
        first.machines.held_up["small"] = NO_ROOM
        first.ray.demands = tasks(1)
        while not outside.came:
            await first.live(0.1, every_s=0.1)
        await first.kill()
        (kept,) = (await first.store.load("demo")).troubles
        assert kept.told == ""
        async with outside.life(**parts(first)) as second:
            await second.live(60)
    assert [each["state"] for each in outside.came] == ["begun", "begun"]
    assert outside.came[0]["id"] == outside.came[1]["id"]


async def test_h4_what_a_dead_receiver_missed_is_told_by_the_next_life_each_change_in_its_turn():
    outside = Outside()
    outside.is_there = False
    async with outside.life() as first:
        await has_trouble(first)
        await first.kill()
        outside.is_there = True
        del first.machines.held_up["small"]
        first.ray.demands = ()
        async with outside.life(**parts(first)) as second:
            await second.live(500, every_s=6)
    assert outside.told == [("begun", "UNSCHEDULABLE"), ("ended", "UNSCHEDULABLE")]


@pytest.mark.parametrize("receiver", ["refuses", "hangs"])
async def test_h4_whatever_the_receiver_does_the_same_is_done_at_the_same_time_and_it_is_said_in_the_end(receiver):
    done = []
    for is_told in (False, True):
        outside = Outside()
        outside.is_there, outside.hangs_s = receiver != "refuses", 1000.0 if receiver == "hangs" else 0.0
        began_at = LoopClock().now()
        async with outside.life(node_type("a", cost=1.0), node_type("b", cost=2.0), is_told=is_told) as w:
            w.machines.held_up["a"] = NO_ROOM
            w.ray.demands = tasks(3)
            await w.live(90, every_s=1)
            await w.live(600, every_s=6)
            status = w.reconciler.status()
            done.append(sorted((round(each.at - began_at), each.kind, each.instance_id, each.detail) for each in status.actions))
            said = [each for each in status.notices if each.startswith("the webhook could not be told: a of demo, begun: 12 tries")]
            assert bool(said) is is_told
        assert outside.came == []
    assert done[0] == done[1]
    assert len(done[0]) > 3


async def test_what_is_known_of_troubles_is_kept_only_where_somebody_is_told():
    outside = Outside()
    async with outside.life() as first:
        await has_trouble(first)
        await first.kill()
        assert (await first.store.load("demo")).troubles
        async with outside.life(is_told=False, **parts(first)) as second:
            await second.live(30)
            assert second.reconciler.announcements() == ()
            assert not (await second.store.load("demo")).troubles


async def test_of_a_cluster_that_is_no_more_the_end_is_told():
    outside = Outside()
    async with outside.life() as w:
        assert w.reconciler.farewell() == ()
        await has_trouble(w)
        (end,) = w.reconciler.farewell()
    assert (end.state.value, end.trouble.node_type, end.trouble.ended_at is None) == ("ended", "small", False)
