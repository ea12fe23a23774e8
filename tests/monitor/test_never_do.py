"""The ten rules of what must never be done to Ray: each against real Ray, or where breaking it would break Ray, against the bytes.

Rules 6, 7, 8, 9 and 10 bind whoever decides; here is the monitor's part of them, that it tells what a decision needs.
"""

import os
from collections.abc import AsyncIterator
from random import Random

import pytest
import pytest_asyncio

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.clock import SystemClock
from rayscaler.local.head import HeadOptions
from rayscaler.model.command import AutoscalingState, PendingInstance
from rayscaler.model.demand import Bundle, LabelCondition, LabelSelector, Operator, Snapshot
from rayscaler.model.node import DeathReason, NodeStatus
from rayscaler.model.resources import Resources
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.gcs import GrpcGcs
from rayscaler.server import told
from tests.monitor import garbage
from tests.monitor.doors import drain_of, read
from tests.monitor.real import beside, drain, ray_status, rows
from tests.monitor.recorder import CLUSTER_ID, recording, show
from tests.ray_tier import RayHead, running_head

pytestmark = [pytest.mark.tier("ray"), pytest.mark.asyncio(loop_scope="module")]

IDLE, PREEMPTION = gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION
DEAD = NodeStatus.DEAD


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def head() -> AsyncIterator[RayHead]:
    """One head for all; each test uses a worker, or a resource, of its own."""
    async with running_head() as started:
        yield started


def holding(resource: str, path: str) -> str:
    """A driver with a task on `resource` that says when it runs, and ends with an answer once the file `path` is there."""
    return f"""
import os, time
@ray.remote(num_cpus=0, resources={{{resource!r}: 1}}, max_retries=0)
def hold():
    open({path!r} + ".running", "w").close()
    while not os.path.exists({path!r}):
        time.sleep(0.05)
    return "done"
task = hold.remote()
while not os.path.exists({path!r} + ".running"):
    time.sleep(0.05)
print("running")
print(ray.get(task))
"""


async def test_wc_12_1_the_state_request_never_names_a_version_last_seen():
    async with recording() as recorder:
        gcs = GrpcGcs(recorder.address, SystemClock(), TokenSource({}))
        for version in (50, 51, 1, 2):
            show(recorder, version=version)
            assert (await gcs.read()).state.cluster_resource_state_version == version
        await gcs.close()
    sent = [request for method, request, _ in recorder.calls if method.endswith("/GetClusterResourceState")]
    assert sent == [b""] * 4


async def test_wc_12_2_a_drain_without_a_reason_never_reaches_the_raylet(head):
    await head.add_worker("rule2", Resources.of(rule2=1))
    async with beside(head.local_address) as monitor:
        (node,) = rows(read((await monitor.until(lambda taken: bool(rows(taken, "rule2")))).snapshot), "rule2")
        result = await monitor.command(drain("c1", node.ray_node_id, gcs_pb2.DRAIN_NODE_REASON_UNSPECIFIED))
        assert result.outcome == head_pb2.OUTCOME_FAILED
        assert "reason" in result.detail
    assert (
        await head.driver("@ray.remote(num_cpus=0, resources={'rule2': 1})\ndef f(): return 'alive'\nprint(ray.get(f.remote()))") == "alive"
    )


FUZZED = 300


async def test_wc_12_garbage_from_the_service_never_breaks_a_rule_or_the_monitor():
    """Random answers: whatever the service says, only lawful bytes leave, and the reports go on."""
    random = Random(1)
    async with recording() as recorder:
        show(recorder, version=1, a=gcs_pb2.NODE_STATUS_IDLE)
        async with beside(recorder.address) as monitor:
            await monitor.until(lambda taken: bool(taken.nodes))

            def answer_with_garbage(request: head_pb2.ReportDemandRequest) -> None:
                """Give new commands with every answer: their results make the next report come at once."""
                number = request.sequence
                monitor.service.commands = [garbage.command(random, f"c{number}-{each}", b"a") for each in range(3)]
                monitor.service.state = garbage.state(random, number)
                if number < FUZZED:
                    monitor.service.config = garbage.config(random, f"h{number}")

            monitor.service.on_report = answer_with_garbage
            await monitor.report(lambda request: request.sequence >= FUZZED and request.reported_config_hash == f"h{FUZZED - 1}")
    sent = {name: [request for method, request, _ in recorder.calls if method.endswith(f"/{name}")] for name in set(recorder.names())}
    drains = [gcs_pb2.DrainNodeRequest.FromString(each) for each in sent["DrainNode"]]
    assert drains
    assert {each.reason for each in drains} <= {1, 2}
    assert {each.node_id for each in drains} == {b"a"}
    assert all(each.deadline_timestamp_ms >= 0 for each in drains)
    states = [gcs_pb2.ReportAutoscalingStateRequest.FromString(each).autoscaling_state for each in sent["ReportAutoscalingState"]]
    versions = [each.autoscaler_state_version for each in states]
    assert versions == sorted(versions)
    assert not any("_group_" in name for each in states for shape in each.infeasible_resource_requests for name in shape.resources_bundle)
    assert set(sent["GetClusterResourceState"]) == {b""}
    assert sent["ReportClusterConfig"]
    assert sent["RequestClusterResourceConstraint"]


