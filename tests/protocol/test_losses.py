"""Any monitor when one of its two ends is away, is replaced, or refuses it."""

import asyncio
from itertools import pairwise

import grpc
import pytest

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.resources import Resources
from tests.monitor.doors import idle_drain
from tests.protocol.stage import staged, superseded

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]  # the first builds Go


async def worker(stage, instance_id: str) -> str:
    found = stage.gcs.ray.join(instance_id, "small", Resources.of(CPU=1))
    await stage.snapshot(lambda snapshot: any(each.instance_id == instance_id for each in snapshot.state.node_states), instance_id)
    return found


# the GCS


async def test_h5_h9_a_gcs_that_cannot_be_read_is_said_without_a_snapshot_and_its_return_seen(stage):
    await stage.gcs.stop()
    for _ in range(2):
        found = await stage.report(lambda report: report.gcs_error, "that the GCS is away")
        assert not found.HasField("snapshot")
    await stage.gcs.start()
    await stage.snapshot()


async def test_h9_h12_results_arrive_also_while_the_gcs_is_away(stage):
    node = await worker(stage, "w-away")
    await stage.gcs.stop()
    await stage.report(lambda report: report.gcs_error)
    result = await stage.result_of(idle_drain("while-away", node))
    assert result.outcome == pb.OUTCOME_FAILED
    await stage.gcs.start()
    await stage.snapshot()


async def test_h37_one_call_of_a_reading_that_fails_leaves_no_half_snapshot(stage):
    node = await worker(stage, "w-dies")
    stage.gcs.refusals["GetAllNodeInfo"] = (grpc.StatusCode.INTERNAL, "broken part")
    stage.gcs.ray.die(node)
    found = await stage.report(lambda report: report.gcs_error, "that the reading failed")
    assert "broken part" in found.gcs_error
    assert not found.HasField("snapshot")


async def test_h4_h35_a_new_cluster_at_the_address_is_a_new_session_and_the_sequence_goes_on(stage):
    before = await stage.report(lambda report: report.HasField("session"))
    await stage.gcs.restart()
    after = await stage.report(lambda report: report.session.cluster_id == stage.gcs.ray.cluster_id, "the new session")
    assert after.session.session_name != before.session.session_name
    assert after.HasField("snapshot")
    assert after.monitor_epoch == before.monitor_epoch
    assert after.sequence > before.sequence


async def test_h35_a_new_cluster_is_seen_though_the_connection_held(stage):
    stage.gcs.ray.restart()
    after = await stage.report(lambda report: report.session.cluster_id == stage.gcs.ray.cluster_id, "the new session")
    assert after.HasField("snapshot")


@pytest.mark.parametrize("keeps_id", [True, False], ids=["the same cluster", "another cluster"])
async def test_h18_h25_h39_a_gcs_in_a_new_life_is_told_everything_again(stage, keeps_id):
    stage.service.state = ray.AutoscalingState(autoscaler_state_version=17)
    stage.service.config = pb.ClusterConfig(hash="h", config=ray.ClusterConfig(max_resources={"CPU": 1}))
    await stage.report(lambda report: (report.reported_state_version, report.reported_config_hash) == (17, "h"), "what was told")
    await stage.gcs.restart(keeps_id=keeps_id)
    stage.gcs.ray.told_config = None
    await stage.report(lambda report: (report.reported_state_version, report.reported_config_hash) == (0, ""), "that nothing was told")
    await stage.report(lambda report: (report.reported_state_version, report.reported_config_hash) == (17, "h"), "what was told again")
    assert stage.gcs.ray.told.autoscaler_state_version == 17
    assert stage.gcs.ray.told_config.max_resources == {"CPU": 1}


async def test_h23_a_head_in_v1_mode_is_said_to_be_so(stage):
    assert not (await stage.report()).v1_mode
    stage.gcs.mode = b"0"
    await stage.gcs.restart()
    await stage.report(lambda report: report.v1_mode, "v1 mode")
    stage.gcs.mode = b"1"
    await stage.gcs.restart()
    await stage.report(lambda report: report.HasField("session") and not report.v1_mode, "v2 mode")


async def test_h36_the_token_of_the_environment_goes_to_the_gcs(monitor, tmp_path):
    async with staged(monitor, tmp_path, env={"RAY_AUTH_TOKEN": "secret"}, token="secret") as stage:
        found = await stage.report()
        assert found.HasField("snapshot")
        assert b"secret" not in found.SerializeToString()


