"""What a Ray head asks for: bundles, demands, gangs, constraints, and the report that carries them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from rayscaler.model.node import RayNode
from rayscaler.model.resources import UNIT, Resources


class Operator(StrEnum):
    """How a label is compared (Ray's LabelSelectorOperator)."""

    IN = "in"
    NOT_IN = "!in"


@dataclass(frozen=True, order=True)
class LabelCondition:
    """One label's condition; NOT_IN also holds where the label is absent."""

    key: str
    operator: Operator
    values: tuple[str, ...]

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether `labels` meet this condition."""
        found = labels.get(self.key) in self.values
        return found if self.operator is Operator.IN else not found

    def __str__(self) -> str:
        return f"{self.key} {self.operator.value} ({', '.join(self.values)})"


@dataclass(frozen=True, order=True)
class LabelSelector:
    """Conditions that must all hold; none holds always."""

    conditions: tuple[LabelCondition, ...] = ()

    def holds(self, labels: dict[str, str]) -> bool:
        """Whether `labels` meet every condition."""
        return all(condition.holds(labels) for condition in self.conditions)

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions)) or "any"


@dataclass(frozen=True)
class Bundle:
    """One indivisible resource map; `selectors` are alternatives tried in order, none means no wish."""

    resources: Resources
    selectors: tuple[LabelSelector, ...] = ()

    def label_rank(self, labels: dict[str, str]) -> int | None:
        """Return the index of the first alternative that `labels` meet, or None if they meet none."""
        if not self.selectors:
            return 0
        return next((i for i, selector in enumerate(self.selectors) if selector.holds(labels)), None)

    def __str__(self) -> str:
        wishes = " else ".join(map(str, self.selectors))
        return f"{self.resources} [{wishes}]" if wishes else str(self.resources)


@dataclass(frozen=True)
class Demand:
    """A bundle wanted `count` times."""

    bundle: Bundle
    count: int

    def __str__(self) -> str:
        return f"{self.bundle} x {self.count}"


@dataclass(frozen=True)
class Reserve(Demand):
    """A demand that a launch is for: of a gang (its id), of the constraint, or (neither) of tasks and actors."""

    gang_id: str = ""
    is_constraint: bool = False


class Strategy(StrEnum):
    """How the bundles of a gang lie on nodes (Ray's placement strategies)."""

    PACK = "PACK"
    SPREAD = "SPREAD"
    STRICT_PACK = "STRICT_PACK"
    STRICT_SPREAD = "STRICT_SPREAD"


@dataclass(frozen=True)
class Locality:
    """All of a gang within one value of a label (Ray's topology_strategy); `selector` is met where the rest of it lies already."""

    label: str
    selector: LabelSelector = LabelSelector()


@dataclass(frozen=True)
class Gang:
    """Bundles placed all or none. `gang_id` is Ray's placement group id; of a gang that lost bundles only those are here.

    `bundles` are in Ray's order where that decides what has room (are_parts_mixed), and the same one may come again later then.
    `is_orphaned`: its job has ended and it is not detached, so nobody waits for it.
    """

    gang_id: str
    strategy: Strategy
    bundles: tuple[Demand, ...]
    is_rescheduling: bool = False
    is_orphaned: bool = False
    locality: Locality | None = None

    @property
    def label(self) -> str:
        """The dynamic label that nodes with a bundle of this gang carry (Ray's `_PG_<id>`)."""
        return f"_PG_{self.gang_id}"

    @property
    def size(self) -> int:
        """Number of bundles."""
        return sum(demand.count for demand in self.bundles)

    def __str__(self) -> str:
        within = f" within one {self.locality.label}" if self.locality else ""
        return f"{self.strategy.value}{within} of {', '.join(map(str, self.bundles))}"


def are_parts_mixed(bundles: Iterable[Bundle], names: Collection[str] | None = None) -> bool:
    """Whether of one of `names` (None: of anything) parts of different size are wanted.

    A raylet gives them out in the order of a gang's bundles, each from the device where it fits closest. Only among such does the order
    decide: parts of one size touch as few devices as can be, and so do whole devices, whichever come first.
    """
    parts: dict[str, int] = {}
    for bundle in bundles:
        for name, amount in bundle.resources.items():
            if amount < UNIT and (names is None or name in names) and parts.setdefault(name, amount) != amount:
                return True
    return False


@dataclass(frozen=True)
class Constraint:
    """Bundles to keep room for at once, on the totals of nodes (Ray's cluster resource constraint)."""

    demands: tuple[Demand, ...] = ()


@dataclass(frozen=True, order=True)
class Session:
    """Which Ray cluster speaks: the GCS's cluster id (hex) and Ray's session name."""

    cluster_id: str
    session_name: str


class Outcome(StrEnum):
    """How a command ended at the head."""

    DONE = "done"
    REJECTED = "rejected"
    FAILED = "failed"


@dataclass(frozen=True)
class CommandResult:
    """The result of one command."""

    command_id: str
    outcome: Outcome
    detail: str = ""


@dataclass(frozen=True)
class Snapshot:
    """Everything the GCS said at one moment; the newest replaces, nothing is ever added up.

    With neither a live job nor a live detached actor nobody waits for `demands` (E1: Ray shows them on). `live_job_ids` names the
    live jobs, all or none of them.
    """

    nodes: tuple[RayNode, ...] = ()
    demands: tuple[Demand, ...] = ()
    gangs: tuple[Gang, ...] = ()
    constraint: Constraint | None = None
    live_jobs: int = 1
    live_detached_actors: int = 0
    live_job_ids: frozenset[str] = frozenset()
    gcs_version: int = 0
    head_ip: str = ""


@dataclass(frozen=True)
class DemandReport:
    """A monitor's report. Order is the monitor's own (epoch in ms, then sequence), never the GCS's version.

    `snapshot` is None in a heartbeat (all as in `base_sequence`) and when `gcs_error` says why nothing could be read.
    `head_incarnation` stays over restarts inside one head (pod or supervisor) and differs for a head made anew; "" is not known.
    """

    cluster: str
    session: Session | None
    monitor_epoch: int
    sequence: int
    age_s: float
    snapshot: Snapshot | None
    base_sequence: int = 0
    results: tuple[CommandResult, ...] = ()
    reported_state_version: int = 0
    ray_version: str = ""
    gcs_error: str = ""
    head_incarnation: str = ""
    reported_config_hash: str = ""
    is_v1_mode: bool = False
    received_at: float = field(default=0.0, compare=False)
