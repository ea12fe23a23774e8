"""GCS messages to the service's snapshot and back."""

import pytest
from google.protobuf import text_format

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.resources import Resources
from rayscaler.monitor import convert
from rayscaler.monitor.gcs import GcsReading
from rayscaler.server import convert as server_convert
from tests.monitor.golden import convert as golden

pytestmark = pytest.mark.tier("unit")

GROUP = "4b2fa3ab9a28aa50c0074ece559201000000"


def state(text: str) -> gcs_pb2.ClusterResourceState:
    return text_format.Parse(text, gcs_pb2.ClusterResourceState())


def snapshot(text: str, **more) -> head_pb2.Snapshot:
    return convert.snapshot(GcsReading(cluster_id="ab" * 28, state=state(text), **more))


def test_a_recorded_busy_head_becomes_the_golden_snapshot():
    assert convert.snapshot(golden.recorded()) == golden.expected()


def test_the_service_takes_the_golden_snapshot_without_a_problem():
    request = head_pb2.ReportDemandRequest(cluster="demo", monitor_epoch=1, sequence=1, snapshot=golden.expected())
    request.session.cluster_id = "ab"
    request.session.session_name = "session_1"
    report = server_convert.demand_report(request)
    assert report.snapshot is not None
    assert len(report.snapshot.gangs) == 5


def test_rows_in_another_order_make_the_same_bytes():
    reading = golden.recorded()
    turned = gcs_pb2.ClusterResourceState()
    turned.CopyFrom(reading.state)
    for name in ("node_states", "pending_resource_requests", "pending_gang_resource_requests"):
        rows = list(reversed(getattr(turned, name)))
        turned.ClearField(name)
        getattr(turned, name).extend(rows)
    assert convert.snapshot(GcsReading("ab" * 28, turned, live_jobs=1)) == golden.expected()


@pytest.mark.parametrize("amount", [0.0001, 0.1, 0.29999999999999998, 1 / 3, 300000001.0, 25034730496.0])
def test_amounts_are_rounded_to_rays_own_units(amount):
    taken = snapshot(f'pending_resource_requests {{ request {{ resources_bundle {{ key: "r" value: {amount!r} }} }} count: 1 }}')
    assert taken.demands[0].bundle.resources["r"] == round(amount * 10_000)


def test_one_empty_selector_is_no_wish_and_an_empty_alternative_among_others_is_one():
    taken = snapshot("""
        pending_resource_requests { request { resources_bundle { key: "a" value: 1 } label_selectors {} } count: 1 }
        pending_resource_requests { request {
            resources_bundle { key: "b" value: 1 }
            label_selectors { label_constraints { label_key: "zone" operator: 1 label_values: "x" } }
            label_selectors {}
        } count: 1 }""")
    assert [len(demand.bundle.label_selectors) for demand in taken.demands] == [0, 2]


def test_equal_shapes_are_one_demand_with_the_sum_of_counts():
    taken = snapshot("""
        pending_resource_requests { request { resources_bundle { key: "CPU" value: 1 } label_selectors {} } count: 3 }
        pending_resource_requests { request { resources_bundle { key: "CPU" value: 1 } } count: 4 }
        pending_resource_requests { request { resources_bundle { key: "CPU" value: 2 } } count: 0 }""")
    assert [(dict(demand.bundle.resources), demand.count) for demand in taken.demands] == [({"CPU": 10_000}, 7)]


def test_a_condition_with_an_unknown_operator_holds_nowhere_and_does_not_spoil_the_report():
    taken = snapshot("""
        pending_resource_requests { request {
            resources_bundle { key: "CPU" value: 1 }
            label_selectors { label_constraints { label_key: "zone" operator: 9 label_values: "x" } }
        } count: 1 }""")
    (condition,) = taken.demands[0].bundle.label_selectors[0].conditions
    assert (condition.operator, list(condition.values)) == (head_pb2.LABEL_OPERATOR_IN, [])


@pytest.mark.parametrize("name", [f"CPU_group_{GROUP}", f"CPU_group_0_{GROUP}", f"bundle_group_{GROUP}", f"my_group_x_group_3_{GROUP}"])
def test_tasks_inside_a_placed_group_are_no_demand(name):
    taken = snapshot(f'pending_resource_requests {{ request {{ resources_bundle {{ key: "{name}" value: 1 }} }} count: 2 }}')
    assert not taken.demands


