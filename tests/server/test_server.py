"""The server over a real unix socket, in real time: what goes in comes out, and each error leaves as its table says (house section 9)."""

import asyncio

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import HEAD_SERVICE, Server
from tests.server.sockets import details, failure, report, service, serving

pytestmark = pytest.mark.tier("protocol")


def cpus(count, cpu=1.0):
    request = ray.ResourceRequest(resources_bundle={"CPU": cpu})
    return waiting([ray.ResourceRequestByCount(request=request, count=count)])


def waiting(requests):
    return pb.Snapshot(state=ray.ClusterResourceState(pending_resource_requests=requests), jobs=[ray.JobTableData(job_id=b"job1")])


class Failing:
    """A registry whose every cluster fails in the same way."""

    def __init__(self, error):
        self.error = error

    def get(self, name):
        raise self.error

    def all(self):
        raise self.error


async def until(condition):
    """Wait for what will surely come, in real time; the test's own deadline is the limit."""
    while not await condition():  # noqa: ASYNC110 - the server tells nobody
        await asyncio.sleep(0.02)


# what goes in comes out


async def test_a_report_becomes_launches_that_get_status_tells_of():
    async with service() as s:
        answer = await s.stub.ReportDemand(report(1, snapshot=cpus(2)))
        assert answer.next_interval == Duration(nanos=250_000_000)

        async def is_launched():
            (cluster,) = (await s.stub.GetStatus(pb.GetStatusRequest(cluster="demo"))).clusters
            return len(cluster.instances) == 2 and all(each.status == "ALLOCATED" for each in cluster.instances)

        await until(is_launched)
        (cluster,) = (await s.stub.GetStatus(pb.GetStatusRequest())).clusters
        assert (cluster.cluster, cluster.session.session_name, cluster.blind) == ("demo", "session_1", "")
        assert {(each.instance_id, each.node_type, each.external_id) for each in cluster.instances} == {
            ("demo-small-1-0", "small", "fake-demo-small-1-0"),
            ("demo-small-1-1", "small", "fake-demo-small-1-1"),
        }
        (small,) = cluster.node_types
        assert (small.name, small.max_workers, dict(small.instances)) == ("small", -1, {"ALLOCATED": 2})
        assert {each.kind for each in cluster.actions} == {"REQUESTED", "ALLOCATED"}
        told = ray.AutoscalingState()
        sequence = 1

        async def is_told():
            nonlocal sequence
            sequence += 1
            told.CopyFrom((await s.stub.ReportDemand(report(sequence, snapshot=cpus(2)))).autoscaling_state)
            return len(told.pending_instances) == 2

        await until(is_told)
        assert sorted(each.instance_id for each in told.pending_instances) == ["demo-small-1-0", "demo-small-1-1"]
        again = await s.stub.ReportDemand(report(sequence + 1, snapshot=cpus(2), reported_state_version=told.autoscaler_state_version))
        assert not again.HasField("autoscaling_state") or again.autoscaling_state.autoscaler_state_version > told.autoscaler_state_version


async def test_status_of_all_clusters_comes_by_name_and_of_an_unknown_one_not_at_all():
    async with service("b", "a") as s:
        clusters = (await s.stub.GetStatus(pb.GetStatusRequest())).clusters
        assert [(each.cluster, each.blind) for each in clusters] == [("a", "NO_REPORT"), ("b", "NO_REPORT")]
        error = await failure(s.stub.GetStatus(pb.GetStatusRequest(cluster="c")))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "cluster 'c' has no definition here; defined: a, b")