async def test_wc_12_2_no_other_reason_leaves_the_door_either():
    async with recording() as recorder:
        gcs = GrpcGcs(recorder.address, SystemClock(), TokenSource({}))
        await gcs.read()
        for reason in (0, 3, -1):
            with pytest.raises(errors.InvalidRequest):
                await gcs.drain(drain_of("aa" * 28, reason))
        await gcs.close()
    assert "DrainNode" not in recorder.names()


async def test_wc_12_3_a_busy_node_that_is_drained_keeps_its_task_to_the_end(head, tmp_path):
    """The legacy drain would have killed it; the calls recorded below show that it is not among ours."""
    await head.add_worker("rule3", Resources.of(rule3=1))
    flag = str(tmp_path / "go")
    driver = await head.start_driver(holding("rule3", flag))
    assert await driver.line() == "running"
    async with beside(head.local_address) as monitor:
        (node,) = rows(read((await monitor.until(lambda taken: bool(rows(taken, "rule3")))).snapshot), "rule3")
        assert (await monitor.command(drain("c1", node.ray_node_id, PREEMPTION, deadline_at=1))).outcome == head_pb2.OUTCOME_DONE
        os.close(os.open(flag, os.O_CREAT))
        assert await driver.output() == "done"
        report = await monitor.until(lambda taken: [row.status for row in rows(taken, "rule3")] == [DEAD])
        assert rows(read(report.snapshot), "rule3")[0].death == DeathReason.DRAINED_PREEMPTED


async def test_wc_12_3_everything_the_door_can_do_never_calls_the_legacy_drain():
    async with recording() as recorder:
        show(recorder, version=1, a=gcs_pb2.NODE_STATUS_DRAINING, b=gcs_pb2.NODE_STATUS_DEAD)
        gcs = GrpcGcs(recorder.address, SystemClock(), TokenSource({}))
        await gcs.read()
        for reason in (gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION):
            await gcs.drain(drain_of("aa" * 28, reason, deadline_at=1.0))
        await gcs.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=1))
        await gcs.report_config(gcs_pb2.ClusterConfig())
        await gcs.replay_constraint(gcs_pb2.ClusterResourceConstraint(), CLUSTER_ID.hex())
        recorder.answers["InternalKVGet"] = b""
        await gcs.tell_drivers(gcs_pb2.LogBatch(lines=["text"]))
        await gcs.set_notice("text")
        recorder.answers["InternalKVGet"] = gcs_pb2.InternalKVGetReply(value=b"rayscaler: text").SerializeToString()
        await gcs.set_notice("")
        group = gcs_pb2.GangResourceRequest(details=f"{'ab' * 18}:PACK|PENDING")
        state = gcs_pb2.ClusterResourceState(cluster_resource_state_version=2, pending_gang_resource_requests=[group])
        recorder.answers["GetClusterResourceState"] = gcs_pb2.GetClusterResourceStateReply(cluster_resource_state=state).SerializeToString()
        await gcs.read()
        await gcs.close()
    assert {method for method, _, _ in recorder.calls} == {
        "/ray.rpc.autoscaler.AutoscalerStateService/DrainNode",
        "/ray.rpc.autoscaler.AutoscalerStateService/GetClusterResourceState",
        "/ray.rpc.autoscaler.AutoscalerStateService/ReportAutoscalingState",
        "/ray.rpc.autoscaler.AutoscalerStateService/ReportClusterConfig",
        "/ray.rpc.autoscaler.AutoscalerStateService/RequestClusterResourceConstraint",
        "/ray.rpc.ActorInfoGcsService/GetAllActorInfo",
        "/ray.rpc.InternalKVGcsService/InternalKVDel",
        "/ray.rpc.InternalKVGcsService/InternalKVGet",
        "/ray.rpc.InternalKVGcsService/InternalKVPut",
        "/ray.rpc.NodeInfoGcsService/CheckAlive",
        "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo",
        "/ray.rpc.NodeInfoGcsService/GetClusterId",
        "/ray.rpc.NodeResourceInfoGcsService/GetDrainingNodes",
        "/ray.rpc.ObservabilityPubSubService/GcsPublish",
        "/ray.rpc.JobInfoGcsService/GetAllJobInfo",
        "/ray.rpc.PlacementGroupInfoGcsService/GetAllPlacementGroup",
    }