@pytest.mark.parametrize("name", ["my_group_a", "gpu_group_0", "_group_", f"xgroup_{GROUP}"])
def test_a_users_own_resource_with_group_in_its_name_is_kept(name):
    taken = snapshot(f"""
        pending_resource_requests {{ request {{ resources_bundle {{ key: "{name}" value: 1 }} }} count: 2 }}
        node_states {{ node_id: "n" status: NODE_STATUS_IDLE total_resources {{ key: "{name}" value: 1 }} }}""")
    assert list(taken.demands[0].bundle.resources) == [name]
    assert list(taken.nodes[0].total) == [name]


def gang(details: str, strategy: str = "", constraint: str = "") -> head_pb2.Gang:
    request = f'requests {{ resources_bundle {{ key: "CPU" value: 1 }} {constraint} }}'
    (made,) = snapshot(f'pending_gang_resource_requests {{ {request} details: "{details}{strategy}" }}').gangs
    return made


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])
@pytest.mark.parametrize("is_rescheduling", [True, False])
def test_id_strategy_and_state_of_a_gang_come_from_its_details(strategy, is_rescheduling):
    made = gang(f"{GROUP}:{strategy}|{'RESCHEDULING' if is_rescheduling else 'PENDING'}")
    assert made.gang_id == GROUP
    assert head_pb2.Strategy.Name(made.strategy) == f"STRATEGY_{strategy}"
    assert made.rescheduling == is_rescheduling


@pytest.mark.parametrize(
    ("constraint", "strategy"),
    [
        ("", head_pb2.STRATEGY_PACK),
        ('placement_constraints { affinity { label_name: "_PG_1" } }', head_pb2.STRATEGY_STRICT_PACK),
        ('placement_constraints { anti_affinity { label_name: "_PG_1" } }', head_pb2.STRATEGY_STRICT_SPREAD),
    ],
)
@pytest.mark.parametrize("details", ["", "a new form", f"{GROUP}:DIAGONAL|PENDING"])
def test_details_in_a_form_unknown_here_fall_back_to_the_constraints(details, constraint, strategy):
    made = gang(details, constraint=constraint)
    assert made.strategy == strategy
    assert made.gang_id


def test_bundle_selectors_win_over_the_deprecated_list():
    (made,) = snapshot("""
        pending_gang_resource_requests {
            requests { resources_bundle { key: "CPU" value: 1 } }
            details: "ab:PACK|PENDING"
            bundle_selectors { resource_requests {
                resources_bundle { key: "CPU" value: 1 }
                label_selectors { label_constraints { label_key: "zone" operator: 1 label_values: "b" } }
            } }
            bundle_selectors { resource_requests { resources_bundle { key: "CPU" value: 9 } } }
        }""").gangs
    (demand,) = made.bundles
    assert demand.bundle.resources["CPU"] == 10_000
    assert demand.bundle.label_selectors[0].conditions[0].key == "zone"


def test_gangs_in_transition_without_bundles_are_left_out():
    assert not snapshot('pending_gang_resource_requests { details: "ab:PACK|PENDING" bundle_selectors {} }').gangs


def test_no_constraint_and_an_empty_one_stay_apart():
    assert not snapshot("").HasField("constraint")
    taken_back = snapshot("cluster_resource_constraints {}")
    assert taken_back.HasField("constraint")
    assert not taken_back.constraint.demands


def test_a_dead_node_tells_why_it_died_and_whether_it_was_the_head():
    info = gcs_pb2.GcsNodeInfo(is_head_node=True, death_info=gcs_pb2.NodeDeathInfo(reason=4, reason_message="idle for 60 s"))
    taken = snapshot('node_states { node_id: "n" instance_id: "i" status: NODE_STATUS_DEAD }', ended={b"n".hex(): info})
    (node,) = taken.nodes
    assert (node.status, node.instance_id, node.is_head) == (head_pb2.NODE_STATUS_DEAD, "i", True)
    assert (node.death.reason, node.death.detail) == (head_pb2.DEATH_REASON_DRAINED_IDLE, "idle for 60 s")


