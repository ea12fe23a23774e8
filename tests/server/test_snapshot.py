"""Ray's own messages to the model: H40 to H44 and H53 of SPEC."""

import pytest
from google.protobuf import text_format

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.demand import Constraint, Gang, LabelCondition, LabelSelector, Locality, Operator, Snapshot, Strategy
from rayscaler.model.node import DeathReason, NodeStatus
from rayscaler.rules import Rules, is_sayable
from rayscaler.server import snapshot as taken_from
from tests.server.golden import busy

pytestmark = pytest.mark.tier("unit")

GROUP = "4b2fa3ab9a28aa50c0074ece559201000000"
JOB = bytes.fromhex("01000000")


def read(taken: head_pb2.Snapshot) -> Snapshot:
    rules = Rules()
    made = taken_from.snapshot(rules, taken)
    assert rules.problems == []
    return made


def snapshot(text: str, **more) -> Snapshot:
    return read(head_pb2.Snapshot(state=text_format.Parse(text, gcs_pb2.ClusterResourceState()), **more))


def test_a_recorded_busy_head_becomes_the_golden_snapshot():
    assert busy.shown(read(busy.recorded())) == (busy.HERE / "busy.txt").read_text()


def test_rows_in_another_order_make_the_same_snapshot():
    turned = busy.recorded()
    for name in ("node_states", "pending_resource_requests", "pending_gang_resource_requests"):
        rows = list(reversed(getattr(turned.state, name)))
        turned.state.ClearField(name)
        getattr(turned.state, name).extend(rows)
    assert read(turned) == read(busy.recorded())


@pytest.mark.parametrize("amount", [0.0001, 0.1, 0.29999999999999998, 1 / 3, 300000001.0, 25034730496.0])
def test_h40_amounts_are_rounded_to_rays_own_units(amount):
    taken = snapshot(f'pending_resource_requests {{ request {{ resources_bundle {{ key: "r" value: {amount!r} }} }} count: 1 }}')
    assert taken.demands[0].bundle.resources["r"] == round(amount * 10_000)


def test_h42_one_empty_selector_is_no_wish_and_an_empty_alternative_among_others_is_one():
    taken = snapshot("""
        pending_resource_requests { request { resources_bundle { key: "a" value: 1 } label_selectors {} } count: 1 }
        pending_resource_requests { request {
            resources_bundle { key: "b" value: 1 }
            label_selectors { label_constraints { label_key: "zone" operator: 1 label_values: "x" } }
            label_selectors {}
        } count: 1 }""")
    assert [len(demand.bundle.selectors) for demand in taken.demands] == [0, 2]


def test_h42_equal_shapes_are_one_demand_with_the_sum_of_counts():
    taken = snapshot("""
        pending_resource_requests { request { resources_bundle { key: "CPU" value: 1 } label_selectors {} } count: 3 }
        pending_resource_requests { request { resources_bundle { key: "CPU" value: 1 } } count: 4 }
        pending_resource_requests { request { resources_bundle { key: "CPU" value: 2 } } count: 0 }""")
    assert [(dict(demand.bundle.resources), demand.count) for demand in taken.demands] == [({"CPU": 10_000}, 7)]


def test_h42_a_condition_with_an_unknown_operator_holds_nowhere_and_does_not_spoil_the_report():
    taken = snapshot("""
        pending_resource_requests { request {
            resources_bundle { key: "CPU" value: 1 }
            label_selectors { label_constraints { label_key: "zone" operator: 9 label_values: "x" } }
        } count: 1 }""")
    (condition,) = taken.demands[0].bundle.selectors[0].conditions
    assert (condition.operator, condition.values) == (Operator.IN, ())


@pytest.mark.parametrize("name", [f"CPU_group_{GROUP}", f"CPU_group_0_{GROUP}", f"bundle_group_{GROUP}", f"my_group_x_group_3_{GROUP}"])
def test_h41_tasks_inside_a_placed_group_are_no_demand(name):
    taken = snapshot(f'pending_resource_requests {{ request {{ resources_bundle {{ key: "{name}" value: 1 }} }} count: 2 }}')
    assert not taken.demands


