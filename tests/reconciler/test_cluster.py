"""ClusterReconciler with a fake executor in virtual time: demand becomes launches, failures become waits, silence becomes nothing."""

import asyncio
from dataclasses import replace

import pytest

from rayscaler.errors import Denied, InsufficientCapacity, Superseded, Unavailable
from rayscaler.model.demand import CommandResult, Outcome, Session, Snapshot
from rayscaler.model.instance import Phase, Reason
from rayscaler.model.node import DeathReason
from rayscaler.model.resources import Resources
from rayscaler.settings import Timings
from rayscaler.store.base import ClusterRecord
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


# failures of launches


async def test_a_refused_launch_backs_its_type_off_and_another_type_is_used():
    types = (node_type("cheap", cost=0.1), node_type("dear", cost=9.0))
    async with world(config(*types)) as w:
        w.executor.fail_next_launch(InsufficientCapacity("no room in zone b"))
        w.ray.demands = tasks(1)
        await w.live(1)
        assert [each.node_type.name for each in w.executor.launched] == ["dear"]
        (backoff,) = w.reconciler.status().backoffs
        assert (backoff.node_type, backoff.failures) == ("cheap", 1)
        assert "no room in zone b" in backoff.detail
        assert ("LAUNCH_FAILED", "demo-cheap-1-0") in w.kinds


async def test_the_only_type_is_tried_again_after_its_back_off_one_at_a_time_until_one_joins():
    async with world() as w:
        for _ in range(3):
            w.executor.fail_next_launch(InsufficientCapacity("no room"))
        w.ray.demands = tasks(3)
        began = now()
        tries = []
        for _ in range(80):
            w.report()
            await asyncio.sleep(0.25)
            tries += [(round(now() - began, 2), len(w.instances), len(w.launched))]
        # All three of the first wave failed as one; the next try is one instance, five seconds later.
        assert [each for each in tries if each[0] < 4.9 and each[2]] == []
        assert max(launched for at, _, launched in tries if at < 8) == 1
        assert tries[-1][2] == 3
        assert w.reconciler.status().backoffs == ()


async def test_the_failure_is_told_to_ray_status_for_a_minute():
    async with world() as w:
        w.executor.fail_next_launch(Denied("no rights"))
        w.ray.demands = tasks(1)
        w.report()
        await asyncio.sleep(0.2)
        state = w.report().autoscaling_state
        assert state is not None
        assert [(each.node_type, each.detail) for each in state.failed] == [("small", "DENIED: no rights")]
        w.ray.demands = ()
        await w.live(62)
        assert w.report().autoscaling_state.failed == ()


async def test_an_unavailable_executor_is_asked_again_under_the_same_name():
    async with world() as w:
        w.executor.fail_next_launch(Unavailable("starting"))
        w.ray.demands = tasks(1)
        await w.live(2)
        assert w.launched == ["demo-small-1-0"]
        assert w.reconciler.status().backoffs == ()


async def test_a_launch_without_a_known_outcome_counts_until_it_is_surely_gone_and_its_type_waits():
    async with world(config(node_type(max_workers=1))) as w:
        for _ in range(3):
            w.executor.fail_next_launch(Unavailable("no answer"))
        w.ray.demands = tasks(1)
        await w.live(3)
        assert w.instances == {"demo-small-1-0": "TERMINATING"}
        assert w.reconciler.status().backoffs[0].failures == 1
        await w.live(40)  # a complete list has shown that it is not there
        assert "demo-small-1-0" not in w.instances
        assert len(w.launched) == 1


async def test_a_worker_that_dies_before_it_joins_is_a_failure_of_its_type():
    async with world() as w:
        w.ray.demands = tasks(1)
        await w.live(1)
        w.executor.lose(w.launched[0], "exit code 1")
        await asyncio.sleep(0.06)
        (backoff,) = w.reconciler.status().backoffs
        assert (backoff.failures, backoff.detail) == (1, "exit code 1")
        await w.live(10)
        assert len(w.launched) == 2


async def test_a_worker_that_never_joins_is_ended_after_its_phases_budget_and_the_next_one_waits():
    async with world(timings=replace(Timings(), registering_s=20)) as w:
        w.machines.on_ready = lambda spec: None
        w.ray.demands = tasks(1)
        await w.live(22)
        assert list(w.instances.values()) == ["ALLOCATED"]
        await w.live(4)
        assert w.executor.terminated == ["demo-small-1-0"]
        assert w.reconciler.status().backoffs[0].failures == 1
        assert "did not join in time: registering for 20 s" in w.reconciler.status().backoffs[0].detail


