"""The head dies, nothing is lost: what is kept over a head's loss and over the service's own death (design 2.8, 2b.3, 2b.6, 2b.7), in virtual time."""

from dataclasses import replace

import pytest

from rayscaler.errors import Superseded
from rayscaler.model.demand import Constraint, Gang, Outcome, Strategy
from rayscaler.model.instance import Phase
from rayscaler.model.node import DeathReason, NodeStatus
from tests.reconciler.builders import FIRST, SECOND, config, node_type, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

SHORT = config(idle_timeout_s=20.0)


async def with_workers(w: World, count: int) -> list[str]:
    """Let `count` workers join and be busy."""
    w.ray.demands = tasks(count)
    await w.live(4)
    w.ray.demands = ()
    for name in w.launched:
        w.ray.busy(name)
    await w.live(15)
    assert list(w.instances.values()) == ["RUNNING"] * count
    return w.launched


async def killed_while_draining(w: World) -> str:
    """Let a worker be drained, with no result yet, and kill the service."""
    (name,) = await with_workers(w, 1)
    w.on_drain = lambda command: None
    w.ray.set(name, status=NodeStatus.IDLE, available=node_type().resources)
    w.ray.idle_since[w.ray.row(name).ray_node_id] -= 100
    await w.live(2)
    assert w.instances == {name: "DRAINING"}
    await w.kill()
    return name


def rejoin(w: World, *names: str) -> None:
    """The supervisors of these instances bring new raylets."""
    for spec in w.executor.launched:
        if spec.instance_id in names:
            w.ray.join(spec)


# the workers


@pytest.mark.parametrize("restarts", [1, 3])
async def test_workers_come_to_the_new_head_under_their_names_and_the_job_that_returns_finds_them(restarts):
    async with world() as w:
        names = await with_workers(w, 3)
        for _ in range(restarts):
            w.head_restarts()
            w.ray.demands = tasks(3)
            await w.live(8)
            assert w.instances == dict.fromkeys(names, "REJOINING")
        rejoin(w, *names)
        await w.live(3)
        w.ray.demands = ()
        await w.live(10)
        assert (w.instances, w.launched) == (dict.fromkeys(names, "RUNNING"), names)
        assert (w.commands, w.executor.terminated) == ([], [])


async def test_launches_in_flight_go_on_and_are_not_repeated():
    async with world() as w:
        w.machines.delays_s[Phase.REGISTERING] = 30.0
        w.ray.demands = tasks(4)
        await w.live(2)
        w.head_restarts()
        await w.live(4)
        assert len(w.launched) == 4
        await w.live(40)
        assert (len(w.launched), list(w.instances.values())) == (4, ["RUNNING"] * 4)


async def test_while_the_head_is_away_nothing_is_launched_on_old_demand_and_nothing_ends():
    async with world(SHORT) as w:
        names = await with_workers(w, 2)
        w.ray.demands = tasks(5)
        await w.live(60, snapshot=None, gcs_error="connection refused")
        assert (w.launched, w.commands, w.executor.terminated) == (names, [], [])
        status = w.reconciler.status()
        assert (status.blind, status.blind_since is not None) == ("GCS_UNREADABLE", True)


# the hold


async def test_a_worker_lost_with_the_head_is_replaced_while_the_hold_lasts_and_after_it_idle_nodes_go():
    async with world(SHORT) as w:
        names = await with_workers(w, 3)
        await w.live(3, snapshot=None, gcs_error="connection refused")
        w.machines.lose(names[0])
        await w.live(3, snapshot=None, gcs_error="connection refused")
        w.head_restarts()
        rejoin(w, *names[1:])
        await w.live(8)
        assert len(w.launched) == 4
        assert [each.reason.value for each in w.reconciler.status().actions if each.kind == "REQUESTED"][-1] == "HELD"
        hold = w.reconciler.status().hold
        assert (hold.targets, hold.until - hold.since) == ((("small", 3),), 20.0)
        await w.live(40)
        assert (w.instances, w.reconciler.status().hold) == ({}, None)


