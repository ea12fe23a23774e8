"""Nothing is ended on a guess (design 2.7, WC-12.6 to 8, complaints C1 and C4), in virtual time."""

import asyncio

import pytest

from rayscaler.model.demand import CommandResult, Outcome, Snapshot
from rayscaler.model.instance import Phase, Reason
from rayscaler.model.node import DeathReason, NodeStatus
from rayscaler.testing.fake_executor import FakeExecutor
from tests.reconciler.builders import SECOND, config, node_type, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

SHORT = config(idle_timeout_s=5.0)


async def with_workers(w: World, count: int = 2) -> list[str]:
    """Let `count` workers join; they are idle from now on."""
    w.ray.demands = tasks(count)
    await w.live(4)
    w.ray.demands = ()
    assert list(w.instances.values()) == ["RUNNING"] * count
    return w.launched


def order_of(w: World, instance_id: str) -> list[str]:
    return [kind for kind, name in w.kinds if name == instance_id]


async def test_an_idle_node_is_drained_seen_dead_and_only_then_ended():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        log = []
        terminate = w.executor.terminate

        async def noted(cluster, instance_id):
            log.append(("terminate", w.ray.row(instance_id).status))
            await terminate(cluster, instance_id)

        w.executor.terminate = noted
        await w.live(12)
        assert [each.ray_node_id for each in w.commands] == [w.ray.row(name).ray_node_id]
        assert log == [("terminate", NodeStatus.DEAD)]
        assert order_of(w, name) == ["REQUESTED", "ALLOCATED", "RUNNING", "DRAINING", "TERMINATING", "TERMINATED"]
        assert w.instances == {}


async def test_wc_12_7_an_accepted_drain_is_no_proof_the_node_must_be_seen_dead():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.on_drain = lambda command: Outcome.DONE  # Ray takes it, and the node lives on
        await w.live(30)
        assert w.instances == {name: "DRAINING"}
        assert w.executor.terminated == []
        w.ray.die(name, DeathReason.DRAINED_IDLE)
        await w.live(1)
        assert w.executor.terminated == [name]


async def test_a_drain_without_end_is_given_up_after_its_deadline_and_asked_for_again():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.on_drain = lambda command: Outcome.DONE
        await w.live(68)
        assert w.instances == {name: "RUNNING"}
        assert ("RUNNING", name) in w.kinds[-2:]
        w.on_drain = w.accept
        await w.live(12)
        assert len(w.commands) == 2
        assert w.executor.terminated == [name]


async def test_a_refused_drain_leads_back_to_running_and_is_not_repeated_at_once():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.on_drain = lambda command: Outcome.REJECTED
        await w.live(7)
        assert w.instances == {name: "RUNNING"}
        (first,) = w.commands
        assert w.reconciler.status().actions[-1].reason is Reason.DRAIN_REFUSED
        await w.live(3)
        assert w.commands == [first]
        await w.live(5)  # it is idle still: 5 s after the refusal it is asked again
        assert len(w.commands) == 2
        assert w.executor.terminated == []


async def test_c4_work_that_comes_after_the_drain_was_asked_for_keeps_the_node():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)

        def refuse(command):
            w.ray.busy(name)
            return Outcome.REJECTED

        w.on_drain = refuse
        await w.live(60)
        assert w.instances == {name: "RUNNING"}
        assert (w.executor.terminated, len(w.commands)) == ([], 1)


async def test_a_command_is_repeated_until_its_result_arrives():
    async with world(SHORT) as w:
        await with_workers(w, 1)
        w.on_drain = lambda command: None
        await w.live(6.5)
        answers = [w.report().commands for _ in range(3)]
        assert answers[0]
        assert answers[0] == answers[1] == answers[2]


async def test_c1_with_the_monitor_silent_for_ten_minutes_nothing_is_ended_and_nothing_launched():
    async with world(config(idle_timeout_s=60.0)) as w:
        await with_workers(w, 5)
        w.ray.demands = tasks(9)
        w.report()
        before = len(w.launched)
        await asyncio.sleep(600)
        launched_at_once = len(w.launched)
        assert launched_at_once - before <= 4  # for what the last report asked, while it was fresh
        assert (w.commands, w.executor.terminated) == ([], [])
        assert w.reconciler.status().blind is Reason.REPORT_TOO_OLD


