"""Why each pending shape, node and node type stands where it stands: one current reason each. Wall seconds; reasons' texts are in `reasons`."""

from dataclasses import dataclass, field
from enum import StrEnum

from rayscaler.model.demand import Bundle
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.plan import Mix
from rayscaler.model.status import DefinitionStatus


@dataclass(frozen=True)
class Because:
    """One current reason. `since` is when it became this one; `until` when it passes by itself, None where nobody can tell."""

    reason: Reason
    detail: str
    since: float
    until: float | None = None


class DemandKind(StrEnum):
    """What asks: tasks and actors, a placement group, or request_resources()."""

    TASKS = "tasks"
    GANG = "gang"
    CONSTRAINT = "constraint"


@dataclass(frozen=True)
class OnTheWay:
    """`nodes` in-flight nodes of a type hold `count` of a shape; the latest is overdue at `until`."""

    node_type: str
    nodes: int
    count: int
    until: float | None


@dataclass(frozen=True)
class ShapeExplanation:
    """A shape that waits `count` times (a gang: once). `bundle` is None for a gang, `gang_id` "" for all else."""

    kind: DemandKind
    shape: str
    bundle: Bundle | None
    gang_id: str
    count: int
    because: Because
    on_the_way: tuple[OnTheWay, ...] = ()


@dataclass(frozen=True)
class NodeExplanation:
    """An instance, or a node that is not one of ours (`instance_id` ""); `status` is None then."""

    instance_id: str
    ray_node_id: str
    node_type: str
    status: InstanceStatus | None
    because: Because


@dataclass(frozen=True)
class TypeExplanation:
    """A node type: how many there are, how many there may be (-1 unlimited), and whether more can be had now."""

    name: str
    running: int
    in_flight: int
    leaving: int
    min_workers: int
    max_workers: int
    because: Because
    failures: int = 0
    last_error: str = ""


@dataclass(frozen=True)
class MixExplanation:
    """The last launches on demand of types with a cost, decided at `at`; `improvement` is how a wait for a cheaper mix went, "" where none was."""

    at: float
    mix: Mix
    improvement: str = ""


@dataclass(frozen=True)
class Explanation:
    """All of one cluster, as decided at `at`; of the definition, as it stands now."""

    cluster: str
    at: float
    shapes: tuple[ShapeExplanation, ...] = ()
    nodes: tuple[NodeExplanation, ...] = ()
    node_types: tuple[TypeExplanation, ...] = ()
    definition: DefinitionStatus = field(default_factory=DefinitionStatus)
    mix: MixExplanation | None = None