async def test_l1_explain_tells_one_reason_each_and_since_when_and_changes_nothing():
    async with service("b", "demo") as s:
        await s.stub.ReportDemand(report(1, snapshot=cpus(2)))

        async def is_launching():
            (cluster,) = (await s.stub.Explain(pb.ExplainRequest(cluster="demo"))).clusters
            return len(cluster.nodes) == 2 and all(each.status == "ALLOCATED" for each in cluster.nodes)

        await until(is_launching)
        first, second = [await s.stub.Explain(pb.ExplainRequest(cluster="demo")) for _ in range(2)]
        assert [each.because.since for each in first.clusters[0].nodes] == [each.because.since for each in second.clusters[0].nodes]
        (cluster,) = first.clusters
        (shape,) = cluster.shapes
        assert (shape.kind, dict(shape.bundle.resources), shape.count) == (pb.DEMAND_KIND_TASKS, {"CPU": 10_000}, 2)
        assert [(each.node_type, each.nodes, each.count) for each in shape.on_the_way] == [("small", 2, 2)]
        for because in (shape.because, *(each.because for each in cluster.nodes)):
            assert (because.reason, because.mover) == ("LAUNCHING", pb.MOVER_NOBODY)
            assert because.since.seconds < because.until.seconds
        (small,) = cluster.node_types
        assert (small.running, small.in_flight, small.max_workers, small.because.reason) == (0, 2, -1, "READY")
        everybody = (await s.stub.Explain(pb.ExplainRequest())).clusters
        assert [(each.cluster, [kind.because.reason for kind in each.node_types]) for each in everybody] == [
            ("b", ["NO_REPORT"]),
            ("demo", ["READY"]),
        ]
        error = await failure(s.stub.Explain(pb.ExplainRequest(cluster="c")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_heartbeat_and_a_repetition_are_answered_and_an_older_report_is_refused():
    async with service() as s:
        await s.stub.ReportDemand(report(5, snapshot=pb.Snapshot()))
        assert not (await s.stub.ReportDemand(report(6, base_sequence=5))).want_snapshot
        assert not (await s.stub.ReportDemand(report(6, base_sequence=5))).want_snapshot
        assert (await s.stub.ReportDemand(report(7, base_sequence=1))).want_snapshot
        error = await failure(s.stub.ReportDemand(report(4, snapshot=pb.Snapshot())))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert details(error)[0].reason == "SUPERSEDED"


async def test_h65_a_standby_refuses_reports_and_goes_on_answering_questions():
    is_leader = False
    async with serving(Registry([]), leads=lambda: is_leader) as channel:
        stub = head_pb2_grpc.HeadServiceStub(channel)
        error = await failure(stub.ReportDemand(report(1, snapshot=pb.Snapshot())))
        assert (error.code(), details(error)[0].reason) == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
        assert not (await stub.GetStatus(pb.GetStatusRequest())).clusters
        is_leader = True
        error = await failure(stub.ReportDemand(report(1, snapshot=pb.Snapshot())))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_an_unreadable_gcs_is_told_without_a_session():
    async with service() as s:
        request = pb.ReportDemandRequest(cluster="demo", monitor_epoch=1, sequence=1, gcs_error="connection refused")
        await s.stub.ReportDemand(request)
        (cluster,) = (await s.stub.GetStatus(pb.GetStatusRequest())).clusters
        assert cluster.blind == "GCS_UNREADABLE"


async def test_health_serves_for_the_whole_and_for_the_service():
    async with service() as s:
        stub = health_pb2_grpc.HealthStub(s.channel)
        for name in ("", HEAD_SERVICE):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        error = await failure(stub.Check(health_pb2.HealthCheckRequest(service="unknown")))
        assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services_and_knows_their_messages():
    async with service() as s:
        stub = reflection_pb2_grpc.ServerReflectionStub(s.channel)
        ask = reflection_pb2.ServerReflectionRequest
        requests = iter([ask(list_services=""), ask(file_containing_symbol=HEAD_SERVICE)])
        answers = [each async for each in stub.ServerReflectionInfo(requests)]
        names = {each.name for each in answers[0].list_services_response.service}
        assert {"rayscaler.api.head.v1.HeadService", "grpc.health.v1.Health"} <= names
        assert answers[1].file_descriptor_response.file_descriptor_proto


async def test_an_address_that_is_taken_is_refused_in_words():
    async with serving(Registry([])):
        first = Server(Registry([]), listen="127.0.0.1:0", max_message_bytes=1 << 20)
        port = await first.start()
        second = Server(Registry([]), listen=f"127.0.0.1:{port}", max_message_bytes=1 << 20)
        with pytest.raises(errors.Unavailable, match=f"cannot listen on 127.0.0.1:{port}"):
            await second.start()
        await second.stop(0)
        await first.stop(0)


# errors

TABLE = [
    (errors.InvalidRequest("demand.count: 0 is not a count"), "INVALID_ARGUMENT", "INVALID_REQUEST", "never"),
    (errors.NotFound("no such cluster"), "NOT_FOUND", "NOT_FOUND", "never"),
    (errors.Conflict("same id, other spec"), "ALREADY_EXISTS", "CONFLICT", "never"),
    (errors.Superseded("a newer one speaks"), "FAILED_PRECONDITION", "SUPERSEDED", "never"),
    (errors.Fenced("another one leads"), "FAILED_PRECONDITION", "FENCED", "never"),
    (errors.BookmarkExpired("too long ago"), "OUT_OF_RANGE", "BOOKMARK_EXPIRED", "never"),
    (errors.BrokenPlugin("lists one twice"), "UNAVAILABLE", "BROKEN_PLUGIN", "backoff"),
    (errors.NotLeader("another one leads"), "UNAVAILABLE", "NOT_LEADER", "backoff"),
    (errors.Busy("somebody works on it"), "ABORTED", "BUSY", "backoff"),
    (errors.InsufficientCapacity("no room"), "RESOURCE_EXHAUSTED", "INSUFFICIENT_CAPACITY", "elsewhere"),
    (errors.Denied("no rights"), "PERMISSION_DENIED", "DENIED", "long"),
    (errors.Unauthenticated("who are you"), "UNAUTHENTICATED", "UNAUTHENTICATED", "long"),
    (errors.Unsupported("not here"), "UNIMPLEMENTED", "UNSUPPORTED", "never"),
    (errors.Unavailable("later"), "UNAVAILABLE", "UNAVAILABLE", "backoff"),
]


def test_the_table_has_every_error():
    assert {type(each[0]) for each in TABLE} == set(errors.RayscalerError.__subclasses__())


@pytest.mark.parametrize(("raised", "code", "reason", "retry"), TABLE, ids=[each[2] for each in TABLE])
async def test_an_error_leaves_as_its_code_with_reason_domain_and_rule_of_retry(raised, code, reason, retry):
    async with serving(Failing(raised)) as channel:
        stub = head_pb2_grpc.HeadServiceStub(channel)
        for call in (stub.ReportDemand(report(snapshot=pb.Snapshot())), stub.GetStatus(pb.GetStatusRequest(cluster="x"))):
            error = await failure(call)
            assert (error.code().name, error.details()) == (code, str(raised))
            info, _ = details(error)
            assert (info.reason, info.domain, dict(info.metadata)) == (reason, "rayscaler.io", {"retry": retry})


@pytest.mark.parametrize(
    "bug", [KeyError("secret"), RuntimeError("secret"), ZeroDivisionError("secret"), ExceptionGroup("secret", [OSError()])]
)
async def test_a_bug_leaves_as_internal_with_an_id_and_no_text_and_the_log_has_both(bug, capsys):
    async with serving(Failing(bug)) as channel:
        error = await failure(head_pb2_grpc.HeadServiceStub(channel).GetStatus(pb.GetStatusRequest()))
    assert error.code() is grpc.StatusCode.INTERNAL
    words = error.details().split()
    assert "secret" not in repr(error) + repr(error.trailing_metadata())
    assert words[:2] == ["internal", "error"]
    error_id = words[2].rstrip(";")
    log = capsys.readouterr().out
    assert error_id in log
    assert "secret" in log


async def test_an_invalid_report_is_told_every_problem_with_its_path():
    request = pb.ReportDemandRequest(
        results=[pb.CommandResult(command_id="c"), pb.CommandResult(outcome=pb.OUTCOME_DONE)],
        age=Duration(seconds=-5),
        snapshot=pb.Snapshot(
            state=ray.ClusterResourceState(
                node_states=[ray.NodeState(idle_duration_ms=-1, instance_id="a\nb", total_resources={"node:10.0.0.1": float("nan")})],
                pending_resource_requests=[ray.ResourceRequestByCount(request=ray.ResourceRequest(), count=1 << 50)],
            ),
            live_detached_actors=-1,
        ),
    )
    async with service() as s:
        error = await failure(s.stub.ReportDemand(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    _, bad = details(error)
    assert {each.field for each in bad.field_violations} == {
        "cluster",
        "monitor_epoch",
        "sequence",
        "age",
        "session",
        "snapshot.state.node_states[0].node_id",
        "snapshot.state.node_states[0].instance_id",
        "snapshot.state.node_states[0].idle_duration_ms",
        "snapshot.state.node_states[0].total_resources['node:10.0.0.1']",
        "snapshot.state.pending_resource_requests[0].count",
        "snapshot.live_detached_actors",
        "results[0].outcome",
        "results[1].command_id",
    }
    assert all(each.description for each in bad.field_violations)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"session": None}, "session: is required"),
        ({"session": pb.Session(cluster_id="c1")}, "session.session_name: is required"),
        ({"cluster": "x" * 513}, "cluster: is longer than 512 characters"),
        ({"age": Duration(seconds=1 << 60)}, "age: "),
        ({"gcs_error": "down", "snapshot": pb.Snapshot()}, "snapshot: cannot be there"),
        ({"snapshot": cpus((1 << 40) + 1)}, "snapshot.state.pending_resource_requests[0].count: "),
        (
            {"snapshot": cpus(1, 1e15)},
            "snapshot.state.pending_resource_requests[0].request.resources_bundle['CPU']: 1000000000000000.0 is not",
        ),
    ],
)
async def test_a_field_that_breaks_its_rule_is_named(fields, problem):
    async with service() as s:
        error = await failure(s.stub.ReportDemand(report(**fields)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert problem in error.details()


async def test_a_thousand_problems_in_the_strangest_words_still_arrive_as_what_they_are():
    """The status travels in trailers, which gRPC bounds to 8 KiB: beyond that the caller would read RESOURCE_EXHAUSTED."""
    strange = ["\U000e0001" * 500, "%" * 500, "é" * 500, "\n" * 500, "'\"\\" * 150]
    nodes = [ray.NodeState(node_id=b"n", instance_id=name * 2) for name in strange for _ in range(200)]
    async with service() as s:
        error = await failure(s.stub.ReportDemand(report(snapshot=pb.Snapshot(state=ray.ClusterResourceState(node_states=nodes)))))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    info, bad = details(error)
    assert info.reason == "INVALID_REQUEST"
    assert len(bad.field_violations) >= 3


async def test_bytes_that_are_no_message_are_the_callers_fault():
    async with service() as s:
        call = s.channel.unary_unary(f"/{HEAD_SERVICE}/ReportDemand", response_deserializer=pb.ReportDemandResponse.FromString)
        error = await failure(call(b"\xff\xff\xff"))
        assert (error.code(), details(error)[0].reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST")
        unknown = s.channel.unary_unary(f"/{HEAD_SERVICE}/Nothing")
        assert (await failure(unknown(b""))).code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_oversized_message_is_refused_and_the_next_one_served():
    """Design §2b.8."""
    async with serving(Registry([]), max_message_bytes=10_000) as channel:
        stub = head_pb2_grpc.HeadServiceStub(channel)
        error = await failure(stub.ReportDemand(report(ray_version="x" * 20_000)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "10000" in error.details()
        assert (await failure(stub.ReportDemand(report(ray_version="x", snapshot=pb.Snapshot())))).code() is grpc.StatusCode.NOT_FOUND


async def test_before_the_record_is_read_a_report_is_put_off():
    async with service() as s:
        s.reconcilers[0]._is_loaded = False
        error = await failure(s.stub.ReportDemand(report(snapshot=pb.Snapshot())))
        assert (error.code(), details(error)[0].reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
        s.reconcilers[0]._is_loaded = True
