"""ClusterReconciler with a fake executor in virtual time: demand becomes launches, reports are admitted, the record comes first."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from rayscaler.errors import InsufficientCapacity, Superseded, Unavailable
from rayscaler.model.demand import CommandResult, Outcome, Session, Snapshot
from rayscaler.model.instance import Reason
from rayscaler.model.node import DeathReason
from rayscaler.model.resources import Resources
from rayscaler.settings import Timings
from rayscaler.store.base import ClusterRecord
from rayscaler.testing.fake_executor import FakeExecutor
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import FIRST, SECOND, config, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


def now():
    return asyncio.get_running_loop().time()


# launches


async def test_demand_becomes_launches_that_join_within_one_coalescing_window():
    async with world() as w:
        w.ray.demands = tasks(3)
        w.report()
        await asyncio.sleep(0.06)
        assert w.launched == ["demo-small-1-0", "demo-small-1-1", "demo-small-1-2"]
        assert w.executor.launched[0].head_address == "head:6379"
        w.ray.demands = ()
        await w.live(4)
        assert set(w.instances.values()) == {"RUNNING"}


async def test_d1_no_second_wave_while_the_same_demand_is_shown_again_and_again():
    async with world() as w:
        w.ray.demands = tasks(3)
        await w.live(3.5)
        for name in w.launched:
            w.ray.busy(name)
        await w.live(2)  # Ray still shows the demand that runs already
        w.ray.demands = ()
        await w.live(10)
        assert len(w.launched) == 3


async def test_a_burst_of_reports_is_one_cycle():
    async with world() as w:
        w.report()
        await asyncio.sleep(0.2)
        before = w.reconciler.status().cycle
        for count in range(1, 21):
            w.ray.demands = tasks(count)
            w.report()
        await asyncio.sleep(0.04)
        assert w.reconciler.status().cycle == before + 1
        assert len(w.launched) == 20


async def test_unchanged_heartbeats_make_no_cycles():
    """Design §2b.8."""
    async with world() as w:
        w.report()
        await asyncio.sleep(0.1)
        await w.live(6, every_s=2, snapshot=None, base_sequence=1)
        before = w.reconciler.status().cycle
        await w.live(40, every_s=2, snapshot=None, base_sequence=1)
        assert w.reconciler.status().cycle - before <= 4


async def test_the_answer_asks_for_haste_while_something_is_under_way():
    async with world() as w:
        assert w.report().next_interval_s == 0.5
        w.ray.demands = tasks(1)
        assert w.report().next_interval_s == 0.25
        w.ray.demands = ()
        await asyncio.sleep(0.1)
        assert w.report().next_interval_s == 0.25  # it is still launching
        await w.live(4)
        assert w.report().next_interval_s == 0.5


# reports


async def test_a_heartbeat_on_an_unknown_base_asks_for_a_snapshot_and_acknowledges_nothing():
    async with world() as w:
        result = CommandResult("c", Outcome.DONE)
        answer = w.report(snapshot=None, base_sequence=7, results=(result,))
        assert (answer.wants_snapshot, answer.acknowledged) == (True, ())
        again = w.report(sequence=w.sequence, results=(result,))
        assert (again.wants_snapshot, again.acknowledged) == (False, ("c",))
        assert not w.report(snapshot=None, base_sequence=1).wants_snapshot


async def test_a_new_session_without_a_snapshot_makes_the_old_base_unknown():
    async with world() as w:
        w.report()
        w.report(snapshot=None, gcs_error="starting", session=SECOND)
        assert w.report(snapshot=None, base_sequence=1, session=SECOND).wants_snapshot


async def test_a_repeated_report_is_answered_alike_and_changes_nothing():
    async with world() as w:
        w.ray.demands = tasks(2)
        content = {"sequence": 1, "snapshot": w.ray.snapshot()}
        first = w.report(**content)
        assert w.report(**content) == first
        await asyncio.sleep(0.1)
        assert w.report(**content).commands == first.commands
        await asyncio.sleep(0.1)
        assert len(w.launched) == 2


async def test_of_two_live_monitors_only_the_later_one_is_heard():
    async with world() as w:
        w.report(monitor_epoch=5)
        for sequence in range(2, 20):
            w.ray.demands = tasks(50)
            with pytest.raises(Superseded):
                w.report(monitor_epoch=4, sequence=sequence)
            w.ray.demands = tasks(1)
            w.report(monitor_epoch=5, sequence=sequence)
            await asyncio.sleep(0.3)
        assert len(w.launched) == 1


async def test_before_the_record_is_read_no_report_is_taken_for_it_says_which_sessions_have_ended():
    store = MemoryStore()
    await store.save(ClusterRecord("demo", session=SECOND, retired=(FIRST,)))
    store.load_s = 5
    async with world(store=store) as w:
        with pytest.raises(Unavailable, match="record of demo is not read yet"):
            w.report()
        await asyncio.sleep(5)
        with pytest.raises(Superseded, match="session_1 ended"):
            w.report()
        w.report(session=SECOND)


async def test_a_record_that_cannot_be_read_is_tried_again_until_it_can():
    store = MemoryStore()
    store.is_down = True
    async with world(store=store) as w:
        await asyncio.sleep(20)
        with pytest.raises(Unavailable):
            w.report()
        store.is_down = False
        await asyncio.sleep(30)
        w.report()


async def test_the_results_of_a_session_that_ended_do_not_reach_the_new_one():
    async with world(config(idle_timeout_s=1.0)) as w:
        w.ray.demands = tasks(1)
        await w.live(4)
        w.ray.demands = ()
        w.on_drain = lambda command: None
        await w.live(5)
        assert set(w.instances.values()) == {"DRAINING"}
        old = w.commands[0].command_id
        w.session = SECOND
        answer = w.report(results=(CommandResult(old, Outcome.DONE),))
        assert (answer.acknowledged, answer.commands) == ((old,), ())
        assert set(w.instances.values()) == {"RUNNING"}


# the record


async def test_a_failing_store_sends_nothing_and_the_launch_follows_when_it_is_back():
    async with world() as w:
        w.store.is_down = True
        w.ray.demands = tasks(2)
        w.report()
        await asyncio.sleep(3)
        assert (w.launched, w.instances) == ([], {})
        w.store.is_down = False
        await asyncio.sleep(0.6)  # nothing new was reported: the cycle comes by itself
        assert len(w.launched) == 2


async def test_a_slow_store_delays_launches_and_no_answer():
    async with world() as w:
        w.store.save_s = 2.0
        w.ray.demands = tasks(1)
        w.report()
        await asyncio.sleep(0.1)
        began = now()
        for _ in range(5):
            w.report()
        assert now() == began
        assert w.launched == []
        await asyncio.sleep(2)
        assert len(w.launched) == 1


async def test_a_slow_store_makes_no_report_fresher_than_it_was():
    async with world(timings=replace(Timings(), blind_after_s=5)) as w:
        w.report()
        await asyncio.sleep(0.1)
        w.store.save_s = 20.0
        w.ray.demands = tasks(1)
        w.report()
        await asyncio.sleep(0.1)
        w.report(age_s=1.0)
        await asyncio.sleep(20)
        assert w.reconciler.status().report_age_s == pytest.approx(21.0, abs=0.2)
        assert w.reconciler.status().blind is Reason.REPORT_TOO_OLD


async def test_names_are_never_used_again_after_a_restart():
    async with world() as w:
        w.ray.demands = tasks(2)
        await w.live(1)
        await w.kill()
        async with world(machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            w.ray.demands = tasks(5)
            await again.live(1)
            assert again.launched == ["demo-small-2-0", "demo-small-2-1", "demo-small-2-2"]


async def test_a_restart_takes_up_every_instance_and_launches_none_a_second_time():
    async with world() as w:
        w.ray.demands = tasks(2)
        await w.live(1.5)  # they are starting
        await w.kill()
        async with world(machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            await again.live(8)
            assert again.launched == []
            assert again.instances == {"demo-small-1-0": "RUNNING", "demo-small-1-1": "RUNNING"}


@contextlib.asynccontextmanager
async def found_late(seconds, *, pending):
    """Two busy workers are listed after the only report that shows their nodes; as Ray changes nothing, heartbeats follow for so long."""
    async with world() as w:
        w.ray.demands = tasks(2)
        await w.live(4)
        busy = w.launched
        for name in busy:
            w.ray.busy(name)
        w.ray.demands = tasks(pending)
        await w.kill()
    executor = FakeExecutor(w.machines)
    executor.fail_next("list", Unavailable("away"))
    async with world(machines=w.machines, store=w.store, ray=w.ray, executor=executor) as again:
        again.epoch = 2
        again.report()
        assert again.instances == {}
        await again.live(seconds, snapshot=None, base_sequence=1)
        assert {name: again.instances[name] for name in busy} == dict.fromkeys(busy, "RUNNING")
        yield again


async def test_busy_workers_that_are_found_after_a_report_has_shown_their_nodes_are_no_room_for_demand():
    async with found_late(8, pending=3) as again:
        assert len(again.launched) == 3


async def test_busy_workers_that_are_found_after_a_report_has_shown_their_nodes_are_not_ended():
    async with found_late(900, pending=0) as again:
        assert again.executor.terminated == []


async def test_a_restart_between_a_drain_and_its_end_ends_the_drained_worker_and_never_counts_it():
    async with world(config(idle_timeout_s=1.0)) as w:
        w.ray.demands = tasks(1)
        await w.live(3.5)
        (old,) = w.launched
        await w.kill()
        w.ray.die(old, DeathReason.DRAINED_IDLE)
        async with world(config(idle_timeout_s=1.0), machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            await again.live(1)
            assert len(again.launched) == 1  # at once, not after the old one's deadline
            await again.live(9)
            assert again.executor.terminated == [old]


async def test_back_offs_survive_a_restart_though_old_workers_join_again():
    async with world() as w:
        w.ray.demands = tasks(1)
        await w.live(4)
        w.ray.busy(w.launched[0])
        w.ray.demands = ()
        await w.live(4)
        for _ in range(3):
            w.executor.fail_next_launch(InsufficientCapacity("no room"))
        w.ray.demands = tasks(1)
        await w.live(17)
        failures = w.reconciler.status().backoffs[0].failures
        assert failures >= 2
        await w.kill()
        async with world(machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            w.ray.demands = ()
            await again.live(3)
            assert again.instances[w.launched[0]] == "RUNNING"
            assert [each.failures for each in again.reconciler.status().backoffs] == [failures]


# what cannot be met


async def test_wc_12_4_only_a_shape_that_no_type_holds_is_called_infeasible_and_the_rest_waits():
    async with world(config(node_type(max_workers=1))) as w:
        w.ray.demands = (*tasks(5), *tasks(2, Resources.of(CPU=64)))
        await w.live(6)
        state = w.report().autoscaling_state
        assert state is not None
        assert [str(each) for each in state.infeasible] == ["{CPU: 64}"]
        reasons = {each.reason for each in w.reconciler.status().pending}
        assert reasons == {Reason.NO_TYPE_FITS, Reason.MAX_WORKERS_OF_TYPE}


async def test_the_gcs_is_told_a_state_once_and_again_only_when_it_changes_or_has_forgotten():
    async with world() as w:
        w.report()
        await asyncio.sleep(0.1)
        state = w.report().autoscaling_state
        assert state is not None
        assert w.report(reported_state_version=state.version).autoscaling_state is None
        assert w.report(reported_state_version=0).autoscaling_state == state


async def test_versions_grow_across_a_restart_with_the_clock_set_back():
    async with world() as w:
        w.report()
        await asyncio.sleep(0.1)
        told = w.report().autoscaling_state
        await w.kill()
        async with world(machines=w.machines, store=w.store, ray=w.ray) as again:
            again.reconciler._clock = _Late()
            again.epoch = 2
            again.report()
            await asyncio.sleep(0.1)
            assert again.report().autoscaling_state.version > told.version


class _Late:
    def now(self):
        return 1_700_000_000.0 + now()

    def mono(self):
        return now()


async def test_a_session_that_ended_is_refused_also_after_a_restart():
    async with world() as w:
        await w.live(1)
        w.session = SECOND
        await w.live(1)
        await w.kill()
        async with world(machines=w.machines, store=w.store, ray=w.ray) as again:
            for session in (FIRST, Session("c1", "session_1")):
                with pytest.raises(Superseded):
                    again.report(session=session, monitor_epoch=99)
            again.report(session=SECOND)


async def test_an_empty_cluster_needs_nothing():
    async with world() as w:
        w.report(snapshot=Snapshot())
        await asyncio.sleep(120)
        assert (w.launched, w.store.saves[-1].batch) == ([], 0)
