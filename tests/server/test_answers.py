"""The answer to a report, in Ray's own messages where the monitor only passes them on."""

import json

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.command import (
    AutoscalingState,
    Command,
    DrainCommand,
    FailedLaunch,
    NodeGroup,
    PendingInstance,
    ReachableConfig,
    ReplayCommand,
    ReportAnswer,
    ResizeCommand,
    TellCommand,
)
from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, LabelCondition, LabelSelector, Operator, Strategy
from rayscaler.model.resources import Resources
from rayscaler.rules import Rules
from rayscaler.server import answers, told
from rayscaler.server.snapshot import snapshot

pytestmark = pytest.mark.tier("unit")

GROUP = "ab" * 18
ZONE = LabelSelector((LabelCondition("zone", Operator.IN, ("a",)),))


def commanded(command: Command, *, is_v1_mode: bool = False) -> pb.Command:
    answer = ReportAnswer((command,), (), None, 1.0, wants_snapshot=False, head_ip="10.0.0.1")
    (made,) = answers.report_answer(answer, is_v1_mode=is_v1_mode).commands
    return made


@pytest.mark.parametrize("is_v1", [True, False])
def test_wc_11_drivers_are_told_in_the_form_that_their_mode_reads(is_v1):
    """In v2 mode an event is JSON, in v1 mode marked text; a line is one line, whatever a resource is called."""
    batch = commanded(TellCommand("t1", ("cannot\nbe", 'so "it" is')), is_v1_mode=is_v1).tell_drivers
    lines = list(batch.lines)
    assert (batch.ip, batch.pid, batch.job_id, batch.is_error) == ("10.0.0.1", "autoscaler", "", False)
    if is_v1:
        assert lines == [":event_summary:cannot be", ':event_summary:so "it" is']
    else:
        assert [json.loads(each)["message"] for each in lines] == ["cannot be", 'so "it" is']


def test_a_drain_has_a_deadline_only_with_a_preemption():
    idle = commanded(DrainCommand("c", "ab" * 28, is_preemption=False, detail="idle", deadline_at=5.0)).drain_node
    assert idle == gcs_pb2.DrainNodeRequest(node_id=bytes.fromhex("ab" * 28), reason=1, reason_message="idle")
    spot = commanded(DrainCommand("c", "ab" * 28, is_preemption=True, detail="spot", deadline_at=4_000_000_000.25)).drain_node
    assert (spot.reason, spot.deadline_timestamp_ms) == (2, 4_000_000_000_250)
    assert commanded(DrainCommand("c", "ab" * 28, is_preemption=True, detail="spot")).drain_node.deadline_timestamp_ms == 0


def test_the_state_has_one_entry_each_and_no_empty_text():
    made = told.autoscaling_state(
        AutoscalingState(
            version=7,
            gcs_version=3,
            requested=(PendingInstance("", "small", "", 1_700_000_000.9), PendingInstance("", "small", "", 1_700_000_001.0)),
            pending=(PendingInstance("demo-small-1-0", "small", "joining", 0.0), PendingInstance("demo-small-1-1", "small", "", 0.0)),
            failed=(FailedLaunch("large", "", 1_700_000_002.0, 1_700_000_003.0),),
            infeasible=(Bundle(Resources({"CPU": 640_000, "x": 1})),),
            infeasible_gangs=(Gang("ab", Strategy.STRICT_SPREAD, (Demand(Bundle(Resources({"y": 5_000})), 2),), is_rescheduling=True),),
        )
    )
    assert (made.autoscaler_state_version, made.last_seen_cluster_resource_state_version) == (7, 3)
    assert [(each.instance_type_name, each.ray_node_type_name, each.count, each.request_ts) for each in made.pending_instance_requests] == [
        ("small", "small", 1, 1_700_000_000),
        ("small", "small", 1, 1_700_000_001),
    ]
    assert [(each.instance_id, each.ray_node_type_name, each.details) for each in made.pending_instances] == [
        ("demo-small-1-0", "small", "joining"),
        ("demo-small-1-1", "small", "starting"),
    ]
    (failed,) = made.failed_instance_requests
    assert (failed.ray_node_type_name, failed.count, failed.reason) == ("large", 1, "launch failed")
    assert (failed.start_ts, failed.failed_ts) == (1_700_000_002, 1_700_000_003)
    (shape,) = made.infeasible_resource_requests
    assert dict(shape.resources_bundle) == {"CPU": 64.0, "x": 0.0001}
    (group,) = made.infeasible_gang_resource_requests
    assert group.details == "ab:STRICT_SPREAD|RESCHEDULING"
    assert [dict(each.resources_bundle) for each in group.bundle_selectors[0].resource_requests] == [{"y": 0.5}, {"y": 0.5}]
    assert group.requests == group.bundle_selectors[0].resource_requests


