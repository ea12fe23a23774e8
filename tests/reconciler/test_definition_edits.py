"""What a definition says and what it said before: idle timeouts of each type, edits of them, and records of types that are gone (K2, K4)."""

import asyncio

import pytest

from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import Outcome
from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import IDLE_TIMEOUT_S, NEVER, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, Hold
from rayscaler.server import answers
from rayscaler.store.base import ClusterRecord
from rayscaler.testing.loop_clock import START_AT
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import FIRST, config, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

BEAT_S = 2.0
"""Between two reports."""


def kind(name: str, idle_timeout_s: float) -> NodeType:
    return NodeType(name, Resources.of(**{name: 1}), idle_timeout_s=idle_timeout_s)


async def with_idle_nodes(w: World, *kinds: str) -> dict[str, str]:
    """Let one node of each kind join; all are idle from then on. Return instance ids by kind."""
    w.ray.demands = tuple(each for name in kinds for each in tasks(1, Resources.of(**{name: 1})))
    await w.live(4)
    w.ray.demands = ()
    assert list(w.instances.values()) == ["RUNNING"] * len(kinds)
    return {each.node_type: each.instance_id for each in w.reconciler.status().instances}


async def test_k4_types_of_30_s_600_s_and_never_go_within_a_beat_of_their_time():
    async with world(config(kind("gpu", 30.0), kind("cpu", 600.0), kind("pet", NEVER))) as w:
        names = await with_idle_nodes(w, "gpu", "cpu", "pet")
        idle_for = {}
        accept = w.on_drain

        def noted(command):
            name = w.ray.nodes[command.ray_node_id].node_type
            idle_for[name] = asyncio.get_running_loop().time() - w.ray.idle_since[command.ray_node_id]
            return accept(command)

        w.on_drain = noted
        await w.live(1000, every_s=BEAT_S)
        assert set(idle_for) == {"gpu", "cpu"}
        assert 30.0 <= idle_for["gpu"] <= 30.0 + 2 * BEAT_S  # decided with one report, carried out with the answer to the next
        assert 600.0 <= idle_for["cpu"] <= 600.0 + 2 * BEAT_S
        assert w.instances == {names["pet"]: "RUNNING"}


@pytest.mark.parametrize(
    ("before_s", "after_s", "goes_at_s"), [(600.0, 60.0, 60.0), (NEVER, 60.0, 60.0), (600.0, 20.0, 40.0), (60.0, NEVER, None)]
)
async def test_k4_an_edited_idle_timeout_restarts_no_clock(before_s, after_s, goes_at_s):
    """The node is idle for 40 s when the definition changes: what counts is how long it is idle, not how long ago the edit was."""
    async with world(config(kind("cpu", before_s))) as w:
        await with_idle_nodes(w, "cpu")
        (since,) = w.ray.idle_since.values()
        await w.live(since + 40 - asyncio.get_running_loop().time(), every_s=0.5)
        assert w.commands == []
        w.reconciler.redefine(config(kind("cpu", after_s)), "edited")
        drained = []
        accept = w.on_drain

        def noted(command):
            drained.append(asyncio.get_running_loop().time() - since)
            return accept(command)

        w.on_drain = noted
        await w.live(100)
        if goes_at_s is None:
            assert drained == []
        else:
            (at_s,) = drained
            assert goes_at_s <= at_s <= goes_at_s + 2


async def test_k4_where_nothing_idles_out_the_hold_after_a_lost_head_ends_all_the_same():
    async with world(config(kind("pet", NEVER), idle_timeout_s=NEVER)) as w:
        names = await with_idle_nodes(w, "pet")
        await w.live(10)
        w.head_restarts()
        w.ray.join(w.executor.launched[0])
        await w.live(4)
        told = answers.cluster_status(w.reconciler.status())
        assert told.hold.until.seconds - told.hold.since.seconds == IDLE_TIMEOUT_S
        await w.live(400, every_s=BEAT_S)
        assert w.reconciler.status().hold is None
        assert w.instances == {names["pet"]: "RUNNING"}


async def test_k2_a_record_full_of_types_that_are_gone_stops_neither_scaling_nor_reporting():
    store = MemoryStore()
    drain = AskedDrain("demo-gone-1-0", Reason.IDLE, DrainCommand("d1", "0" * 8, is_preemption=False, detail="idle"))
    gone = (("gone", 3), ("lost", 1))
    backoff = Backoff("gone", 4, START_AT + 900, "no quota")
    await store.save(ClusterRecord("demo", FIRST, batch=7, hold=Hold(START_AT, gone), targets=gone, backoffs=(backoff,), drains=(drain,)))
    async with world(store=store) as w:
        accept, w.on_drain = w.on_drain, lambda _: Outcome.FAILED  # as a monitor answers for a node that Ray has not
        w.ray.demands = tasks(2)
        answer = w.report()
        await w.live(5)
        assert [each.split("-")[1] for each in w.launched] == ["small", "small"]
        assert list(w.instances.values()) == ["RUNNING"] * 2
        assert answers.cluster_status(w.reconciler.status()).cluster == "demo"
        assert answers.report_answer(answer).HasField("next_interval")
        w.on_drain = accept
        w.ray.demands = ()
        await w.live(70)
        assert w.instances == {}
        assert dict(store.saves[-1].targets) == {}


async def test_scenario_9d_a_killed_clients_thousand_cpus_wait_for_nobody():
    """The client dies while launches for its work are on their way; Ray goes on to show its demand for as long as the test runs."""
    async with world(config(NodeType("big", Resources.of(CPU=500), max_workers=10))) as w:
        w.ray.demands = tasks(2, Resources.of(CPU=500))
        w.report()
        await asyncio.sleep(0.2)
        assert len(w.launched) == 2
        w.ray.live_jobs = 0
        await w.live(60)
        assert len(w.launched) == 2
        assert w.reconciler.status().pending == ()
        await w.live(20)
        assert w.instances == {}


async def test_l2_the_same_definition_applied_every_minute_reverts_and_restarts_nothing():
    """Half an hour of a tool that puts its whole text back again and again, while 50 nodes come, work and go."""
    definition = config(NodeType("small", Resources.of(CPU=1), max_workers=60), idle_timeout_s=60.0)
    async with world(definition) as w:
        for minute in range(30):
            w.reconciler.redefine(definition, "the same")
            w.ray.demands = tasks(50, Resources.of(CPU=1)) if minute == 5 else ()
            await w.live(6)
            w.ray.demands = ()
            for name in w.instances if 5 <= minute < 15 else ():
                w.ray.busy(name)
            if minute == 15:
                for name in w.instances:
                    row = w.ray.row(name)
                    w.ray.idle_since[row.ray_node_id] = asyncio.get_running_loop().time()
                    w.ray.set(name, status=NodeStatus.IDLE, available=row.total)
            await w.live(54, every_s=BEAT_S)
            assert len(w.instances) == (50 if 5 <= minute <= 15 else 0), minute
        assert len(w.launched) == 50
        assert len(w.commands) == 50
