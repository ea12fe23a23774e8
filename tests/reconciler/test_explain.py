"""L1, OB-13, E4: a cluster is driven through its states, and each shape, node and type has the one reason that is true then."""

import asyncio
import time

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, LabelCondition, LabelSelector, Operator, Outcome, Snapshot, Strategy
from rayscaler.model.explanation import DemandKind
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import UpdatePolicy
from rayscaler.model.plan import Plan
from rayscaler.model.resources import Resources
from rayscaler.planner.plan import plan
from rayscaler.reconciler.explain.whole import explain
from rayscaler.reconciler.state import build_state
from rayscaler.server.explanations import cluster_explanation
from rayscaler.settings import Timings
from rayscaler.testing.loop_clock import LoopClock
from tests.reconciler.builders import NOW, config, instance, memory, node_type, row, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CPU = Resources.of(CPU=1)
TIMEOUT_S = 60.0


def now():
    """Return the wall second of the virtual clock."""
    return LoopClock().now()


def near(at, abs_s=0.01):
    return pytest.approx(at, rel=0, abs=abs_s)


def told(w):
    """Reason by instance, shape or type."""
    found = w.reconciler.explanation()
    shapes = {(each.gang_id or each.shape): each.because for each in found.shapes}
    nodes = {(each.instance_id or each.ray_node_id): each.because for each in found.nodes}
    return {**shapes, **nodes, **{each.name: each.because for each in found.node_types}}


def reasons(w):
    return {name: each.reason for name, each in told(w).items()}


async def fill(w, count=1):
    """Bring `count` nodes up, busy."""
    w.ray.demands = tasks(count)
    await w.live(4)
    for name in w.launched:
        w.ray.busy(name)
    w.ray.demands = ()
    await w.live(4)


async def test_from_a_task_to_a_busy_node_to_an_idle_one_to_none():
    async with world() as w:
        w.ray.demands = tasks(1)
        w.report()
        await asyncio.sleep(0.1)
        asked_at = now()
        (shape,) = w.reconciler.explanation().shapes
        assert (shape.kind, shape.count, shape.because.reason) == (DemandKind.TASKS, 1, Reason.LAUNCHING)
        (way,) = shape.on_the_way
        assert (way.node_type, way.nodes, way.count) == ("small", 1, 1)
        launching = told(w)["demo-small-1-0"]
        assert (launching.reason, launching.since) == (Reason.LAUNCHING, near(asked_at, 0.1))
        assert launching.until == way.until == shape.because.until == near(asked_at + Timings().starting_s, 0.2)
        assert "{CPU: 1} x 1" in launching.detail
        await w.live(4)
        assert reasons(w) == {"{CPU: 1}": Reason.PLACED, "demo-small-1-0": Reason.DEMAND, "small": Reason.READY}
        w.ray.busy("demo-small-1-0")
        w.ray.demands = ()
        await w.live(1)
        busy = told(w)["demo-small-1-0"]
        assert (busy.reason, busy.detail, busy.until) == (Reason.BUSY, "uses CPU 1 of 1", None)
        await w.live(20)
        assert told(w)["demo-small-1-0"] == busy  # its since too
        w.ray.set("demo-small-1-0", status=NodeStatus.IDLE, available=CPU)
        w.ray.idle_since["0001"] = asyncio.get_running_loop().time()
        idle_at = now()
        await w.live(2)
        idle = told(w)["demo-small-1-0"]
        assert (idle.reason, idle.since, idle.until) == (Reason.WAITING_IDLE, near(idle_at), near(idle_at + TIMEOUT_S))
        w.on_drain = lambda command: None
        await w.live(idle.until - now() - 0.6)
        assert not w.commands
        await w.live(1.2)
        draining = told(w)["demo-small-1-0"]
        assert (draining.reason, draining.until) == (Reason.IDLE, near(draining.since + Timings().draining_s))
        assert draining.since == near(idle.until, 0.6)