@pytest.mark.parametrize("name", ["my_group_a", "gpu_group_0", "_group_", f"xgroup_{GROUP}"])
def test_h41_a_users_own_resource_with_group_in_its_name_is_kept(name):
    taken = snapshot(f"""
        pending_resource_requests {{ request {{ resources_bundle {{ key: "{name}" value: 1 }} }} count: 2 }}
        node_states {{ node_id: "n" status: NODE_STATUS_IDLE total_resources {{ key: "{name}" value: 1 }} }}""")
    assert list(taken.demands[0].bundle.resources) == [name]
    assert list(taken.nodes[0].total) == [name]


def gang(details: str, strategy: str = "", constraint: str = "") -> Gang:
    request = f'requests {{ resources_bundle {{ key: "CPU" value: 1 }} {constraint} }}'
    (made,) = snapshot(f'pending_gang_resource_requests {{ {request} details: "{details}{strategy}" }}').gangs
    return made


@pytest.mark.parametrize("strategy", ["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"])
@pytest.mark.parametrize("is_rescheduling", [True, False])
def test_h43_id_strategy_and_state_of_a_gang_come_from_its_details(strategy, is_rescheduling):
    made = gang(f"{GROUP}:{strategy}|{'RESCHEDULING' if is_rescheduling else 'PENDING'}")
    assert made.gang_id == GROUP
    assert made.strategy == Strategy(strategy)
    assert made.is_rescheduling == is_rescheduling


@pytest.mark.parametrize(
    ("constraint", "strategy"),
    [
        ("", Strategy.PACK),
        ('placement_constraints { affinity { label_name: "_PG_1" } }', Strategy.STRICT_PACK),
        ('placement_constraints { anti_affinity { label_name: "_PG_1" } }', Strategy.STRICT_SPREAD),
    ],
)
@pytest.mark.parametrize("details", ["", "a new form", f"{GROUP}:DIAGONAL|PENDING"])
def test_h43_details_in_a_form_unknown_here_fall_back_to_the_constraints(details, constraint, strategy):
    made = gang(details, constraint=constraint)
    assert made.strategy == strategy
    assert made.gang_id


def test_h43_bundle_selectors_win_over_the_deprecated_list():
    """DK-13; and of several the first counts (DK-14): what others would be for, no placement group of Ray 2.60 can say."""
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
    assert demand.bundle.selectors[0].conditions[0].key == "zone"


def test_h43_gangs_in_transition_without_bundles_are_left_out():
    assert not snapshot('pending_gang_resource_requests { details: "ab:PACK|PENDING" bundle_selectors {} }').gangs


def test_no_constraint_and_an_empty_one_stay_apart():
    assert snapshot("").constraint is None
    assert snapshot("cluster_resource_constraints {}").constraint == Constraint()


def test_a_dead_node_tells_why_it_died_and_whether_it_was_the_head():
    info = gcs_pb2.GcsNodeInfo(node_id=b"n", is_head_node=True, death_info=gcs_pb2.NodeDeathInfo(reason=4, reason_message="idle for 60 s"))
    taken = snapshot('node_states { node_id: "n" instance_id: "i" status: NODE_STATUS_DEAD }', ended=[info])
    (node,) = taken.nodes
    assert (node.status, node.instance_id, node.is_head) == (NodeStatus.DEAD, "i", True)
    assert (node.death, node.death_detail) == (DeathReason.DRAINED_IDLE, "idle for 60 s")


def test_a_draining_node_tells_until_when():
    text = 'node_states { node_id: "n" status: NODE_STATUS_DRAINING }'
    (until,) = snapshot(text, draining=[gcs_pb2.DrainingNode(node_id=b"n", draining_deadline_timestamp_ms=1_700_000_000_500)]).nodes
    assert until.draining_until == 1_700_000_000.5
    (open_end,) = snapshot(text, draining=[gcs_pb2.DrainingNode(node_id=b"n")]).nodes
    assert (open_end.is_draining, open_end.draining_until) == (True, None)


def test_a_drain_shows_before_the_nodes_status_does():
    (node,) = snapshot('node_states { node_id: "n" status: NODE_STATUS_RUNNING }', draining=[gcs_pb2.DrainingNode(node_id=b"n")]).nodes
    assert node.is_draining


def test_old_activity_of_an_idle_node_is_left_out():
    rows = "".join(f'node_states {{ node_id: "{s}" status: NODE_STATUS_{s} node_activity: "busy" }}' for s in ("IDLE", "RUNNING"))
    assert sorted(node.activity for node in snapshot(rows).nodes) == [(), ("busy",)]