CANCELLED_OR_WAITING = """
@ray.remote(max_retries=0)
def f(): return "ran"
tasks = {"possible": f.remote(), "wanted": f.options(label_selector={"zone": "mars"}).remote(), "never": f.options(num_cpus=64).remote()}
print("submitted")
try:
    ray.get(tasks["never"], timeout=60)
except Exception as error:
    print(type(error).__name__)
for name in ("possible", "wanted"):
    try:
        ray.get(tasks[name], timeout=3)
    except Exception as error:
        print(name, type(error).__name__)
"""


async def test_wc_12_4_what_could_run_later_is_not_cancelled_by_what_never_can():
    """Ray cancels by amounts alone: a shape that is impossible for its labels would take the same amounts without labels along."""
    async with (
        running_head(HeadOptions(env=(("RAY_enable_infeasible_task_early_exit", "true"),))) as head,
        beside(head.local_address) as monitor,
    ):
        driver = await head.start_driver(CANCELLED_OR_WAITING)
        assert await driver.line() == "submitted"
        await monitor.until(lambda taken: len(taken.demands) == 3)
        mars = LabelSelector((LabelCondition("zone", Operator.IN, ("mars",)),))
        infeasible = (
            Bundle(Resources.of(CPU=1), (mars,)),
            Bundle(Resources.of(CPU=64)),
            Bundle(Resources({f"CPU_group_{'ab' * 18}": 10_000})),
        )
        monitor.service.state = told.autoscaling_state(AutoscalingState(1, 1, infeasible=infeasible))
        assert (await driver.output()).splitlines() == ["TaskUnschedulableError", "possible GetTimeoutError", "wanted GetTimeoutError"]


async def test_wc_12_4_shapes_of_placed_groups_do_not_pass_the_door():
    async with recording() as recorder:
        gcs = GrpcGcs(recorder.address, SystemClock(), TokenSource({}))
        await gcs.read()
        recorder.calls.clear()
        shape = gcs_pb2.ResourceRequest(resources_bundle={f"CPU_group_0_{'ab' * 18}": 1.0})
        with pytest.raises(errors.InvalidRequest, match="CPU_group_0"):
            await gcs.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=1, infeasible_resource_requests=[shape]))
        await gcs.close()
    assert recorder.calls == []


async def test_wc_12_5_an_older_state_is_not_sent_and_ray_status_keeps_the_newer_one(head):
    gcs = GrpcGcs(head.local_address, SystemClock(), TokenSource({}))
    await gcs.read()
    newer, older = (
        told.autoscaling_state(AutoscalingState(version, 1, pending=(PendingInstance(f"rule5-{name}", "t", "starting", 0.0),)))
        for version, name in ((10, "new"), (9, "old"))
    )
    await gcs.report_state(newer)
    await gcs.report_state(newer)
    with pytest.raises(errors.InvalidRequest, match="9 is below 10"):
        await gcs.report_state(older)
    await gcs.close()
    shown = await ray_status(head)
    assert "rule5-new: t, starting" in shown
    assert "rule5-old" not in shown


async def test_wc_12_5_a_new_head_takes_any_version():
    async with recording() as recorder:
        gcs = GrpcGcs(recorder.address, SystemClock(), TokenSource({}))
        show(recorder, version=5)
        await gcs.read()
        await gcs.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=10))
        show(recorder, version=1)
        await gcs.read()
        await gcs.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=9))
        await gcs.close()
    assert recorder.names().count("ReportAutoscalingState") == 2


async def test_wc_12_6_a_new_head_is_a_new_session_in_its_first_report_and_old_drains_are_void():
    async with running_head() as head, beside(head.local_address) as monitor:
        old = await monitor.until(lambda taken: bool(taken.nodes))
        await head.head.stop(grace_s=0.0)
        await monitor.report(lambda request: bool(request.gcs_error))
        await head.head.start()
        await monitor.until(lambda taken: bool(taken.nodes) and taken.nodes[0].ray_node_id != read(old.snapshot).nodes[0].ray_node_id)
        new = next(each for each in monitor.service.reports if each.HasField("session") and each.session != old.session)
        assert new.HasField("snapshot")
        assert new.session.cluster_id != old.session.cluster_id
        assert new.session.session_name == head.session != old.session.session_name
        assert new.monitor_epoch == old.monitor_epoch
        assert new.sequence > old.sequence
        result = await monitor.command(drain("c1", read(old.snapshot).nodes[0].ray_node_id, PREEMPTION))
        assert result.outcome == head_pb2.OUTCOME_FAILED


