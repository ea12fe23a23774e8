"""What any monitor does with an answer: commands once each, state and config told, results kept until they are acknowledged."""

import asyncio
import itertools

import grpc
import pytest
import pytest_asyncio

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.demand import Bundle
from rayscaler.model.resources import Resources
from tests.monitor.doors import idle_drain, replay, take_back

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]  # the first builds Go

NUMBERS = itertools.count(1)


@pytest.fixture
def command_id() -> str:
    return f"c{next(NUMBERS)}"


@pytest_asyncio.fixture(loop_scope="module")
async def worker(stage):
    """A node that the monitor knows; it can hold one `mark`."""
    instance_id = f"w{next(NUMBERS)}"
    found = stage.gcs.ray.join(instance_id, "small", Resources.of(CPU=1, mark=1))
    await stage.snapshot(lambda snapshot: any(each.instance_id == instance_id for each in snapshot.state.node_states), instance_id)
    yield found
    if stage.gcs.ray.nodes.get(found) is not None and stage.gcs.ray.nodes[found].death is None:
        stage.gcs.ray.die(found)


def drains_of(stage, ray_node_id: str) -> int:
    return sum(each.node_id.hex() == ray_node_id for each in stage.gcs.ray.drains)


async def test_h11_h12_a_drain_is_carried_out_once_and_its_result_repeated_until_acknowledged(stage, worker, command_id):
    stage.service.acknowledges = False
    result = await stage.result_of(idle_drain(command_id, worker))
    assert (result.command_id, result.outcome) == (command_id, pb.OUTCOME_DONE)
    stage.service.commands = []  # the result is to come by itself, not because it is asked for again
    assert all([each.command_id for each in report.results] == [command_id] for report in await stage.reports(4))
    stage.service.acknowledges = True
    await stage.report(lambda report: not report.results, "silence after the acknowledgement")
    assert not any(report.results for report in await stage.reports(3))
    assert drains_of(stage, worker) == 1
    (sent,) = (each for each in stage.gcs.ray.drains if each.node_id.hex() == worker)
    assert (sent.reason, sent.reason_message, sent.deadline_timestamp_ms) == (1, "idle for 60 s", 0)


async def test_h52_a_command_that_comes_again_after_its_acknowledgement_is_answered_and_not_carried_out(stage, worker, command_id):
    first = await stage.result_of(idle_drain(command_id, worker))
    await stage.report(lambda report: not report.results)
    assert await stage.result_of(idle_drain(command_id, worker)) == first
    assert drains_of(stage, worker) == 1


async def test_h13_a_drain_that_ray_refuses_is_rejected_in_rays_words(stage, worker, command_id):
    task = stage.gcs.ray.submit(Resources.of(mark=1))
    result = await stage.result_of(idle_drain(command_id, worker))
    assert (result.outcome, result.detail) == (pb.OUTCOME_REJECTED, "The node to be idle terminated is no longer idle.")
    stage.gcs.ray.finish(*task)


async def test_h13_a_preemption_goes_to_ray_with_its_deadline(stage, worker, command_id):
    node_id = bytes.fromhex(worker)
    drain = ray.DrainNodeRequest(node_id=node_id, reason=2, reason_message="spot", deadline_timestamp_ms=4_000_000_000_000)
    assert (await stage.result_of(pb.Command(command_id=command_id, drain_node=drain))).outcome == pb.OUTCOME_DONE
    (sent,) = (each for each in stage.gcs.ray.drains if each.node_id.hex() == worker)
    assert (sent.reason, sent.reason_message, sent.deadline_timestamp_ms) == (2, "spot", 4_000_000_000_000)


@pytest.mark.parametrize("reason", [0, 3, -1])
async def test_h15_a_reason_that_ray_lacks_never_reaches_it(stage, worker, command_id, reason):
    result = await stage.result_of(
        pb.Command(command_id=command_id, drain_node=ray.DrainNodeRequest(node_id=bytes.fromhex(worker), reason=reason))
    )
    assert result.outcome == pb.OUTCOME_FAILED
    assert result.detail
    assert stage.gcs.count("DrainNode") == len(stage.gcs.ray.drains)
    assert drains_of(stage, worker) == 0


