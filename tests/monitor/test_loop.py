"""The monitor's loop under a virtual clock, between a fake Ray cluster and a fake service."""

import asyncio
from itertools import pairwise

import pytest

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.resources import Resources
from rayscaler.monitor.main import Timings
from rayscaler.testing.fake_gcs import FakeGcs
from rayscaler.testing.loop_clock import START_AT, LoopClock
from tests.monitor.doors import FakeService, idle_drain, read, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


async def test_the_first_report_is_a_whole_snapshot_with_session_epoch_and_sequence_1(begin):
    world = await begin()
    await asyncio.sleep(0.01)
    first = world.service.reports[0]
    assert first.cluster == "demo"
    assert first.session.cluster_id == world.gcs.cluster_id
    assert first.session.session_name.startswith("session_")
    assert first.monitor_epoch == int(START_AT * 1000)
    assert first.sequence == 1
    assert first.ray_version == "2.60.0"
    assert [node.is_head for node in read(first.snapshot).nodes] == [True]


async def test_an_unchanged_cluster_is_confirmed_by_a_heartbeat_every_two_seconds(begin):
    """Design §2b.8."""
    world = await begin()
    await asyncio.sleep(20.1)
    assert len(world.service.snapshots) == 1
    assert [each.base_sequence for each in world.service.heartbeats] == [1] * 10
    assert [each.sequence for each in world.service.reports] == list(range(1, 12))
    assert all(later - earlier == pytest.approx(2.0) for earlier, later in pairwise(world.service.times))


async def test_demand_is_reported_whole_at_the_next_reading(begin):
    world = await begin()
    await asyncio.sleep(0.6)
    world.gcs.submit(Resources.of(CPU=2), 3)
    await asyncio.sleep(2.0)
    assert len(world.service.snapshots) == 2
    (demand,) = read(world.service.snapshots[-1].snapshot).demands
    assert (dict(demand.bundle.resources), demand.count) == ({"CPU": 20_000}, 3)
    assert world.service.times[len(world.service.times) - 1] < 2.6


async def test_the_service_says_how_often_the_gcs_is_read(begin):
    world = await begin()
    world.service.interval_s = 5.0
    await asyncio.sleep(1.0)
    read_before = world.gcs.version
    await asyncio.sleep(50.0)
    assert world.gcs.version - read_before == 10


@pytest.mark.parametrize(("asked_s", "reads"), [(0.0, 100), (0.001, 100), (3600.0, 0)])
async def test_an_interval_out_of_bounds_is_brought_into_them(begin, asked_s, reads):
    world = await begin()
    world.service.interval_s = asked_s
    await asyncio.sleep(1.0)
    read_before = world.gcs.version
    await asyncio.sleep(10.001)
    assert world.gcs.version - read_before == pytest.approx(reads, abs=1)
    if not reads:
        await asyncio.sleep(50.0)
        assert world.gcs.version - read_before == 1


async def test_a_node_that_was_used_between_two_readings_is_a_change(begin):
    world = await begin()
    world.service.interval_s = 10.0
    world.gcs.join("w1", "small", Resources.of(CPU=1))
    await asyncio.sleep(15.0)
    snapshots = len(world.service.snapshots)
    world.gcs.submit(Resources.of(CPU=1), runtime_s=2.0)
    await asyncio.sleep(15.0)
    assert len(world.service.snapshots) == snapshots + 1
    assert world.service.snapshots[-1].snapshot.state.node_states[1].idle_duration_ms < 10_000


async def test_a_service_that_lost_the_base_gets_a_whole_snapshot_at_once(begin):
    world = await begin()
    await asyncio.sleep(1.0)
    world.service.forget()
    await asyncio.sleep(1.2)
    heartbeat, snapshot = world.service.reports[-2:]
    assert not heartbeat.HasField("snapshot")
    assert snapshot.HasField("snapshot")
    assert world.service.times[-1] - world.service.times[-2] == pytest.approx(0.1)


async def test_a_drain_is_carried_out_once_and_its_result_comes_at_once(begin):
    world = await begin()
    world.service.interval_s = 30.0
    node = world.gcs.join("w1", "small", Resources.of(CPU=1))
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(0.5)
    (result,) = world.service.last.results
    assert (result.command_id, result.outcome) == ("c1", head_pb2.OUTCOME_DONE)
    assert len(world.gcs.drains) == 1
    assert world.service.times[-1] < 0.1


async def test_a_refused_drain_is_told_with_rays_words(begin):
    world = await begin()
    node = world.gcs.join("w1", "small", Resources.of(CPU=1))
    world.gcs.submit(Resources.of(CPU=1))
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(0.1)
    (result,) = world.service.last.results
    assert result.outcome == head_pb2.OUTCOME_REJECTED
    assert result.detail == "The node to be idle terminated is no longer idle."


