"""The door to the GCS, against a server that records every byte."""

import grpc
import pytest

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.clock import SystemClock
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.gcs import GrpcGcs
from tests.monitor.doors import ManualClock, drain_of
from tests.monitor.recorder import CLUSTER_ID, JOB, answer_jobs, recording, show

pytestmark = pytest.mark.tier("protocol")

DEAD, IDLE, DRAINING = gcs_pb2.NODE_STATUS_DEAD, gcs_pb2.NODE_STATUS_IDLE, gcs_pb2.NODE_STATUS_DRAINING
IDLE_TERMINATION, PREEMPTION = gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION
WRONG_CLUSTER = (grpc.StatusCode.UNAUTHENTICATED, "WrongClusterID: Perhaps the client is accessing GCS after it has restarted.")
BAD_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing or incorrect")


@pytest.fixture
async def ray():
    async with recording() as recorder:
        yield recorder


@pytest.fixture
async def gcs(ray):
    door = GrpcGcs(ray.address, SystemClock(), TokenSource({}))
    yield door
    await door.close()


async def test_the_first_reading_asks_for_id_state_version_jobs_and_mode_and_the_next_for_the_state_only(ray, gcs):
    answer_jobs(ray, gcs_pb2.JobTableData(job_id=JOB))
    reading = await gcs.read()
    assert reading.cluster_id == CLUSTER_ID.hex()
    assert reading.ray_version == "2.60.0"
    assert ray.names() == ["GetClusterId", "GetClusterResourceState", "CheckAlive", "GetAllJobInfo", "InternalKVGet"]
    await gcs.read()
    assert ray.names()[5:] == ["GetClusterResourceState"]


async def test_every_call_but_the_first_carries_the_cluster_id(ray, gcs):
    await gcs.read()
    (_, _, first), *others = ray.calls
    assert "ray_cluster_id" not in first
    assert {metadata["ray_cluster_id"] for _, _, metadata in others} == {CLUSTER_ID.hex()}
    assert not any("authorization" in metadata for _, _, metadata in ray.calls)


async def test_a_token_is_sent_on_every_call(ray):
    gcs = GrpcGcs(ray.address, SystemClock(), TokenSource({"RAY_AUTH_TOKEN": "secret"}))
    await gcs.read()
    await gcs.close()
    assert {metadata["authorization"] for _, _, metadata in ray.calls} == {"Bearer secret"}


async def test_a_refused_token_is_read_again_and_the_call_repeated_only_if_it_changed(ray, tmp_path):
    token = tmp_path / "token"
    token.write_text("old")
    gcs = GrpcGcs(ray.address, SystemClock(), TokenSource({"RAY_AUTH_TOKEN_PATH": str(token)}))
    token.write_text("new")
    ray.refusals["GetClusterId"] = [BAD_TOKEN]
    await gcs.read()
    assert [metadata["authorization"] for _, _, metadata in ray.calls][:2] == ["Bearer old", "Bearer new"]
    ray.refusals["GetClusterResourceState"] = [BAD_TOKEN]
    with pytest.raises(errors.Unauthenticated, match=str(token)) as refused:
        await gcs.read()
    assert "new" not in str(refused.value).replace(str(token), "")
    await gcs.close()


async def test_a_new_cluster_at_the_address_is_taken_up_within_the_reading(ray, gcs):
    first = await gcs.read()
    ray.answers["GetClusterId"] = gcs_pb2.GetClusterIdReply(cluster_id=b"\7" * 28).SerializeToString()
    ray.refusals["GetClusterResourceState"] = [WRONG_CLUSTER]
    second = await gcs.read()
    assert second.cluster_id == "07" * 28
    assert second.gcs_life > first.gcs_life


async def test_after_unavailable_the_id_is_asked_for_again(ray, gcs):
    await gcs.read()
    ray.refusals["GetClusterResourceState"] = [(grpc.StatusCode.UNAVAILABLE, "Socket closed")]
    with pytest.raises(errors.Unavailable, match="Socket closed"):
        await gcs.read()
    ray.calls.clear()
    await gcs.read()
    assert ray.names()[0] == "GetClusterId"


