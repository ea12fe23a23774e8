"""Reports that break a rule, each by its name: the reason of SPEC section 7, the field, and that the next good report is taken (SE-9)."""

import struct

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.server.app import HEAD_SERVICE
from tests.server.sockets import Service, details, failure, report, service

pytestmark = pytest.mark.tier("protocol")

LARGEST = 4 << 20
"""What the server of these tests takes."""


def node(**fields) -> dict:
    return {"snapshot": pb.Snapshot(nodes=[pb.Node(**{"ray_node_id": "n1", "status": pb.NODE_STATUS_IDLE, **fields})])}


def demand(count=1, **fields) -> dict:
    return {"snapshot": pb.Snapshot(demands=[pb.Demand(bundle=pb.Bundle(**{"resources": {"CPU": 1}, **fields}), count=count)])}


def selecting(**condition) -> dict:
    return demand(label_selectors=[pb.LabelSelector(conditions=[pb.LabelCondition(**condition)])])


def gang(**fields) -> dict:
    bundles = [pb.Demand(bundle=pb.Bundle(resources={"CPU": 1}), count=1)]
    return {"snapshot": pb.Snapshot(gangs=[pb.Gang(**{"gang_id": "g", "strategy": pb.STRATEGY_PACK, "bundles": bundles, **fields})])}


def result(**fields) -> dict:
    return {"results": [pb.CommandResult(**{"command_id": "c", "outcome": pb.OUTCOME_DONE, **fields})]}


def session(**fields) -> dict:
    return {"session": pb.Session(**{"cluster_id": "c1", "session_name": "session_1", **fields})}


async def is_refused_and_the_next_taken(s: Service, bad: pb.ReportDemandRequest, code: str, reason: str) -> grpc.aio.AioRpcError:
    """Send a good report, the bad one, and one that shows 7 waiting bundles; return the refusal."""
    await s.stub.ReportDemand(report(5, snapshot=pb.Snapshot(live_jobs=1)))
    error = await failure(s.stub.ReportDemand(bad))
    assert error.code().name == code
    info, _ = details(error)
    assert (info.reason, info.domain) == (reason, "rayscaler.io")
    await is_taken(s)
    return error


async def is_taken(s: Service) -> None:
    """Send a good report; everything after it goes on as before."""
    good = pb.Snapshot(demands=[pb.Demand(bundle=pb.Bundle(resources={"GPU": 70_000}), count=7)], live_jobs=1)
    assert not (await s.stub.ReportDemand(report(6, snapshot=good))).want_snapshot
    assert not (await s.stub.ReportDemand(report(7, base_sequence=6))).want_snapshot
    (cluster,) = (await s.stub.GetStatus(pb.GetStatusRequest(cluster="demo"))).clusters
    assert (cluster.blind, cluster.session.session_name) == ("", "session_1")