async def test_before_anything_is_seen_the_type_waits_for_a_report_and_a_silent_monitor_holds_all():
    async with world() as w:
        assert reasons(w) == {"small": Reason.NO_REPORT}
        await fill(w)
        silent_at = now()
        await asyncio.sleep(30)
        assert set(reasons(w).values()) == {Reason.REPORT_TOO_OLD}
        assert told(w)["demo-small-1-0"].since == near(silent_at + Timings().blind_after_s, 1)


async def test_an_impossible_shape_says_so_since_it_was_asked_for_and_no_longer_than_it_waits():
    async with world() as w:
        w.report()
        await asyncio.sleep(1)
        w.ray.demands = (Demand(Bundle(Resources.of(CPU=64)), 2),)
        await w.live(1)
        first = told(w)["{CPU: 64}"]
        assert (first.reason, first.since) == (Reason.NO_TYPE_FITS, near(now() - 1, 0.1))
        w.ray.demands = (Demand(Bundle(Resources.of(CPU=64)), 7),)
        await w.live(30)
        assert told(w)["{CPU: 64}"].since == first.since
        w.ray.demands = ()
        await w.live(1)
        assert "{CPU: 64}" not in told(w)
        w.ray.demands = (Demand(Bundle(Resources.of(CPU=64)), 2),)
        await w.live(1)
        assert told(w)["{CPU: 64}"].since > first.since


async def test_a_type_that_failed_says_until_when_and_so_does_the_shape_that_waits_for_it():
    async with world() as w:
        w.executor.fail_next_launch(InsufficientCapacity("no machines"))
        w.ray.demands = tasks(1)
        await w.live(1)
        shape, kind = told(w)["{CPU: 1}"], told(w)["small"]
        assert shape.reason is kind.reason is Reason.BACKED_OFF
        assert shape.until == kind.until == near(now() + 4, 1.1)
        (row,) = w.reconciler.explanation().node_types
        assert (row.failures, "no machines" in row.last_error, row.in_flight) == (1, True, 0)
        await asyncio.sleep(shape.until - now() - 0.05)
        assert len(w.launched) == 0
        await asyncio.sleep(0.15)
        assert len(w.launched) == 1
        assert reasons(w)["{CPU: 1}"] is Reason.LAUNCHING
        assert (told(w)["small"].reason, told(w)["small"].until) == (Reason.BACKED_OFF, None)  # being tried


async def test_a_shape_that_is_partly_launched_for_says_what_holds_up_the_rest():
    async with world(config(node_type(max_workers=2))) as w:
        w.ray.demands = tasks(5)
        await w.live(0.5)
        (shape,) = w.reconciler.explanation().shapes
        assert shape.because.reason is Reason.MAX_WORKERS_OF_TYPE
        assert shape.because.detail == "{CPU: 1} x 3 waits: small has 2 of at most 2 workers; on their way: 2 on 2 small"
        assert [(each.nodes, each.count) for each in shape.on_the_way] == [(2, 2)]
        assert told(w)["small"].reason is Reason.MAX_WORKERS_OF_TYPE


async def test_the_upscaling_speed_holds_up_shape_and_type():
    async with world(config(upscaling_speed=1.0)) as w:
        w.ray.demands = tasks(8)
        await w.live(0.5)
        assert {reasons(w)[name] for name in ("{CPU: 1}", "small")} == {Reason.UPSCALING_SPEED}


async def test_e4_minimum_floor_and_hold_each_say_that_they_keep_a_node():
    async with world(config(node_type(min_workers=1))) as w:
        w.ray.constraint = Constraint(tasks(2))
        await w.live(6)
        assert [reasons(w)[name] for name in sorted(w.launched)] == [Reason.CONSTRAINT, Reason.CONSTRAINT]
        assert not w.reconciler.explanation().shapes  # its room is there
        w.ray.constraint = Constraint()
        await w.live(2)
        assert sorted(reasons(w)[name] for name in w.launched) == [Reason.MIN_WORKERS, Reason.WAITING_IDLE]
        w.head_restarts()
        await w.live(1)
        rejoining = told(w)["demo-small-1-0"]
        assert (rejoining.reason, rejoining.until) == (Reason.HEAD_LOST, near(now() + Timings().rejoining_s, 2))
        back_at = now() - 1
        for spec in w.executor.launched:
            w.ray.join(spec)
        await w.live(4)
        kept = {reasons(w)[name]: told(w)[name] for name in w.launched}
        assert sorted(kept) == [Reason.HELD, Reason.MIN_WORKERS]
        assert kept[Reason.HELD].until == near(back_at + TIMEOUT_S, 0.1)
        await w.live(kept[Reason.HELD].until - now() - 0.6)
        assert not w.commands
        await w.live(3)
        assert len(w.commands) == 1


