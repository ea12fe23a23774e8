"""Who may still wait for work, as the door to the GCS tells it: live jobs, detached actors, groups that nobody waits for."""

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.monitor import convert
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.gcs import GcsReading, GrpcGcs
from tests.monitor.doors import ManualClock, read
from tests.monitor.recorder import JOB, Recorder, answer_jobs, recording

pytestmark = pytest.mark.tier("protocol")

OTHER_JOB = bytes.fromhex("02000000")
GROUP = (b"\xab" * 14 + JOB).hex()
LIVE, DEAD = gcs_pb2.JobTableData(job_id=JOB), gcs_pb2.JobTableData(job_id=JOB, is_dead=True)
LEFT = gcs_pb2.PlacementGroupTableData(placement_group_id=bytes.fromhex(GROUP), creator_actor_dead=True)


class Ray(Recorder):
    """A recorded GCS with a door to it and a clock of its own."""

    clock: ManualClock
    gcs: GrpcGcs

    def show(self, *gangs: str, tasks: int = 0) -> None:
        """Let these groups and so many tasks wait."""
        state = gcs_pb2.ClusterResourceState(
            cluster_resource_state_version=9,
            pending_resource_requests=[gcs_pb2.ResourceRequestByCount(count=tasks)] if tasks else [],
            pending_gang_resource_requests=[gcs_pb2.GangResourceRequest(details=f"{each}:PACK|PENDING") for each in gangs],
        )
        self.answers["GetClusterResourceState"] = gcs_pb2.GetClusterResourceStateReply(cluster_resource_state=state).SerializeToString()

    def ask(self, cpus: int) -> None:
        """Let the GCS have a constraint, an empty one for 0."""
        constraint = gcs_pb2.ClusterResourceConstraint()
        if cpus:
            constraint.resource_requests.add(count=1).request.resources_bundle["CPU"] = cpus
        state = gcs_pb2.ClusterResourceState(cluster_resource_state_version=9, cluster_resource_constraints=[constraint])
        self.answers["GetClusterResourceState"] = gcs_pb2.GetClusterResourceStateReply(cluster_resource_state=state).SerializeToString()

    def groups(self, *rows: gcs_pb2.PlacementGroupTableData) -> None:
        """Let the GCS know these groups."""
        reply = gcs_pb2.GetAllPlacementGroupReply(placement_group_table_data=rows)
        self.answers["GetAllPlacementGroup"] = reply.SerializeToString()

    def actors(self, *detached: bool) -> None:
        """Let the GCS show these actors to each question."""
        reply = gcs_pb2.GetAllActorInfoReply(actor_table_data=[gcs_pb2.ActorTableData(is_detached=each) for each in detached])
        self.answers["GetAllActorInfo"] = reply.SerializeToString()

    def asked(self, name: str) -> int:
        """How often something was asked since the last such question here."""
        count = self.names().count(name)
        self.calls = [call for call in self.calls if not call[0].endswith(f"/{name}")]
        return count


def live_jobs(reading: GcsReading) -> int:
    """How many jobs the service makes of it."""
    return read(convert.snapshot(reading)).live_jobs


def job_ids(reading: GcsReading) -> frozenset[str]:
    """Which jobs of users the service makes of it."""
    return read(convert.snapshot(reading)).live_job_ids


@pytest.fixture
async def ray():
    async with recording(Ray()) as recorder:
        recorder.clock = ManualClock()
        recorder.gcs = GrpcGcs(recorder.address, recorder.clock, TokenSource({}))
        yield recorder
        await recorder.gcs.close()


async def test_live_jobs_are_counted_without_the_dead_and_rays_own(ray):
    rows = [(b"\x01", False, ""), (b"\x02", False, "mine"), (b"\x03", True, "mine"), (b"\x04", False, "_ray_internal_dashboard")]
    answer_jobs(
        ray, *(gcs_pb2.JobTableData(job_id=key, is_dead=dead, config=gcs_pb2.JobConfig(ray_namespace=name)) for key, dead, name in rows)
    )
    reading = await ray.gcs.read()
    assert (live_jobs(reading), job_ids(reading)) == (2, {"01", "02"})


async def test_e2_h58_jobs_are_read_at_once_after_another_constraint_for_whoever_asked_may_have_just_come(ray):
    await ray.gcs.read()
    for job, cpus in ((JOB, 1), (OTHER_JOB, 2)):
        answer_jobs(ray, gcs_pb2.JobTableData(job_id=job))
        ray.ask(cpus)
        assert job_ids(await ray.gcs.read()) == {job.hex()}
        await ray.gcs.read()
    assert ray.asked("GetAllJobInfo") == 3


async def test_e2_h58_under_a_constraint_detached_actors_are_counted_beside_live_jobs_but_seldom(ray):
    answer_jobs(ray, LIVE, gcs_pb2.JobTableData(job_id=OTHER_JOB))
    ray.actors(True)
    ray.ask(0)
    assert (await ray.gcs.read()).live_detached_actors == 0
    ray.ask(4)
    assert (await ray.gcs.read()).live_detached_actors == 4
    ray.clock.pass_s(5)
    await ray.gcs.read()
    assert ray.asked("GetAllActorInfo") == 4
    answer_jobs(ray, DEAD, gcs_pb2.JobTableData(job_id=OTHER_JOB))
    ray.clock.pass_s(2.5)
    await ray.gcs.read()
    assert ray.asked("GetAllActorInfo") == 4  # a job has gone: it may have left some
    ray.clock.pass_s(10.5)
    ray.actors()
    assert (await ray.gcs.read()).live_detached_actors == 0


