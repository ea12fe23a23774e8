"""What travels back to the head in the answer to a report."""

from dataclasses import dataclass

from rayscaler.model.demand import Bundle, Constraint, Gang
from rayscaler.model.instance import Reason
from rayscaler.model.resources import Resources


@dataclass(frozen=True)
class DrainCommand:
    """Drain a node at the head; carried out once per `command_id`, repeated until its result arrives."""

    command_id: str
    ray_node_id: str
    is_preemption: bool
    detail: str
    deadline_at: float | None = None


@dataclass(frozen=True)
class ResizeCommand:
    """Tell the raylet of a node what its pod or machine brings now: all of `resources` that may change in place (Ray's ResizeRayletResourceInstances)."""

    command_id: str
    ray_node_id: str
    resources: Resources


@dataclass(frozen=True)
class AskedDrain:
    """A drain without a result yet, with the instance whose node it is, and why it was asked for."""

    instance_id: str
    reason: Reason
    command: DrainCommand


@dataclass(frozen=True)
class ReplayCommand:
    """Tell the GCS the constraint that an earlier life of it was asked for (design §2b.7); or, with `replaces`, one in place of just that."""

    command_id: str
    constraint: Constraint
    replaces: Constraint | None = None


@dataclass(frozen=True)
class TellCommand:
    """Let the drivers that are connected now print `lines`, once."""

    command_id: str
    lines: tuple[str, ...]


Command = DrainCommand | ResizeCommand | ReplayCommand | TellCommand


@dataclass(frozen=True)
class PendingInstance:
    """A launch (`instance_id` empty) or an instance that Ray does not see yet; `since` is wall seconds."""

    instance_id: str
    node_type: str
    detail: str
    since: float


@dataclass(frozen=True)
class FailedLaunch:
    """A launch that failed lately; wall seconds."""

    node_type: str
    detail: str
    requested_at: float
    failed_at: float


@dataclass(frozen=True)
class AutoscalingState:
    """What the GCS is told for `ray status`. `version` grows for ever, or the GCS silently ignores it (WC-12.5)."""

    version: int
    gcs_version: int
    requested: tuple[PendingInstance, ...] = ()
    pending: tuple[PendingInstance, ...] = ()
    failed: tuple[FailedLaunch, ...] = ()
    infeasible: tuple[Bundle, ...] = ()
    infeasible_gangs: tuple[Gang, ...] = ()


@dataclass(frozen=True)
class NodeGroup:
    """A node type as Ray's libraries read it; `max_count` -1 is unlimited."""

    name: str
    resources: Resources
    min_count: int
    max_count: int


@dataclass(frozen=True)
class ReachableConfig:
    """What the cluster can become (Ray's ClusterConfig, WC-4): Ray Train fails fast by it, Ray Data scales from zero by it."""

    content_hash: str
    min_resources: Resources
    max_resources: Resources
    groups: tuple[NodeGroup, ...]


@dataclass(frozen=True)
class ReportAnswer:
    """The answer to a report. `driver_notice` is what drivers print that connect from now on, `head_ip` where it comes from."""

    commands: tuple[Command, ...]
    acknowledged: tuple[str, ...]
    autoscaling_state: AutoscalingState | None
    next_interval_s: float
    wants_snapshot: bool
    cluster_config: ReachableConfig | None = None
    driver_notice: str = ""
    head_ip: str = ""
