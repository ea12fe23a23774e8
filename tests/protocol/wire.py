"""A fake Ray cluster behind Ray's own RPCs on a real socket, for a monitor in another process. Owns what must never be done to a GCS.

The cluster is `ray`, a FakeGcs; jobs, actors and groups stand beside it, since its own door tells only what a monitor makes of them.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.clock import SystemClock
from rayscaler.model.demand import Bundle
from rayscaler.model.resources import Resources
from rayscaler.testing import fake_ray
from rayscaler.testing.fake_gcs import FakeGcs

AUTOSCALER = "/ray.rpc.autoscaler.AutoscalerStateService"
MODE = (b"__autoscaler", b"__autoscaler_v2_enabled")
LIVE_JOB = ray.JobTableData(job_id=bytes.fromhex("01000000"))


class WireGcs(grpc.GenericRpcHandler):
    """`calls` are (method's last word, request); `crimes` say what would have hurt a real cluster: every test ends with none."""

    def __init__(self) -> None:
        self.ray = FakeGcs(SystemClock(), head=Resources.of(CPU=1), demand_lag_s=0.0)
        self.is_restless = True
        """Every reading shows something new, on which nothing depends."""
        self.shown: ray.ClusterResourceState | None = None
        """Shown instead of the cluster while set."""
        self.jobs = [LIVE_JOB]
        self.replaceable: tuple[Bundle, ...] | None = None
        """The constraint over which another may be told."""
        self.actors: dict[int, list[ray.ActorTableData]] = {}
        """By state."""
        self.groups: list[ray.PlacementGroupTableData] = []
        self.mode = b"1"
        self.token = ""
        self.calls: list[tuple[str, Any]] = []
        self.crimes: list[str] = []
        self.refusals: dict[str, tuple[grpc.StatusCode, str]] = {}
        """Given to every call of that name while there."""
        self.delays_s: dict[str, float] = {}
        self.holds: dict[str, asyncio.Event] = {}
        """Calls of that name that come while it is there are answered once it is set."""
        self.address = "127.0.0.1:0"
        self._server: grpc.aio.Server | None = None
        self.kv: dict[tuple[bytes, bytes], bytes] = {}
        """By namespace and key, but for the mode."""
        self.published: list[ray.PubMessage] = []

    async def start(self) -> None:
        """Listen, at the same address each time."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers((self,))
        self.address = f"127.0.0.1:{self._server.add_insecure_port(self.address)}"
        await self._server.start()

    async def stop(self) -> None:
        """Break every connection."""
        if self._server is not None:
            await self._server.stop(None)

    async def restart(self, *, keeps_id: bool = False) -> None:
        """Kill the GCS and start it anew."""
        await self.stop()
        self.ray.restart(keeps_id=keeps_id)
        await self.start()

    def release(self) -> None:
        """Answer all that is held."""
        for each in self.holds.values():
            each.set()
        self.holds.clear()

    def count(self, name: str) -> int:
        """Return how often a method was called."""
        return sum(called == name for called, _ in self.calls)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        found = METHODS.get(handler_call_details.method)
        if found is None:
            self.crimes.append(f"{handler_call_details.method} is none of the calls that a monitor makes")
            return None
        request_type, method = found
        name = handler_call_details.method.rpartition("/")[2]

        async def answer(data: bytes, context: grpc.aio.ServicerContext) -> bytes:
            await self._check(name, context)
            request = request_type.FromString(data)
            self.calls.append((name, request))
            if name == "GetClusterResourceState" and data:
                self.crimes.append("GetClusterResourceState with a version last seen kills a restarted head")
            if name in self.delays_s:
                await asyncio.sleep(self.delays_s[name])
            if name in self.holds:
                await self.holds[name].wait()
            reply = method(self, request)
            return (await reply if asyncio.iscoroutine(reply) else reply).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _check(self, name: str, context: grpc.aio.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        if self.token and metadata.get("authorization") != f"Bearer {self.token}":
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing or incorrect")
        named = metadata.get("ray_cluster_id")
        if named is None and name != "GetClusterId":
            self.crimes.append(f"{name} does not say for which cluster it is meant")
        if named not in (None, self.ray.cluster_id):
            await context.abort(
                grpc.StatusCode.UNAUTHENTICATED, "WrongClusterID: Perhaps the client is accessing GCS after it has restarted."
            )
        if name in self.refusals:
            await context.abort(*self.refusals[name])

    # the calls

    def _cluster_id(self, request: Any) -> Any:
        return ray.GetClusterIdReply(cluster_id=bytes.fromhex(self.ray.cluster_id))

    def _alive(self, request: Any) -> Any:
        return ray.CheckAliveReply(ray_version="2.60.0")

    async def _state(self, request: Any) -> Any:
        if self.is_restless:
            next(node for node in self.ray.nodes.values() if node.is_head).labels["reading"] = str(self.ray.version)
        state = (await self.ray.read()).state
        if self.shown is not None:
            counter = state.cluster_resource_state_version
            state.CopyFrom(self.shown)
            state.cluster_resource_state_version = counter
        return ray.GetClusterResourceStateReply(cluster_resource_state=state)

    async def _node_infos(self, request: Any) -> Any:
        ended = (await self.ray.read()).ended
        return ray.GetAllNodeInfoReply(node_info_list=ended.values())

    def _draining(self, request: Any) -> Any:
        rows = [
            ray.DrainingNode(node_id=bytes.fromhex(node.ray_node_id), draining_deadline_timestamp_ms=int((node.draining_until or 0) * 1000))
            for node in self.ray.nodes.values()
            if node.is_draining and node.death is None
        ]
        return ray.GetDrainingNodesReply(draining_nodes=rows)

    def _jobs(self, request: Any) -> Any:
        return ray.GetAllJobInfoReply(job_info_list=self.jobs)

    def _actors(self, request: Any) -> Any:
        if not request.filters.HasField("state"):
            return ray.GetAllActorInfoReply(actor_table_data=[row for rows in self.actors.values() for row in rows])
        return ray.GetAllActorInfoReply(actor_table_data=self.actors.get(request.filters.state, []))

    def _groups(self, request: Any) -> Any:
        return ray.GetAllPlacementGroupReply(placement_group_table_data=self.groups)

    async def _drain(self, request: ray.DrainNodeRequest) -> Any:
        if request.reason not in (1, 2):
            self.crimes.append(f"a drain for the reason {request.reason} crashes the raylet")
            return ray.DrainNodeReply()
        accepted, detail = await self.ray.drain(request)
        return ray.DrainNodeReply(is_accepted=accepted, rejection_reason_message=detail)

    async def _resize(self, request: ray.ResizeRayletResourceInstancesRequest) -> Any:
        try:
            await self.ray.resize(request)
        except errors.InvalidRequest as error:
            self.crimes.append(str(error))
        return ray.ResizeRayletResourceInstancesReply()

    def _constraint(self, request: ray.RequestClusterResourceConstraintRequest) -> Any:
        if self.ray.constraint not in (None, self.replaceable):
            self.crimes.append("a constraint was replayed over one that is there")
        wanted = [(each.request, each.count) for each in request.cluster_resource_constraint.resource_requests]
        self.ray.constraint = tuple(fake_ray.bundle(request) for request, count in wanted for _ in range(count))
        return ray.RequestClusterResourceConstraintReply()

    async def _tell_state(self, request: ray.ReportAutoscalingStateRequest) -> Any:
        state, told = request.autoscaling_state, self.ray.told
        if told is not None and state.autoscaler_state_version < told.autoscaler_state_version:
            self.crimes.append(f"the state {state.autoscaler_state_version} was told after {told.autoscaler_state_version}")
        try:
            await self.ray.report_state(state)
        except errors.InvalidRequest as error:
            self.crimes.append(str(error))
        return ray.ReportAutoscalingStateReply()

    async def _tell_config(self, request: ray.ReportClusterConfigRequest) -> Any:
        await self.ray.report_config(request.cluster_config)
        return ray.ReportClusterConfigReply()

    def _kv_get(self, request: Any) -> Any:
        place = (request.namespace, request.key)
        return ray.InternalKVGetReply(value=self.mode if place == MODE else self.kv.get(place, b""))

    def _kv_put(self, request: Any) -> Any:
        self.kv[request.namespace, request.key] = request.value
        return ray.InternalKVPutReply()

    def _kv_del(self, request: Any) -> Any:
        self.kv.pop((request.namespace, request.key), None)
        return ray.InternalKVDelReply()

    def _publish(self, request: Any) -> Any:
        self.published += request.pub_messages
        return ray.GcsPublishReply()


METHODS: dict[str, tuple[Any, Callable[[WireGcs, Any], Any]]] = {
    "/ray.rpc.NodeInfoGcsService/GetClusterId": (ray.GetClusterIdRequest, WireGcs._cluster_id),
    "/ray.rpc.NodeInfoGcsService/CheckAlive": (ray.CheckAliveRequest, WireGcs._alive),
    "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo": (ray.GetAllNodeInfoRequest, WireGcs._node_infos),
    "/ray.rpc.NodeResourceInfoGcsService/GetDrainingNodes": (ray.GetDrainingNodesRequest, WireGcs._draining),
    "/ray.rpc.JobInfoGcsService/GetAllJobInfo": (ray.GetAllJobInfoRequest, WireGcs._jobs),
    "/ray.rpc.ActorInfoGcsService/GetAllActorInfo": (ray.GetAllActorInfoRequest, WireGcs._actors),
    "/ray.rpc.PlacementGroupInfoGcsService/GetAllPlacementGroup": (ray.GetAllPlacementGroupRequest, WireGcs._groups),
    "/ray.rpc.InternalKVGcsService/InternalKVGet": (ray.InternalKVGetRequest, WireGcs._kv_get),
    "/ray.rpc.InternalKVGcsService/InternalKVPut": (ray.InternalKVPutRequest, WireGcs._kv_put),
    "/ray.rpc.InternalKVGcsService/InternalKVDel": (ray.InternalKVDelRequest, WireGcs._kv_del),
    "/ray.rpc.ObservabilityPubSubService/GcsPublish": (ray.GcsPublishRequest, WireGcs._publish),
    f"{AUTOSCALER}/GetClusterResourceState": (ray.GetClusterResourceStateRequest, WireGcs._state),
    f"{AUTOSCALER}/DrainNode": (ray.DrainNodeRequest, WireGcs._drain),
    f"{AUTOSCALER}/ResizeRayletResourceInstances": (ray.ResizeRayletResourceInstancesRequest, WireGcs._resize),
    f"{AUTOSCALER}/RequestClusterResourceConstraint": (ray.RequestClusterResourceConstraintRequest, WireGcs._constraint),
    f"{AUTOSCALER}/ReportAutoscalingState": (ray.ReportAutoscalingStateRequest, WireGcs._tell_state),
    f"{AUTOSCALER}/ReportClusterConfig": (ray.ReportClusterConfigRequest, WireGcs._tell_config),
}
"""Every call that SPEC sections 12 to 14 allow a monitor, by Ray's own path."""


@contextlib.asynccontextmanager
async def serving_gcs() -> AsyncIterator[WireGcs]:
    """Run a GCS."""
    gcs = WireGcs()
    await gcs.start()
    try:
        yield gcs
    finally:
        await gcs.stop()
