"""Instances: what rayscaler asked an executor for, from request to end; and what is observed of them."""

from dataclasses import dataclass
from enum import StrEnum

from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import Membership


class InstanceStatus(StrEnum):
    """Where an instance stands; `lifecycle/table.py` has the edges."""

    REQUESTED = "REQUESTED"
    ALLOCATED = "ALLOCATED"
    RUNNING = "RUNNING"
    REJOINING = "REJOINING"
    DRAINING = "DRAINING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    LAUNCH_FAILED = "LAUNCH_FAILED"


LAUNCHING = frozenset({InstanceStatus.REQUESTED, InstanceStatus.ALLOCATED})
"""On their way for the first time: all that the upscaling speed and the tries of a type that failed bound."""

STANDING = frozenset({InstanceStatus.RUNNING, InstanceStatus.REJOINING})
"""What the upscaling speed multiplies: whoever rejoins is there, launched long ago, and only between two heads."""

IN_FLIGHT = LAUNCHING | {InstanceStatus.REJOINING}
"""On their way to the present head, for the first time or again: counts as capacity."""

ENDED = frozenset({InstanceStatus.TERMINATED, InstanceStatus.LAUNCH_FAILED})
"""Terminal: dropped after one cycle."""


class Phase(StrEnum):
    """How far an executor has brought an instance; each has a deadline of its own."""

    UNSCHEDULED = "unscheduled"
    PULLING = "pulling"
    STARTING = "starting"
    REGISTERING = "registering"
    ENDING = "ending"
    GONE = "gone"


class Trouble(StrEnum):
    """Why an instance in flight does not get on, as far as that says for how long to wait."""

    UNSCHEDULABLE = "unschedulable"
    """No machine has room for it; one may be on its way."""
    RETRIED = "retried"
    """Something that it needs cannot be had, such as its image or a Secret, and is tried again."""
    HOPELESS = "hopeless"
    """It can never start as it is asked for."""
    GATED = "gated"
    """Somebody holds it back until it may go on, such as a queue that shares out a quota. It has its place there, and is waited for without end."""


class Reason(StrEnum):
    """Why something is done, or not done. One text for people per value stands in `reason_text` (model/reasons.py)."""

    # launches
    DEMAND = "DEMAND"
    GANG = "GANG"
    CONSTRAINT = "CONSTRAINT"
    MIN_WORKERS = "MIN_WORKERS"
    HELD = "HELD"
    HEADROOM = "HEADROOM"
    REPLACES = "REPLACES"
    REPLICA = "REPLICA"
    # ends
    IDLE = "IDLE"
    CONSOLIDATED = "CONSOLIDATED"
    UNNEEDED = "UNNEEDED"
    MAX_WORKERS = "MAX_WORKERS"
    MAX_WORKERS_OF_TYPE = "MAX_WORKERS_OF_TYPE"
    TYPE_REMOVED = "TYPE_REMOVED"
    OUTDATED = "OUTDATED"
    OVERDUE = "OVERDUE"
    NOT_REJOINED = "NOT_REJOINED"
    CANNOT_START = "CANNOT_START"
    MAKES_WAY = "MAKES_WAY"
    REPLICA_BROKEN = "REPLICA_BROKEN"
    PREEMPTED = "PREEMPTED"
    DRAINED = "DRAINED"
    NODE_DIED = "NODE_DIED"
    # refusals for now
    UPSCALING_SPEED = "UPSCALING_SPEED"
    MAX_CONCURRENT_LAUNCHES = "MAX_CONCURRENT_LAUNCHES"
    MAX_CONCURRENT_LAUNCHES_OF_TYPE = "MAX_CONCURRENT_LAUNCHES_OF_TYPE"
    MAX_LAUNCHES_PER_MINUTE = "MAX_LAUNCHES_PER_MINUTE"
    MAX_LAUNCHES_PER_MINUTE_OF_TYPE = "MAX_LAUNCHES_PER_MINUTE_OF_TYPE"
    SPEND_LIMIT = "SPEND_LIMIT"
    BACKED_OFF = "BACKED_OFF"
    NO_ROOM = "NO_ROOM"
    NODES_SMALLER = "NODES_SMALLER"
    BUNDLE_ORDER = "BUNDLE_ORDER"
    PACKED_BY_SUM = "PACKED_BY_SUM"
    # refusals for ever, as the definition stands
    NO_TYPE_FITS = "NO_TYPE_FITS"
    NO_TYPE_HAS_LABELS = "NO_TYPE_HAS_LABELS"
    ONLY_EXISTING_NODES = "ONLY_EXISTING_NODES"
    # where a demand stands that is not refused
    LAUNCHING = "LAUNCHING"
    PLACED = "PLACED"
    COUNT_UNSURE = "COUNT_UNSURE"
    NOBODY_WAITS = "NOBODY_WAITS"
    RECORD_UNWRITTEN = "RECORD_UNWRITTEN"
    # why a node stays
    BUSY = "BUSY"
    WAITING_IDLE = "WAITING_IDLE"
    NOT_SHOWN = "NOT_SHOWN"
    OTHERS_DRAIN = "OTHERS_DRAIN"
    HEAD_NODE = "HEAD_NODE"
    NOT_OURS = "NOT_OURS"
    # node types
    READY = "READY"
    # growth in place
    GROWING = "GROWING"
    GROWN = "GROWN"
    NOT_GROWN = "NOT_GROWN"
    # facts about instances
    JOINED = "JOINED"
    HEAD_LOST = "HEAD_LOST"
    ALLOCATED = "ALLOCATED"
    DRAIN_REFUSED = "DRAIN_REFUSED"
    EXITED = "EXITED"
    LAUNCH_ERROR = "LAUNCH_ERROR"
    NO_CAPACITY = "NO_CAPACITY"
    STUCK = "STUCK"
    DISAPPEARED = "DISAPPEARED"
    # blindness
    NO_REPORT = "NO_REPORT"
    REPORT_TOO_OLD = "REPORT_TOO_OLD"
    NO_FIRST_LIST = "NO_FIRST_LIST"
    SETTLING = "SETTLING"
    GCS_UNREADABLE = "GCS_UNREADABLE"
    EXECUTOR_SILENT = "EXECUTOR_SILENT"
    EXECUTOR_BROKEN = "EXECUTOR_BROKEN"
    DEFINITION_WITHHELD = "DEFINITION_WITHHELD"


