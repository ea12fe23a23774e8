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

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.server import answers, convert
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
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(-1, 5),
}  # fmt: skip


def values(field: FieldDescriptor, depth: int):
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
    snapshot.SetInParent()
    snapshot.live_jobs, snapshot.live_detached_actors = abs(snapshot.live_jobs) >> 1, abs(snapshot.live_detached_actors) >> 1
    snapshot.gcs_version = abs(snapshot.gcs_version) >> 1
    named = sorted(set(filter(None, map(_name, snapshot.live_job_ids))))[: convert.MAX_JOBS]
    snapshot.ClearField("live_job_ids")
    if named:
        snapshot.live_jobs = len(named)
        snapshot.live_job_ids.extend(named)
    lists = [snapshot.demands, snapshot.constraint.demands, *(gang.bundles for gang in snapshot.gangs)]
    for demand in [demand for each in lists for demand in each]:
        demand.count = min(max(demand.count, 1), convert.MAX_COUNT)
        _repair_amounts(demand.bundle.resources)
        for condition in [condition for each in demand.bundle.label_selectors for condition in each.conditions]:
            condition.key, condition.operator = _name(condition.key) or "k", min(max(condition.operator, 1), 2)
    for gang in snapshot.gangs:
        gang.gang_id, gang.strategy = _name(gang.gang_id) or "g", min(max(gang.strategy, 1), 4)
        if not gang.bundles:
            gang.bundles.add(count=1).bundle.resources["CPU"] = 1
        for each in gang.bundles:
            each.count = min(each.count, convert.MAX_GANG // len(gang.bundles))
    for node in snapshot.nodes:
        node.ray_node_id, node.status = _name(node.ray_node_id) or "n1", min(max(node.status, 1), 4)
        node.instance_id, node.node_type = _name(node.instance_id), _name(node.node_type)
        node.idle.seconds, node.idle.nanos = abs(node.idle.seconds) % 1000, 0
        node.draining.deadline.Clear()
        _repair_amounts(node.total)
        _repair_amounts(node.available)
    return request


def _name(text):
    return convert.CONTROL.sub("", text)[:500]


def _repair_amounts(amounts):
    for name in list(amounts):
        if not name or name != _name(name):
            del amounts[name]
        else:
            amounts[name] = min(max(amounts[name], 0), 1 << 62)


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
    """Bundles and gangs that go out again (as infeasible) are those that came in, with equal ones added up."""
    made = convert.demand_report(repaired(request, 1))
    assert made.snapshot is not None
    for gang, sent in zip(made.snapshot.gangs, request.snapshot.gangs, strict=True):
        back = answers._gang(gang)
        assert (back.gang_id, back.strategy, back.rescheduling) == (sent.gang_id, sent.strategy, sent.rescheduling)
        assert sum(each.count for each in back.bundles) == sum(each.count for each in sent.bundles)
        wanted = {name for each in sent.bundles for name, amount in each.bundle.resources.items() if amount}
        assert {name for each in back.bundles for name in each.bundle.resources} == wanted