def test_a_draining_node_tells_until_when():
    text = 'node_states { node_id: "n" status: NODE_STATUS_DRAINING }'
    (until,) = snapshot(text, draining={b"n".hex(): 1_700_000_000_500}).nodes
    assert (until.draining.deadline.seconds, until.draining.deadline.nanos) == (1_700_000_000, 500_000_000)
    (open_end,) = snapshot(text, draining={b"n".hex(): 0}).nodes
    assert open_end.HasField("draining")
    assert not open_end.draining.HasField("deadline")


def test_a_drain_shows_before_the_nodes_status_does():
    (node,) = snapshot('node_states { node_id: "n" status: NODE_STATUS_RUNNING }', draining={b"n".hex(): 0}).nodes
    assert node.HasField("draining")


def test_old_activity_of_an_idle_node_is_left_out():
    rows = "".join(f'node_states {{ node_id: "{s}" status: NODE_STATUS_{s} node_activity: "busy" }}' for s in ("IDLE", "RUNNING"))
    assert sorted(tuple(node.activity) for node in snapshot(rows).nodes) == [(), ("busy",)]


IDLE = 'node_states {{ node_id: "n" status: NODE_STATUS_IDLE idle_duration_ms: {idle_ms} }} cluster_resource_state_version: {version}'


def look(text: str, read_at: float) -> convert.Look:
    return convert.look(snapshot(text), read_at)


def test_the_counter_and_idle_times_running_on_are_no_change():
    before = look(IDLE.format(idle_ms=5_000, version=1), 100.0)
    assert not convert.is_change(before, look(IDLE.format(idle_ms=65_000, version=99), 160.0))
    assert not convert.is_change(before, look(IDLE.format(idle_ms=64_100, version=99), 160.0))


def test_an_idle_time_that_began_anew_is_a_change():
    before = look(IDLE.format(idle_ms=5_000, version=1), 100.0)
    assert convert.is_change(before, look(IDLE.format(idle_ms=58_000, version=99), 160.0))


@pytest.mark.parametrize(
    "more",
    [
        'node_states { node_id: "m" status: NODE_STATUS_IDLE }',
        'pending_resource_requests { request { resources_bundle { key: "CPU" value: 1 } } count: 1 }',
        "cluster_resource_constraints {}",
        'pending_gang_resource_requests { details: "ab:PACK|PENDING" requests { resources_bundle { key: "CPU" value: 1 } } }',
    ],
)
def test_anything_else_is_a_change(more):
    text = IDLE.format(idle_ms=5_000, version=1)
    assert convert.is_change(look(text, 100.0), look(f"{text} {more}", 100.0))


def test_the_state_for_the_gcs_has_one_entry_each_and_no_empty_text():
    told = convert.autoscaling_state(
        text_format.Parse(
            """
            version: 7 gcs_version: 3
            requested { node_type: "small" since { seconds: 1700000000 nanos: 9 } }
            requested { node_type: "small" since { seconds: 1700000001 } }
            pending { instance_id: "demo-small-1-0" node_type: "small" detail: "starting" }
            pending { instance_id: "demo-small-1-1" node_type: "small" }
            failed { node_type: "large" requested_at { seconds: 1700000002 } failed_at { seconds: 1700000003 } }
            infeasible { resources { key: "CPU" value: 640000 } resources { key: "x" value: 1 } }
            infeasible_gangs { gang_id: "ab" strategy: STRATEGY_STRICT_SPREAD bundles { bundle { resources { key: "y" value: 5000 } } count: 2 } }
            """,
            head_pb2.AutoscalingState(),
        )
    )
    assert (told.autoscaler_state_version, told.last_seen_cluster_resource_state_version) == (7, 3)
    assert [(each.ray_node_type_name, each.count, each.request_ts) for each in told.pending_instance_requests] == [
        ("small", 1, 1_700_000_000),
        ("small", 1, 1_700_000_001),
    ]
    assert [(each.instance_id, each.details) for each in told.pending_instances] == [
        ("demo-small-1-0", "starting"),
        ("demo-small-1-1", "pending"),
    ]
    (failed,) = told.failed_instance_requests
    assert (failed.count, failed.reason, failed.start_ts, failed.failed_ts) == (1, "launch failed", 1_700_000_002, 1_700_000_003)
    (shape,) = told.infeasible_resource_requests
    assert dict(shape.resources_bundle) == {"CPU": 64.0, "x": 0.0001}
    (group,) = told.infeasible_gang_resource_requests
    assert group.details == "ab:STRICT_SPREAD|PENDING"
    assert [dict(each.resources_bundle) for each in group.bundle_selectors[0].resource_requests] == [{"y": 0.5}, {"y": 0.5}]


