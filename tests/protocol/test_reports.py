"""Any monitor's reports, judged by the numbered rules of SPEC: what it says of a cluster, and when."""

import asyncio
import itertools

import grpc
import pytest

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.demand import Bundle, Constraint, Demand
from rayscaler.model.node import DeathReason, NodeStatus
from rayscaler.model.resources import Resources
from tests.monitor.doors import drain_of, read
from tests.protocol.stage import CLUSTER, INCARNATION

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]  # the first builds Go

GROUP = "0123456789abcdef" * 2 + "0b00"
"""A placement group's id: 18 bytes, of which the last 4 name its job."""


ENDS = ("left", "detached", "owned", "unknown")
NUMBERS = itertools.count(1)


def node_id(number: int) -> bytes:
    return number.to_bytes(28, "big")


def request(selectors: int = 1, **resources: float) -> ray.ResourceRequest:
    return ray.ResourceRequest(resources_bundle=resources, label_selectors=[ray.LabelSelector()] * selectors)


async def shows(stage, claim=lambda made: True, **fields) -> pb.Snapshot:
    """Let the GCS show a state; return the first snapshot of it of which the claim holds."""
    name = f"session_{next(NUMBERS)}"
    stage.gcs.shown = ray.ClusterResourceState(cluster_session_name=name, **fields)
    found = await stage.report(lambda each: each.session.session_name == name and each.HasField("snapshot") and claim(read(each.snapshot)))
    return found.snapshot


# identity and order


async def test_h1_every_report_names_cluster_and_epoch_and_the_sequence_counts_from_1(stage):
    await stage.turns()
    tried = [each for _, _, each in stage.service.tried]
    assert {each.cluster for each in tried} == {CLUSTER}
    assert len({each.monitor_epoch for each in tried}) == 1
    assert tried[0].monitor_epoch > 1_600_000_000_000
    assert [each.sequence for each in tried] == list(range(1, len(tried) + 1))


async def test_h4_h5_a_report_names_the_session_by_the_clusters_id_and_the_sessions_name(stage):
    found = await stage.report(lambda each: each.HasField("snapshot") or not each.gcs_error)
    assert found.session.cluster_id == stage.gcs.ray.cluster_id
    assert found.session.session_name == f"session_{stage.gcs.ray.cluster_id[-8:]}"
    assert found.ray_version == "2.60.0"


async def test_h21_the_heads_incarnation_is_the_same_in_every_report(stage):
    await stage.turns()
    assert {each.head_incarnation for _, _, each in stage.service.tried} in ({INCARNATION}, {""})


async def test_h34_h38_every_call_names_its_cluster_and_none_is_one_that_hurts(stage):
    await stage.turns()
    assert stage.gcs.count("GetClusterResourceState") > 0
    assert stage.gcs.crimes == []


# snapshots and heartbeats


async def test_h6_a_snapshot_is_what_the_gcs_says_now_not_a_sum(stage):
    bundle = Resources.of(six=1)
    tasks = stage.gcs.ray.submit(bundle, 3)
    await stage.report(lambda each: [found.count for found in each.snapshot.state.pending_resource_requests] == [3], "3 tasks")
    tasks += stage.gcs.ray.submit(bundle, 2)
    await stage.report(lambda each: [found.count for found in each.snapshot.state.pending_resource_requests] == [5], "5 tasks")
    stage.gcs.ray.finish(*tasks)
    await stage.report(lambda each: each.HasField("snapshot") and not each.snapshot.state.pending_resource_requests, "no task")


async def test_h7_the_age_counts_from_the_beginning_of_the_reading(stage):
    stage.gcs.delays_s["GetClusterResourceState"] = 0.35
    await stage.turns(2)
    found = await stage.snapshot()
    age_s = found.age.seconds + found.age.nanos / 1e9
    assert 0.3 <= age_s < 3.0


async def test_h8_a_heartbeat_names_the_report_it_repeats_and_changes_are_never_left_to_one(stage):
    stage.gcs.is_restless = False
    worker = stage.gcs.ray.join("w1", "small", Resources.of(CPU=2))
    await stage.snapshot(lambda found: any(each.instance_id == "w1" for each in found.state.node_states), "w1")
    await stage.turns(10)
    base = None
    for each in stage.service.reports:
        if each.HasField("snapshot"):
            base = each.sequence
        elif not each.gcs_error:
            assert each.base_sequence == base
            assert each.session.cluster_id
    stage.gcs.ray.die(worker)
    await stage.report(lambda each: any(found.status == ray.NODE_STATUS_DEAD for found in each.snapshot.state.node_states), "w1 dead")


