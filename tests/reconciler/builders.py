"""Definitions, nodes, reports and memories with what a test does not care about filled in."""

from typing import Any

from rayscaler.model.demand import Bundle, Demand, DemandReport, Session, Snapshot
from rayscaler.model.instance import Instance, InstanceStatus
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.reconciler.admission import Order
from rayscaler.reconciler.memory import Memory
from rayscaler.settings import Timings
from rayscaler.store.base import ClusterRecord

NOW = 1_800_000_000.0
"""A wall time."""
FIRST = Session("c1", "session_1")
SECOND = Session("c2", "session_2")
CPU = Resources.of(CPU=1)


def node_type(name: str = "small", cpus: int = 1, **fields: Any) -> NodeType:
    return NodeType(name=name, resources=Resources.of(CPU=cpus), **fields)


def config(*node_types: NodeType, **fields: Any) -> ClusterConfig:
    return ClusterConfig(name=fields.pop("name", "demo"), node_types=node_types or (node_type(),), **{"idle_timeout_s": 60.0, **fields})


def row(ray_node_id: str = "n1", instance_id: str = "i", *, used: int = 0, cpus: int = 1, **fields: Any) -> RayNode:
    total = Resources.of(CPU=cpus)
    status = NodeStatus.RUNNING if used else NodeStatus.IDLE
    room = Resources.of(CPU=cpus - used)
    return RayNode(**{"ray_node_id": ray_node_id, "instance_id": instance_id, "node_type": "small", "status": status, "total": total, "available": room, **fields})  # fmt: skip


def tasks(count: int, resources: Resources = CPU) -> tuple[Demand, ...]:
    return (Demand(Bundle(resources), count),) if count else ()


def report(sequence: int = 1, snapshot: Snapshot | None = None, **fields: Any) -> DemandReport:
    return DemandReport(**{"cluster": "demo", "session": FIRST, "monitor_epoch": 1, "sequence": sequence, "age_s": 0.0, "snapshot": snapshot, **fields})  # fmt: skip


def heartbeat(sequence: int, base: int, **fields: Any) -> DemandReport:
    return report(sequence, None, base_sequence=base, **fields)


def instance(instance_id: str = "i", status: InstanceStatus = InstanceStatus.RUNNING, **fields: Any) -> Instance:
    return Instance(**{"instance_id": instance_id, "node_type": "small", "status": status, "since": NOW, "requested_at": NOW, "phase_since": NOW, **fields})  # fmt: skip


def memory(*instances: Instance, **fields: Any) -> Memory:
    """A memory with clear sight: listed, and a report of now, long after the first."""
    return Memory(
        **{
            "config": config(),
            "timings": Timings(),
            "record": ClusterRecord("demo"),
            "order": Order(1, 1, FIRST),
            "snapshot": Snapshot(),
            "snapshot_at": NOW,
            "fresh_at": NOW,
            "contact_at": NOW - 100,
            "is_listed": True,
            "instances": {each.instance_id: each for each in instances},
            **fields,
        }
    )