@pytest.mark.parametrize("ray_node_id", ["ab" * 28, ""], ids=["unknown", "none"])
async def test_h45_a_node_that_this_session_does_not_know_is_not_drained(stage, command_id, ray_node_id):
    before = stage.gcs.count("DrainNode")
    result = await stage.result_of(idle_drain(command_id, ray_node_id))
    assert (result.outcome, bool(result.detail)) == (pb.OUTCOME_FAILED, True)
    assert stage.gcs.count("DrainNode") == before


async def test_h47_a_command_of_an_unknown_kind_fails_and_so_does_one_that_the_gcs_does_not_take(stage, worker, command_id):
    assert (await stage.result_of(pb.Command(command_id=command_id))).outcome == pb.OUTCOME_FAILED
    stage.gcs.refusals["DrainNode"] = (grpc.StatusCode.INTERNAL, "not now")
    result = await stage.result_of(idle_drain(command_id + "b", worker))
    assert result.outcome == pb.OUTCOME_FAILED
    assert "not now" in result.detail


async def test_h19_a_result_does_not_wait_for_the_next_interval(stage, worker, command_id):
    loop = asyncio.get_running_loop()
    stage.service.interval_s = 20.0
    stage.service.on_report = lambda report: setattr(stage.service, "interval_s", 0.1 if report.results else 20.0)
    began = loop.time()
    await stage.result_of(idle_drain(command_id, worker))
    assert loop.time() - began < 8.0


async def test_h31_a_drain_that_hangs_delays_neither_reports_nor_other_commands(stage, worker, command_id):
    other = stage.gcs.ray.join("other", "small", Resources.of(CPU=1))
    await stage.snapshot(lambda snapshot: any(each.node_id.hex() == other for each in snapshot.state.node_states))
    held = stage.gcs.holds["DrainNode"] = asyncio.Event()
    stage.service.commands = [idle_drain(command_id, worker)]
    before = stage.gcs.count("DrainNode")
    await stage.until(lambda: stage.gcs.count("DrainNode") > before, "a drain that hangs")
    await stage.reports(2)
    del stage.gcs.holds["DrainNode"]  # what comes now is answered
    assert (await stage.result_of(idle_drain(command_id + "b", other))).outcome == pb.OUTCOME_DONE
    assert drains_of(stage, worker) == 0
    held.set()
    await stage.until(lambda: any(each.command_id == command_id for each in stage.service.last.results), "the first drain's result")


# sizes


def resized(command_id, node, **amounts):
    return pb.Command(
        command_id=command_id, resize_node=ray.ResizeRayletResourceInstancesRequest(node_id=bytes.fromhex(node), resources=amounts)
    )


async def test_h66_a_node_is_told_its_new_size_by_a_monitor_that_can(stage, worker, command_id):
    result = await stage.result_of(resized(command_id, worker, CPU=3.0, memory=1024.0))
    told = [dict(each.resources) for each in stage.gcs.ray.resizes if each.node_id.hex() == worker]
    assert told == ([{"CPU": 3.0, "memory": 1024.0}] if result.outcome == pb.OUTCOME_DONE else [])
    assert result.outcome == pb.OUTCOME_DONE or result.detail


async def test_h66_a_ray_that_cannot_be_told_is_no_doubt_and_what_never_changes_is_not_forwarded(stage, worker, command_id):
    before = stage.gcs.count("ResizeRayletResourceInstances")
    for index, (node, amounts) in enumerate([(worker, {"GPU": 2.0}), (worker, {"CPU": 0.5}), ("ab" * 28, {"CPU": 2.0})]):
        assert (await stage.result_of(resized(f"{command_id}-{index}", node, **amounts))).outcome == pb.OUTCOME_FAILED
    assert stage.gcs.count("ResizeRayletResourceInstances") == before
    stage.gcs.refusals["ResizeRayletResourceInstances"] = (grpc.StatusCode.UNIMPLEMENTED, "")
    result = await stage.result_of(resized(command_id, worker, CPU=3.0))
    del stage.gcs.refusals["ResizeRayletResourceInstances"]
    assert result.outcome in (pb.OUTCOME_REJECTED, pb.OUTCOME_FAILED)
    assert result.outcome == pb.OUTCOME_REJECTED or "kind" in result.detail


# constraints