async def test_a_counter_that_fell_is_a_new_life_under_the_same_id(ray, gcs):
    show(ray, version=50)
    lives = [(await gcs.read()).gcs_life]
    show(ray, version=51)
    lives.append((await gcs.read()).gcs_life)
    show(ray, version=1)
    lives.append((await gcs.read()).gcs_life)
    assert lives[0] == lives[1] < lives[2]


async def test_why_nodes_died_is_asked_once_per_death(ray, gcs):
    info = gcs_pb2.GcsNodeInfo(node_id=b"a", death_info=gcs_pb2.NodeDeathInfo(reason=4))
    ray.answers["GetAllNodeInfo"] = gcs_pb2.GetAllNodeInfoReply(node_info_list=[info]).SerializeToString()
    show(ray, version=2, a=DEAD, b=IDLE)
    for _ in range(3):
        assert (await gcs.read()).ended[b"a".hex()].death_info.reason == 4
    assert ray.names().count("GetAllNodeInfo") == 1
    show(ray, version=3, a=DEAD, b=DEAD)
    reading = await gcs.read()
    assert reading.ended.keys() == {b"a".hex(), b"b".hex()}
    await gcs.read()
    assert ray.names().count("GetAllNodeInfo") == 2
    show(ray, version=4, b=DEAD)
    assert (await gcs.read()).ended.keys() == {b"b".hex()}


async def test_drains_are_listed_while_a_node_drains_or_shortly_after_one_was_asked_for(ray, gcs):
    draining = gcs_pb2.GetDrainingNodesReply(draining_nodes=[gcs_pb2.DrainingNode(node_id=b"a", draining_deadline_timestamp_ms=5)])
    ray.answers["GetDrainingNodes"] = draining.SerializeToString()
    show(ray, version=2, a=IDLE)
    assert (await gcs.read()).draining == {}
    show(ray, version=3, a=DRAINING)
    assert (await gcs.read()).draining == {b"a".hex(): 5}
    show(ray, version=4, a=IDLE)
    assert (await gcs.read()).draining == {}
    await gcs.drain(drain_of(b"a".hex(), IDLE_TERMINATION, "idle"))
    assert (await gcs.read()).draining == {b"a".hex(): 5}


async def test_a_drain_says_what_ray_answered(ray, gcs):
    await gcs.read()
    ray.answers["DrainNode"] = gcs_pb2.DrainNodeReply(is_accepted=False, rejection_reason_message="busy").SerializeToString()
    assert await gcs.drain(drain_of("aa" * 28, IDLE_TERMINATION, "idle for 60 s")) == (False, "busy")


@pytest.mark.parametrize(("reason", "deadline_at"), [(IDLE_TERMINATION, None), (PREEMPTION, 1.7e9), (PREEMPTION, None)])
async def test_a_drain_goes_to_the_autoscalers_rpc_as_it_is(ray, gcs, reason, deadline_at):
    await gcs.read()
    asked = drain_of("aa" * 28, reason, "why", deadline_at)
    await gcs.drain(asked)
    method, request, metadata = ray.calls[-1]
    assert method == "/ray.rpc.autoscaler.AutoscalerStateService/DrainNode"
    assert gcs_pb2.DrainNodeRequest.FromString(request) == asked
    assert metadata["ray_cluster_id"] == CLUSTER_ID.hex()


async def test_a_drain_is_not_sent_while_it_is_unknown_which_cluster_answers(ray, gcs):
    with pytest.raises(errors.Unavailable):
        await gcs.drain(drain_of("aa" * 28, IDLE_TERMINATION))
    assert ray.calls == []


