"""The one door to Ray's GCS: raw gRPC with our own copies of the messages. Owns what must never be sent; knows no service.

Ray's legacy NodeInfoGcsService.DrainNode does not exist here (it kills running tasks), and our state request has no field
for a version last seen (a stale one kills a restarted head).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.clock import Clock
from rayscaler.model.nodetype import GROWS
from rayscaler.model.raynames import GROUP_MARK
from rayscaler.model.resources import from_float
from rayscaler.monitor import events, kv
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.link import ClusterLine, GcsLink
from rayscaler.monitor.waiters import Waiters

AUTOSCALER = "/ray.rpc.autoscaler.AutoscalerStateService"
NODES = "/ray.rpc.NodeInfoGcsService"
NODE_RESOURCES = "/ray.rpc.NodeResourceInfoGcsService"

MODE_EVERY_S = 2.0
"""Until the head has said that it runs in v2 mode it is asked so often: a head with stored state shows the old mode at first."""

RECENT_DRAIN_S = 10.0
"""So long after a drain of ours the list of drains is asked for, even where no node shows as draining yet."""

HAS_ONE = "the GCS has one already"
"""Why a constraint is not replayed: what is there is newer."""

HAS_ANOTHER = "the GCS has another one, or none"
"""Likewise, of one that is to be replaced."""

MOST_RESIZED = 1 << 53
"""No node has as much; below it a double is exact."""

UNKNOWN_CLUSTER = "Ray's GCS cannot be read now, so it is not known whether this is still the same cluster"


@dataclass(frozen=True)
class GcsReading:
    """What the GCS said. `ended` has the rich rows of dead nodes, `draining` the deadlines (ms, 0 for none), both by hex id.

    `gcs_life` grows with every new or possibly new GCS process: what was told to an earlier one may be lost.
    `jobs` are those that live; `live_detached_actors` are counted only where none of these is a user's or a constraint asks for something;
    `orphaned_gangs` are ids of waiting groups.
    """

    cluster_id: str
    state: gcs_pb2.ClusterResourceState
    ended: Mapping[str, gcs_pb2.GcsNodeInfo] = field(default_factory=dict)
    draining: Mapping[str, int] = field(default_factory=dict)
    jobs: Sequence[gcs_pb2.JobTableData] = ()
    live_detached_actors: int = 0
    orphaned_gangs: frozenset[str] = frozenset()
    ray_version: str = ""
    is_v1_mode: bool = False
    gcs_life: int = 1


class Gcs(Protocol):
    """The door. Errors are those of `rayscaler.errors`; every call has a deadline. All but `read` speak to the cluster read last only."""

    async def read(self) -> GcsReading:
        """Read everything of one moment; a new cluster at the same address is no error."""
        ...

    async def drain(self, request: gcs_pb2.DrainNodeRequest) -> tuple[bool, str]:
        """Ask Ray to stop using a node; return whether it took it, and its words. Not a proof of anything."""
        ...

    async def resize(self, request: gcs_pb2.ResizeRayletResourceInstancesRequest) -> None:
        """Tell a node what it brings from now on; raises Unsupported where this Ray cannot be told."""
        ...

    async def replay_constraint(
        self, constraint: gcs_pb2.ClusterResourceConstraint, cluster_id: str, replaces: gcs_pb2.ClusterResourceConstraint | None = None
    ) -> tuple[bool, str]:
        """Ask the GCS of that cluster for a constraint that it lost, or in place of just `replaces`; return whether that was done, and why not."""
        ...

    async def report_state(self, state: gcs_pb2.AutoscalingState) -> None:
        """Tell the GCS what `ray status` shows."""
        ...

    async def report_config(self, config: gcs_pb2.ClusterConfig) -> None:
        """Tell the GCS what the cluster can become."""
        ...

    async def set_notice(self, text: str) -> None:
        """Let drivers that connect print `text`; empty takes ours back."""
        ...

    async def tell_drivers(self, batch: gcs_pb2.LogBatch) -> None:
        """Pass events to the drivers that are connected now."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class _Session:
    """What is known of the cluster while its id holds and the GCS answers."""

    def __init__(self, line: ClusterLine) -> None:
        self.line = line
        self.ray_version = ""
        self.ended: dict[str, gcs_pb2.GcsNodeInfo] = {}
        self.waiters = Waiters(line)
        self.forget_mode()

    def forget_mode(self) -> None:
        """Ask anew in which mode the head runs."""
        self.mode = ""
        self.mode_read_at = float("-inf")

    @property
    def is_v1(self) -> bool:
        """Whether the head has said that it runs in v1 mode."""
        return self.mode not in ("", "1")