async def test_the_hold_gives_way_to_a_maximum_and_counts_a_minimum_once():
    definition = config(node_type(min_workers=2, max_workers=3), idle_timeout_s=20.0)
    async with world(definition) as w:
        await with_workers(w, 3)
        w.head_restarts()
        await w.live(6)
        assert len(w.launched) == 3
        rejoin(w, *w.launched)
        await w.live(60)
        assert list(w.instances.values()) == ["RUNNING"] * 2


@pytest.mark.parametrize("is_stored", [True, False])
async def test_the_hold_outlives_the_service_and_begins_though_the_service_was_away_when_the_head_died(is_stored):
    async with world(SHORT) as w:
        names = await with_workers(w, 3)
        if is_stored:
            w.head_restarts()
            await w.live(2)
        await w.kill()
        if not is_stored:
            w.head_restarts()
        w.machines.lose(names[0])
        async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.session, again.epoch = w.session, 2
            rejoin(w, *names[1:])
            await again.live(8)
            assert [each.reason.value for each in again.reconciler.status().actions if each.kind == "REQUESTED"] == ["HELD"]


async def test_with_stored_state_idle_nodes_are_kept_for_the_hold_too():
    async with world(SHORT) as w:
        names = await with_workers(w, 2)
        for name in names:
            w.ray.set(name, status=NodeStatus.IDLE, available=node_type().resources)
        w.head_restarts(is_stored=True)
        await w.live(15)
        assert (w.commands, w.instances) == ([], dict.fromkeys(names, "RUNNING"))
        await w.live(15)
        assert w.instances == {}


# floors


async def test_a_floor_outlives_its_cluster_for_the_hold_and_is_never_told_to_the_new_one():
    """Design §2b.7."""
    async with world(SHORT) as w:
        w.ray.constraint = Constraint(tasks(2))
        await w.live(4)
        w.head_restarts()
        rejoin(w, *w.launched)
        await w.live(18)
        assert list(w.instances.values()) == ["RUNNING"] * 2
        await w.live(20)
        assert (w.instances, w.replays) == ({}, [])
        assert w.store.saves[-1].floor is None


async def test_the_first_word_of_the_new_cluster_ends_the_old_floor_also_an_empty_one():
    """Design §2b.7."""
    async with world(config(idle_timeout_s=600.0)) as w:
        w.ray.constraint = Constraint(tasks(2))
        await w.live(4)
        w.head_restarts()
        await w.live(4)
        assert w.store.saves[-1].floor == Constraint(tasks(2))
        w.ray.constraint = Constraint()
        await w.live(4)
        assert w.store.saves[-1].floor == Constraint()


async def test_the_same_cluster_that_has_forgotten_its_floor_is_told_again_also_by_the_next_life_of_the_service():
    """Design §2b.7."""
    async with world(SHORT) as w:
        w.ray.constraint = Constraint(tasks(2))
        await w.live(4)
        w.head_restarts(is_stored=True)
        await w.live(4)
        assert [each.constraint for each in w.replays] == [Constraint(tasks(2))]
        await w.kill()
        w.head_restarts(is_stored=True)
        async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            await again.live(60)
            assert [each.constraint for each in again.replays] == [Constraint(tasks(2))]
            assert list(again.instances.values()) == ["RUNNING"] * 2


async def test_a_replay_that_has_no_effect_is_repeated_with_a_pause():
    async with world() as w:
        w.ray.constraint = Constraint(tasks(1))
        await w.live(2)
        w.head_restarts(is_stored=True)
        for _ in range(40):
            w.report()
            w.ray.constraint = None
            await w.live(0.5)
        assert 3 <= len({each.command_id for each in w.replays}) <= 6


# drains


async def test_a_drain_in_progress_is_taken_up_by_the_next_life_of_the_service_and_not_asked_for_twice():
    async with world(SHORT) as w:
        name = await killed_while_draining(w)
        async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            again.on_drain = lambda command: None
            await again.live(4)
            assert again.instances == {name: "DRAINING"}
            assert [each.command_id for each in again.commands] == [each.command_id for each in w.commands]
            w.ray.die(name, DeathReason.DRAINED_IDLE)
            await again.live(4)
            assert again.executor.terminated == [name]