async def test_a_drain_that_meets_a_new_cluster_is_void(ray, gcs):
    await gcs.read()
    ray.refusals["DrainNode"] = [WRONG_CLUSTER]
    with pytest.raises(errors.Superseded, match="new Ray cluster"):
        await gcs.drain(drain_of("aa" * 28, IDLE_TERMINATION))
    assert ray.names().count("DrainNode") == 1


@pytest.mark.parametrize(("node_id", "deadline_at"), [("", None), ("aa", -1.0)])
async def test_a_malformed_drain_is_refused_here(ray, gcs, node_id, deadline_at):
    await gcs.read()
    with pytest.raises(errors.InvalidRequest):
        await gcs.drain(drain_of(node_id, PREEMPTION, deadline_at=deadline_at))
    assert "DrainNode" not in ray.names()


async def test_an_address_where_nobody_listens_is_unavailable_in_plain_words():
    gcs = GrpcGcs("127.0.0.1:1", SystemClock(), TokenSource({}))
    with pytest.raises(errors.Unavailable, match=r"Ray's GCS at 127.0.0.1:1"):
        await gcs.read()
    await gcs.close()


async def test_a_call_that_is_never_answered_ends_at_its_deadline(ray):
    gcs = GrpcGcs(ray.address, SystemClock(), TokenSource({}), call_timeout_s=0.2)
    ray.hangs = {"GetClusterId"}
    with pytest.raises(errors.Unavailable):
        await gcs.read()
    await gcs.close()


async def test_a_snapshot_larger_than_grpcs_default_of_4_mib_is_read(ray, gcs):
    """Design §2b.8."""
    show(ray, version=1, **{f"{i:028d}": IDLE for i in range(150_000)})
    assert len(ray.answers["GetClusterResourceState"]) > 4 << 20
    assert len((await gcs.read()).state.node_states) == 150_000


CONSTRAINT = gcs_pb2.ClusterResourceConstraint(
    resource_requests=[gcs_pb2.ResourceRequestByCount(request=gcs_pb2.ResourceRequest(resources_bundle={"CPU": 4.0}), count=2)]
)


async def test_a_constraint_is_replayed_after_a_look_that_finds_none(ray, gcs):
    await gcs.read()
    ray.calls.clear()
    assert await gcs.replay_constraint(CONSTRAINT, CLUSTER_ID.hex()) == (True, "")
    assert ray.names() == ["GetClusterResourceState", "RequestClusterResourceConstraint"]
    method, request, metadata = ray.calls[-1]
    assert method == "/ray.rpc.autoscaler.AutoscalerStateService/RequestClusterResourceConstraint"
    assert gcs_pb2.RequestClusterResourceConstraintRequest.FromString(request).cluster_resource_constraint == CONSTRAINT
    assert metadata["ray_cluster_id"] == CLUSTER_ID.hex()


@pytest.mark.parametrize("there", [CONSTRAINT, gcs_pb2.ClusterResourceConstraint()])
async def test_a_constraint_is_never_replayed_over_another_not_even_over_an_empty_one(ray, gcs, there):
    await gcs.read()
    state = gcs_pb2.ClusterResourceState(cluster_resource_state_version=2, cluster_resource_constraints=[there])
    ray.answers["GetClusterResourceState"] = gcs_pb2.GetClusterResourceStateReply(cluster_resource_state=state).SerializeToString()
    assert await gcs.replay_constraint(CONSTRAINT, CLUSTER_ID.hex()) == (False, "the GCS has one already")
    assert "RequestClusterResourceConstraint" not in ray.names()


def wanted(count=1, selectors=(), **resources):
    request = gcs_pb2.ResourceRequest(resources_bundle=resources, label_selectors=selectors)
    return gcs_pb2.ResourceRequestByCount(request=request, count=count)


ZONE = gcs_pb2.LabelSelector(label_constraints=[gcs_pb2.LabelSelectorConstraint(label_key="zone", operator=1, label_values=["b", "a"])])
ENOZ = gcs_pb2.LabelSelector(label_constraints=[gcs_pb2.LabelSelectorConstraint(label_key="zone", operator=1, label_values=["a", "b"])])
TWO_AND_ZONE = [wanted(2, CPU=0.1), wanted(1, [ZONE], GPU=1.0)]