def test_h50_nothing_that_could_run_is_called_infeasible():
    """Ray can be set to cancel what is, and goes by amounts alone."""
    plain, wish = Bundle(Resources.of(GPU=1.5)), Bundle(Resources.of(CPU=1), (ZONE,))
    of_group = Bundle(Resources({f"CPU_group_{GROUP}": 10_000}))
    gangs = tuple(Gang(each, Strategy.PACK, (Demand(bundle, 1),)) for each, bundle in (("a", plain), ("b", of_group)))
    made = told.autoscaling_state(AutoscalingState(1, 1, infeasible=(plain, wish, of_group), infeasible_gangs=gangs))
    assert [dict(each.resources_bundle) for each in made.infeasible_resource_requests] == [{"GPU": 1.5}]
    assert [each.details for each in made.infeasible_gang_resource_requests] == ["a:PACK|PENDING"]


def test_every_amount_that_ray_can_name_comes_back_as_the_same_number():
    """Ray compares infeasible shapes by equality of doubles."""
    for units in (1, 3, 2_999, 3_333, 10_001, 123_456_789):
        made = told.autoscaling_state(AutoscalingState(1, 1, infeasible=(Bundle(Resources({"r": units})),)))
        assert made.infeasible_resource_requests[0].resources_bundle["r"] == float(f"{units / 10_000:.4f}")


@pytest.mark.parametrize(
    ("units", "whole"),
    [
        (1, 1),
        (3_000, 1),
        (10_000, 1),
        (10_001, 2),
        (2**62, 2**62 // 10_000 + 1),
        (2**70, 2**63 // 10_000 + 1),
        (10_000 * 300_000_001, 300_000_001),
    ],
)
def test_h49_a_config_is_told_in_whole_units_rounded_up(units, whole):
    group = NodeGroup("n", Resources({"r": units}), -1, -1)
    made = told.cluster_config(ReachableConfig("h", Resources({"r": units}), Resources({"r": units, "less": -1}), (group,)))
    assert (made.hash, dict(made.config.min_resources), dict(made.config.max_resources)) == ("h", {"r": whole}, {"r": whole})
    (shown,) = made.config.node_group_configs
    assert (shown.name, dict(shown.resources), shown.min_count, shown.max_count) == ("n", {"r": whole}, 0, -1)


def test_a_node_is_told_its_size_in_rays_doubles():
    made = commanded(ResizeCommand("c", "ab" * 28, Resources.of(CPU=3, memory=(16 << 30) + 1))).resize_node
    assert (made.node_id, dict(made.resources)) == (b"\xab" * 28, {"CPU": 3.0, "memory": float((16 << 30) + 1)})


def test_a_constraint_is_replayed_as_request_resources_would_have_sent_it():
    demands = (Demand(Bundle(Resources.of(CPU=1.5)), 3), Demand(Bundle(Resources.of(GPU=1), (ZONE,)), 1))
    made = commanded(ReplayCommand("c", Constraint(demands))).replay_constraint.constraint
    assert made.resource_requests[0].request == gcs_pb2.ResourceRequest(resources_bundle={"CPU": 1.5})
    assert [each.count for each in made.resource_requests] == [3, 1]
    state = gcs_pb2.ClusterResourceState(cluster_resource_constraints=[made])
    assert snapshot(Rules(), pb.Snapshot(state=state)).constraint == Constraint(demands)
    replay = commanded(ReplayCommand("c", Constraint(), replaces=Constraint(demands))).replay_constraint
    assert (replay.constraint, replay.replaces) == (gcs_pb2.ClusterResourceConstraint(), made)
    assert not commanded(ReplayCommand("c", Constraint(demands))).replay_constraint.HasField("replaces")