RULES = {
    # enums
    "status unknown": (node(status=77), "snapshot.nodes[0].status"),
    "status negative": (node(status=-1), "snapshot.nodes[0].status"),
    "operator unknown": (selecting(key="k", operator=3), "snapshot.demands[0].bundle.label_selectors[0].conditions[0].operator"),
    "strategy unknown": (gang(strategy=5), "snapshot.gangs[0].strategy"),
    "outcome unknown": (result(outcome=4), "results[0].outcome"),
    # numbers
    "amount negative": (demand(resources={"CPU": -1}), "snapshot.demands[0].bundle.resources['CPU']"),
    "amount too large": (demand(resources={"CPU": (1 << 62) + 1}), "snapshot.demands[0].bundle.resources['CPU']"),
    "amount of a node negative": (node(available={"CPU": -1}), "snapshot.nodes[0].available['CPU']"),
    "count negative": (demand(-1), "snapshot.demands[0].count"),
    "count too large": (demand((1 << 40) + 1), "snapshot.demands[0].count"),
    "gang too large": (gang(bundles=demand(10_001)["snapshot"].demands), "snapshot.gangs[0].bundles"),
    "age negative": ({"age": Duration(seconds=-1)}, "age"),
    "idle time negative": (node(idle=Duration(seconds=-1)), "snapshot.nodes[0].idle"),
    "deadline negative": (node(draining=pb.Draining(deadline=Timestamp(seconds=-1))), "snapshot.nodes[0].draining.deadline"),
    "epoch negative": ({"monitor_epoch": -1}, "monitor_epoch"),
    "sequence negative": ({"sequence": -1}, "sequence"),
    "sequence 0": ({"sequence": 0}, "sequence"),
    "base negative": ({"base_sequence": -1}, "base_sequence"),
    "version told negative": ({"reported_state_version": -1}, "reported_state_version"),
    "jobs negative": ({"snapshot": pb.Snapshot(live_jobs=-1)}, "snapshot.live_jobs"),
    "jobs named in part": ({"snapshot": pb.Snapshot(live_jobs=2, live_job_ids=["a"])}, "snapshot.live_job_ids"),
    "a job named twice": ({"snapshot": pb.Snapshot(live_jobs=2, live_job_ids=["a", "a"])}, "snapshot.live_job_ids"),
    "a job without a name": ({"snapshot": pb.Snapshot(live_jobs=1, live_job_ids=[""])}, "snapshot.live_job_ids[0]"),
    "too many jobs named": ({"snapshot": pb.Snapshot(live_jobs=1001, live_job_ids=map(str, range(1001)))}, "snapshot.live_job_ids"),
    "actors negative": ({"snapshot": pb.Snapshot(live_detached_actors=-1)}, "snapshot.live_detached_actors"),
    "counter negative": ({"snapshot": pb.Snapshot(gcs_version=-1)}, "snapshot.gcs_version"),
    # names
    "cluster with a newline": ({"cluster": "demo\n"}, "cluster"),
    "cluster id with a newline": (session(cluster_id="c1\nlevel=error"), "session.cluster_id"),
    "session name with a newline": (session(session_name="\r\n"), "session.session_name"),
    "incarnation with a newline": ({"head_incarnation": "a\nb"}, "head_incarnation"),
    "hash with a NUL": ({"reported_config_hash": "\x00"}, "reported_config_hash"),
    "node id with a newline": (node(ray_node_id="n\n1"), "snapshot.nodes[0].ray_node_id"),
    "instance id with a newline": (node(instance_id="i\n1"), "snapshot.nodes[0].instance_id"),
    "node type with an escape": (node(node_type="\x1b[31m"), "snapshot.nodes[0].node_type"),
    "resource with a newline": (demand(resources={"a\nb": 1}), "snapshot.demands[0].bundle.resources['a\\nb']"),
    "resource with a line separator": (node(total={"a\u2028": 1}), "snapshot.nodes[0].total['a\\u2028']"),
    "label with a newline": (selecting(key="k\n", operator=1), "snapshot.demands[0].bundle.label_selectors[0].conditions[0].key"),
    "gang id with a newline": (gang(gang_id="g\n"), "snapshot.gangs[0].gang_id"),
    "command id with a newline": (result(command_id="c\n"), "results[0].command_id"),
    "resource without a name": (demand(resources={"": 1}), "snapshot.demands[0].bundle.resources['']"),
    "name too long": (demand(resources={"x" * 513: 1}), f"snapshot.demands[0].bundle.resources['{'x' * 40}']"),
}


@pytest.mark.parametrize(("fields", "path"), RULES.values(), ids=RULES)
async def test_a_field_that_breaks_its_rule_is_named_and_the_next_report_taken(fields, path):
    async with service() as s:
        error = await is_refused_and_the_next_taken(s, report(**{"sequence": 6, **fields}), "INVALID_ARGUMENT", "INVALID_REQUEST")
    (violation,) = details(error)[1].field_violations
    assert violation.field == path
    assert violation.description
    assert "\n" not in error.details()


async def test_an_old_sequence_is_superseded_and_the_next_report_taken():
    async with service() as s:
        error = await is_refused_and_the_next_taken(s, report(4, snapshot=pb.Snapshot()), "FAILED_PRECONDITION", "SUPERSEDED")
    assert "report 4 came after report 5" in error.details()


