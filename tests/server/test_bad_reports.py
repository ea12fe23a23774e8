"""Reports that break a rule, each by its name: the reason of SPEC section 7, the field, and that the next good report is taken (SE-9)."""

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from tests.server.sockets import Service, details, failure, report, service

pytestmark = pytest.mark.tier("protocol")

LARGEST = 4 << 20
"""What the server of these tests takes."""


def state(**fields) -> pb.Snapshot:
    return pb.Snapshot(state=ray.ClusterResourceState(**fields), jobs=[ray.JobTableData(job_id=b"job1")])


def node(**fields) -> dict:
    return {"snapshot": state(node_states=[ray.NodeState(**{"node_id": b"n1", **fields})])}


def demand(count=1, **fields) -> dict:
    request = ray.ResourceRequest(**{"resources_bundle": {"CPU": 1.0}, **fields})
    return {"snapshot": state(pending_resource_requests=[ray.ResourceRequestByCount(request=request, count=count)])}


def gang(size: int, **resources: float) -> dict:
    requests = [ray.ResourceRequest(resources_bundle=resources)] * size
    return {"snapshot": state(pending_gang_resource_requests=[ray.GangResourceRequest(details="ab:PACK|PENDING", requests=requests)])}


def result(**fields) -> dict:
    return {"results": [pb.CommandResult(**{"command_id": "c", "outcome": pb.OUTCOME_DONE, **fields})]}


def session(**fields) -> dict:
    return {"session": pb.Session(**{"cluster_id": "c1", "session_name": "session_1", **fields})}


async def is_refused_and_the_next_taken(s: Service, bad: pb.ReportDemandRequest, code: str, reason: str) -> grpc.aio.AioRpcError:
    """Send a good report, the bad one, and one that shows 7 waiting bundles; return the refusal."""
    await s.stub.ReportDemand(report(5, snapshot=state()))
    error = await failure(s.stub.ReportDemand(bad))
    assert error.code().name == code
    info, _ = details(error)
    assert (info.reason, info.domain) == (reason, "rayscaler.io")
    await is_taken(s)
    return error


async def is_taken(s: Service) -> None:
    """Send a good report; everything after it goes on as before."""
    good = demand(7, resources_bundle={"GPU": 7.0})["snapshot"]
    assert not (await s.stub.ReportDemand(report(6, snapshot=good))).want_snapshot
    assert not (await s.stub.ReportDemand(report(7, base_sequence=6))).want_snapshot
    (cluster,) = (await s.stub.GetStatus(pb.GetStatusRequest(cluster="demo"))).clusters
    assert (cluster.blind, cluster.session.session_name) == ("", "session_1")


NODE, REQUEST = "snapshot.state.node_states[0]", "snapshot.state.pending_resource_requests[0].request"
RULES = {
    # enums
    "outcome unknown": (result(outcome=4), "results[0].outcome"),
    # numbers
    "amount too large": (demand(resources_bundle={"CPU": 5e14}), f"{REQUEST}.resources_bundle['CPU']"),
    "amount infinite": (demand(resources_bundle={"CPU": float("inf")}), f"{REQUEST}.resources_bundle['CPU']"),
    "amount no number": (demand(resources_bundle={"CPU": float("nan")}), f"{REQUEST}.resources_bundle['CPU']"),
    "amount of a node no number": (node(available_resources={"CPU": float("nan")}), f"{NODE}.available_resources['CPU']"),
    "amount of a gang too large": (gang(1, CPU=1e300), "snapshot.state.pending_gang_resource_requests[0].resources_bundle['CPU']"),
    "count too large": (demand((1 << 40) + 1), "snapshot.state.pending_resource_requests[0].count"),
    "gang too large": (gang(10_001, CPU=1.0), "snapshot.state.pending_gang_resource_requests[0]"),
    "age negative": ({"age": Duration(seconds=-1)}, "age"),
    "idle time negative": (node(idle_duration_ms=-1), f"{NODE}.idle_duration_ms"),
    "epoch negative": ({"monitor_epoch": -1}, "monitor_epoch"),
    "sequence negative": ({"sequence": -1}, "sequence"),
    "sequence 0": ({"sequence": 0}, "sequence"),
    "base negative": ({"base_sequence": -1}, "base_sequence"),
    "version told negative": ({"reported_state_version": -1}, "reported_state_version"),
    "actors negative": ({"snapshot": pb.Snapshot(live_detached_actors=-1)}, "snapshot.live_detached_actors"),
    "counter negative": ({"snapshot": state(cluster_resource_state_version=-1)}, "snapshot.state.cluster_resource_state_version"),
    # names
    "cluster with a newline": ({"cluster": "demo\n"}, "cluster"),
    "cluster id with a newline": (session(cluster_id="c1\nlevel=error"), "session.cluster_id"),
    "session name with a newline": (session(session_name="\r\n"), "session.session_name"),
    "incarnation with a newline": ({"head_incarnation": "a\nb"}, "head_incarnation"),
    "hash with a NUL": ({"reported_config_hash": "\x00"}, "reported_config_hash"),
    "node without an id": (node(node_id=b""), f"{NODE}.node_id"),
    "instance id with a newline": (node(instance_id="i\n1"), f"{NODE}.instance_id"),
    "node type with an escape": (node(ray_node_type_name="\x1b[31m"), f"{NODE}.ray_node_type_name"),
    "command id with a newline": (result(command_id="c\n"), "results[0].command_id"),
    "name too long": (node(instance_id="x" * 513), f"{NODE}.instance_id"),
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
        large = report(6, snapshot=state(node_states=[ray.NodeState(node_id=b"n1", node_activity=["x" * LARGEST])]))
        error = await failure(s.stub.ReportDemand(large))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(LARGEST) in error.details()
        await is_taken(s)
