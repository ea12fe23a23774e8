"""The monitor's loop under a virtual clock while a head or a service is lost and comes back, and what a GCS is told again."""

import asyncio
from itertools import pairwise

import pytest

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.demand import Strategy
from rayscaler.model.resources import Resources
from rayscaler.monitor.main import V1_MODE
from rayscaler.testing.fake_gcs import FakeGcs
from rayscaler.testing.loop_clock import LoopClock
from tests.monitor.doors import FakeService, idle_drain, read, replay, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CPU = Resources.of(CPU=1)


async def test_every_report_names_the_heads_incarnation_also_those_without_a_snapshot(begin):
    world = await begin()
    await asyncio.sleep(3.0)
    world.gcs.is_down = True
    await asyncio.sleep(3.0)
    kinds = {(each.HasField("snapshot"), bool(each.gcs_error)) for each in world.service.reports}
    assert kinds == {(True, False), (False, False), (False, True)}
    assert {each.head_incarnation for each in world.service.reports} == {"41-7"}


async def test_that_the_gcs_is_away_is_said_at_the_first_failure(begin):
    world = await begin()
    world.service.interval_s = 0.1
    await asyncio.sleep(2.05)
    told_at = world.service.times[-1]
    assert told_at < 1.9  # a heartbeat is not due, so it is the loss that makes a report
    world.gcs.is_down = True
    await asyncio.sleep(0.1)
    assert world.service.times[-1] > told_at
    assert world.service.last.gcs_error


async def test_a_head_that_is_back_is_reported_within_a_third_of_a_second_however_long_it_was_away(begin):
    world = await begin()
    await asyncio.sleep(1.0)
    world.gcs.is_down = True
    await asyncio.sleep(57.3)
    world.gcs.restart()
    world.gcs.is_down = False
    await asyncio.sleep(0.31)
    assert world.service.last.session.cluster_id == world.gcs.cluster_id
    assert world.service.last.HasField("snapshot")


async def test_a_service_that_is_back_gets_a_whole_snapshot_within_a_second(begin):
    world = await begin()
    await asyncio.sleep(3.0)
    world.service.error = errors.Unavailable("away")
    await asyncio.sleep(30.0)
    sent = len(world.service.reports)
    world.service.error = None
    world.service.forget()
    await asyncio.sleep(1.01)
    assert world.service.reports[sent].HasField("snapshot")


async def test_the_result_of_a_command_from_before_the_loss_still_arrives(begin):
    world = await begin()
    node = world.gcs.join("w1", "small", CPU)
    await asyncio.sleep(1.0)
    world.service.on_report = lambda request: setattr(world.service, "acknowledges", False)
    world.service.commands = [idle_drain("c1", node)]
    await asyncio.sleep(2.1)
    world.gcs.restart()
    world.service.reports.clear()
    await asyncio.sleep(1.0)
    report = world.service.reports[0]
    assert report.session.cluster_id == world.gcs.cluster_id
    assert [(each.command_id, each.outcome) for each in report.results] == [("c1", head_pb2.OUTCOME_DONE)]


STATE = gcs_pb2.AutoscalingState(autoscaler_state_version=17)
TOLD = gcs_pb2.ClusterConfig(max_resources={"CPU": 9}, node_group_configs=[gcs_pb2.NodeGroupConfig(name="small", max_count=-1)])
CONFIG = head_pb2.ClusterConfig(hash="h1", config=TOLD)


async def test_the_config_reaches_the_gcs_once_as_it_is_and_its_hash_is_told(begin):
    """DK-25, WC-4: Serve, Data, Train and Tune read there what nodes the cluster may have."""
    world = await begin()
    world.service.config = CONFIG
    await asyncio.sleep(5.0)
    assert world.gcs.told_config == TOLD
    assert world.service.reports[0].reported_config_hash == ""
    assert world.service.last.reported_config_hash == "h1"
    assert world.gcs.configs_told == 1
    world.service.config = head_pb2.ClusterConfig(hash="h2")
    await asyncio.sleep(5.0)
    assert world.service.last.reported_config_hash == "h2"
    assert not world.gcs.told_config.max_resources


@pytest.mark.parametrize("keeps_id", [True, False])
async def test_a_gcs_that_was_restarted_is_told_state_and_config_again(begin, keeps_id):
    world = await begin()
    world.service.state, world.service.config = STATE, CONFIG
    await asyncio.sleep(5.0)
    world.gcs.restart(keeps_id=keeps_id)
    told_before = world.gcs.configs_told
    sent = len(world.service.reports)
    await asyncio.sleep(5.0)
    first = world.service.reports[sent]
    assert (first.reported_state_version, first.reported_config_hash) == (0, "")
    assert (world.gcs.told.autoscaler_state_version, world.gcs.configs_told) == (17, told_before + 1)
    assert (world.service.last.reported_state_version, world.service.last.reported_config_hash) == (17, "h1")


@pytest.mark.parametrize("call", ["report_state", "report_config", "set_notice"])
async def test_a_call_that_hangs_at_a_dying_gcs_does_not_keep_the_next_gcs_from_being_told(begin, call):
    world = await begin()
    world.gcs.is_v1_mode = True
    world.gcs.hanging.add(call)
    world.service.state, world.service.config = STATE, CONFIG
    await asyncio.sleep(1.0)
    world.gcs.restart()
    world.gcs.hanging.clear()
    await asyncio.sleep(1.5)
    assert world.gcs.told.autoscaler_state_version == 17
    assert world.gcs.told_config.node_group_configs
    assert V1_MODE in world.gcs.notice


