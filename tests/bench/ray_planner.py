"""The anchor of planning: the planner of Ray's own autoscaler v2, called in this process with the same nodes and demands."""

import logging
import time
from typing import Any

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.core.generated.autoscaler_pb2 import NodeState, NodeStatus, ResourceRequest, ResourceRequestByCount
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

from rayscaler.model.node import RayNode
from rayscaler.model.resources import UNIT, Resources
from tests.bench.workload import Planned, Workload

MANY = 1_000_000
"""A limit that nothing meets; Ray's planner has no word for unlimited."""


def plan(workload: Workload) -> Planned:
    """Plan once. Only the call is timed: building its input, which Ray's loop does each time, is left out."""
    logging.getLogger("ray.autoscaler").setLevel(logging.ERROR)
    request = _request(workload)
    planner = ResourceDemandScheduler(event_logger=None)
    begun = time.perf_counter()
    reply = planner.schedule(request)
    took_s = time.perf_counter() - begun
    launches = {each.instance_type: each.count for each in reply.to_launch}
    if reply.infeasible_resource_requests:
        raise RuntimeError(f"Ray's planner left {len(reply.infeasible_resource_requests)} demands")
    return Planned(took_s, dict(sorted(launches.items())))


def _request(workload: Workload) -> Any:
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs={each.name: _node_type(each.name, each.resources) for each in workload.node_types},
        max_num_nodes=MANY,
        resource_requests=[
            ResourceRequestByCount(request=ResourceRequest(resources_bundle=_floats(each.bundle.resources)), count=each.count)
            for each in workload.demands
        ],
        current_instances=[_instance(each) for each in workload.nodes],
    )


def _node_type(name: str, resources: Resources) -> Any:
    return NodeTypeConfig(name=name, min_worker_nodes=0, max_worker_nodes=MANY, resources=_floats(resources))


def _instance(node: RayNode) -> Any:
    instance = Instance(
        instance_id=node.instance_id,
        instance_type=node.node_type,
        status=Instance.RAY_RUNNING,
        node_id=node.ray_node_id,
        cloud_instance_id=node.instance_id,
        node_kind=NodeKind.WORKER,
    )
    state = NodeState(
        node_id=bytes.fromhex(node.ray_node_id),
        instance_id=node.instance_id,
        ray_node_type_name=node.node_type,
        total_resources=_floats(node.total),
        available_resources=_floats(node.available),
        status=NodeStatus.RUNNING,
    )
    return AutoscalerInstance(cloud_instance_id=node.instance_id, ray_node=state, im_instance=instance)


def _floats(resources: Resources) -> dict[str, float]:
    return {name: units / UNIT for name, units in resources.items_sorted}