async def test_h8_a_node_whose_idle_time_began_anew_is_a_change(stage):
    stage.gcs.is_restless = False
    worker = stage.gcs.ray.join("w-idle", "small", Resources.of(CPU=2, mark=1))
    await stage.snapshot(lambda found: any(each.instance_id == "w-idle" for each in found.state.node_states), "w-idle")
    await asyncio.sleep(1.5)
    stage.gcs.ray.finish(*stage.gcs.ray.submit(Resources.of(mark=1)))
    await stage.report(
        lambda each: any(n.instance_id == "w-idle" and n.idle_duration_ms < 1000 for n in each.snapshot.state.node_states), "idle anew"
    )
    stage.gcs.ray.die(worker)


async def test_h8_when_the_service_lacks_the_base_the_next_report_has_a_snapshot(stage):
    stage.gcs.is_restless = False
    await stage.turns(6)
    stage.service.forget()
    first = await stage.report()
    if not first.HasField("snapshot"):
        assert (await stage.report()).HasField("snapshot")


async def test_h10_no_constraint_an_empty_one_and_one_that_asks_are_three_things(stage):
    ray_cluster = stage.gcs.ray
    ray_cluster.constraint = None
    await stage.snapshot(lambda found: read(found).constraint is None, "no constraint")
    ray_cluster.request_resources([Resources.of(CPU=4)] * 2)
    asked = (await stage.snapshot(lambda found: read(found).constraint, "a constraint")).snapshot
    assert [(dict(each.bundle.resources), each.count) for each in read(asked).constraint.demands] == [({"CPU": 40_000}, 2)]
    ray_cluster.request_resources([])
    await stage.snapshot(lambda found: read(found).constraint == Constraint(), "an empty constraint")
    ray_cluster.constraint = None


# pace


async def test_h19_h51_the_gcs_is_read_as_often_as_the_service_says_and_an_unchanged_cluster_is_confirmed(stage):
    stage.gcs.is_restless, stage.service.interval_s = False, 0.4
    await stage.report()
    await stage.turns(1)
    loop = asyncio.get_running_loop()
    reads, reports, began = stage.gcs.count("GetClusterResourceState"), len(stage.service.reports), loop.time()
    await asyncio.sleep(1.7)
    most = 2 + (loop.time() - began) / stage.service.interval_s
    assert 2 <= stage.gcs.count("GetClusterResourceState") - reads <= most
    assert 1 <= len(stage.service.reports) - reports <= most


# what the GCS said


