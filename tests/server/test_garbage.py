"""Reports are untrusted (SE-9): whatever comes is taken or refused as the caller's fault, and the service goes on."""

import asyncio
import functools
import os
from dataclasses import replace

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayscaler import rules
from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.command import AutoscalingState
from rayscaler.server import convert, told
from rayscaler.server.snapshot import DETAILS
from rayscaler.settings import Timings
from tests.server.sockets import service

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(1800)]  # the soak gives many more

EXAMPLES = "RAYSCALER_TEST_REPORTS"
"""Variable that says how many random reports each test gives; the soak gives 10,000 (complaint F5)."""
EDGES_64 = st.sampled_from([0, 1, -1, 2, 10_000, 1 << 40, 1 << 62, (1 << 63) - 1, -(1 << 63)])
SCALARS = {
    FieldDescriptor.CPPTYPE_INT64: EDGES_64 | st.integers(-(1 << 63), (1 << 63) - 1),
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([0, 1, -1, (1 << 31) - 1, -(1 << 31), 999_999_999]),
    FieldDescriptor.CPPTYPE_STRING: st.sampled_from(["", "CPU", "demo", "demo-small-1-0", "n1", "small", "node:1.2.3.4", "x" * 600, "\x00", "\U0001f600"])
    | st.text(max_size=6),
    FieldDescriptor.CPPTYPE_UINT64: st.sampled_from([0, 1, (1 << 64) - 1]),
    FieldDescriptor.CPPTYPE_DOUBLE: st.sampled_from([0.0, -1.0, 1.0, 0.5, 1e-9, 1e300, float("nan"), float("inf")]) | st.floats(),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 5),
}  # fmt: skip


BYTES = st.sampled_from([b"", b"n1", b"\x01\x00\x00\x00", bytes(18), b"\xff" * 28])


def values(field: FieldDescriptor, depth: int):
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BYTES
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return messages(field.message_type, depth - 1)
    return SCALARS[field.cpp_type]


def fields_of(descriptor: Descriptor, depth: int):
    found = {}
    for field in descriptor.fields:
        if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE and depth <= 0:
            continue
        one = values(field, depth)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key, value = field.message_type.fields_by_name["key"], field.message_type.fields_by_name["value"]
            one = st.dictionaries(values(key, depth), values(value, depth), max_size=3)
        elif field.is_repeated:
            one = st.lists(one, max_size=3)
        found[field.name] = one
    return found


@functools.cache
def messages(descriptor: Descriptor, depth: int = 6):
    """Any message of a type: any fields, any values that the wire can carry."""
    made = GetMessageClass(descriptor)
    return st.deferred(lambda: st.fixed_dictionaries({}, optional=fields_of(descriptor, depth)).map(lambda chosen: made(**chosen)))


REPORTS = messages(pb.ReportDemandRequest.DESCRIPTOR)
ALLOWED = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
}


@pytest.fixture
async def running():
    async with service(timings=replace(Timings(), coalesce_s=0.0)) as found:
        yield found


async def give(running, request):
    """Send it; whatever the answer, it is not our bug, and the service still tells status."""
    try:
        await running.stub.ReportDemand(request)
    except grpc.aio.AioRpcError as error:
        if error.code() not in ALLOWED:
            raise
    await asyncio.sleep(0)
    await running.stub.GetStatus(pb.GetStatusRequest())
    assert not [task for task in running.tasks if task.done()], [task.exception() for task in running.tasks]


SETTINGS = settings(
    max_examples=int(os.environ.get(EXAMPLES, "120")),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@SETTINGS
@given(REPORTS)
async def test_a_random_report_is_never_an_internal_error(running, request):
    await give(running, request)


def repaired(request: pb.ReportDemandRequest, sequence: int) -> pb.ReportDemandRequest:
    """Make a report admissible, so that its content reaches reconciler and planner: all rules kept, all else as it was."""
    request.cluster, request.monitor_epoch, request.sequence = "demo", 1, sequence
    request.session.cluster_id, request.session.session_name = "c", "s"
    for name in ("gcs_error", "head_incarnation", "reported_config_hash"):
        request.ClearField(name)
    request.age.Clear()
    del request.results[:]
    request.base_sequence, request.reported_state_version = abs(request.base_sequence) >> 1, abs(request.reported_state_version) >> 1
    snapshot = request.snapshot
    snapshot.state.SetInParent()
    snapshot.live_detached_actors = abs(snapshot.live_detached_actors) >> 1
    state = snapshot.state
    state.cluster_resource_state_version = abs(state.cluster_resource_state_version) >> 1
    counted = [
        *state.pending_resource_requests,
        *(each for entry in state.cluster_resource_constraints for each in entry.resource_requests),
    ]
    for each in counted:
        each.count = min(each.count, rules.MAX_COUNT)
    gangs = state.pending_gang_resource_requests
    in_gangs = [
        each for gang in gangs for each in (*gang.requests, *(one for entry in gang.bundle_selectors for one in entry.resource_requests))
    ]
    for each in [*(each.request for each in counted), *in_gangs]:
        _repair_amounts(each.resources_bundle)
    for node in state.node_states:
        node.node_id = node.node_id or b"n1"
        node.instance_id, node.ray_node_type_name = _name(node.instance_id), _name(node.ray_node_type_name)
        node.idle_duration_ms = abs(node.idle_duration_ms) % 1_000_000
        _repair_amounts(node.total_resources)
        _repair_amounts(node.available_resources)
    return request


def _name(text):
    return rules.CONTROL.sub("", text)[:500]


def _repair_amounts(amounts):
    for name, amount in list(amounts.items()):
        if not amount <= 1e14:
            amounts[name] = 1.0


@SETTINGS
@given(st.lists(REPORTS, min_size=1, max_size=4))
async def test_a_random_admissible_report_is_taken_decided_on_and_answered(running, requests):
    for request in requests:
        sequence = running.reconcilers[0]._order.sequence + 1
        await running.stub.ReportDemand(repaired(request, sequence))
        await asyncio.sleep(0.002)
        await running.stub.GetStatus(pb.GetStatusRequest())
        assert not [task for task in running.tasks if task.done()], [task.exception() for task in running.tasks]


@pytest.mark.tier("property")
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(REPORTS)
def test_what_is_taken_goes_back_out_as_it_came(request):
    """Gangs that go out again (as infeasible) are those that came in, with equal bundles side by side."""
    made = convert.demand_report(repaired(request, 1))
    assert made.snapshot is not None
    back = told.autoscaling_state(AutoscalingState(1, 1, infeasible_gangs=made.snapshot.gangs))
    again = convert.demand_report(repaired(pb.ReportDemandRequest(snapshot=_with_gangs(back.infeasible_gang_resource_requests)), 1))
    assert again.snapshot is not None
    kept = [gang for gang in made.snapshot.gangs if not any("_group_" in name for each in gang.bundles for name in each.bundle.resources)]
    odd = [gang for gang in kept if not DETAILS.fullmatch(f"{gang.gang_id}:{gang.strategy.value}|PENDING")]
    assert len(again.snapshot.gangs) == len(kept)
    if not odd:
        assert again.snapshot.gangs == tuple(replace(gang, is_orphaned=False) for gang in kept)


def _with_gangs(gangs):
    return pb.Snapshot(state=ray.ClusterResourceState(pending_gang_resource_requests=gangs))