@pytest.mark.parametrize(
    ("there", "is_same"),
    [
        (TWO_AND_ZONE, True),
        ([wanted(1, [ENOZ], GPU=1.0), wanted(1, [gcs_pb2.LabelSelector()], CPU=0.1 + 1e-9, TPU=0.0), wanted(1, CPU=0.1)], True),
        (None, False),
        ([], False),
        (TWO_AND_ZONE[:1], False),
        ([*TWO_AND_ZONE, wanted(CPU=0.1)], False),
        ([wanted(2, CPU=0.2), TWO_AND_ZONE[1]], False),
        ([TWO_AND_ZONE[0], wanted(1, GPU=1.0)], False),
    ],
    ids=["it", "it, told otherwise", "none", "an empty one", "less", "more", "larger", "without its label"],
)
async def test_e2_h59_a_constraint_is_taken_back_only_where_it_is_just_the_one_that_was_meant(ray, gcs, there, is_same):
    await gcs.read()
    constraints = [] if there is None else [gcs_pb2.ClusterResourceConstraint(resource_requests=there)]
    state = gcs_pb2.ClusterResourceState(cluster_resource_state_version=2, cluster_resource_constraints=constraints)
    ray.answers["GetClusterResourceState"] = gcs_pb2.GetClusterResourceStateReply(cluster_resource_state=state).SerializeToString()
    meant = gcs_pb2.ClusterResourceConstraint(resource_requests=TWO_AND_ZONE)
    found = await gcs.replay_constraint(gcs_pb2.ClusterResourceConstraint(), CLUSTER_ID.hex(), meant)
    assert found == ((True, "") if is_same else (False, "the GCS has another one, or none"))
    assert ("RequestClusterResourceConstraint" in ray.names()) == is_same


async def test_a_constraint_is_not_replayed_to_another_cluster_than_the_one_it_was_asked_for(ray, gcs):
    await gcs.read()
    with pytest.raises(errors.Superseded):
        await gcs.replay_constraint(CONSTRAINT, "07" * 28)
    for refused in ("GetClusterResourceState", "RequestClusterResourceConstraint"):
        ray.refusals[refused] = [WRONG_CLUSTER]
        with pytest.raises(errors.Superseded):
            await gcs.replay_constraint(CONSTRAINT, CLUSTER_ID.hex())
        await gcs.read()
    assert ray.names().count("RequestClusterResourceConstraint") == 1


SAYINGS = {
    "state": lambda gcs: gcs.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=1)),
    "config": lambda gcs: gcs.report_config(gcs_pb2.ClusterConfig()),
    "notice": lambda gcs: gcs.set_notice("text"),
    "drivers": lambda gcs: gcs.tell_drivers(gcs_pb2.LogBatch(lines=["text"])),
    "constraint": lambda gcs: gcs.replay_constraint(CONSTRAINT, CLUSTER_ID.hex()),
    "size": lambda gcs: gcs.resize(gcs_pb2.ResizeRayletResourceInstancesRequest(node_id=b"n", resources={"CPU": 2.0})),
}


@pytest.mark.parametrize("saying", SAYINGS.values(), ids=SAYINGS)
async def test_nothing_is_told_while_it_is_unknown_which_cluster_answers(ray, gcs, saying):
    with pytest.raises(errors.Unavailable):
        await saying(gcs)
    await gcs.read()
    ray.refusals["GetClusterResourceState"] = [(grpc.StatusCode.UNAVAILABLE, "Socket closed")]
    with pytest.raises(errors.Unavailable):
        await gcs.read()
    ray.calls.clear()
    with pytest.raises(errors.Unavailable):
        await saying(gcs)
    assert ray.calls == []