@pytest.mark.parametrize("call", ["report_config", "set_notice", "replay_constraint"])
async def test_a_hung_call_delays_neither_readings_nor_reports_and_is_tried_again(begin, call):
    world = await begin()
    world.gcs.is_v1_mode = True
    world.gcs.hanging.add(call)
    world.service.config = CONFIG
    world.service.commands = [replay("c1", CPU)]
    await asyncio.sleep(1.0)
    read_before = world.gcs.version
    await asyncio.sleep(5.0)
    assert world.gcs.version - read_before == 10
    assert all(later - earlier <= 2.0 for earlier, later in pairwise(world.service.times))
    world.gcs.hanging.clear()
    await asyncio.sleep(10.0)
    assert world.service.last.reported_config_hash == "h1"
    assert V1_MODE in world.gcs.notice


async def test_a_config_that_the_gcs_refuses_is_told_again_at_the_next_answer(begin):
    class Refusing(FakeGcs):
        async def report_config(self, config):
            if len(refused) < 3:
                refused.append(config)
                raise errors.InvalidRequest("no")
            await super().report_config(config)

    refused = []
    service = FakeService()
    service.config = CONFIG
    async with running(Refusing(LoopClock()), service) as world:
        await asyncio.sleep(9.0)
        assert len(refused) == 3
        assert world.service.last.reported_config_hash == "h1"


@pytest.mark.parametrize("amount", [0, 2**64 - 1])
async def test_no_config_however_odd_stops_the_monitor(begin, amount):
    world = await begin()
    group = gcs_pb2.NodeGroupConfig(resources={"": amount}, max_count=-7)
    world.service.config = head_pb2.ClusterConfig(
        hash="odd", config=gcs_pb2.ClusterConfig(max_resources={"CPU": amount}, node_group_configs=[group])
    )
    await asyncio.sleep(5.0)
    assert world.service.last.reported_config_hash == "odd"


async def test_a_constraint_that_the_gcs_lost_is_replayed_and_seen(begin):
    world = await begin()
    world.gcs.request_resources([CPU, CPU])
    await asyncio.sleep(1.0)
    world.gcs.restart(keeps_id=True)
    await asyncio.sleep(1.0)
    world.service.commands = [replay("c1", CPU, CPU)]
    await asyncio.sleep(2.5)
    (result,) = (each for report in world.service.reports for each in report.results)
    assert (result.command_id, result.outcome) == ("c1", head_pb2.OUTCOME_DONE)
    assert sum(each.count for each in read(world.service.snapshots[-1].snapshot).constraint.demands) == 2


async def test_a_constraint_is_not_replayed_over_another(begin):
    world = await begin()
    world.gcs.request_resources([])
    world.service.commands = [replay("c1", CPU)]
    await asyncio.sleep(2.5)
    (result,) = (each for report in world.service.reports for each in report.results)
    assert (result.outcome, result.detail) == (head_pb2.OUTCOME_REJECTED, "the GCS has one already")
    assert world.gcs.constraint == ()


async def test_a_replay_that_was_asked_for_in_answer_to_the_old_cluster_never_reaches_the_new_one(begin):
    world = await begin()
    await asyncio.sleep(1.0)

    def restart(_request: head_pb2.ReportDemandRequest) -> None:
        """The head is lost between the report and its answer."""
        if world.service.commands:
            world.gcs.restart()
            world.service.on_report = lambda request: None

    world.service.on_report = restart
    world.service.commands = [replay("c1", CPU)]
    await asyncio.sleep(3.0)
    (result,) = (each for report in world.service.reports for each in report.results)
    assert result.outcome == head_pb2.OUTCOME_FAILED
    assert world.gcs.constraint is None


async def test_a_v1_head_is_told_in_every_report_and_to_drivers_once_in_each_life(begin):
    world = await begin()
    assert world.gcs.notice == ""
    world.gcs.is_v1_mode = True
    await asyncio.sleep(5.0)
    assert world.service.last.v1_mode
    assert "RAY_enable_autoscaler_v2=1" in world.gcs.notice
    assert "request_resources()" in world.gcs.notice
    world.gcs.restart()
    assert world.gcs.notice == ""
    await asyncio.sleep(1.0)
    assert V1_MODE in world.gcs.notice


async def test_the_notice_goes_once_the_head_runs_in_v2_mode_and_somebody_elses_stays(begin):
    world = await begin()
    world.gcs.is_v1_mode = True
    await asyncio.sleep(1.0)
    assert world.gcs.notice
    world.gcs.restart(keeps_id=True)
    world.gcs.is_v1_mode = False
    await asyncio.sleep(2.5)
    assert world.gcs.notice == ""
    assert not world.service.last.v1_mode
    world.gcs.notice = "somebody else's"
    world.gcs.is_v1_mode = True
    await asyncio.sleep(1.0)
    assert world.gcs.notice == "somebody else's"


async def test_when_the_last_job_ends_the_report_says_who_is_left_to_wait(begin):
    world = await begin()
    world.gcs.live_detached_actors = 2
    group = world.gcs.create_gang(Strategy.PACK, [Resources.of(CPU=50)])
    kept = world.gcs.create_gang(Strategy.PACK, [Resources.of(CPU=50)], is_detached=True)
    await asyncio.sleep(1.0)
    taken = read(world.service.snapshots[-1].snapshot)
    assert (taken.live_jobs, taken.live_detached_actors, [each.is_orphaned for each in taken.gangs]) == (1, 0, [False, False])
    world.gcs.live_jobs = 0
    await asyncio.sleep(0.6)
    taken = read(world.service.snapshots[-1].snapshot)
    assert (taken.live_jobs, taken.live_detached_actors) == (0, 2)
    assert {each.gang_id: each.is_orphaned for each in taken.gangs} == {group: True, kept: False}