CUT = f"CPU_group_0_{GROUP}"
SAID = {
    "a node": {
        "node_states": [
            ray.NodeState(
                node_id=node_id(1),
                instance_id="demo-small-1-0",
                ray_node_type_name="small",
                status=ray.NODE_STATUS_RUNNING,
                total_resources={"CPU": 4.0, "memory": 1024.0, "third": 0.3333, "node:__internal_head__": 1.0},
                available_resources={"CPU": 1.5},
                labels={"zone": "a"},
                dynamic_labels={f"_PG_{GROUP}": ""},
                node_activity=["Busy workers on node.", "Resource: CPU currently in use."],
            )
        ]
    },
    "an idle node and a strange one": {
        "node_states": [
            ray.NodeState(node_id=node_id(2), status=ray.NODE_STATUS_IDLE, idle_duration_ms=2500, total_resources={"CPU": 1.0}),
            ray.NodeState(node_id=node_id(3), status=77),
        ]
    },
    "a node with a placed group": {
        "node_states": [
            ray.NodeState(
                node_id=node_id(1),
                status=ray.NODE_STATUS_RUNNING,
                total_resources={"CPU": 4.0, CUT: 2.0, f"bundle_group_{GROUP}": 1000.0, "my_group_1": 1.0},
                available_resources={"CPU": 2.0, "my_group_1": 1.0},
                node_activity=[f"Resource: {CUT} currently in use."],
            )
        ]
    },
    "demands": {
        "pending_resource_requests": [
            ray.ResourceRequestByCount(request=request(CPU=1.0), count=2),
            ray.ResourceRequestByCount(request=request(0, CPU=1.0), count=3),
            ray.ResourceRequestByCount(request=request(my_group_1=1.0), count=1),
            ray.ResourceRequestByCount(
                request=ray.ResourceRequest(
                    resources_bundle={"GPU": 0.5},
                    label_selectors=[
                        ray.LabelSelector(
                            label_constraints=[ray.LabelSelectorConstraint(label_key="zone", operator=2, label_values=["b", "a"])]
                        ),
                        ray.LabelSelector(),
                    ],
                ),
                count=1,
            ),
        ]
    },
    "gangs": {
        "pending_gang_resource_requests": [
            ray.GangResourceRequest(
                details=f"{GROUP}:STRICT_PACK|RESCHEDULING",
                requests=[request(CPU=7.0)],
                bundle_selectors=[ray.BundleSelector(resource_requests=[request(CPU=1.0), request(CPU=1.0), request(GPU=1.0)])],
            ),
            ray.GangResourceRequest(details="cd" * 18 + ":SPREAD|PENDING", requests=[request(CPU=5.0)] * 3),
            ray.GangResourceRequest(
                details="words of a later Ray",
                requests=[
                    ray.ResourceRequest(
                        resources_bundle={"CPU": 3.0},
                        placement_constraints=[ray.PlacementConstraint(anti_affinity=ray.AntiAffinityConstraint(label_name="_PG_x"))],
                    )
                ],
            ),
        ]
    },
    "a constraint": {
        "cluster_resource_constraints": [
            ray.ClusterResourceConstraint(resource_requests=[ray.ResourceRequestByCount(request=request(CPU=2.0), count=4)])
        ]
    },
}


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
async def test_h60_the_service_reads_in_a_report_what_the_gcs_said(stage, said):
    reported, whole = read(await shows(stage, **said)), read(pb.Snapshot(state=ray.ClusterResourceState(**said)))
    assert (reported.nodes, reported.demands, reported.gangs, reported.constraint) == (
        whole.nodes,
        whole.demands,
        whole.gangs,
        whole.constraint,
    )


async def test_h60_odd_names_pass(stage):
    """The service alone judges them (H53): no driver can silence a monitor."""
    odd = [request(**{each: 1.0}) for each in ("a\nb", "x" * 513, "\u2028")]
    waiting = [ray.ResourceRequestByCount(request=each, count=1) for each in [request(CPU=1.0), *odd]]
    made = read(await shows(stage, pending_resource_requests=waiting))
    assert [dict(each.bundle.resources) for each in made.demands] == [{"CPU": 10_000}]


async def test_h60_fields_that_gcs_proto_does_not_have_go_nowhere(stage):
    row = ray.JobTableData(job_id=b"two3", config=ray.JobConfig(ray_namespace="mine"))
    secret = b"\x92\x06\x06secret"  # field 98, which is none of ours
    config = b"\x32" + bytes([len(row.config.SerializeToString()) + len(secret)]) + row.config.SerializeToString() + secret
    stage.gcs.jobs = [ray.JobTableData.FromString(b"\x0a\x04two3" + config + secret)]
    assert b"secret" in stage.gcs.jobs[0].SerializeToString()
    found = await stage.snapshot(lambda made: any(each.job_id == b"two3" for each in made.jobs), "the job")
    assert b"secret" not in found.SerializeToString()


async def test_h60_dead_and_draining_nodes_are_told_with_reason_and_deadline(stage):
    cluster = stage.gcs.ray
    dead = cluster.join("w-dead", "small", Resources.of(CPU=1))
    cluster.die(dead, 2, "health check failed")
    draining = cluster.join("w-drain", "small", Resources.of(hold=1))
    task = cluster.submit(Resources.of(hold=1))
    await cluster.drain(drain_of(draining, ray.DRAIN_NODE_REASON_PREEMPTION, "spot", 4_000_000_000.25))
    found = await stage.snapshot(lambda made: any(each.draining_until for each in read(made).nodes), "a drain")
    rows = {each.instance_id: each for each in read(found.snapshot).nodes}
    assert rows["w-dead"].status == NodeStatus.DEAD
    assert (rows["w-dead"].death, rows["w-dead"].death_detail) == (DeathReason.UNEXPECTED, "health check failed")
    assert not rows["w-dead"].total
    assert (rows["w-drain"].status, rows["w-drain"].draining_until) == (NodeStatus.DRAINING, 4_000_000_000.25)
    cluster.finish(*task)