class GrpcGcs:
    """The GCS at `address` (host:port). Every call has `call_timeout_s`; one of them may hang without holding the others."""

    def __init__(self, address: str, clock: Clock, tokens: TokenSource, *, call_timeout_s: float = 5.0) -> None:
        self._clock = clock
        self._link = GcsLink(address, tokens, call_timeout_s=call_timeout_s)
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

    async def drain(self, request: gcs_pb2.DrainNodeRequest) -> tuple[bool, str]:
        """Ask Ray to drain a node of the cluster read last; a drain is never carried over to a new cluster."""
        check_drain(request)
        line = self._line()
        self._drained_at = self._clock.mono()
        reply = await line.call(f"{AUTOSCALER}/DrainNode", request, gcs_pb2.DrainNodeReply)
        return reply.is_accepted, reply.rejection_reason_message

    async def resize(self, request: gcs_pb2.ResizeRayletResourceInstancesRequest) -> None:
        """Tell a node of the cluster read last what it brings; never carried over to a new cluster."""
        check_resize(request)
        path = f"{AUTOSCALER}/ResizeRayletResourceInstances"
        await self._line().call(path, request, gcs_pb2.ResizeRayletResourceInstancesReply)

    async def replay_constraint(
        self, constraint: gcs_pb2.ClusterResourceConstraint, cluster_id: str, replaces: gcs_pb2.ClusterResourceConstraint | None = None
    ) -> tuple[bool, str]:
        """Ask for a constraint, unless the GCS has another now than the one to be replaced: that is somebody's newer wish, an empty one too."""
        line = self._line()
        if line.cluster_id != cluster_id:
            raise errors.Superseded("another Ray cluster has started since this was asked for")
        if not may_replay((await _state(line)).cluster_resource_constraints, replaces):
            return False, HAS_ONE if replaces is None else HAS_ANOTHER
        request = gcs_pb2.RequestClusterResourceConstraintRequest(cluster_resource_constraint=constraint)
        path = f"{AUTOSCALER}/RequestClusterResourceConstraint"
        await line.call(path, request, gcs_pb2.RequestClusterResourceConstraintReply)
        return True, ""

    async def report_state(self, state: gcs_pb2.AutoscalingState) -> None:
        """Tell the GCS what `ray status` shows, unless this GCS was told something newer."""
        check_state(state, self._version_told)
        line = self._line()
        self._version_told = state.autoscaler_state_version
        request = gcs_pb2.ReportAutoscalingStateRequest(autoscaling_state=state)
        await line.call(f"{AUTOSCALER}/ReportAutoscalingState", request, gcs_pb2.ReportAutoscalingStateReply)

    async def report_config(self, config: gcs_pb2.ClusterConfig) -> None:
        """Tell the GCS what the cluster can become."""
        request = gcs_pb2.ReportClusterConfigRequest(cluster_config=config)
        await self._line().call(f"{AUTOSCALER}/ReportClusterConfig", request, gcs_pb2.ReportClusterConfigReply)

    async def set_notice(self, text: str) -> None:
        """Let drivers that connect print `text`; empty takes ours back."""
        await kv.set_notice(self._line(), text)

    async def tell_drivers(self, batch: gcs_pb2.LogBatch) -> None:
        """Pass events to the drivers that are connected now."""
        await events.publish(self._line(), batch)

    async def close(self) -> None:
        """Close the channel."""
        await self._link.close()

    def _line(self) -> ClusterLine:
        """Return the line to the cluster read last; raises Unavailable while another may be there."""
        if self._session is None or not self._session.line.is_whole:
            raise errors.Unavailable(UNKNOWN_CLUSTER)
        return self._session.line

    async def _read(self) -> GcsReading:
        session = self._session
        if session is None or not session.line.is_whole:
            session = self._session = await self._open_session()
        state = await _state(session.line)
        if state.cluster_resource_state_version < self._version_read:
            self._begin_life()  # the counter restarts with the GCS process, even where the cluster's id is kept
            session.forget_mode()
        self._version_read = state.cluster_resource_state_version
        if not session.ray_version:
            reply = await session.line.call(f"{NODES}/CheckAlive", gcs_pb2.CheckAliveRequest(), gcs_pb2.CheckAliveReply)
            session.ray_version = reply.ray_version
        await self._read_ended(session, state)
        now = self._clock.mono()
        await session.waiters.read(state, now)
        if session.mode != "1" and now - session.mode_read_at >= MODE_EVERY_S:
            session.mode = await kv.read_mode(session.line)
            session.mode_read_at = now
        return GcsReading(
            cluster_id=session.line.cluster_id,
            state=state,
            ended=session.ended,
            draining=await self._read_draining(session, state),
            jobs=session.waiters.jobs,
            live_detached_actors=session.waiters.detached_actors,
            orphaned_gangs=session.waiters.orphaned_gangs,
            ray_version=session.ray_version,
            is_v1_mode=session.is_v1,
            gcs_life=self._gcs_life,
        )

    async def _open_session(self) -> _Session:
        breaks = self._link.breaks  # before the call: a break during it counts
        reply = await self._link.call(f"{NODES}/GetClusterId", gcs_pb2.GetClusterIdRequest(), gcs_pb2.GetClusterIdReply)
        line = ClusterLine(self._link, reply.cluster_id.hex(), breaks)
        self._gcs_life += 1
        if line.cluster_id != self._cluster_id:
            self._begin_life()
        self._cluster_id = line.cluster_id
        return _Session(line)

    def _begin_life(self) -> None:
        self._gcs_life += 1
        self._version_read = 0
        self._version_told = 0

    async def _read_ended(self, session: _Session, state: gcs_pb2.ClusterResourceState) -> None:
        dead = {row.node_id.hex() for row in state.node_states if row.status == gcs_pb2.NODE_STATUS_DEAD}
        known = session.ended
        if not dead <= known.keys():
            reply = await session.line.call(f"{NODES}/GetAllNodeInfo", gcs_pb2.GetAllNodeInfoRequest(), gcs_pb2.GetAllNodeInfoReply)
            known = {row.node_id.hex(): _slim(row) for row in reply.node_info_list}
        session.ended = {ray_node_id: known.get(ray_node_id) or gcs_pb2.GcsNodeInfo() for ray_node_id in dead}

    async def _read_draining(self, session: _Session, state: gcs_pb2.ClusterResourceState) -> dict[str, int]:
        is_recent = self._clock.mono() - self._drained_at < RECENT_DRAIN_S
        if not is_recent and all(row.status != gcs_pb2.NODE_STATUS_DRAINING for row in state.node_states):
            return {}
        path = f"{NODE_RESOURCES}/GetDrainingNodes"
        reply = await session.line.call(path, gcs_pb2.GetDrainingNodesRequest(), gcs_pb2.GetDrainingNodesReply)
        return {row.node_id.hex(): row.draining_deadline_timestamp_ms for row in reply.draining_nodes}


