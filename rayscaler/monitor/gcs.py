"""The one door to Ray's GCS: raw gRPC with our own copies of the messages. Owns what must never be sent; knows no service.

Ray's legacy NodeInfoGcsService.DrainNode does not exist here (it kills running tasks), and our state request has no field
for a version last seen (a stale one kills a restarted head).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.clock import Clock
from rayscaler.monitor import rpc
from rayscaler.monitor.auth import TokenSource

AUTOSCALER = "/ray.rpc.autoscaler.AutoscalerStateService"
NODES = "/ray.rpc.NodeInfoGcsService"
NODE_RESOURCES = "/ray.rpc.NodeResourceInfoGcsService"
JOBS = "/ray.rpc.JobInfoGcsService"

MAX_MESSAGE_BYTES = 512 << 20
"""Snapshots of some thousand nodes pass gRPC's default of 4 MiB."""

JOBS_EVERY_S = 2.0
"""Whether a driver lives is wanted for idleness only, which is counted in tens of seconds."""

RECENT_DRAIN_S = 10.0
"""So long after a drain of ours the list of drains is asked for, even where no node shows as draining yet."""

INTERNAL_NAMESPACE = "_ray_internal_"
"""The namespaces of Ray's own jobs start so."""

GROUP_MARK = "_group_"
"""Part of every resource name that Ray makes for a placed group; never reported as infeasible."""

R = TypeVar("R", bound=rpc.Reply)


@dataclass(frozen=True)
class GcsReading:
    """What the GCS said. `ended` has the rich rows of dead nodes, `draining` the deadlines (ms, 0 for none), both by hex id.

    `gcs_life` grows with every new or possibly new GCS process: what was told to an earlier one may be lost.
    """

    cluster_id: str
    state: gcs_pb2.ClusterResourceState
    ended: Mapping[str, gcs_pb2.GcsNodeInfo] = field(default_factory=dict)
    draining: Mapping[str, int] = field(default_factory=dict)
    live_jobs: int = 0
    ray_version: str = ""
    gcs_life: int = 1


