"""Work that comes and goes on half-empty nodes ends up on fewer, in virtual time; and what was in use at most."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import NEVER
from rayscaler.model.resources import Resources
from rayscaler.reconciler import peaks
from tests.reconciler.builders import config, node_type, row, tasks
from tests.reconciler.world import World, world

unit = pytest.mark.tier("unit")
R = Resources.of
BIG = node_type(cpus=4)


def work(w: World, name: str, cpus: int) -> None:
    """Have so many of a node's 4 CPUs in use from now on."""
    is_idle = cpus == 0
    if is_idle:
        w.ray.idle_since[w.ray.row(name).ray_node_id] = asyncio.get_running_loop().time()
    w.ray.set(name, status=NodeStatus.IDLE if is_idle else NodeStatus.RUNNING, available=R(CPU=4 - cpus))


async def come_and_go(w: World, cpus: int, seconds: float) -> None:
    """One after the other has some work for 20 s, so that none is idle for its timeout of 60 s."""
    for turn in range(int(seconds / 20)):
        living = [name for name in w.launched if name in w.instances]
        for position, name in enumerate(living):
            work(w, name, cpus if position == turn % len(living) else 0)
        await w.live(20)


@contextlib.asynccontextmanager
async def three_nodes(**fields) -> AsyncIterator[World]:
    """A world whose work has just left three nodes."""
    async with world(config(BIG, **fields)) as w:
        w.ray.demands = tasks(12)
        await w.live(6)
        w.ray.demands = ()
        await w.live(6)
        assert len(w.launched) == 3
        yield w


@unit
@pytest.mark.looptime
async def test_little_work_that_comes_and_goes_on_three_nodes_ends_up_on_one():
    async with three_nodes(consolidation=True) as w:
        await come_and_go(w, 1, 40)
        assert len(w.instances) == 3  # not before the idle timeout
        await come_and_go(w, 1, 160)
        assert (len(w.instances), len(w.launched)) == (1, 3)
        ended = {action.reason for action in w.reconciler.status().actions if action.kind == "DRAINING"}
        assert ended == {Reason.CONSOLIDATED}


@unit
@pytest.mark.looptime
async def test_work_that_fills_more_than_half_of_each_stays_where_it_is():
    async with three_nodes(consolidation=True) as w:
        await come_and_go(w, 3, 300)
        assert len(w.instances) == 3


@unit
@pytest.mark.looptime
async def test_nobody_who_does_not_ask_for_it_is_consolidated():
    async with three_nodes() as w:
        await come_and_go(w, 1, 300)
        assert len(w.instances) == 3


@unit
@pytest.mark.looptime
async def test_after_one_round_the_next_waits_for_what_the_work_of_those_that_went_is_to_the_others():
    async with three_nodes(consolidation=True) as w:
        await come_and_go(w, 2, 80)
        assert len(w.instances) == 2  # the third's work has its place on the second
        await come_and_go(w, 4, 300)  # as it does now
        assert len(w.instances) == 2


LITTLE = config(node_type(cpus=4), consolidation=True)


def after(*used: int, every: float = 10.0) -> peaks.Known:
    """Return what is known after a node of 4 CPUs was seen with so many in use, one after the other."""
    known: peaks.Known = {}
    for at, each in enumerate(used):
        known = peaks.follow(known, LITTLE, [row(used=each, cpus=4)], at * every)
    return known


@unit
@pytest.mark.parametrize(
    ("used", "told"),
    [
        ([1] * 6, ()),
        ([1] * 7, (("n1", R(CPU=1)),)),
        ([3, *[1] * 6], (("n1", R(CPU=3)),)),
        ([3, *[1] * 11], (("n1", R(CPU=3)),)),
        ([3, *[1] * 12], (("n1", R(CPU=1)),)),
        ([*[1] * 12, 3], (("n1", R(CPU=3)),)),
        ([0] * 7, (("n1", R()),)),
    ],
    ids=["too short", "an idle timeout", "the most of it", "still", "not after two", "what is now", "nothing at all"],
)
def test_the_most_in_use_is_that_of_one_to_two_idle_timeouts(used, told):
    assert peaks.whole(after(*used)) == told


@unit
def test_nothing_is_noted_of_the_head_of_nodes_that_go_of_others_and_of_those_that_never_time_out():
    rows = [row("h", is_head=True), row("x", node_type="own"), row("d", is_draining=True)]
    assert peaks.follow({}, LITTLE, rows, 0.0) == {}
    assert peaks.follow({}, config(node_type(idle_timeout_s=NEVER), consolidation=True), [row()], 0.0) == {}
    assert peaks.follow(after(1), config(), [row()], 0.0) == {}
    assert set(peaks.follow(after(1), LITTLE, [row("n2")], 0.0)) == {"n2"}
