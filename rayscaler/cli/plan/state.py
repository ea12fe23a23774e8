"""From a definition and a demand file to the state that is planned. Pure.

The nodes of the file have joined. One with nothing in use has been idle for its timeout, so that the plan tells which of them nothing needs.
The head is there with the resources that the definition gives it.
"""

import math

from rayscaler.config.demandfile import Nodes, Wanted
from rayscaler.model.demand import Constraint
from rayscaler.model.instance import Instance, InstanceStatus
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.state import ClusterState

HEAD = "head"
"""What the head's node is called."""


def state_of(config: ClusterConfig, wanted: Wanted) -> ClusterState:
    """Return the state of a cluster that has what `wanted` says and asks for it."""
    rows: list[RayNode] = []
    for entry, nodes in enumerate(wanted.nodes):
        rows += _rows(config, nodes, entry)
    instances = tuple(Instance(row.instance_id, row.node_type, InstanceStatus.RUNNING, 0.0, ray_node_id=row.ray_node_id) for row in rows)
    if config.head.resources:
        total = config.head.resources
        rows.append(RayNode(HEAD, "", HEAD, NodeStatus.RUNNING, total, total, is_head=True))
    return ClusterState(
        now=0.0,
        config=config,
        instances=instances,
        nodes=tuple(rows),
        demands=wanted.demands,
        gangs=tuple(gang for entry in wanted.gangs for gang in entry),
        constraint=Constraint(wanted.constraints) if wanted.constraints else None,
    )


def _rows(config: ClusterConfig, nodes: Nodes, entry: int) -> list[RayNode]:
    """Return the rows of one entry; a node is named by its entry and its number there."""
    node_type, timeout_s = nodes.node_type, config.idle_timeout_of(nodes.node_type.name)
    names = [f"nodes[{entry}] #{number + 1}" for number in range(nodes.count)]
    available, labels = node_type.resources.subtract(nodes.used), tuple(sorted(node_type.node_labels().items()))
    return [
        RayNode(
            name,
            name,
            node_type.name,
            NodeStatus.RUNNING if nodes.used else NodeStatus.IDLE,
            node_type.resources,
            available,
            labels,
            idle_s=timeout_s if math.isfinite(timeout_s) and not nodes.used else 0.0,
        )
        for name in names
    ]