async def test_a_refused_drain_says_when_it_is_asked_again():
    async with world() as w:
        await fill(w)
        w.ray.set("demo-small-1-0", status=NodeStatus.IDLE, available=CPU)
        w.ray.idle_since["0001"] = asyncio.get_running_loop().time()
        w.on_drain = lambda command: Outcome.REJECTED
        await w.live(TIMEOUT_S + 2)
        refused = told(w)["demo-small-1-0"]
        assert refused.reason is Reason.DRAIN_REFUSED
        assert len(w.commands) == 1
        await w.live(refused.until - now() - 0.6)
        assert len(w.commands) == 1
        await w.live(2)
        assert len(w.commands) == 2


async def test_gangs_labels_dead_jobs_and_the_inside_of_groups_each_have_their_reason():
    asia = LabelSelector((LabelCondition("zone", Operator.IN, ("asia",)),))
    async with world(config(node_type(cpus=4))) as w:
        w.ray.demands = (
            Demand(Bundle(CPU, (asia,)), 1),
            Demand(Bundle(Resources({"bundle_group_ab": 10, "CPU_group_ab": 10_000})), 1),
            Demand(Bundle(Resources.of(**{"node:10.0.0.9": 1})), 1),
        )
        w.ray.gangs = (
            Gang("aa", Strategy.STRICT_PACK, (Demand(Bundle(CPU), 4),)),
            Gang("bb", Strategy.PACK, (Demand(Bundle(CPU), 1),), is_orphaned=True),
            Gang("cc", Strategy.STRICT_PACK, (Demand(Bundle(CPU), 5),)),
        )
        await w.live(0.5)
        found = reasons(w)
        assert (found["aa"], found["bb"], found["cc"]) == (Reason.LAUNCHING, Reason.NOBODY_WAITS, Reason.NO_TYPE_FITS)
        assert found[str(Bundle(CPU, (asia,)))] is Reason.NO_TYPE_HAS_LABELS
        assert found[str(w.ray.demands[1].bundle)] is Reason.GANG
        assert found[str(w.ray.demands[2].bundle)] is Reason.ONLY_EXISTING_NODES
        w.ray.live_jobs = 0
        await w.live(0.5)
        assert reasons(w)[str(Bundle(CPU, (asia,)))] is Reason.NOBODY_WAITS


async def test_every_other_node_of_rays_is_named_too():
    async with world() as w:
        for key, fields in {"head": {"is_head": True}, "guest": {}, "ghost": {"instance_id": "demo-small-9-9"}}.items():
            w.ray.nodes[key] = RayNode(
                **{"ray_node_id": key, "instance_id": "", "node_type": "small", "status": NodeStatus.RUNNING, **fields}
            )
        await w.live(0.5)
        assert reasons(w) == {"head": Reason.HEAD_NODE, "guest": Reason.NOT_OURS, "ghost": Reason.NOT_OURS, "small": Reason.READY}


async def test_a_node_that_died_one_that_is_not_shown_and_one_that_others_drain():
    async with world() as w:
        await fill(w, 3)
        dead, unseen, drained = w.launched
        w.ray.die(dead)
        del w.ray.nodes[w.ray.row(unseen).ray_node_id]
        w.ray.set(drained, is_draining=True, draining_until=now() + 30)
        w.report()
        await asyncio.sleep(0.1)
        assert [reasons(w)[name] for name in w.launched] == [Reason.NODE_DIED, Reason.NOT_SHOWN, Reason.OTHERS_DRAIN]
        assert told(w)[dead].until == near(now() + Timings().node_dead_grace_s, 0.2)
        assert told(w)[drained].until == near(now() + 30, 0.2)
        await w.live(Timings().node_dead_grace_s + 1)
        assert told(w).get(dead) is None or told(w)[dead].reason is Reason.NODE_DIED  # being ended