async def _state(line: ClusterLine) -> gcs_pb2.ClusterResourceState:
    """Read a whole snapshot."""
    path = f"{AUTOSCALER}/GetClusterResourceState"
    reply = await line.call(path, gcs_pb2.GetClusterResourceStateRequest(), gcs_pb2.GetClusterResourceStateReply)
    return reply.cluster_resource_state


def may_replay(there: Sequence[gcs_pb2.ClusterResourceConstraint], replaces: gcs_pb2.ClusterResourceConstraint | None) -> bool:
    """Whether a constraint may be put where `there` is: in place of none, or of just the same as `replaces` in any order."""
    return not there if replaces is None else bool(there) and _asked(there) == _asked([replaces])


def _asked(constraints: Sequence[gcs_pb2.ClusterResourceConstraint]) -> Counter[tuple[object, ...]]:
    """How often what is asked for; Ray's empty selectors are none, and its amounts are exact to units only."""
    found: Counter[tuple[object, ...]] = Counter()
    for each in (each for constraint in constraints for each in constraint.resource_requests):
        amounts = {(name, from_float(amount)) for name, amount in each.request.resources_bundle.items()}
        wishes = [
            frozenset((one.label_key, one.operator, frozenset(one.label_values)) for one in selector.label_constraints)
            for selector in each.request.label_selectors
        ]
        found[frozenset(each for each in amounts if each[1] > 0), tuple(filter(None, wishes))] += each.count
    return found


def check_drain(request: gcs_pb2.DrainNodeRequest) -> None:
    """Raise InvalidRequest where Ray would come to harm, or do nothing: reason 0 crashes the raylet (WC-12), a negative deadline is refused."""
    problems = []
    if request.reason not in (gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION):
        problems.append(f"drain_node.reason: {request.reason} is neither idle (1) nor preemption (2)")
    if request.deadline_timestamp_ms < 0:
        problems.append(f"drain_node.deadline_timestamp_ms: {request.deadline_timestamp_ms} lies before the epoch")
    if not request.node_id:
        problems.append("drain_node.node_id: is required")
    if problems:
        raise errors.InvalidRequest(*problems)


def check_resize(request: gcs_pb2.ResizeRayletResourceInstancesRequest) -> None:
    """Raise InvalidRequest for what a raylet cannot become: of a node only CPUs and memory change, in whole amounts."""
    problems = [] if request.node_id else ["resize_node.node_id: is required"]
    if not request.resources:
        problems.append("resize_node.resources: is required")
    for name, amount in request.resources.items():
        if name not in GROWS:
            problems.append(f"resize_node.resources: {name!r} does not change in place")
        elif not (0 < amount < MOST_RESIZED and amount == int(amount)):
            problems.append(f"resize_node.resources.{name}: {amount:g} is no whole amount above 0")
    if problems:
        raise errors.InvalidRequest(*problems)


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