async def test_an_old_monitor_is_superseded_and_the_next_report_taken():
    async with service() as s:
        await s.stub.ReportDemand(report(1, monitor_epoch=9, snapshot=pb.Snapshot()))
        error = await failure(s.stub.ReportDemand(report(100, monitor_epoch=8, snapshot=pb.Snapshot())))
        assert (error.code().name, details(error)[0].reason) == ("FAILED_PRECONDITION", "SUPERSEDED")
        assert not (await s.stub.ReportDemand(report(2, monitor_epoch=9, base_sequence=1))).want_snapshot


async def test_a_session_that_ended_is_superseded_for_ever_and_the_next_report_taken():
    async with service() as s:
        await s.stub.ReportDemand(report(1, session=pb.Session(cluster_id="c0", session_name="session_0"), snapshot=pb.Snapshot()))
        for sequence in (6, 7):
            foreign = report(sequence, session=pb.Session(cluster_id="c0", session_name="session_0"), snapshot=pb.Snapshot())
            await s.stub.ReportDemand(report(5, snapshot=pb.Snapshot()))
            error = await failure(s.stub.ReportDemand(foreign))
            assert (error.code().name, details(error)[0].reason) == ("FAILED_PRECONDITION", "SUPERSEDED")
            assert "session_0 ended when session_1 took its place" in error.details()
        await is_taken(s)


async def test_a_head_that_was_replaced_is_superseded_for_ever_and_the_next_report_taken():
    async with service() as s:
        await s.stub.ReportDemand(report(1, head_incarnation="a", snapshot=pb.Snapshot()))
        await s.stub.ReportDemand(report(2, head_incarnation="b", snapshot=pb.Snapshot()))
        error = await failure(s.stub.ReportDemand(report(3, head_incarnation="a", snapshot=pb.Snapshot())))
        assert (error.code().name, details(error)[0].reason) == ("FAILED_PRECONDITION", "SUPERSEDED")
        await is_taken(s)


async def test_a_cluster_without_a_definition_is_not_found_and_the_next_report_taken():
    async with service() as s:
        await is_refused_and_the_next_taken(s, report(6, cluster="other", snapshot=pb.Snapshot()), "NOT_FOUND", "NOT_FOUND")


async def test_a_report_that_is_too_large_is_refused_by_grpc_and_the_next_one_taken():
    async with service() as s:
        large = report(6, snapshot=pb.Snapshot(nodes=[pb.Node(ray_node_id="n1", status=1, activity=["x" * LARGEST])]))
        error = await failure(s.stub.ReportDemand(large))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(LARGEST) in error.details()
        await is_taken(s)


def floats_in(descriptor: Descriptor, seen: frozenset[str] = frozenset()) -> list[str]:
    found = []
    for field in descriptor.fields:
        if field.cpp_type in (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT):
            found.append(field.full_name)
        elif field.message_type is not None and field.message_type.full_name not in seen:
            found += floats_in(field.message_type, seen | {descriptor.full_name})
    return found


async def test_nan_cannot_be_said_and_its_bytes_in_place_of_an_amount_are_refused():
    """Amounts are integers on this wire. A double's bytes under an amount's number are a field that nobody knows: the amount is 0, so of no demand."""
    assert floats_in(pb.ReportDemandRequest.DESCRIPTOR) == []
    nan = struct.pack("<d", float("nan"))
    count_as_double = bytes([(2 << 3) | 1]) + nan
    made = pb.Demand(bundle=pb.Bundle(resources={"CPU": 1})).SerializeToString() + count_as_double
    snapshot = bytes([(2 << 3) | 2, len(made)]) + made
    data = report(6).SerializeToString() + bytes([(6 << 3) | 2, len(snapshot)]) + snapshot
    async with service() as s:
        await s.stub.ReportDemand(report(5, snapshot=pb.Snapshot()))
        call = s.channel.unary_unary(f"/{HEAD_SERVICE}/ReportDemand", response_deserializer=pb.ReportDemandResponse.FromString)
        error = await failure(call(data))
        assert (error.code().name, details(error)[0].reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
        assert [each.field for each in details(error)[1].field_violations] == ["snapshot.demands[0].count"]
        await is_taken(s)