async def test_wc_12_7_accepted_is_not_done_and_the_snapshot_tells_the_difference(head, tmp_path):
    await head.add_worker("rule7", Resources.of(rule7=1))
    flag = str(tmp_path / "go")
    driver = await head.start_driver(holding("rule7", flag))
    assert await driver.line() == "running"
    async with beside(head.local_address) as monitor:
        (node,) = rows(read((await monitor.until(lambda taken: bool(rows(taken, "rule7")))).snapshot), "rule7")
        refused = await monitor.command(drain("c1", node.ray_node_id, IDLE))
        assert (refused.outcome, refused.detail) == (head_pb2.OUTCOME_REJECTED, "The node to be idle terminated is no longer idle.")
        assert (
            await monitor.command(drain("c2", node.ray_node_id, PREEMPTION, deadline_at=4_000_000_000))
        ).outcome == head_pb2.OUTCOME_DONE
        draining = await monitor.until(lambda taken: rows(taken, "rule7")[0].status == NodeStatus.DRAINING)
        assert rows(read(draining.snapshot), "rule7")[0].draining_until == 4_000_000_000
        accepted = await monitor.command(drain("c3", node.ray_node_id, IDLE))
        assert accepted.outcome == head_pb2.OUTCOME_DONE
        assert rows(read(monitor.service.snapshots[-1].snapshot), "rule7")[0].status != DEAD
        os.close(os.open(flag, os.O_CREAT))
        assert await driver.output() == "done"
        await monitor.until(lambda taken: rows(taken, "rule7")[0].status == DEAD)


async def test_wc_12_8_a_drained_node_is_told_dead_while_its_process_still_stands(head):
    """It stands for a second or so, which a busy machine may miss once."""
    async with beside(head.local_address) as monitor:
        for name in ("rule8-a", "rule8-b", "rule8-c"):
            worker = await head.add_worker(name, Resources.of(rule8=1))
            report = await monitor.until(lambda taken: any(row.status == NodeStatus.IDLE for row in rows(taken, name)))  # noqa: B023
            result = await monitor.command(drain(name, rows(read(report.snapshot), name)[0].ray_node_id, IDLE))
            assert result.outcome == head_pb2.OUTCOME_DONE
            report = await monitor.until(lambda taken: rows(taken, name)[0].status == DEAD)  # noqa: B023
            assert rows(read(report.snapshot), name)[0].death == DeathReason.DRAINED_IDLE
            if head.processes.is_alive(worker.identity):
                return
    pytest.fail("its process was gone each time")


async def test_wc_12_9_two_nodes_of_one_instance_are_two_rows_of_which_one_can_die(head):
    await head.add_worker("rule9", Resources.of(rule9=1))
    await head.add_worker("rule9", Resources.of(rule9=1))
    async with beside(head.local_address) as monitor:
        report = await monitor.until(lambda taken: len(rows(taken, "rule9")) == 2)
        first, second = rows(read(report.snapshot), "rule9")
        assert first.ray_node_id != second.ray_node_id
        await monitor.until(lambda taken: all(row.status == NodeStatus.IDLE for row in rows(taken, "rule9")))
        await monitor.command(drain("c1", first.ray_node_id, IDLE))
        report = await monitor.until(lambda taken: {row.status for row in rows(taken, "rule9")} == {DEAD, NodeStatus.IDLE})
        assert {row.ray_node_id for row in rows(read(report.snapshot), "rule9")} == {first.ray_node_id, second.ray_node_id}


async def test_wc_12_10_demand_that_stays_is_told_with_the_same_count_each_time(head):
    code = "@ray.remote(resources={'rule10': 1})\ndef f(): pass\ntasks = [f.remote() for _ in range(6)]\nprint('submitted')\nray.get(tasks)"
    driver = await head.start_driver(code)
    assert await driver.line() == "submitted"

    def counts(snapshot: Snapshot) -> list[int]:
        return [each.count for each in snapshot.demands if "rule10" in each.bundle.resources]

    async with beside(head.local_address) as monitor:
        await monitor.until(lambda taken: counts(taken) == [6])
        start = len(monitor.service.reports)
        for _ in range(3):
            monitor.service.forget()
            await monitor.report(lambda request: request.HasField("snapshot"))
        counted = [counts(read(request.snapshot)) for request in monitor.service.reports[start:] if request.HasField("snapshot")]
    await driver.close()
    assert len(counted) >= 3
    assert all(each == [6] for each in counted)
