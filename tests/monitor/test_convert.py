"""What a report has of a reading, and what counts as a change."""

import pytest
from google.protobuf import text_format

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.demand import Locality
from rayscaler.monitor import convert
from rayscaler.monitor.gcs import GcsReading
from rayscaler.rules import Rules
from rayscaler.server.snapshot import snapshot as read
from tests.server.golden import busy

pytestmark = pytest.mark.tier("unit")

GROUP = "4b2fa3ab9a28aa50c0074ece559201000000"


def reading(state: gcs_pb2.ClusterResourceState, **more) -> GcsReading:
    return GcsReading(cluster_id="ab" * 28, state=state, **more)


def snapshot(text: str, **more) -> head_pb2.Snapshot:
    return convert.snapshot(reading(text_format.Parse(text, gcs_pb2.ClusterResourceState()), **more))


def test_of_a_recorded_busy_head_the_service_reads_the_same_from_a_report_as_from_the_gcs():
    recorded = busy.recorded()
    taken = convert.snapshot(reading(recorded.state, jobs=recorded.jobs))
    assert read(Rules(), taken) == read(Rules(), recorded)
    assert taken.ByteSize() < recorded.ByteSize()


def test_rows_in_another_order_are_no_change():
    recorded = busy.recorded()
    turned = gcs_pb2.ClusterResourceState()
    turned.CopyFrom(recorded.state)
    for name in ("node_states", "pending_resource_requests", "pending_gang_resource_requests"):
        rows = list(reversed(getattr(turned, name)))
        turned.ClearField(name)
        getattr(turned, name).extend(rows)
    looks = [convert.look(convert.snapshot(reading(each)), 100.0) for each in (recorded.state, turned)]
    assert not convert.is_change(*looks)


def test_what_ray_cut_out_for_placed_groups_and_what_is_said_twice_is_spared():
    taken = snapshot(f"""
        node_states {{
            node_id: "n" status: NODE_STATUS_IDLE node_activity: "old"
            total_resources {{ key: "CPU" value: 4 }} total_resources {{ key: "CPU_group_0_{GROUP}" value: 2 }}
            available_resources {{ key: "CPU_group_{GROUP}" value: 2 }} available_resources {{ key: "my_group_1" value: 1 }}
        }}
        pending_gang_resource_requests {{ details: "ab:PACK|PENDING" requests {{}} bundle_selectors {{ resource_requests {{}} }} }}
        pending_gang_resource_requests {{
            details: "cd" requests {{ placement_constraints {{ affinity {{}} }} }} requests {{ placement_constraints {{ affinity {{}} }} }}
        }}""")
    (node,) = taken.state.node_states
    assert (dict(node.total_resources), dict(node.available_resources)) == ({"CPU": 4.0}, {"my_group_1": 1.0})
    assert not node.node_activity
    first, second = taken.state.pending_gang_resource_requests
    assert (
        len(first.requests),
        len(first.bundle_selectors[0].resource_requests),
        [len(each.placement_constraints) for each in second.requests],
    ) == (0, 1, [1, 0])


def test_the_order_of_a_groups_bundles_and_within_which_value_it_shall_lie_reach_the_service():
    parts = " ".join(f'resource_requests {{ resources_bundle {{ key: "GPU" value: {part} }} }}' for part in (0.25, 0.7, 0.25))
    within = 'locality_requirement { locality_constraint { label_name: "zone" placement_strategy: 2 } }'
    taken = snapshot(f'pending_gang_resource_requests {{ details: "ab:PACK|PENDING" bundle_selectors {{ {parts} {within} }} }}')
    (gang,) = read(Rules(), head_pb2.Snapshot.FromString(taken.SerializeToString())).gangs
    assert ([each.bundle.resources["GPU"] for each in gang.bundles], gang.locality) == ([2_500, 7_000, 2_500], Locality("zone"))


def test_jobs_ended_draining_and_left_groups_of_a_reading_go_along():
    ended = {b"n".hex(): gcs_pb2.GcsNodeInfo(node_id=b"n"), b"m".hex(): gcs_pb2.GcsNodeInfo()}
    job = gcs_pb2.JobTableData(job_id=b"job1")
    taken = snapshot("", ended=ended, draining={b"d".hex(): 7}, jobs=[job], live_detached_actors=3, orphaned_gangs=frozenset({GROUP}))
    assert [each.node_id for each in taken.ended] == [b"n"]
    assert [(each.node_id, each.draining_deadline_timestamp_ms) for each in taken.draining] == [(b"d", 7)]
    assert (list(taken.jobs), taken.live_detached_actors) == ([job], 3)
    (group,) = taken.groups
    assert (group.placement_group_id.hex(), group.creator_actor_dead, group.is_detached) == (GROUP, True, False)


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