async def test_b5_slow_phases_one_after_another_are_no_reason_to_end_a_worker():
    timings = replace(Timings(), unscheduled_s=100, starting_s=100, registering_s=100)
    async with world(timings=timings) as w:
        w.machines.delays_s.update({Phase.UNSCHEDULED: 95.0, Phase.STARTING: 95.0, Phase.REGISTERING: 95.0})
        w.ray.demands = tasks(1)
        await w.live(290)
        assert w.executor.terminated == []
        assert w.instances == {"demo-small-1-0": "RUNNING"}


async def test_launches_that_nothing_needs_any_more_are_ended_after_the_grace():
    async with world() as w:
        w.machines.delays_s[Phase.STARTING] = 100.0
        w.ray.demands = tasks(2)
        await w.live(2)
        w.ray.demands = ()
        await w.live(9)
        assert w.executor.terminated == []
        await w.live(3)
        assert sorted(w.executor.terminated) == w.launched


# hung and failing calls


async def test_b4_a_hung_launch_delays_no_other_launch_no_report_and_no_end():
    async with world(config(idle_timeout_s=3.0)) as w:
        w.executor.hang_next("launch")
        w.ray.demands = tasks(3)
        await w.live(4)
        assert len(w.launched) == 2
        assert sorted(w.instances.values()) == ["REQUESTED", "RUNNING", "RUNNING"]
        w.ray.demands = ()
        await w.live(12)  # the others grow idle, are drained and ended meanwhile
        assert len(w.executor.terminated) == 2


async def test_b4_a_hung_launch_is_given_up_at_its_deadline_and_tried_again():
    async with world() as w:
        w.executor.hang_next("launch")
        w.ray.demands = tasks(1)
        await w.live(30)
        assert w.launched == []
        await w.live(2)
        assert w.launched == ["demo-small-1-0"]


async def test_b4_a_hung_end_delays_no_other_end_and_is_tried_again():
    async with world(config(idle_timeout_s=2.0)) as w:
        w.ray.demands = tasks(3)
        await w.live(3.5)
        w.ray.demands = ()
        w.executor.hang_next("terminate")
        await w.live(12)
        assert len(w.executor.terminated) == 2
        await w.live(30)
        assert len(w.executor.terminated) == 3
        assert w.instances == {}


async def test_a_launch_that_is_not_wanted_any_more_is_not_tried_again():
    timings = replace(Timings(), executor_retry_s=8.0, unneeded_grace_s=1.0)
    async with world(timings=timings) as w:
        w.executor.fail_next_launch(Unavailable("later"))
        w.ray.demands = tasks(1)
        await w.live(3)
        w.ray.demands = ()
        await w.live(40)
        assert (w.launched, w.machines.machines, w.instances) == ([], {}, {})


async def test_a_launch_that_succeeds_after_its_end_was_asked_for_is_ended_again_at_once():
    async with world(timings=replace(Timings(), unneeded_grace_s=1.0)) as w:
        real, gate = w.executor.launch, asyncio.Event()

        async def slow(spec):
            await gate.wait()
            return await real(spec)

        w.executor.launch = slow
        w.ray.demands = tasks(1)
        await w.live(2)
        w.ray.demands = ()
        await w.live(3)
        assert list(w.instances.values()) == ["TERMINATING"]
        gate.set()
        await w.live(4)
        assert (w.executor.terminated, w.machines.machines) == (["demo-small-1-0"], {})


async def test_b4_of_two_clusters_in_one_service_one_with_hung_calls_the_other_is_served_without_delay():
    async with world(config(name="stuck")) as stuck, world(config(name="well", idle_timeout_s=5.0)) as well, world(config(name="alone", idle_timeout_s=5.0)) as alone:  # fmt: skip
        for call in ("launch", "launch", "launch", "list", "terminate"):
            stuck.executor.hang_next(call)
        times = {"well": {}, "alone": {}}
        for each in (stuck, well, alone):
            each.ray.demands = tasks(3)
        for step in range(120):
            if step == 20:
                for each in (stuck, well, alone):
                    each.ray.demands = ()
            for each in (stuck, well, alone):
                before = now()
                each.report()
                assert now() == before
            await asyncio.sleep(0.25)
            for each in (well, alone):
                times[each.reconciler.name].setdefault(tuple(sorted(each.instances.values())), now())
        assert stuck.launched == []
        # Step by step, to the moment, as without a neighbour that is stuck.
        assert times["well"] == times["alone"]
        assert len(well.executor.terminated) == 3