async def test_h24_a_constraint_is_replayed_to_a_gcs_that_has_none(stage, command_id):
    stage.gcs.ray.constraint = None
    result = await stage.result_of(replay(command_id, *[Resources.of(CPU=2, memory=1024)] * 3))
    assert (result.outcome, stage.gcs.ray.constraint) == (pb.OUTCOME_DONE, tuple(stage.gcs.ray.constraint))
    assert [dict(each.resources) for each in stage.gcs.ray.constraint] == [{"CPU": 20_000, "memory": 10_240_000}] * 3
    stage.gcs.ray.constraint = None


@pytest.mark.parametrize("there", [[], [Resources.of(CPU=1)]], ids=["an empty one", "another"])
async def test_h24_a_constraint_is_never_replayed_over_one_that_is_there(stage, command_id, there):
    stage.gcs.ray.request_resources(there)
    kept = stage.gcs.ray.constraint
    result = await stage.result_of(replay(command_id, Resources.of(CPU=2)))
    assert (result.outcome, stage.gcs.ray.constraint) == (pb.OUTCOME_REJECTED, kept)
    stage.gcs.ray.constraint = None


@pytest.mark.parametrize("there", [Resources.of(CPU=1), Resources.of(CPU=2)], ids=["another", "just it"])
async def test_h59_a_constraint_is_taken_back_only_in_place_of_just_the_one_meant(stage, command_id, there):
    """A monitor may refuse that always."""
    stage.gcs.ray.request_resources([there])
    stage.gcs.replaceable = (Bundle(Resources.of(CPU=2)),)
    result = await stage.result_of(take_back(command_id, Resources.of(CPU=2)))
    is_done = result.outcome == pb.OUTCOME_DONE
    assert is_done or result.outcome == pb.OUTCOME_REJECTED
    assert stage.gcs.ray.constraint == (() if is_done else (Bundle(there),))
    stage.gcs.ray.constraint = stage.gcs.replaceable = None


@pytest.mark.parametrize("kind", ["drain", "replay"])
async def test_h14_h24_h46_what_was_meant_for_a_cluster_is_not_done_to_its_successor(stage, worker, command_id, kind):
    """The cluster changes after the report and before its answer, so that the command meets another one."""
    command = idle_drain(command_id, worker) if kind == "drain" else replay(command_id, Resources.of(CPU=2))

    def turn_over(report: pb.ReportDemandRequest) -> None:
        stage.service.on_report = lambda later: None
        stage.gcs.ray.restart()

    stage.service.on_report = turn_over
    result = await stage.result_of(command)
    assert result.outcome == pb.OUTCOME_FAILED
    assert drains_of(stage, worker) == 0
    assert stage.gcs.ray.constraint is None


# drivers


def events(stage) -> list[str]:
    return [line for each in stage.gcs.published for line in each.log_batch_message.lines]


async def test_h56_events_are_published_once_as_they_are_to_the_drivers_that_are_connected(stage, command_id):
    before = len(stage.gcs.published)
    batch = ray.LogBatch(ip="10.1.2.3", pid="autoscaler", lines=[f'{{"message": "{command_id}"}}', "second line"])
    result = await stage.result_of(pb.Command(command_id=command_id, tell_drivers=batch))
    assert result.outcome == pb.OUTCOME_DONE
    await stage.turns(2)
    assert stage.gcs.published[before:] == [ray.PubMessage(channel_type=7, log_batch_message=batch)]


async def test_h56_lines_that_the_gcs_does_not_take_are_a_failure(stage, command_id):
    stage.gcs.refusals["GcsPublish"] = (grpc.StatusCode.INTERNAL, "not now")
    result = await stage.result_of(pb.Command(command_id=command_id, tell_drivers=ray.LogBatch(lines=["lost"])))
    assert result.outcome == pb.OUTCOME_FAILED
    assert "not now" in result.detail
    assert "lost" not in events(stage)


def notice(stage) -> bytes | None:
    return stage.gcs.kv.get((b"", b"__autoscaling_error"))


async def test_h57_the_notice_is_kept_where_drivers_read_it_replaced_by_the_next_and_taken_back(stage):
    for text in ("no node type has a GPU", "no node type has a TPU"):
        stage.service.driver_notice = text
        await stage.until(lambda text=text: notice(stage) == f"rayscaler: {text}".encode(), text)
    stage.service.driver_notice = ""
    await stage.until(lambda: notice(stage) is None, "the notice taken back")