async def test_c1_launches_that_join_while_the_monitor_is_silent_are_not_ended_for_being_late():
    async with world() as w:
        w.ray.demands = tasks(3)
        w.report()
        await asyncio.sleep(600)  # they join after 3 s, and work
        for name in w.launched:
            w.ray.busy(name)
        w.ray.demands = ()
        await w.live(20)
        assert list(w.instances.values()) == ["RUNNING"] * 3
        assert w.executor.terminated == []


async def test_c1_an_unreadable_gcs_is_no_idle_node():
    async with world(SHORT) as w:
        await with_workers(w, 2)
        await w.live(3)
        await w.live(60, snapshot=None, gcs_error="connection refused")
        assert (w.commands, w.executor.terminated) == ([], [])
        assert w.reconciler.status().blind is Reason.GCS_UNREADABLE


async def test_idle_time_that_only_heartbeats_confirm_is_observed_and_counts():
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.report()
        await w.live(8, every_s=1, snapshot=None, base_sequence=w.sequence)
        assert order_of(w, name)[-1] == "DRAINING"


# WC-12.6 and WC-12.8: first words


async def test_wc_12_6_the_first_snapshot_of_a_new_session_ends_nothing_though_all_in_it_are_idle_for_long():
    async with world(SHORT) as w:
        await with_workers(w, 2)
        await w.live(1)
        for key in w.ray.idle_since:
            w.ray.idle_since[key] -= 1000
        w.session = SECOND
        w.report()
        await asyncio.sleep(9)  # nothing more is heard: the first snapshot alone decides nothing
        assert (w.commands, w.executor.terminated) == ([], [])
        await w.live(4)
        assert len(w.commands) == 2


@pytest.mark.parametrize(
    "how", ["new session", "same session, the GCS anew", "new monitor", "after the GCS was unreadable", "after silence"]
)
async def test_wc_8_an_empty_first_snapshot_ends_nothing_and_launches_nothing_in_place_of_those_that_are_there(how):
    async with world(SHORT) as w:
        names = await with_workers(w, 3)
        for name in names:
            w.ray.busy(name)
        await w.live(4)
        nodes, w.ray.nodes = w.ray.nodes, {}
        if how == "new session":
            w.session = SECOND
        elif how == "same session, the GCS anew":
            w.ray.version = 0
        elif how == "new monitor":
            w.epoch, w.sequence = 2, 0
        elif how == "after the GCS was unreadable":
            await w.live(2, snapshot=None, gcs_error="connection refused")
        else:
            await asyncio.sleep(30)
        w.ray.demands = tasks(3)
        await w.live(1.5)  # as measured: the workers appear within a second
        w.ray.nodes = nodes
        w.ray.demands = ()
        await w.live(8)
        assert (w.commands, w.executor.terminated, w.launched) == ([], [], names)
        assert list(w.instances.values()) == ["RUNNING"] * 3


async def test_f3_a_worker_that_does_not_come_to_the_new_head_counts_for_its_time_and_is_then_replaced():
    async with world() as w:
        names = await with_workers(w, 1)
        w.session, w.ray.nodes = SECOND, {}
        w.ray.demands = tasks(1)
        await w.live(148)
        assert (w.launched, w.instances, w.executor.terminated) == (names, {names[0]: "REJOINING"}, [])
        await w.live(10)
        assert w.executor.terminated == names
        assert len(w.launched) == 2
        assert ("TERMINATING", names[0]) in w.kinds
        assert not w.reconciler.status().backoffs  # it had joined once: no failure of its type


async def test_drains_die_with_their_session_and_the_node_that_rejoined_busy_stays():
    """Design §2b.6."""
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.on_drain = lambda command: None
        await w.live(6.5)
        assert w.instances == {name: "DRAINING"}
        w.session = SECOND
        spec = w.executor.launched[0]
        w.ray.nodes.clear()
        w.ray.join(spec)
        w.ray.busy(name)
        assert w.report().commands == ()
        await w.live(20)
        assert w.instances == {name: "RUNNING"}
        assert (len(w.commands), w.executor.terminated) == (1, [])


# deaths