async def test_h57_a_gcs_that_forgot_the_notice_has_it_again(stage):
    stage.service.driver_notice = "no node type has a GPU"
    place = (b"", b"__autoscaling_error")
    await stage.until(lambda: stage.gcs.kv.get(place) == b"rayscaler: no node type has a GPU", "the notice")
    await stage.gcs.stop()
    stage.gcs.kv.clear()
    stage.gcs.ray.restart()
    await stage.gcs.start()
    await stage.until(lambda: stage.gcs.kv.get(place) == b"rayscaler: no node type has a GPU", "the notice anew")


# the service


def check_pauses(times: list[float]) -> None:
    """They are 0.2 s at least, 2 s at most; a busy machine may bring one report late, and so near to the next."""
    assert all(later - earlier < 4.0 for earlier, later in pairwise(times)), times
    assert (times[-1] - times[0]) / (len(times) - 1) > 0.1, times


async def test_h12_h20_a_service_that_was_away_gets_everything_over_a_fresh_connection(stage):
    node = await worker(stage, "w-later")
    stage.service.commands = [idle_drain("before-away", node)]
    stage.service.on_answer = lambda request, response: setattr(stage.service, "error", errors.Unavailable("away"))
    await stage.report()
    await stage.until(lambda: len(stage.service.tried) and stage.service.error)
    seen = len(stage.service.tried)
    await stage.until(lambda: len(stage.service.tried) >= seen + 3)
    tried = stage.service.tried[seen:]
    assert len({peer for _, peer, _ in tried}) == len(tried)
    check_pauses([at for at, _, _ in tried])
    assert [request.sequence for _, _, request in tried] == list(range(tried[0][2].sequence, tried[0][2].sequence + len(tried)))
    stage.service.error, stage.service.on_answer = None, lambda request, response: None
    stage.service.forget()
    back = await stage.report(what="a report after the absence")
    assert [each.command_id for each in back.results] == ["before-away"]
    if not back.HasField("snapshot"):
        assert (await stage.report()).HasField("snapshot")
    assert sum(each.node_id.hex() == node for each in stage.gcs.ray.drains) == 1


async def test_h65_a_replica_that_does_not_lead_is_left_for_another_connection_within_a_second_or_two(stage):
    stage.service.error = errors.NotLeader("this replica does not lead")
    seen = len(stage.service.tried)
    await stage.until(lambda: len(stage.service.tried) >= seen + 3)
    tried = stage.service.tried[seen:]
    assert len({peer for _, peer, _ in tried}) == len(tried)
    check_pauses([at for at, _, _ in tried])
    stage.service.error = None
    stage.service.forget()  # who leads now knows nothing
    assert (await stage.snapshot()).monitor_epoch == tried[0][2].monitor_epoch


async def test_h20_a_service_that_was_killed_is_found_again_within_seconds(stage):
    await stage.service.stop()
    await asyncio.sleep(0.5)
    await stage.service.start()
    began = asyncio.get_running_loop().time()
    await stage.report()
    assert asyncio.get_running_loop().time() - began < 5.0


async def test_a_cluster_without_a_definition_is_tried_again_with_back_off(stage):
    """NOT_FOUND of SPEC section 7: the operator may define it any moment."""
    stage.service.error = errors.NotFound("cluster 'demo' has no definition here")
    seen = len(stage.service.tried)
    await stage.until(lambda: len(stage.service.tried) >= seen + 3)
    stage.service.error = None
    await stage.report()


async def test_h32_h33_a_refusal_that_is_never_retried_makes_the_monitor_quiet_and_does_not_end_it(monitor, tmp_path):
    async def is_quiet_after(error: errors.RayscalerError) -> None:
        (directory := tmp_path / error.name).mkdir()
        async with staged(monitor, directory) as stage:
            await stage.report()
            stage.service.error = error
            seen = len(stage.service.tried)
            await stage.until(lambda: len(stage.service.tried) > seen)
            await asyncio.sleep(1.3)
            assert len(stage.service.tried) == seen + 1, error.name

    async with asyncio.TaskGroup() as tasks:
        for error in (superseded(), errors.InvalidRequest("snapshot: broken"), errors.Unauthenticated("the token expired")):
            tasks.create_task(is_quiet_after(error))
