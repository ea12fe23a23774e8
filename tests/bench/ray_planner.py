"""The anchor of planning: the planner of Ray's own autoscaler v2, called in this process with the same nodes and demands.

It knows no costs, and to it a GPU is a sum like any other.
"""

import logging
import time
from collections import Counter
from typing import Any

from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.schema import AutoscalerInstance
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import (
    BundleSelector,
    GangResourceRequest,
    NodeState,
    NodeStatus,
    ResourceRequest,
    ResourceRequestByCount,
)
from ray.core.generated.common_pb2 import LabelSelector, LabelSelectorConstraint, LabelSelectorOperator
from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

from rayscaler.model.demand import Bundle, Gang, Operator, Strategy
from rayscaler.model.demand import LabelSelector as Selector
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import NodeType
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
    index = {_key(each.request): position for position, each in enumerate(request.resource_requests)}
    left = Counter(index[_key(each)] for each in reply.infeasible_resource_requests)
    return Planned(took_s, dict(sorted(launches.items())), dict(left), len(reply.infeasible_gang_resource_requests))


def _key(request: Any) -> bytes:
    return request.SerializeToString(deterministic=True)


def _request(workload: Workload) -> Any:
    return SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs={each.name: _node_type(each) for each in workload.node_types},
        max_num_nodes=MANY,
        resource_requests=[ResourceRequestByCount(request=_wanted(each.bundle), count=each.count) for each in workload.demands],
        gang_resource_requests=[_gang(each) for each in workload.gangs],
        current_instances=[_instance(each) for each in workload.nodes],
    )


def _node_type(node_type: NodeType) -> Any:
    return NodeTypeConfig(
        name=node_type.name,
        min_worker_nodes=0,
        max_worker_nodes=MANY if node_type.max_workers < 0 else node_type.max_workers,
        resources=_floats(node_type.resources),
        labels=node_type.node_labels(),
    )


def _gang(gang: Gang) -> Any:
    """Return a group as Ray's GCS shows it: strategies that are strict are constraints of its bundles, the others are none."""
    kinds = {
        Strategy.STRICT_SPREAD: ResourceRequestUtil.PlacementConstraintType.ANTI_AFFINITY,
        Strategy.STRICT_PACK: ResourceRequestUtil.PlacementConstraintType.AFFINITY,
    }
    constraints = [(kinds[gang.strategy], f"_PG_{gang.gang_id}", "")] if gang.strategy in kinds else None
    bundles = [ResourceRequestUtil.make(_floats(each.bundle.resources), constraints) for each in gang.bundles for _ in range(each.count)]
    return GangResourceRequest(bundle_selectors=[BundleSelector(resource_requests=bundles)])


def _wanted(bundle: Bundle) -> Any:
    return ResourceRequest(resources_bundle=_floats(bundle.resources), label_selectors=[_selector(each) for each in bundle.selectors])


def _selector(selector: Selector) -> Any:
    operators = {Operator.IN: LabelSelectorOperator.LABEL_OPERATOR_IN, Operator.NOT_IN: LabelSelectorOperator.LABEL_OPERATOR_NOT_IN}
    return LabelSelector(
        label_constraints=[
            LabelSelectorConstraint(label_key=each.key, operator=operators[each.operator], label_values=each.values)
            for each in selector.conditions
        ]
    )


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
