"""Instances, observations and nodes with what a test does not care about filled in."""

from typing import Any

from rayscaler.model.instance import Instance, InstanceObservation, InstanceStatus, Phase
from rayscaler.model.node import NodeStatus, RayNode

NOW = 1_800_000_000.0
"""A wall time."""


def instance(status: InstanceStatus = InstanceStatus.RUNNING, **fields: Any) -> Instance:
    return Instance(**{"instance_id": "i", "node_type": "small", "status": status, "since": NOW, "phase_since": NOW, **fields})


def seen(phase: Phase, **fields: Any) -> InstanceObservation:
    return InstanceObservation(**{"instance_id": "i", "node_type": "small", "external_id": "ext", "phase": phase, **fields})


def row(ray_node_id: str, status: NodeStatus = NodeStatus.RUNNING, **fields: Any) -> RayNode:
    return RayNode(**{"ray_node_id": ray_node_id, "instance_id": "i", "node_type": "small", "status": status, **fields})