async def test_an_instance_whose_node_died_is_ended_after_the_grace_and_replaced():
    async with world() as w:
        (name,) = await with_workers(w, 1)
        w.ray.busy(name)
        await w.live(4)
        w.ray.die(name)
        await w.live(4.5)
        assert w.executor.terminated == []
        await w.live(1.5)
        assert w.executor.terminated == [name]
        assert w.reconciler.status().actions[-1].reason is Reason.NODE_DIED


async def test_lf_12_an_instance_whose_next_node_is_alive_is_not_ended_for_the_dead_one():
    async with world() as w:
        (name,) = await with_workers(w, 1)
        w.ray.die(name)
        w.report()
        await asyncio.sleep(1)
        w.ray.join(w.executor.launched[0])
        await w.live(20)
        assert w.instances == {name: "RUNNING"}
        assert w.executor.terminated == []


async def test_b2_an_instance_that_takes_an_hour_to_end_holds_nothing_up_is_no_room_and_is_named_all_the_while():
    async with world(SHORT) as w:
        w.machines.delays_s[Phase.ENDING] = 3600.0
        (stuck,) = await with_workers(w, 1)
        await w.live(8)
        assert w.instances == {stuck: "TERMINATING"}
        w.machines.delays_s[Phase.ENDING] = 2.0
        for rounds in range(1, 5):
            w.ray.demands = tasks(20)
            await w.live(5)
            assert len(w.launched) == 1 + 20 * rounds
            w.ray.demands = ()
            await w.live(30)
            assert w.instances == {stuck: "TERMINATING"}
            await w.live(800, every_s=2.0)
        (told,) = w.reconciler.explanation().nodes
        assert (told.instance_id, told.because.reason) == (stuck, Reason.DRAINED)
        await w.live(300, every_s=2.0)
        assert w.instances == {}


async def test_a_worker_whose_process_ends_is_gone_at_once_and_its_demand_launched_for_again():
    async with world() as w:
        (name,) = await with_workers(w, 1)
        w.ray.busy(name)
        await w.live(4)
        w.executor.lose(name)
        w.ray.die(name)
        w.ray.demands = tasks(1)
        await w.live(1)
        assert len(w.launched) == 2
        assert name not in w.instances


async def test_the_minimum_is_kept_through_idleness():
    async with world(config(node_type(min_workers=2), idle_timeout_s=3.0)) as w:
        w.report(snapshot=Snapshot())
        await w.live(3.5)
        w.ray.demands = tasks(4)
        await w.live(4)
        w.ray.demands = ()
        await w.live(20)
        assert list(w.instances.values()) == ["RUNNING"] * 2
        assert len(w.executor.terminated) == 2


async def test_every_end_of_a_joined_instance_is_recorded_as_drained_or_dead_first():
    """The law over a longer life: each TERMINATING of a joined instance comes after its node was seen DEAD."""
    async with world(SHORT) as w:
        dead_first = []
        terminate = FakeExecutor.terminate

        async def noted(cluster, instance_id):
            rows = [each for each in w.ray.nodes.values() if each.instance_id == instance_id]
            dead_first.append(all(not each.is_alive for each in rows))
            await terminate(w.executor, cluster, instance_id)

        w.executor.terminate = noted
        for round_ in range(6):
            w.ray.demands = tasks(1 + round_ % 3)
            await w.live(4)
            w.ray.demands = ()
            if round_ % 2:
                alive = [each for each in w.ray.nodes.values() if each.is_alive]
                w.ray.die(alive[0].instance_id)
            await w.live(16)
        assert len(dead_first) >= 8
        assert all(dead_first)


async def test_a_command_whose_result_has_come_is_not_handed_out_again_while_a_cycle_is_being_recorded():
    """Otherwise the monitor delivers the same result again and again, without a pause, for as long as the record is being written."""
    async with world(SHORT) as w:
        (name,) = await with_workers(w, 1)
        w.on_drain = lambda command: None  # it takes its time
        await w.live(7)
        (command,) = w.commands
        w.store.save_s = 5.0
        w.ray.demands = tasks(3)
        w.report()
        await asyncio.sleep(0.2)  # the next cycle's record is being written
        w.results[command.command_id] = CommandResult(command.command_id, Outcome.DONE, "late")
        answers = [w.report() for _ in range(3)]
        assert [len(each.commands) for each in answers] == [0, 0, 0]
        assert answers[0].acknowledged == (command.command_id,)
        await w.live(10)
        assert w.instances[name] == "DRAINING"