async def test_h22_who_waits_is_counted_without_rays_own_jobs_and_dead_ones(stage):
    gcs = stage.gcs
    own = ray.JobTableData(job_id=b"own1", config=ray.JobConfig(ray_namespace="_ray_internal_dashboard"))
    dead = ray.JobTableData(job_id=b"ded2", is_dead=True)
    gcs.jobs = [own, dead]
    gcs.actors = {2: [ray.ActorTableData(is_detached=True), ray.ActorTableData()], 4: [ray.ActorTableData(is_detached=True)]}
    gone = read((await stage.snapshot(lambda found: read(found).live_jobs == 0, "no job")).snapshot)
    assert gone.live_detached_actors == 1
    task = gcs.ray.submit(Resources.of(CPU=64))  # what waits while no job lives makes monitors look for jobs at once
    gcs.jobs = [ray.JobTableData(job_id=b"two3"), own, dead, ray.JobTableData(job_id=b"two4")]
    back = read((await stage.snapshot(lambda found: read(found).live_jobs > 0, "jobs")).snapshot)
    assert back.live_jobs == 2
    gcs.ray.finish(*task)


async def test_h58_jobs_are_never_those_from_before_another_constraint_and_detached_actors_are_counted_beside_them(stage):
    """Whoever asks may have connected just before."""
    gcs = stage.gcs
    for number in (2, 3):
        gcs.jobs = [*gcs.jobs, ray.JobTableData(job_id=bytes((number, 0, 0, 0)))]
        gcs.ray.request_resources([Resources.of(CPU=number)])
        asked = Constraint((Demand(Bundle(Resources.of(CPU=number)), 1),))
        taken = (await stage.snapshot(lambda found: read(found).constraint == asked, "another constraint")).snapshot  # noqa: B023 - waited for here
        assert read(taken).live_job_ids == {f"{each:02x}000000" for each in range(1, number + 1)}
    gcs.actors = {2: [ray.ActorTableData(is_detached=True)]}
    gcs.jobs = gcs.jobs[1:]
    gone = read((await stage.snapshot(lambda found: read(found).live_jobs == 2, "a job has gone")).snapshot)
    assert (gone.live_job_ids, gone.live_detached_actors) == ({"02000000", "03000000"}, 1)
    gcs.ray.constraint = None


async def test_h22_live_jobs_are_not_0_on_a_guess(stage):
    stage.gcs.refusals["GetAllJobInfo"] = (grpc.StatusCode.INTERNAL, "not now")
    since = len(stage.service.reports)
    task = stage.gcs.ray.submit(Resources.of(CPU=64))
    await stage.turns(8)
    for each in stage.service.reports[since:]:
        assert each.gcs_error or not each.HasField("snapshot") or read(each.snapshot).live_jobs > 0
    stage.gcs.refusals.clear()
    stage.gcs.ray.finish(*task)
    await stage.snapshot(lambda found: read(found).live_jobs == 1, "a job")


async def test_h22_a_gang_is_orphaned_when_nobody_can_wait_for_it(stage):
    """Of groups whose job does not live: `left` alone is neither detached nor its creator's, and known to the GCS."""
    groups = {
        name: f"{number:028x}{job}" for number, (name, job) in enumerate([*((each, "0b000000") for each in ENDS), ("living", "0a000000")])
    }
    rows = {name: {"creator_actor_dead": True} for name in groups}
    rows["detached"]["is_detached"], rows["owned"]["creator_actor_dead"] = True, False
    del rows["unknown"]
    stage.gcs.groups = [ray.PlacementGroupTableData(placement_group_id=bytes.fromhex(groups[name]), **row) for name, row in rows.items()]
    stage.gcs.jobs = [*stage.gcs.jobs, *(ray.JobTableData(job_id=bytes((each, 0, 0, 0)), is_dead=each == 0x0B) for each in (0x0A, 0x0B))]
    waiting = [ray.GangResourceRequest(details=f"{each}:PACK|PENDING", requests=[request(CPU=1.0)]) for each in groups.values()]
    made = await shows(stage, lambda found: any(each.is_orphaned for each in found.gangs), pending_gang_resource_requests=waiting)
    assert [each.gang_id for each in read(made).gangs if each.is_orphaned] == [groups["left"]]


async def test_h30_messages_beyond_grpcs_default_of_4_mib_pass_both_doors(stage):
    activity = "x" * (5 << 20)
    made = await shows(stage, node_states=[ray.NodeState(node_id=node_id(1), status=ray.NODE_STATUS_RUNNING, node_activity=[activity])])
    assert [len(each) for each in made.state.node_states[0].node_activity] == [len(activity)]