async def test_a_drain_that_was_recorded_dies_with_its_cluster_though_the_service_was_away():
    async with world(SHORT) as w:
        name = await killed_while_draining(w)
        w.head_restarts()
        async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.session, again.epoch = w.session, 2
            rejoin(w, name)
            w.ray.busy(name)
            await again.live(30)
            assert (again.instances, again.commands, again.executor.terminated) == ({name: "RUNNING"}, [], [])


# which head counts


@pytest.mark.parametrize("is_stored", [True, False])
async def test_two_live_monitors_that_alternate_a_hundred_times_launch_and_drain_nothing(is_stored):
    async with world(SHORT) as w:
        names = await with_workers(w, 2)
        old = {"session": FIRST, "head_incarnation": "old"}
        new = {"session": FIRST if is_stored else SECOND, "head_incarnation": "new"}
        w.report(**old)
        refused = 0
        for turn in range(100):
            w.epoch += 1
            w.sequence = 0
            w.report(**new)
            w.epoch += 1  # the old head's monitor was restarted: by its start alone it would win
            try:
                w.report(**old, snapshot=replace(w.ray.snapshot(), nodes=(), demands=tasks(turn)))
            except Superseded:
                refused += 1
            await w.live(0.5, **new)
        assert refused == 100
        assert (w.launched, w.commands, w.executor.terminated) == (names, [], [])


async def test_a_retired_head_is_refused_by_the_next_life_of_the_service_too():
    async with world() as w:
        w.report(head_incarnation="old")
        w.report(head_incarnation="new")
        await w.live(2, head_incarnation="new")
        await w.kill()
        async with world(machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 9
            with pytest.raises(Superseded, match="head old was retired when new took its place"):
                again.report(head_incarnation="old")
            again.report(head_incarnation="new")


async def test_design_2b_3_a_head_that_is_not_served_is_refused_before_the_next_one_has_said_a_word():
    async with world(SHORT) as w:
        names = await with_workers(w, 2)
        served = ["uid-1"]
        w.reconciler._served_head = lambda: served[0]
        w.report(head_incarnation="uid-1")
        served[0] = "demo-head-2"  # the Service was swapped, and its pod is not made yet
        w.epoch = 9
        for fields in ({"head_incarnation": "uid-1"}, {"head_incarnation": "uid-2"}, {}):
            with pytest.raises(Superseded, match="is not the one that is served, demo-head-2"):
                w.report(**fields, snapshot=replace(w.ray.snapshot(), nodes=(), demands=tasks(9)))
        served[0], w.epoch = "uid-2", 1  # its machine's clock is behind
        await w.live(2, head_incarnation="uid-2")
        assert (w.launched, w.commands, w.executor.terminated) == (names, [], [])


# who waits


async def test_e1_demand_that_nobody_lives_to_wait_for_is_ignored_and_told():
    async with world() as w:
        w.ray.live_jobs = 0
        w.ray.demands = tasks(5)
        w.ray.gangs = (Gang("a" * 36, Strategy.PACK, tasks(2), is_orphaned=True),)
        await w.live(20)
        assert w.launched == []
        told = w.reconciler.status().notices
        assert [text.split(" are ignored")[0] for text in told] == ["pending tasks and actors (5)", "pending placement groups (1)"]
        w.ray.live_jobs = 1
        await w.live(2)
        assert len(w.launched) == 5


async def test_a_drain_refused_for_want_of_idleness_is_dropped_from_the_record():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.on_drain = lambda command: Outcome.REJECTED
        w.ray.set(name, status=NodeStatus.IDLE, available=node_type().resources)
        w.ray.idle_since[w.ray.row(name).ray_node_id] -= 100
        await w.live(3)
        assert w.store.saves[-1].drains == ()


async def test_a_worker_that_needs_longer_than_the_idle_timeout_to_come_back_is_waited_for():
    """Seen on a busy machine with an idle timeout of 6 s: the hold was over before the workers were back, and all were ended."""
    async with world(config(idle_timeout_s=6.0)) as w:
        names = await with_workers(w, 3)
        w.head_restarts()
        await w.live(40)
        assert w.instances == dict.fromkeys(names, "REJOINING")
        rejoin(w, *names)
        w.ray.demands = tasks(3)
        await w.live(2)
        assert (w.instances, w.launched) == (dict.fromkeys(names, "RUNNING"), names)