def test_h40_a_status_yet_unknown_is_neither_idle_nor_dead():
    (node,) = snapshot('node_states { node_id: "n" status: 77 node_activity: "b" node_activity: "a" }').nodes
    assert (node.status, node.activity) == (NodeStatus.RUNNING, ("a", "b"))


@pytest.mark.parametrize("amount", ["0", "-1", "-inf", "1e-9"])
def test_h40_what_is_not_above_nothing_is_left_out(amount):
    text = f'resources_bundle {{ key: "x" value: {amount} }} resources_bundle {{ key: "CPU" value: 1 }}'
    taken = snapshot(f"pending_resource_requests {{ request {{ {text} }} count: 1 }}")
    assert dict(taken.demands[0].bundle.resources) == {"CPU": 10_000}


@pytest.mark.parametrize("odd", ["a\nb", "x" * 513, "\u2028", ""])
def test_h53_an_odd_name_costs_the_demand_or_gang_that_has_it_and_nothing_else(odd):
    def request(**resources: float) -> gcs_pb2.ResourceRequest:
        return gcs_pb2.ResourceRequest(resources_bundle=resources)

    both = [request(CPU=1.0), request(**{odd: 1.0, "CPU": 1.0})]
    gangs = [gcs_pb2.GangResourceRequest(details=f"{i:036x}:PACK|PENDING", requests=[both[0], each]) for i, each in enumerate(both)]
    gangs.append(gcs_pb2.GangResourceRequest(details=f"{odd}\n", requests=[both[0]]))
    state = gcs_pb2.ClusterResourceState(
        node_states=[gcs_pb2.NodeState(node_id=b"n", total_resources={"CPU": 1.0, odd: 1.0})],
        pending_resource_requests=[gcs_pb2.ResourceRequestByCount(request=each, count=1) for each in both],
        pending_gang_resource_requests=gangs,
    )
    made = read(head_pb2.Snapshot(state=state))
    assert dict(made.nodes[0].total) == {"CPU": 10_000}
    assert [(dict(each.bundle.resources), each.count) for each in made.demands] == [({"CPU": 10_000}, 1)]
    assert [each.gang_id for each in made.gangs] == [f"{0:036x}"]


@pytest.mark.parametrize("odd", ["a\nb", "x" * 513, "\u2028", "", "\x1b[31m" * 400])
@pytest.mark.parametrize("operator", [1, 2])
def test_h53_a_wish_for_a_label_with_an_odd_key_is_one_for_a_label_that_no_node_has(odd, operator):
    wish = gcs_pb2.LabelSelectorConstraint(label_key=odd, operator=operator, label_values=["a"])
    request = gcs_pb2.ResourceRequest(resources_bundle={"CPU": 1.0}, label_selectors=[gcs_pb2.LabelSelector(label_constraints=[wish])])
    gangs = [gcs_pb2.GangResourceRequest(details=f"{1:036x}:PACK|PENDING", requests=[request])]
    state = gcs_pb2.ClusterResourceState(
        pending_resource_requests=[gcs_pb2.ResourceRequestByCount(request=request, count=2)], pending_gang_resource_requests=gangs
    )
    made = read(head_pb2.Snapshot(state=state))
    for each in (made.demands[0], made.gangs[0].bundles[0]):
        assert each.bundle.label_rank({odd: "a", "": "a", "zone": "a"}) == (None if operator == 1 else 0)
        (condition,) = each.bundle.selectors[0].conditions
        assert is_sayable(condition.key)
        assert is_sayable(str(each.bundle)[:500])


@pytest.mark.parametrize(
    ("row", "jobs", "is_orphaned"),
    [
        ({"creator_actor_dead": True}, [], True),
        ({"creator_actor_dead": True}, [(JOB, False)], False),
        ({"creator_actor_dead": True}, [(JOB, True)], True),
        ({"creator_actor_dead": True, "is_detached": True}, [], False),
        ({}, [], False),
        (None, [], False),
    ],
    ids=["left", "its job lives", "its job is dead", "detached", "its actor lives", "without a row"],
)
@pytest.mark.parametrize("has_id", [True, False])
def test_h44_a_gang_is_orphaned_only_if_nobody_can_wait_for_it(row, jobs, is_orphaned, has_id):
    groups = [] if row is None else [gcs_pb2.PlacementGroupTableData(placement_group_id=bytes.fromhex(GROUP), **row)]
    living = [gcs_pb2.JobTableData(job_id=job_id, is_dead=is_dead) for job_id, is_dead in jobs]
    details = f"{GROUP}:PACK|PENDING" if has_id else f"{GROUP[2:]}:PACK|PENDING"
    text = f'pending_gang_resource_requests {{ details: "{details}" requests {{ resources_bundle {{ key: "CPU" value: 1 }} }} }}'
    (made,) = snapshot(text, groups=groups, jobs=living).gangs
    assert made.is_orphaned == (is_orphaned and has_id)