@pytest.mark.parametrize("saying", SAYINGS.values(), ids=SAYINGS)
async def test_whatever_is_told_names_the_cluster(ray, gcs, saying):
    await gcs.read()
    ray.calls.clear()
    await saying(gcs)
    assert {metadata.get("ray_cluster_id") for _, _, metadata in ray.calls} == {CLUSTER_ID.hex()}


async def test_the_config_goes_to_the_autoscalers_rpc(ray, gcs):
    await gcs.read()
    config = gcs_pb2.ClusterConfig(max_resources={"CPU": 8})
    await gcs.report_config(config)
    method, request, _ = ray.calls[-1]
    assert method == "/ray.rpc.autoscaler.AutoscalerStateService/ReportClusterConfig"
    assert gcs_pb2.ReportClusterConfigRequest.FromString(request).cluster_config == config


def answer_kv(ray, value: bytes) -> None:
    ray.answers["InternalKVGet"] = gcs_pb2.InternalKVGetReply(value=value).SerializeToString()


@pytest.mark.parametrize(("value", "is_v1"), [(b"1", False), (b"0", True), (b"", False)])
async def test_the_mode_is_what_the_head_wrote_and_v1_only_if_it_wrote_so(ray, gcs, value, is_v1):
    answer_kv(ray, value)
    assert (await gcs.read()).is_v1_mode is is_v1
    (request,) = (gcs_pb2.InternalKVGetRequest.FromString(sent) for method, sent, _ in ray.calls if method.endswith("/InternalKVGet"))
    assert (request.namespace, request.key) == (b"__autoscaler", b"__autoscaler_v2_enabled")


async def test_the_mode_is_asked_for_once_in_each_life_of_a_v2_head_and_again_until_the_head_says_v2(ray):
    clock = ManualClock()
    gcs = GrpcGcs(ray.address, clock, TokenSource({}))
    modes = []
    for version, value in [(1, b""), (2, b"0"), (3, b"1"), (4, b"0"), (1, b"0")]:
        show(ray, version=version)
        answer_kv(ray, value)
        clock.pass_s(2.5)
        modes.append((await gcs.read()).is_v1_mode)
    await gcs.close()
    assert modes == [False, True, False, False, True]
    assert ray.names().count("InternalKVGet") == 4


@pytest.mark.parametrize(
    ("there", "text", "call"),
    [
        (b"", "v1", "InternalKVPut"),
        (b"rayscaler: older words", "v1", "InternalKVPut"),
        (b"rayscaler: v1", "v1", ""),
        (b"somebody else's", "v1", ""),
        (b"", "", ""),
        (b"rayscaler: older words", "", "InternalKVDel"),
        (b"somebody else's", "", ""),
    ],
)
async def test_the_notice_for_drivers_is_put_and_taken_back_but_only_ours(ray, gcs, there, text, call):
    await gcs.read()
    ray.calls.clear()
    answer_kv(ray, there)
    await gcs.set_notice(text)
    assert ray.names()[1:] == ([call] if call else [])
    if call == "InternalKVPut":
        put = gcs_pb2.InternalKVPutRequest.FromString(ray.calls[-1][1])
        assert (put.namespace, put.key, put.value, put.overwrite) == (b"", b"__autoscaling_error", b"rayscaler: v1", True)
    if call == "InternalKVDel":
        delete = gcs_pb2.InternalKVDelRequest.FromString(ray.calls[-1][1])
        assert (delete.namespace, delete.key) == (b"", b"__autoscaling_error")


async def test_wc_11_events_go_to_connected_drivers_as_they_are(ray, gcs):
    batch = gcs_pb2.LogBatch(ip="10.0.0.1", pid="autoscaler", lines=["cannot be", '{"so": "it is"}'])
    await gcs.read()
    await gcs.tell_drivers(batch)
    ((message,),) = [
        gcs_pb2.GcsPublishRequest.FromString(request).pub_messages for method, request, _ in ray.calls if method.endswith("GcsPublish")
    ]
    assert message == gcs_pb2.PubMessage(channel_type=7, log_batch_message=batch)