class Gcs(Protocol):
    """The door. Errors are those of `rayscaler.errors`; every call has a deadline."""

    async def read(self) -> GcsReading:
        """Read everything of one moment; a new cluster at the same address is no error."""
        ...

    async def drain(self, ray_node_id: str, reason: gcs_pb2.DrainNodeReason, detail: str, deadline_at: float | None) -> tuple[bool, str]:
        """Ask Ray to stop using a node of the cluster read last; return whether it took it, and its words. Not a proof of anything."""
        ...

    async def report_state(self, state: gcs_pb2.AutoscalingState) -> None:
        """Tell the GCS what `ray status` shows."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass
class _Session:
    """What is known of the cluster while its id holds and the GCS answers."""

    cluster_id: str
    ray_version: str = ""
    ended: dict[str, gcs_pb2.GcsNodeInfo] = field(default_factory=dict)
    live_jobs: int = 0
    jobs_read_at: float = float("-inf")


class GrpcGcs:
    """The GCS at `address` (host:port). Every call has `call_timeout_s`; one of them may hang without holding the others."""

    def __init__(self, address: str, clock: Clock, tokens: TokenSource, *, call_timeout_s: float = 5.0) -> None:
        self._address = address
        self._clock = clock
        self._tokens = tokens
        self._call_timeout_s = call_timeout_s
        self._token = tokens.read()
        self._channel: grpc.aio.Channel | None = None
        self._session: _Session | None = None
        self._cluster_id = ""
        self._gcs_life = 0
        self._version_read = 0
        self._version_told = 0
        self._drained_at = float("-inf")

    async def read(self) -> GcsReading:
        """Read everything of one moment; a new cluster at the same address is taken up at once."""
        try:
            return await self._read()
        except errors.Superseded:
            return await self._read()

    async def drain(self, ray_node_id: str, reason: gcs_pb2.DrainNodeReason, detail: str, deadline_at: float | None) -> tuple[bool, str]:
        """Ask Ray to drain a node of the cluster read last; a drain is never carried over to a new cluster."""
        request = drain_request(ray_node_id, reason, detail, deadline_at)
        if self._session is None:
            raise errors.Unavailable("Ray's GCS cannot be read now, so it is not known whether this is still the same cluster")
        self._drained_at = self._clock.mono()
        reply = await self._call(f"{AUTOSCALER}/DrainNode", request, gcs_pb2.DrainNodeReply)
        return reply.is_accepted, reply.rejection_reason_message

    async def report_state(self, state: gcs_pb2.AutoscalingState) -> None:
        """Tell the GCS what `ray status` shows, unless this GCS was told something newer."""
        check_state(state, self._version_told)
        self._version_told = state.autoscaler_state_version
        request = gcs_pb2.ReportAutoscalingStateRequest(autoscaling_state=state)
        await self._call(f"{AUTOSCALER}/ReportAutoscalingState", request, gcs_pb2.ReportAutoscalingStateReply)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _read(self) -> GcsReading:
        session = self._session or await self._open_session()
        request = gcs_pb2.GetClusterResourceStateRequest()
        state = (
            await self._call(f"{AUTOSCALER}/GetClusterResourceState", request, gcs_pb2.GetClusterResourceStateReply)
        ).cluster_resource_state
        if state.cluster_resource_state_version < self._version_read:
            self._begin_life()  # the counter restarts with the GCS process, even where the cluster's id is kept
        self._version_read = state.cluster_resource_state_version
        if not session.ray_version:
            reply = await self._call(f"{NODES}/CheckAlive", gcs_pb2.CheckAliveRequest(), gcs_pb2.CheckAliveReply)
            session.ray_version = reply.ray_version
        await self._read_ended(session, state)
        await self._read_jobs(session, state)
        return GcsReading(
            cluster_id=session.cluster_id,
            state=state,
            ended=session.ended,
            draining=await self._read_draining(state),
            live_jobs=session.live_jobs,
            ray_version=session.ray_version,
            gcs_life=self._gcs_life,
        )

    async def _open_session(self) -> _Session:
        reply = await self._call(f"{NODES}/GetClusterId", gcs_pb2.GetClusterIdRequest(), gcs_pb2.GetClusterIdReply)
        session = _Session(reply.cluster_id.hex())
        self._session = session
        self._gcs_life += 1
        if session.cluster_id != self._cluster_id:
            self._begin_life()
        self._cluster_id = session.cluster_id
        return session

    def _begin_life(self) -> None:
        self._gcs_life += 1
        self._version_read = 0
        self._version_told = 0

    async def _read_ended(self, session: _Session, state: gcs_pb2.ClusterResourceState) -> None:
        dead = {row.node_id.hex() for row in state.node_states if row.status == gcs_pb2.NODE_STATUS_DEAD}
        known = session.ended
        if not dead <= known.keys():
            reply = await self._call(f"{NODES}/GetAllNodeInfo", gcs_pb2.GetAllNodeInfoRequest(), gcs_pb2.GetAllNodeInfoReply)
            known = {row.node_id.hex(): _slim(row) for row in reply.node_info_list}
        session.ended = {ray_node_id: known.get(ray_node_id) or gcs_pb2.GcsNodeInfo() for ray_node_id in dead}

    async def _read_jobs(self, session: _Session, state: gcs_pb2.ClusterResourceState) -> None:
        """Count live jobs; at once where demand appears with none known, since its driver has just come and nobody may wait for it."""
        now = self._clock.mono()
        is_orphan = not session.live_jobs and (state.pending_resource_requests or state.pending_gang_resource_requests)
        if now - session.jobs_read_at < JOBS_EVERY_S and not is_orphan:
            return
        request = gcs_pb2.GetAllJobInfoRequest(skip_submission_job_info_field=True, skip_is_running_tasks_field=True)
        reply = await self._call(f"{JOBS}/GetAllJobInfo", request, gcs_pb2.GetAllJobInfoReply)
        session.live_jobs = sum(
            not row.is_dead and not row.config.ray_namespace.startswith(INTERNAL_NAMESPACE) for row in reply.job_info_list
        )
        session.jobs_read_at = now

    async def _read_draining(self, state: gcs_pb2.ClusterResourceState) -> dict[str, int]:
        is_recent = self._clock.mono() - self._drained_at < RECENT_DRAIN_S
        if not is_recent and all(row.status != gcs_pb2.NODE_STATUS_DRAINING for row in state.node_states):
            return {}
        path = f"{NODE_RESOURCES}/GetDrainingNodes"
        reply = await self._call(path, gcs_pb2.GetDrainingNodesRequest(), gcs_pb2.GetDrainingNodesReply)
        return {row.node_id.hex(): row.draining_deadline_timestamp_ms for row in reply.draining_nodes}

    async def _call(self, path: str, request: Message, reply: type[R]) -> R:
        """Call once; a second time only when a token that was refused has been replaced meanwhile."""
        try:
            return await self._call_once(path, request, reply)
        except errors.Denied:
            refused, self._token = self._token, self._tokens.read()
            if self._token == refused:
                raise
            return await self._call_once(path, request, reply)

    async def _call_once(self, path: str, request: Message, reply: type[R]) -> R:
        if self._channel is None:
            # Never through a proxy: the GCS is beside us.
            self._channel = rpc.open_channel(self._address, max_message_bytes=MAX_MESSAGE_BYTES, use_proxy=False)
        metadata = [("authorization", f"Bearer {self._token}")] if self._token else []
        if self._session is not None:
            metadata.append(("ray_cluster_id", self._session.cluster_id))
        try:
            return await rpc.call(self._channel, path, request, reply, timeout_s=self._call_timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error

    def _translate(self, error: grpc.aio.AioRpcError) -> errors.RayscalerError:
        text = error.details() or ""
        if error.code() is grpc.StatusCode.UNAUTHENTICATED and "WrongClusterID" in text:
            self._session = None
            return errors.Superseded(f"a new Ray cluster has started at {self._address}")
        if error.code() is grpc.StatusCode.UNAUTHENTICATED and "InvalidAuthToken" in text:
            return errors.Denied(f"Ray's GCS at {self._address} refuses the authentication token ({self._tokens.describe()}): {text}")
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            self._session = None  # whatever answers next may be another cluster
        return rpc.error_of(error, f"Ray's GCS at {self._address}")


def drain_request(ray_node_id: str, reason: gcs_pb2.DrainNodeReason, detail: str, deadline_at: float | None) -> gcs_pb2.DrainNodeRequest:
    """Make the request, or raise InvalidRequest: reason 0 crashes the raylet, and a negative deadline is refused."""
    problems = []
    if reason not in (gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION):
        problems.append(f"drain_node.reason: {reason} is neither idle (1) nor preemption (2)")
    if deadline_at is not None and deadline_at < 0:
        problems.append(f"drain_node.deadline: {deadline_at} lies before the epoch")
    try:
        node_id = bytes.fromhex(ray_node_id)
    except ValueError:
        node_id = b""
    if not node_id:
        problems.append(f"drain_node.ray_node_id: {ray_node_id!r} is no node id in hex")
    if problems:
        raise errors.InvalidRequest(*problems)
    is_idle = reason == gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION
    deadline_ms = 0 if is_idle or deadline_at is None else int(deadline_at * 1000)
    return gcs_pb2.DrainNodeRequest(node_id=node_id, reason=reason, reason_message=detail, deadline_timestamp_ms=deadline_ms)


def check_state(state: gcs_pb2.AutoscalingState, version_told: int) -> None:
    """Raise InvalidRequest where the GCS would ignore the state, or Ray could cancel tasks for it."""
    problems = []
    if state.autoscaler_state_version < version_told:
        problems.append(f"autoscaling_state.version: {state.autoscaler_state_version} is below {version_told}, which the GCS was told")
    shapes = [*state.infeasible_resource_requests, *(each for gang in state.infeasible_gang_resource_requests for each in gang.requests)]
    names = sorted({name for shape in shapes for name in shape.resources_bundle if GROUP_MARK in name})
    if names:
        problems.append(f"autoscaling_state.infeasible: {', '.join(names)} belong to placed groups")
    if problems:
        raise errors.InvalidRequest(*problems)


def _slim(row: gcs_pb2.GcsNodeInfo) -> gcs_pb2.GcsNodeInfo:
    """Without the many fields that are not ours and would be kept as unknown ones."""
    return gcs_pb2.GcsNodeInfo(node_id=row.node_id, is_head_node=row.is_head_node, death_info=row.death_info)
