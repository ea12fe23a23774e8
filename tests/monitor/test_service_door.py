"""The door to the service, against a server that records every byte."""

import grpc
import pytest

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.monitor.service import GrpcTransport
from rayscaler.reconciler.registry import Registry
from tests.monitor.recorder import recording
from tests.server.sockets import door_of

pytestmark = pytest.mark.tier("protocol")

REPORT = head_pb2.ReportDemandRequest(cluster="demo", monitor_epoch=1, sequence=1)


@pytest.fixture
async def service():
    async with recording() as recorder:
        recorder.answers["ReportDemand"] = head_pb2.ReportDemandResponse(acknowledged=["c1"]).SerializeToString()
        yield recorder


@pytest.fixture
async def transport(service):
    door = GrpcTransport(f"dns:///{service.address}", timeout_s=2.0)
    yield door
    await door.close()


async def test_a_report_goes_to_the_head_service_and_brings_its_answer(service, transport):
    response = await transport.report(REPORT)
    assert list(response.acknowledged) == ["c1"]
    ((method, request, _),) = service.calls
    assert method == "/rayscaler.api.head.v1.HeadService/ReportDemand"
    assert head_pb2.ReportDemandRequest.FromString(request) == REPORT


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (grpc.StatusCode.UNAVAILABLE, errors.Unavailable),
        (grpc.StatusCode.FAILED_PRECONDITION, errors.Superseded),
        (grpc.StatusCode.NOT_FOUND, errors.NotFound),
        (grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        (grpc.StatusCode.PERMISSION_DENIED, errors.Denied),
        (grpc.StatusCode.INTERNAL, errors.RayscalerError),
    ],
)
async def test_refusals_become_our_errors_with_the_services_words(service, transport, code, error):
    service.refusals["ReportDemand"] = [(code, "the words")]
    with pytest.raises(errors.RayscalerError, match="the words") as raised:
        await transport.report(REPORT)
    assert type(raised.value) is error
    assert (await transport.report(REPORT)).acknowledged


async def test_after_unavailable_the_connection_is_made_anew_and_otherwise_kept(service, transport):
    for _ in range(3):
        await transport.report(REPORT)
    assert len(set(service.peers)) == 1
    service.refusals["ReportDemand"] = [(grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")]
    with pytest.raises(errors.Unavailable):
        await transport.report(REPORT)
    await transport.report(REPORT)
    assert len(set(service.peers)) == 2


async def test_a_report_that_is_not_answered_ends_at_its_deadline(service, transport):
    transport = GrpcTransport(service.address, timeout_s=0.2)
    service.hangs = {"ReportDemand"}
    with pytest.raises(errors.Unavailable):
        await transport.report(REPORT)
    await transport.close()


async def test_a_report_of_more_than_grpcs_default_of_4_mib_is_delivered(service, transport):
    state = gcs_pb2.ClusterResourceState(node_states=[gcs_pb2.NodeState(node_activity=["x" * (1 << 20)] * 5)])
    await transport.report(head_pb2.ReportDemandRequest(snapshot=head_pb2.Snapshot(state=state)))


async def test_2b_8_a_report_above_what_the_service_takes_is_refused_with_the_setting_that_helps():
    """Design §2b.8; the limit is the service's own: what it would take, the monitor sends, also more than the default of 32 MiB."""
    state = gcs_pb2.ClusterResourceState(node_states=[gcs_pb2.NodeState(node_activity=["x" * (1 << 20)] * 33)])
    big = head_pb2.ReportDemandRequest(cluster="demo", monitor_epoch=1, sequence=1, snapshot=head_pb2.Snapshot(state=state))
    for limit, words in ((32 << 20, "33554432.*RAYSCALER_MAX_MESSAGE_BYTES"), (64 << 20, "session: is required")):
        async with door_of(Registry([]), max_message_bytes=limit) as door:
            transport = GrpcTransport(door.address)
            with pytest.raises(errors.InvalidRequest, match=words):
                await transport.report(big)
            await transport.close()