NEVER = frozenset({Reason.NO_TYPE_FITS, Reason.NO_TYPE_HAS_LABELS, Reason.ONLY_EXISTING_NODES})
"""Refusals that only a changed definition can lift; all others wait. Only these may be reported to the GCS as infeasible (WC-12.4)."""

PACED = frozenset(
    {
        Reason.MAX_CONCURRENT_LAUNCHES,
        Reason.MAX_CONCURRENT_LAUNCHES_OF_TYPE,
        Reason.MAX_LAUNCHES_PER_MINUTE,
        Reason.MAX_LAUNCHES_PER_MINUTE_OF_TYPE,
    }
)
"""Refusals of what is planned already, and begun as soon as the limits of launches leave room."""


@dataclass(frozen=True)
class Size:
    """What an executor tells of an instance that may grow in place: what it is `asked` to bring, what it really brings now.

    `refusal` is why it does not get what it was asked for, "" while nobody says so.
    """

    asked: Resources
    actual: Resources
    refusal: str = ""


@dataclass(frozen=True)
class Growing:
    """An instance on its way to bring `resources` in place, since `since` (wall seconds)."""

    resources: Resources
    since: float


@dataclass(frozen=True)
class InstanceObservation:
    """A passive fact about an instance from its executor; `observed_at` is wall seconds. `made_as` is what it was launched with, if known.

    `error` is why it does not get on, or how it ended; `trouble` what that means for one in flight, None where it means nothing.
    `ends_at` is when somebody else will end it (wall seconds), if that was announced; `error` or `detail` says why.
    `replica` and `host` are those that it was launched with. `size` is None where it cannot grow in place, or that is not known.
    `membership` is the one that it was launched with, None for one that is scheduled by nobody in particular.
    """

    instance_id: str
    node_type: str
    external_id: str
    phase: Phase
    detail: str = ""
    observed_at: float = 0.0
    error: str = ""
    made_as: NodeType | None = None
    trouble: Trouble | None = None
    ends_at: float | None = None
    replica: str = ""
    host: int = 0
    size: Size | None = None
    membership: Membership | None = None


@dataclass(frozen=True)
class Instance:
    """One instance. Times are wall seconds; `since` is when the status began, `phase_since` the phase.

    `ray_node_id` is the node that carries it now; `node_dead_since` is set once that node was reported DEAD with no other
    node of this instance alive. `drain_accepted` is Ray's word on the drain in progress. `made_as` is what it was launched with, if known:
    its node type may be another one since. `trouble_since` is when the trouble began that holds it up now, `stuck_since` when that had
    lasted for too long: from then on it counts for nothing, until it gets on. `ends_at` is when somebody else will end it, as announced, and `ends_why` why.
    `replica` names what it is a host of, and `host` which one, from 0; "" for a type whose replicas have one host.
    `growing` is what it is on its way to bring, None while it keeps its size. `ungrown_until` is until when it is not asked to grow, since it could not.
    `membership` says who schedules it, and in which group; None where nobody in particular does.
    """

    instance_id: str
    node_type: str
    status: InstanceStatus
    since: float
    requested_at: float = 0.0
    external_id: str = ""
    phase: Phase = Phase.UNSCHEDULED
    phase_since: float = 0.0
    ray_node_id: str = ""
    node_dead_since: float | None = None
    drain_accepted: bool = False
    drain_not_before: float = 0.0
    reason: Reason = Reason.DEMAND
    detail: str = ""
    made_as: NodeType | None = None
    trouble: Trouble | None = None
    trouble_since: float = 0.0
    stuck_since: float | None = None
    ends_at: float | None = None
    ends_why: str = ""
    replica: str = ""
    host: int = 0
    growing: Growing | None = None
    ungrown_until: float = 0.0
    membership: Membership | None = None

    @property
    def has_joined(self) -> bool:
        """Whether Ray ever had a node for it."""
        return bool(self.ray_node_id)

    @property
    def is_launching(self) -> bool:
        """Whether it is on its way for the first time."""
        return self.status in LAUNCHING

    @property
    def is_unjoined(self) -> bool:
        """Whether it is a launch that has not joined: on its way, or called off and not gone yet, so that the executor is still at it."""
        return self.is_launching or (self.status is InstanceStatus.TERMINATING and not self.has_joined)

    @property
    def is_in_flight(self) -> bool:
        """Whether it is on its way to the present head and has not joined it."""
        return self.status in IN_FLIGHT
