"""A node as Ray reports it."""

from dataclasses import dataclass, field
from enum import StrEnum

from rayscaler.model.resources import Resources


class NodeStatus(StrEnum):
    """Ray's node status."""

    RUNNING = "RUNNING"
    IDLE = "IDLE"
    DRAINING = "DRAINING"
    DEAD = "DEAD"


class DeathReason(StrEnum):
    """Why a dead node died (Ray's NodeDeathInfo.Reason)."""

    UNKNOWN = "UNKNOWN"
    EXPECTED = "EXPECTED"
    UNEXPECTED = "UNEXPECTED"
    DRAINED_PREEMPTED = "DRAINED_PREEMPTED"
    DRAINED_IDLE = "DRAINED_IDLE"


DRAINED = frozenset({DeathReason.DRAINED_IDLE, DeathReason.DRAINED_PREEMPTED})
"""Deaths after which no other node of the instance comes: a raylet that ended by a drain is never started again."""


@dataclass(frozen=True)
class RayNode:
    """One row of Ray's node table. Several rows can carry one instance_id; a DEAD row says nothing of a newer one."""

    ray_node_id: str
    instance_id: str
    node_type: str
    status: NodeStatus
    total: Resources = field(default_factory=Resources)
    available: Resources = field(default_factory=Resources)
    labels: tuple[tuple[str, str], ...] = ()
    dynamic_labels: tuple[str, ...] = ()
    idle_s: float = 0.0
    activity: tuple[str, ...] = ()
    is_head: bool = False
    death: DeathReason | None = None
    death_detail: str = ""
    is_draining: bool = False
    draining_until: float | None = None

    @property
    def is_alive(self) -> bool:
        """Whether Ray still counts it as a member."""
        return self.status is not NodeStatus.DEAD

    @property
    def takes_work(self) -> bool:
        """Whether new work may land on it."""
        return self.status in (NodeStatus.RUNNING, NodeStatus.IDLE) and not self.is_draining