def test_the_heads_address_is_that_of_its_row():
    head = 'total_resources { key: "node:__internal_head__" value: 1 }'
    rows = f'node_states {{ node_id: "w" node_ip_address: "10.0.0.2" }} node_states {{ node_id: "h" node_ip_address: "10.0.0.1" {head} }}'
    assert (snapshot(rows).head_ip, snapshot("").head_ip) == ("10.0.0.1", "")


def test_h41_what_ray_cut_out_of_a_node_for_groups_is_not_the_nodes():
    cut = f'{{ key: "CPU_group_0_{GROUP}" value: 2 }}'
    (node,) = snapshot(f"""node_states {{
        node_id: "n" status: NODE_STATUS_RUNNING node_activity: "Resource: CPU_group_{GROUP} currently in use." node_activity: "Busy"
        total_resources {{ key: "CPU" value: 4 }} total_resources {cut} available_resources {cut}
    }}""").nodes
    assert (dict(node.total), dict(node.available), node.activity) == ({"CPU": 40_000}, {}, ("Busy",))


def test_h22_jobs_are_counted_without_rays_own_and_dead_ones():
    own = gcs_pb2.JobTableData(job_id=b"own1", config=gcs_pb2.JobConfig(ray_namespace="_ray_internal_dashboard"))
    made = snapshot(
        "", jobs=[own, gcs_pb2.JobTableData(job_id=b"ded2", is_dead=True), gcs_pb2.JobTableData(job_id=JOB)], live_detached_actors=3
    )
    assert (made.live_jobs, made.live_job_ids, made.live_detached_actors) == (1, {JOB.hex()}, 3)


@pytest.mark.parametrize(("count", "named"), [(1000, 1000), (1001, 0)])
def test_h58_more_than_a_thousand_jobs_are_counted_and_not_named(count, named):
    made = snapshot("", jobs=[gcs_pb2.JobTableData(job_id=each.to_bytes(4, "little")) for each in (*range(count), 0)])
    assert (made.live_jobs, len(made.live_job_ids)) == (count, named)


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        ('locality_constraint { label_name: "zone" placement_strategy: 2 }', Locality("zone")),
        (
            'locality_constraint { label_name: "zone" placement_strategy: 2 } label_selector { label_constraints { label_key: "zone" operator: 1 label_values: "b" } }',
            Locality("zone", LabelSelector((LabelCondition("zone", Operator.IN, ("b",)),))),
        ),
        ('locality_constraint { label_name: "zone" placement_strategy: 1 }', None),
        ('locality_constraint { label_name: "zo\\tne" placement_strategy: 2 }', Locality("'zo\\tne'")),
        ("", None),
    ],
)
def test_h43_a_gang_that_shall_lie_within_one_value_of_a_label_says_so(constraint, expected):
    (made,) = snapshot(f"""
        pending_gang_resource_requests {{
            details: "ab:PACK|PENDING"
            bundle_selectors {{
                resource_requests {{ resources_bundle {{ key: "CPU" value: 1 }} }}
                locality_requirement {{ {constraint} }}
            }}
        }}""").gangs
    assert made.locality == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((0.25, 0.7, 0.7, 0.25), [(2_500, 1), (7_000, 2), (2_500, 1)]),
        ((1, 0.7, 1, 0.7), [(7_000, 2), (10_000, 2)]),
    ],
)
def test_h43_bundles_keep_their_order_where_parts_of_different_size_are_among_them(parts, expected):
    requests = " ".join(f'resource_requests {{ resources_bundle {{ key: "GPU" value: {part} }} }}' for part in parts)
    (made,) = snapshot(f'pending_gang_resource_requests {{ details: "ab:PACK|PENDING" bundle_selectors {{ {requests} }} }}').gangs
    assert [(each.bundle.resources["GPU"], each.count) for each in made.bundles] == expected