async def test_two_clusters_of_one_executor_do_not_see_each_others_instances():
    async with world(config(name="a")) as a, world(config(name="b"), machines=a.machines) as b:
        a.ray.demands = tasks(2)
        a.report()
        b.report()
        await asyncio.sleep(5)
        assert (len(a.instances), len(b.instances)) == (2, 0)


# an executor that does not answer is blindness


async def test_a_failing_list_is_blind_nothing_is_launched_and_nothing_ended():
    async with world(config(idle_timeout_s=2.0)) as w:
        w.ray.demands = tasks(1)
        await w.live(29)
        for _ in range(40):
            w.executor.fail_next("list", Unavailable("the API is away"))
        w.ray.busy(w.launched[0])
        await w.live(3)
        assert w.reconciler.status().blind is Reason.EXECUTOR_SILENT
        w.ray.demands = tasks(4)
        await w.live(20)
        assert (len(w.launched), w.executor.terminated, w.commands) == (1, [], [])
        w.executor._failures["list"].clear()
        await w.live(31)
        assert w.reconciler.status().blind is None
        assert len(w.launched) >= 4


async def test_without_a_first_list_nothing_is_launched():
    async with world() as w, world(config(name="other"), machines=w.machines) as other:
        assert other.reconciler.status().blind is Reason.NO_REPORT
    store = MemoryStore()
    async with world(store=store) as w:
        w.executor.hang_next("list")
        w.reconciler._memory.is_listed = False
        w.ray.demands = tasks(1)
        await w.live(5)
        assert (w.launched, w.reconciler.status().blind) == ([], Reason.NO_FIRST_LIST)


async def test_a_launch_within_a_list_that_takes_long_is_not_taken_for_lost():
    """It begins and ends while the list is under way, so the list may lack it although it is there."""
    async with world() as w:
        real = w.executor.list

        async def slow(cluster):
            seen = await real(cluster)
            await asyncio.sleep(10)
            return seen

        w.executor.list = slow
        await w.live(32)  # the list of every 30 s has begun
        w.ray.demands = tasks(1)
        await w.live(15)
        assert w.instances == {"demo-small-1-0": "RUNNING"}
        assert [kind for kind, _ in w.kinds] == ["REQUESTED", "ALLOCATED", "RUNNING"]
        assert w.reconciler.status().backoffs == ()


async def test_a_list_that_ends_while_the_record_is_written_does_not_end_the_launch_being_recorded():
    async with world() as w:
        real, w.store.save_s = w.executor.list, 3.0

        async def slow(cluster):
            await asyncio.sleep(1.0)
            return await real(cluster)

        w.executor.list = slow
        await w.live(29)
        w.ray.demands = tasks(1)
        await w.live(12)
        assert [kind for kind, _ in w.kinds] == ["REQUESTED", "ALLOCATED", "RUNNING"]


async def test_what_happens_between_the_watch_and_the_list_is_not_missed():
    async with world() as w:
        w.ray.demands = tasks(1)
        await w.live(4)
        w.ray.busy(w.launched[0])
        w.ray.demands = ()
        real = w.executor.list

        async def slow(cluster):
            seen = await real(cluster)
            await asyncio.sleep(2)
            return seen

        w.executor.list = slow
        await w.live(27)
        w.executor.lose(w.launched[0])  # after the list was made, before it arrives
        await w.live(3)
        assert w.instances == {}


async def test_an_executor_whose_watch_ends_is_asked_again_without_haste():
    async with world() as w:
        lists = 0
        real = w.executor.list

        async def counting(cluster):
            nonlocal lists
            lists += 1
            return await real(cluster)

        async def nothing():
            return
            yield

        w.executor.list, w.executor.watch = counting, lambda cluster: nothing()
        await w.live(60)
        assert 3 <= lists <= 10


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