def test_every_amount_that_ray_can_name_comes_back_as_the_same_number():
    """Ray compares infeasible shapes by equality of doubles."""
    for units in (1, 3, 2_999, 3_333, 10_001, 123_456_789):
        bundle = head_pb2.Bundle(resources=Resources({"r": units}).amounts)
        told = convert.autoscaling_state(head_pb2.AutoscalingState(infeasible=[bundle]))
        assert told.infeasible_resource_requests[0].resources_bundle["r"] == float(f"{units / 10_000:.4f}")


def test_a_gang_is_orphaned_only_if_the_reading_names_it_and_detached_actors_are_passed_on():
    text = f"""
        pending_gang_resource_requests {{ details: "{GROUP}:PACK|PENDING" requests {{ resources_bundle {{ key: "CPU" value: 1 }} }} }}
        pending_gang_resource_requests {{ details: "{"ab" * 18}:PACK|PENDING" requests {{ resources_bundle {{ key: "CPU" value: 1 }} }} }}
    """
    taken = snapshot(text, orphaned_gangs=frozenset({GROUP, "cd" * 18}), live_detached_actors=3)
    assert {each.gang_id: each.orphaned for each in taken.gangs} == {GROUP: True, "ab" * 18: False}
    assert taken.live_detached_actors == 3
    assert not any(each.orphaned for each in snapshot(text).gangs)


@pytest.mark.parametrize(
    ("units", "whole"),
    [(1, 1), (3_000, 1), (10_000, 1), (10_001, 2), (2**62, 2**62 // 10_000 + 1), (10_000 * 300_000_001, 300_000_001)],
)
def test_a_config_is_told_in_whole_units_rounded_up(units, whole):
    told = convert.cluster_config(head_pb2.ClusterConfig(min_resources={"r": units}, max_resources={"r": units}))
    assert (dict(told.min_resources), dict(told.max_resources)) == ({"r": whole}, {"r": whole})


@pytest.mark.parametrize("units", [0, -1, -(2**63)])
def test_a_config_leaves_out_what_is_nothing(units):
    group = head_pb2.NodeGroupConfig(name="n", resources={"r": units}, min_count=-1, max_count=-1)
    told = convert.cluster_config(head_pb2.ClusterConfig(max_resources={"r": units}, node_groups=[group]))
    assert not told.max_resources
    assert (told.node_group_configs[0].min_count, told.node_group_configs[0].max_count) == (0, -1)


def test_a_constraint_is_replayed_as_request_resources_would_have_sent_it():
    selector = head_pb2.LabelSelector(conditions=[head_pb2.LabelCondition(key="zone", operator=head_pb2.LABEL_OPERATOR_IN, values=["a"])])
    demands = [
        head_pb2.Demand(bundle=head_pb2.Bundle(resources={"CPU": 15_000}), count=3),
        head_pb2.Demand(bundle=head_pb2.Bundle(resources={"GPU": 10_000}, label_selectors=[selector]), count=1),
    ]
    told = convert.cluster_constraint(head_pb2.Constraint(demands=demands))
    assert told.resource_requests[0].request == gcs_pb2.ResourceRequest(resources_bundle={"CPU": 1.5})
    assert [each.count for each in told.resource_requests] == [3, 1]
    read_again = convert.snapshot(GcsReading("ab" * 28, gcs_pb2.ClusterResourceState(cluster_resource_constraints=[told])))
    assert sorted(read_again.constraint.demands, key=str) == sorted(demands, key=str)
    assert convert.cluster_constraint(head_pb2.Constraint()) == gcs_pb2.ClusterResourceConstraint()