async def test_a_result_is_repeated_until_it_is_acknowledged_and_the_command_runs_once(begin):
    world = await begin()
    world.service.acknowledges = False
    node = world.gcs.join("w1", "small", Resources.of(CPU=1))
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(9.0)
    with_result = [each for each in world.service.reports if each.results]
    assert len(with_result) >= 4
    assert with_result == world.service.reports[1:]
    world.service.acknowledges = True
    await asyncio.sleep(2.1)
    world.service.reports.clear()
    await asyncio.sleep(9.0)
    assert world.service.reports
    assert not any(each.results for each in world.service.reports)
    assert len(world.gcs.drains) == 1


async def test_a_command_that_comes_again_after_its_acknowledgement_is_answered_from_memory(begin):
    world = await begin()
    node = world.gcs.join("w1", "small", Resources.of(CPU=1))
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(3.0)
    assert world.service.commands == []
    world.service.reports.clear()
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(3.0)
    assert sum(len(each.results) for each in world.service.reports) == 1
    assert len(world.gcs.drains) == 1


async def test_a_hung_drain_delays_neither_readings_nor_reports_nor_other_commands(begin):
    world = await begin()
    first = world.gcs.join("w1", "small", Resources.of(CPU=1))
    second = world.gcs.join("w2", "small", Resources.of(CPU=1))
    world.gcs.hanging.add("drain")
    world.service.commands = [idle_drain("hung", first)]
    await asyncio.sleep(1.0)
    world.gcs.hanging.clear()
    world.service.commands.append(idle_drain("quick", second))
    await asyncio.sleep(2.5)
    assert [each.command_id for report in world.service.reports for each in report.results] == ["quick"]
    read_before = world.gcs.version
    await asyncio.sleep(4.0)
    assert world.gcs.version - read_before == 8
    await asyncio.sleep(5.0)
    hung = next(each for report in world.service.reports for each in report.results if each.command_id == "hung")
    assert hung.outcome == head_pb2.OUTCOME_FAILED
    assert "10 s" in hung.detail


async def test_a_drain_of_a_node_that_this_session_does_not_know_never_reaches_ray(begin):
    world = await begin()
    world.service.commands = [idle_drain("c1", "ab" * 28)]
    await asyncio.sleep(0.1)
    (result,) = world.service.last.results
    assert result.outcome == head_pb2.OUTCOME_FAILED
    assert world.gcs.drains == []


async def test_a_command_of_an_unknown_kind_fails_with_a_sentence(begin):
    world = await begin()
    world.service.commands = [head_pb2.Command(command_id="c1")]
    await asyncio.sleep(0.1)
    (result,) = world.service.last.results
    assert result.outcome == head_pb2.OUTCOME_FAILED
    assert "does not know" in result.detail


async def test_while_the_service_is_away_it_is_tried_with_back_off_and_then_gets_everything(begin):
    world = await begin()
    node = world.gcs.join("w1", "small", Resources.of(CPU=1))
    world.service.commands = [idle_drain("c1", node)]
    world.service.on_report = lambda request: setattr(world.service, "error", errors.Unavailable("away"))
    await asyncio.sleep(20.0)
    _answered, *failed = world.service.times
    pauses = [later - earlier for earlier, later in pairwise(failed)]
    assert pauses[:3] == pytest.approx([0.2, 0.4, 0.8])
    assert pauses[3:] == pytest.approx([1.0] * len(pauses[3:]))
    world.gcs.request_resources([Resources.of(CPU=7)])
    world.service.error = None
    world.service.on_report = lambda request: None
    await asyncio.sleep(2.1)
    report = world.service.reports[1]
    assert report.HasField("snapshot")
    assert read(report.snapshot).constraint.demands
    assert [each.command_id for each in report.results] == ["c1"]
    assert len(world.gcs.drains) == 1


async def test_a_monitor_that_was_superseded_keeps_quiet(begin):
    world = await begin()
    await asyncio.sleep(0.1)
    world.service.error = errors.Superseded("a newer monitor reports")
    world.service.times.clear()
    world.gcs.join("w1", "small", Resources.of(CPU=1))
    await asyncio.sleep(100.0)
    assert len(world.service.times) == 4
    assert all(later - earlier == pytest.approx(30.0) for earlier, later in pairwise(world.service.times))


async def test_a_cluster_whose_definition_comes_later_is_taken_up_within_seconds(begin):
    world = await begin()
    world.service.error = errors.NotFound("no cluster named demo")
    await asyncio.sleep(30.0)
    world.service.error = None
    await asyncio.sleep(2.1)
    assert world.service.reports


async def test_while_the_gcs_is_away_that_is_said_once_a_second_and_then_the_snapshot_comes(begin):
    world = await begin()
    await asyncio.sleep(0.1)
    world.gcs.is_down = True
    await asyncio.sleep(10.0)
    said = [(time, each) for time, each in zip(world.service.times, world.service.reports, strict=True) if each.gcs_error]
    assert all("refused" in each.gcs_error and not each.HasField("snapshot") for _, each in said)
    assert 7 <= len(said) <= 11
    assert all(later - earlier >= 1.0 for (earlier, _), (later, _) in pairwise(said))
    world.gcs.is_down = False
    world.gcs.request_resources([Resources.of(CPU=1)])
    await asyncio.sleep(2.1)
    assert world.service.last.HasField("snapshot") or read(world.service.snapshots[-1].snapshot).constraint.demands