async def test_h57_a_notice_that_the_gcs_did_not_take_is_kept_later(stage):
    stage.gcs.refusals["InternalKVPut"] = (grpc.StatusCode.INTERNAL, "not now")
    stage.service.driver_notice = "later"
    await stage.turns(4)
    assert notice(stage) is None
    stage.gcs.refusals.clear()
    await stage.until(lambda: notice(stage) == b"rayscaler: later", "the notice")


async def test_h57_somebody_elses_text_is_neither_replaced_nor_taken_back(stage):
    stage.gcs.kv[b"", b"__autoscaling_error"] = b"another autoscaler's words"
    stage.service.driver_notice = "ours"
    await stage.turns(4)
    stage.service.driver_notice = ""
    await stage.turns(4)
    assert notice(stage) == b"another autoscaler's words"


# state and config


def state(version: int, **fields) -> ray.AutoscalingState:
    return ray.AutoscalingState(autoscaler_state_version=version, **fields)


async def test_h16_h18_the_state_is_told_once_and_its_version_named_from_then_on(stage):
    base, told_before = next(NUMBERS) * 1000 + version_told(stage), stage.gcs.ray.states_told
    for version in (base, base + 1):
        stage.service.state = state(version)
        await stage.report(lambda report, version=version: report.reported_state_version == version, f"version {version}")
        assert stage.gcs.ray.told.autoscaler_state_version == version
    await stage.turns(3)
    assert stage.gcs.ray.states_told == told_before + 2


def version_told(stage) -> int:
    return stage.gcs.ray.told.autoscaler_state_version if stage.gcs.ray.told is not None else 0


async def test_h48_a_lower_version_is_never_told_after_a_higher_one(stage):
    high = version_told(stage) + 1000
    stage.service.state = state(high)
    await stage.report(lambda report: report.reported_state_version == high)
    stage.service.on_answer = lambda request, response: response.autoscaling_state.CopyFrom(state(high - 1))
    await stage.turns(4)
    assert version_told(stage) == high
    assert stage.service.last.reported_state_version == high


async def test_h48_a_state_that_the_gcs_did_not_take_is_told_again(stage):
    version = version_told(stage) + 1000
    stage.gcs.refusals["ReportAutoscalingState"] = (grpc.StatusCode.INTERNAL, "not now")
    stage.service.state = state(version)
    await stage.turns(4)
    assert stage.service.last.reported_state_version != version
    stage.gcs.refusals.clear()
    await stage.report(lambda report: report.reported_state_version == version)
    assert version_told(stage) == version


async def test_h48_the_state_is_told_as_it_is(stage):
    version = version_told(stage) + 1000
    stage.service.state = state(
        version,
        last_seen_cluster_resource_state_version=7,
        pending_instance_requests=[ray.PendingInstanceRequest(instance_type_name="small", ray_node_type_name="small", count=1)] * 2,
        pending_instances=[ray.PendingInstance(instance_id="demo-small-1-0", details="starting")],
        failed_instance_requests=[ray.FailedInstanceRequest(ray_node_type_name="big", reason="no room", failed_ts=1_700_000_009)],
        infeasible_resource_requests=[ray.ResourceRequest(resources_bundle={"GPU": 1.5})],
        infeasible_gang_resource_requests=[ray.GangResourceRequest(details=f"{'ab' * 18}:PACK|PENDING")],
    )
    await stage.report(lambda report: report.reported_state_version == version)
    assert stage.gcs.ray.told == stage.service.state


async def test_h25_the_config_is_told_once_as_it_is_and_its_hash_named_from_then_on(stage):
    config_hash = f"h{next(NUMBERS)}"
    before = stage.gcs.ray.configs_told
    groups = [ray.NodeGroupConfig(name="small", resources={"CPU": 3}, min_count=1, max_count=-1)]
    config = ray.ClusterConfig(min_resources={"CPU": 1}, max_resources={"CPU": 8}, node_group_configs=groups)
    stage.service.config = pb.ClusterConfig(hash=config_hash, config=config)
    await stage.report(lambda report: report.reported_config_hash == config_hash)
    assert stage.gcs.ray.told_config == config
    await stage.turns(3)
    assert stage.gcs.ray.configs_told == before + 1
