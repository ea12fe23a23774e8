"""Who may still wait for work: live drivers and detached actors, and the placement groups that nobody waits for any more.

Ray goes on showing tasks of drivers that were killed. Nothing here may say that nobody waits unless the GCS has just said so.
"""

import asyncio
from collections.abc import Iterable

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.model.raynames import INTERNAL_NAMESPACE, JOB_BYTES
from rayscaler.monitor.link import ClusterLine

JOBS = "/ray.rpc.JobInfoGcsService"
ACTORS = "/ray.rpc.ActorInfoGcsService"
PLACEMENT_GROUPS = "/ray.rpc.PlacementGroupInfoGcsService"

READ_EVERY_S = 2.0
"""Whether a driver lives is wanted for idleness only, which is counted in tens of seconds."""

FLOORED_EVERY_S = 10.0
"""While jobs live the reply may be long, and what it tells is wanted only once those that asked for the constraint have gone."""

LIVING_STATES = (0, 1, 2, 3)
"""Of an actor: dependencies unready, pending, alive, restarting; one call for each, since the dead would come with them otherwise."""


class Waiters:
    """The jobs, detached actors and orphaned groups of one cluster, as the GCS told them last."""

    def __init__(self, line: ClusterLine) -> None:
        self._line = line
        self.jobs: tuple[gcs_pb2.JobTableData, ...] = ()
        """Jobs with a live driver, Ray's own too."""
        self.live_jobs = 0
        """How many of them are not Ray's own."""
        self.detached_actors = 0
        """Detached actors that live or are to live; counted only while no job does, or while a constraint asks for something."""
        self.orphaned_gangs: frozenset[str] = frozenset()
        """Ids of the waiting groups that nobody waits for."""
        self._jobs_read_at = float("-inf")
        self._live_ids: frozenset[bytes] = frozenset()
        self._ids: frozenset[bytes] = frozenset()
        self._asked: list[gcs_pb2.ClusterResourceConstraint] = []
        self._actors_read_at = float("-inf")
        self._jobs_at_actors: tuple[frozenset[bytes], frozenset[bytes]] = (frozenset(), frozenset())
        self._groups_read_at = float("-inf")
        self._judged: frozenset[str] = frozenset()

    async def read(self, state: gcs_pb2.ClusterResourceState, now: float) -> None:
        """Read what is due; `now` is in monotonic seconds."""
        gangs = {gang_id: bytes.fromhex(gang_id)[-JOB_BYTES:] for gang_id in _gang_ids(state)}
        await self._read_jobs(state, gangs, now)
        is_floored = any(each.resource_requests for each in state.cluster_resource_constraints)
        if self.live_jobs and not is_floored:
            self.detached_actors = 0
        else:
            await self._read_actors(now, FLOORED_EVERY_S if self.live_jobs else READ_EVERY_S)
        await self._read_groups({gang_id for gang_id, job_id in gangs.items() if job_id not in self._live_ids}, now)

    async def _read_jobs(self, state: gcs_pb2.ClusterResourceState, gangs: dict[str, bytes], now: float) -> None:
        """Read the jobs; at once where something waits for a job not known to live, or is asked for anew: its driver may have just come."""
        is_strange = any(job_id not in self._live_ids and gang_id not in self._judged for gang_id, job_id in gangs.items())
        is_unowned = not self.live_jobs and bool(state.pending_resource_requests or gangs)
        asked = list(state.cluster_resource_constraints)
        if now - self._jobs_read_at < READ_EVERY_S and not is_strange and not is_unowned and asked == self._asked:
            return
        request = gcs_pb2.GetAllJobInfoRequest(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
        rows = (await self._line.call(f"{JOBS}/GetAllJobInfo", request, gcs_pb2.GetAllJobInfoReply)).job_info_list
        self._ids = frozenset(row.job_id for row in rows)
        self.jobs = tuple(_slim(row) for row in rows if not row.is_dead)
        self._live_ids = frozenset(row.job_id for row in self.jobs)
        self.live_jobs = sum(not row.config.ray_namespace.startswith(INTERNAL_NAMESPACE) for row in self.jobs)
        self._jobs_read_at, self._asked = now, asked

    async def _read_actors(self, now: float, every_s: float) -> None:
        """Count detached actors; at once after any job has come or gone, since only a job could have left a new one."""
        jobs = self._ids, self._live_ids
        if now - self._actors_read_at < every_s and jobs == self._jobs_at_actors:
            return
        requests = [gcs_pb2.GetAllActorInfoRequest(filters=gcs_pb2.ActorFilters(state=each)) for each in LIVING_STATES]
        replies = await asyncio.gather(
            *(self._line.call(f"{ACTORS}/GetAllActorInfo", request, gcs_pb2.GetAllActorInfoReply) for request in requests)
        )
        self.detached_actors = sum(row.is_detached for reply in replies for row in reply.actor_table_data)
        self._actors_read_at, self._jobs_at_actors = now, jobs

    async def _read_groups(self, suspects: set[str], now: float) -> None:
        """Judge waiting groups whose job does not live; a group that was not looked at is not orphaned."""
        if suspects and (not suspects <= self._judged or now - self._groups_read_at >= READ_EVERY_S):
            request = gcs_pb2.GetAllPlacementGroupRequest()
            reply = await self._line.call(f"{PLACEMENT_GROUPS}/GetAllPlacementGroup", request, gcs_pb2.GetAllPlacementGroupReply)
            rows = reply.placement_group_table_data
            left = {row.placement_group_id.hex() for row in rows if row.creator_actor_dead and not row.is_detached}
            self.orphaned_gangs = frozenset(suspects & left)
            self._judged = frozenset(suspects)
            self._groups_read_at = now
        self.orphaned_gangs &= suspects
        self._judged &= suspects


def _slim(row: gcs_pb2.JobTableData) -> gcs_pb2.JobTableData:
    """Without the fields that are not ours and would be kept as unknown ones: a runtime environment can hold secrets."""
    return gcs_pb2.JobTableData(job_id=row.job_id, config=gcs_pb2.JobConfig(ray_namespace=row.config.ray_namespace))


def _gang_ids(state: gcs_pb2.ClusterResourceState) -> Iterable[str]:
    """Ids of the groups that wait, where `details` has the form in which Ray tells them."""
    for gang in state.pending_gang_resource_requests:
        gang_id = gang.details.partition(":")[0]
        if len(gang_id) == 2 * GROUP_ID_BYTES and all(each in "0123456789abcdef" for each in gang_id):
            yield gang_id


GROUP_ID_BYTES = 18
"""Length of a placement group's id."""