async def test_demand_without_a_known_job_has_the_jobs_counted_anew_at_once(ray):
    assert live_jobs(await ray.gcs.read()) == 0
    answer_jobs(ray, LIVE)
    assert live_jobs(await ray.gcs.read()) == 0
    ray.show(tasks=1)
    assert live_jobs(await ray.gcs.read()) == 1
    await ray.gcs.read()
    assert ray.asked("GetAllJobInfo") == 2


async def test_actors_are_asked_for_only_while_no_job_lives_and_without_the_dead_ones(ray):
    answer_jobs(ray, LIVE)
    ray.actors(True)
    ray.show(tasks=1)
    assert (await ray.gcs.read()).live_detached_actors == 0
    assert ray.asked("GetAllActorInfo") == 0
    answer_jobs(ray, DEAD)
    ray.clock.pass_s(2.5)
    reading = await ray.gcs.read()
    assert (live_jobs(reading), reading.live_detached_actors) == (0, 4)
    requests = [gcs_pb2.GetAllActorInfoRequest.FromString(sent) for method, sent, _ in ray.calls if method.endswith("/GetAllActorInfo")]
    assert sorted(each.filters.state for each in requests) == [0, 1, 2, 3]
    assert all(each.filters.HasField("state") for each in requests)


async def test_actors_that_end_with_their_driver_do_not_count(ray):
    answer_jobs(ray, DEAD)
    ray.actors(False, True, False)
    assert (await ray.gcs.read()).live_detached_actors == 4


async def test_actors_are_asked_for_every_two_seconds_and_at_once_after_a_job_that_came_and_went(ray):
    answer_jobs(ray, DEAD)
    ray.show(tasks=1)
    for _ in range(3):
        await ray.gcs.read()
    assert ray.asked("GetAllActorInfo") == 4
    answer_jobs(ray, DEAD, gcs_pb2.JobTableData(job_id=OTHER_JOB, is_dead=True))
    ray.actors(True)
    assert (await ray.gcs.read()).live_detached_actors == 4
    ray.actors()
    ray.clock.pass_s(2.5)
    assert (await ray.gcs.read()).live_detached_actors == 0


@pytest.mark.parametrize(
    ("job", "row", "is_orphaned"),
    [
        (DEAD, LEFT, True),
        (LIVE, LEFT, False),
        (DEAD, gcs_pb2.PlacementGroupTableData(placement_group_id=bytes.fromhex(GROUP), creator_actor_dead=True, is_detached=True), False),
        (DEAD, gcs_pb2.PlacementGroupTableData(placement_group_id=bytes.fromhex(GROUP)), False),
        (DEAD, gcs_pb2.PlacementGroupTableData(placement_group_id=b"\xcd" * 18, creator_actor_dead=True), False),
    ],
    ids=["its job has ended", "its job lives", "it is detached", "the actor that made it lives", "the GCS has no row of it"],
)
async def test_a_waiting_group_is_orphaned_only_if_nobody_can_wait_for_it(ray, job, row, is_orphaned):
    answer_jobs(ray, job, gcs_pb2.JobTableData(job_id=OTHER_JOB))
    ray.groups(row)
    ray.show(GROUP)
    assert (await ray.gcs.read()).orphaned_gangs == ({GROUP} if is_orphaned else set())
    assert ray.asked("GetAllPlacementGroup") == (job is DEAD)


async def test_groups_are_asked_for_only_while_one_of_a_dead_job_waits_and_then_every_two_seconds(ray):
    answer_jobs(ray, DEAD)
    ray.groups(LEFT)
    await ray.gcs.read()
    assert ray.asked("GetAllPlacementGroup") == 0
    ray.show(GROUP)
    for _ in range(3):
        assert (await ray.gcs.read()).orphaned_gangs == {GROUP}
    assert ray.asked("GetAllPlacementGroup") == 1
    ray.clock.pass_s(2.5)
    assert (await ray.gcs.read()).orphaned_gangs == {GROUP}
    assert ray.asked("GetAllPlacementGroup") == 1
    ray.show()
    assert (await ray.gcs.read()).orphaned_gangs == set()


async def test_a_group_of_a_job_that_has_just_come_is_not_taken_for_orphaned(ray):
    answer_jobs(ray, gcs_pb2.JobTableData(job_id=OTHER_JOB))
    ray.groups(LEFT)
    await ray.gcs.read()
    answer_jobs(ray, LIVE, gcs_pb2.JobTableData(job_id=OTHER_JOB))
    ray.show(GROUP)
    assert (await ray.gcs.read()).orphaned_gangs == set()
    assert ray.asked("GetAllPlacementGroup") == 0


@pytest.mark.parametrize("details", ["", "x", ":PACK|PENDING", "abc:PACK|PENDING", "zz" * 18 + ":PACK|PENDING", "AB" * 18])
async def test_a_group_whose_id_cannot_be_read_is_never_orphaned(ray, details):
    answer_jobs(ray, DEAD)
    ray.groups(LEFT)
    ray.show(details)
    assert (await ray.gcs.read()).orphaned_gangs == set()