async def test_a_launch_that_nothing_needs_says_when_it_is_called_off():
    async with world() as w:
        w.machines.delays_s = dict.fromkeys(w.machines.delays_s, 1000.0)
        w.ray.demands = tasks(1)
        await w.live(3)
        w.ray.demands = ()
        await w.live(1)
        found = told(w)["demo-small-1-0"]
        assert (found.reason, found.until) == (Reason.UNNEEDED, near(found.since + Timings().unneeded_grace_s))
        await w.live(found.until - now() - 0.3, every_s=0.2)
        assert not w.executor.terminated
        await w.live(1)
        assert w.executor.terminated == ["demo-small-1-0"]


async def test_when_the_record_cannot_be_written_the_shape_says_that():
    async with world() as w:
        w.report()
        await asyncio.sleep(0.5)
        w.store.is_down = True
        w.ray.demands = tasks(2)
        w.report()
        await asyncio.sleep(0.2)
        assert told(w)["{CPU: 1}"].reason is Reason.RECORD_UNWRITTEN
        assert not w.launched
        w.store.is_down = False
        await w.live(2)
        assert reasons(w)["{CPU: 1}"] is Reason.LAUNCHING


async def test_a_count_that_rises_while_work_lands_says_from_when_it_is_believed():
    async with world() as w:
        await fill(w, 2)
        w.ray.set(w.launched[0], status=NodeStatus.RUNNING)
        w.ray.demands = tasks(3)
        w.report()
        await asyncio.sleep(0.3)
        w.ray.demands = tasks(4)
        w.report()
        await asyncio.sleep(0.1)
        found = told(w)["{CPU: 1}"]
        assert "1 have only just come on top" in found.detail
        assert len(w.launched) == 5
        await w.live(Timings().backlog_lag_s + 0.5, every_s=0.25)
        assert len(w.launched) == 6


def test_l1_a_thousand_nodes_and_a_hundred_shapes_are_explained_within_a_second():
    count = 1000
    rows = tuple(row(f"n{k}", f"i{k}", cpus=16, used=k % 16) for k in range(count))
    wanted = tuple(Demand(Bundle(Resources.of(CPU=1 + k / 100)), 1000) for k in range(100))
    known = memory(
        *(instance(f"i{k}", ray_node_id=f"n{k}") for k in range(count)),
        snapshot=Snapshot(nodes=rows, demands=wanted),
        config=config(node_type(cpus=16, max_workers=2000)),
    )
    state = build_state(known, NOW)
    decided = plan(state)
    began = time.process_time()
    found = explain(known, state, decided)
    answer = cluster_explanation(found).SerializeToString()
    took_s = time.process_time() - began
    assert (len(found.nodes), len(found.shapes), len(answer) > 0) == (count, 100, True)
    assert took_s <= 1.0


def test_since_is_kept_with_the_reason_and_nothing_is_kept_of_what_is_gone():
    known = memory(instance(ray_node_id="n1"), snapshot=Snapshot(nodes=(row(used=1),), demands=tasks(3)))
    first = known.explanation = explain(known, build_state(known, NOW), Plan())
    known.snapshot = Snapshot(nodes=(row(used=1),))
    second = known.explanation = explain(known, build_state(known, NOW + 5), Plan())
    assert [each.because.since for each in second.nodes] == [each.because.since for each in first.nodes] == [NOW]
    assert (len(first.shapes), second.shapes) == (1, ())
    known.snapshot = Snapshot(nodes=(row(used=1),), demands=tasks(3))
    third = explain(known, build_state(known, NOW + 9), Plan())
    assert [each.because.since for each in third.shapes] == [NOW + 9]


