"""What rayscaler tells people about one cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rayscaler.model.demand import Session
from rayscaler.model.instance import Instance, Reason
from rayscaler.model.nodetype import NodeType
from rayscaler.model.plan import Infeasible
from rayscaler.model.state import Backoff

if TYPE_CHECKING:  # that module needs this one
    from rayscaler.model.explanation import MixExplanation


@dataclass(frozen=True)
class Action:
    """Something that was done, or a change of status that was seen; `at` is wall seconds."""

    at: float
    kind: str
    instance_id: str
    node_type: str
    reason: Reason
    detail: str
    cycle: int


@dataclass(frozen=True)
class HoldStatus:
    """What is kept because a head was lost; wall seconds."""

    since: float
    until: float
    targets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class DefinitionStatus:
    """Which definition is in force: the hash of its text, since when (wall seconds), and why what the file says now is not.

    `warnings` are what somebody should look at in the one in force.
    """

    content_hash: str = ""
    taken_at: float = 0.0
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[str, ...]:
        """What of an edit is not taken, and what may not be meant so, in sentences."""
        in_force = f"version {self.content_hash} stays in force" if self.content_hash else "the last one stays in force"
        refused = [f"the changed definition is not taken, {in_force}: {each}" for each in self.problems]
        return (*refused, *(f"the definition in force may not be meant so: {each}" for each in self.warnings))


@dataclass(frozen=True)
class ClusterStatus:
    """One cluster, as of its last cycle. `report_age_s` None means that no report ever came; `notices` are sentences for people."""

    cluster: str
    session: Session | None
    report_age_s: float | None
    blind: Reason | None
    blind_since: float | None
    cycle: int
    node_types: tuple[NodeType, ...]
    instances: tuple[Instance, ...]
    backoffs: tuple[Backoff, ...]
    pending: tuple[Infeasible, ...]
    actions: tuple[Action, ...]
    head_incarnation: str = ""
    ray_version: str = ""
    hold: HoldStatus | None = None
    notices: tuple[str, ...] = ()
    definition: DefinitionStatus = field(default_factory=DefinitionStatus)
    mix: "MixExplanation | None" = None
    failures: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """How many launches of a node type failed, or did not get on, for which cause, since this life of the service began."""