async def test_a_gcs_that_never_answers_is_reported_within_its_deadline(begin):
    world = await begin()
    await asyncio.sleep(0.1)
    world.gcs.hanging.add("read")
    await asyncio.sleep(16.0)
    assert "15 s" in world.service.last.gcs_error


async def test_commands_still_come_and_go_while_the_gcs_cannot_be_read(begin):
    world = await begin()
    await asyncio.sleep(0.1)
    node = world.gcs.join("w1", "small", Resources.of(CPU=1))
    await asyncio.sleep(1.0)
    world.gcs.is_down = True
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(5.0)
    result = next(each for report in world.service.reports for each in report.results)
    assert result.outcome == head_pb2.OUTCOME_FAILED
    assert world.service.commands == []


async def test_a_new_cluster_at_the_same_address_is_a_new_session_and_the_sequence_goes_on(begin):
    world = await begin()
    await asyncio.sleep(1.0)
    before = world.service.last
    world.gcs.restart()
    await asyncio.sleep(1.0)
    after = world.service.last
    assert after.session.cluster_id == world.gcs.cluster_id != before.session.cluster_id
    assert after.HasField("snapshot")
    assert after.monitor_epoch == before.monitor_epoch
    assert after.sequence == before.sequence + 1


async def test_the_state_reaches_the_gcs_once_and_its_version_is_told(begin):
    world = await begin()
    world.service.state = gcs_pb2.AutoscalingState(autoscaler_state_version=17)
    await asyncio.sleep(5.0)
    assert world.gcs.told.autoscaler_state_version == 17
    assert world.service.last.reported_state_version == 17
    assert world.gcs.states_told == 1


@pytest.mark.parametrize("keeps_id", [True, False])
async def test_a_gcs_that_was_restarted_is_told_the_state_again(begin, keeps_id):
    world = await begin()
    world.service.state = gcs_pb2.AutoscalingState(autoscaler_state_version=17)
    await asyncio.sleep(5.0)
    world.gcs.restart(keeps_id=keeps_id)
    await asyncio.sleep(5.0)
    assert world.gcs.told.autoscaler_state_version == 17


async def test_a_hung_state_call_delays_nothing(begin):
    world = await begin()
    world.gcs.hanging.add("report_state")
    world.service.state = gcs_pb2.AutoscalingState(autoscaler_state_version=17)
    await asyncio.sleep(1.0)
    read_before = world.gcs.version
    await asyncio.sleep(5.0)
    assert world.gcs.version - read_before == 10
    world.gcs.hanging.clear()
    await asyncio.sleep(10.0)
    assert world.service.last.reported_state_version == 17


async def test_the_age_is_the_time_that_the_reading_took():
    class Slow(FakeGcs):
        async def read(self):
            reading = await super().read()
            await asyncio.sleep(0.7)
            return reading

    async with running(Slow(LoopClock()), FakeService()) as world:
        await asyncio.sleep(1.0)
        assert world.service.last.age.nanos / 1e9 == pytest.approx(0.7)


async def test_a_report_that_is_never_answered_is_given_up_and_sent_again():
    class Mute(FakeService):
        async def report(self, request):
            if len(self.times) == 0:
                self.times.append(0.0)
                await asyncio.Event().wait()
            return await super().report(request)

    async with running(FakeGcs(LoopClock()), Mute()) as world:
        await asyncio.sleep(Timings().report_s + 1.0)
        assert world.service.reports[0].sequence == 2
        assert world.service.reports[0].HasField("snapshot")


async def test_wc_11_connected_drivers_are_told_once_and_later_ones_until_it_is_taken_back(begin):
    world = await begin()
    command = head_pb2.Command(command_id="t1", tell_drivers=gcs_pb2.LogBatch(lines=["cannot be", "nor this"]))
    world.service.commands, world.service.driver_notice, world.service.acknowledges = [command], "cannot be", False
    await asyncio.sleep(6.0)
    assert world.gcs.printed == ["cannot be", "nor this"]
    (result,) = world.service.last.results
    assert (result.command_id, result.outcome) == ("t1", head_pb2.OUTCOME_DONE)
    assert world.gcs.notice == "rayscaler: cannot be"
    world.gcs.is_v1_mode = True
    await asyncio.sleep(3.0)
    assert world.gcs.notice.startswith("rayscaler: this head runs in Ray's v1 mode")
    assert world.gcs.notice.endswith(". cannot be")
    world.gcs.is_v1_mode, world.service.driver_notice = False, ""
    await asyncio.sleep(6.0)
    assert world.gcs.notice == ""