@pytest.mark.parametrize("reason", [Reason.NO_FIRST_LIST, Reason.EXECUTOR_SILENT, Reason.GCS_UNREADABLE, Reason.REPORT_TOO_OLD])
def test_without_sight_everything_waits_for_that(reason):
    blind = {
        Reason.NO_FIRST_LIST: {"is_listed": False},
        Reason.EXECUTOR_SILENT: {"executor_error": "away"},
        Reason.GCS_UNREADABLE: {"gcs_error": "away"},
        Reason.REPORT_TOO_OLD: {"fresh_at": NOW - 60},
    }
    known = memory(instance(ray_node_id="n1"), snapshot=Snapshot(nodes=(row(used=1),), demands=tasks(3)), **blind[reason])
    state = build_state(known, NOW)
    found = explain(known, state, plan(state))
    assert {each.because.reason for each in (*found.shapes, *found.nodes, *found.node_types)} == {reason}


@pytest.mark.parametrize("used", [0, 1])
def test_while_reports_settle_an_idle_node_and_one_of_a_removed_type_say_until_when(used):
    gone = instance("gone", ray_node_id="n2", node_type="old")
    rows = (row(idle_s=100.0), row("n2", "gone", used=used, node_type="old"))
    known = memory(instance(ray_node_id="n1"), gone, snapshot=Snapshot(nodes=rows), contact_at=NOW - 1)
    state = build_state(known, NOW)
    found = {each.instance_id: each.because for each in explain(known, state, plan(state)).nodes}
    assert {name: each.reason for name, each in found.items()} == {"i": Reason.SETTLING, "gone": Reason.TYPE_REMOVED}
    assert {each.until for each in found.values()} == {NOW + 1}
    (old,) = (each for each in explain(known, state, plan(state)).node_types if each.name == "old")
    assert (old.running, old.because.reason) == (1, Reason.TYPE_REMOVED)


def test_an_instance_that_is_being_ended_says_why_and_when_it_is_asked_for_again():
    ending = instance(status=InstanceStatus.TERMINATING, reason=Reason.OVERDUE, detail="did not join in time")
    known = memory(ending)
    (found,) = explain(known, build_state(known, NOW + 3), Plan()).nodes
    assert (found.because.reason, found.because.since, found.because.until) == (Reason.OVERDUE, NOW, NOW + Timings().terminating_s)


@pytest.mark.parametrize(
    ("policy", "used", "reason", "words"),
    [
        (UpdatePolicy.ON_DELETE, 1, Reason.BUSY, "outdated, stays until it ends for another reason; uses CPU 1 of 1"),
        (UpdatePolicy.ON_DELETE, 0, Reason.WAITING_IDLE, "idle"),
        (UpdatePolicy.RECREATE, 1, Reason.BUSY, "outdated, goes when its work is done; uses CPU 1 of 1"),
        (UpdatePolicy.RECREATE, 0, Reason.OUTDATED, "idle; it is drained with all others of its make"),
    ],
)
def test_cd_6_what_is_said_of_an_outdated_node_follows_its_types_update_policy(policy, used, reason, words):
    old = instance(ray_node_id="n1", made_as=node_type(labels=(("v", "1"),)))
    asked = config(node_type(update_policy=policy))
    known = memory(old, snapshot=Snapshot(nodes=(row(used=used),)), contact_at=NOW - 1, config=asked)
    (found,) = explain(known, build_state(known, NOW), Plan()).nodes
    assert found.because.reason == reason
    assert found.because.detail.startswith(words)


@pytest.mark.parametrize(("used", "reason"), [(1, Reason.BUSY), (0, Reason.OUTDATED)])
def test_an_outdated_node_says_so_while_it_works_and_while_it_waits_for_its_turn(used, reason):
    old = instance(ray_node_id="n1", made_as=node_type(labels=(("v", "1"),)))
    known = memory(old, snapshot=Snapshot(nodes=(row(used=used),)), contact_at=NOW - 1)
    (found,) = explain(known, build_state(known, NOW), Plan()).nodes
    assert (found.because.reason, found.because.until) == (reason, None if used else NOW + 1)
    assert used == 0 or found.because.detail == "outdated, goes when idle; uses CPU 1 of 1"
