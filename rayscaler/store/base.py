"""The store ports: the record of each cluster, and the last good text of each definition."""

from dataclasses import dataclass, field
from typing import Protocol

from rayscaler.model.command import AskedDrain
from rayscaler.model.demand import Constraint, Session
from rayscaler.model.state import Backoff, Begun, FloorOwners, Hold
from rayscaler.model.trouble import NodeTypeTrouble


@dataclass(frozen=True)
class OpenBatch:
    """Launches of one batch whose outcome is not known: per range its node type, its first index and how many follow from there."""

    batch: int
    ranges: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class ClusterRecord:
    """What survives the service: who the head is, floors, targets, back-offs, drains, and counters that must never fall.

    `batch` numbers launches (names are <cluster>-<type>-<batch>-<index>, never reused); it is written before the launch it names, and so are
    `open_batches`: the launches that whoever reads this must send again, for nobody has said what became of them (design §2b.1).
    `targets` are instances per node type at the last good report; `hold` is those of before a head was lost. `floor` is the last
    constraint asked for; `floor_until` (wall seconds) is set once it was asked of a cluster that has ended (design §2b.7), before that
    it is `floor_owners` who keep it.
    `drains` are those of this session in progress. `begun` are launches of the last minute, written before they are sent, where their number is limited.
    `troubles` are kept only where somebody is told of them.
    """

    cluster: str
    session: Session | None = None
    retired: tuple[Session, ...] = ()
    incarnation: str = ""
    retired_incarnations: tuple[str, ...] = ()
    batch: int = 0
    open_batches: tuple[OpenBatch, ...] = ()
    state_version: int = 0
    floor: Constraint | None = None
    floor_until: float | None = None
    floor_owners: FloorOwners = field(default_factory=FloorOwners)
    hold: Hold | None = None
    drains: tuple[AskedDrain, ...] = ()
    targets: tuple[tuple[str, int], ...] = ()
    backoffs: tuple[Backoff, ...] = ()
    troubles: tuple[NodeTypeTrouble, ...] = ()
    begun: tuple[Begun, ...] = ()

    def node_types(self) -> set[str]:
        """Return the node types it speaks of; a definition may have none of them any more (K2)."""
        held = self.hold.targets if self.hold is not None else ()
        return {name for name, _ in (*self.targets, *held)} | {each.node_type for each in self.backoffs}


class Definitions(Protocol):
    """Keeps the last good text of each definition by its source, such as the path of its file, so that it outlives a bad edit and the service.

    A write outlives a crash once it has returned, and a crash leaves the old text or the new one.
    """

    async def last_good(self, source: str) -> str | None:
        """Return the text, or None if there was never one. Raises Unavailable."""
        ...

    async def keep_good(self, source: str, text: str) -> None:
        """Replace the text. Raises Unavailable."""
        ...


class Store(Protocol):
    """Keeps one record per cluster; a save outlives a crash once it has returned, and a crash leaves the old record or the new one."""

    async def load(self, cluster: str) -> ClusterRecord | None:
        """Return the record, or None if there was never one. Raises Unavailable."""
        ...

    async def save(self, record: ClusterRecord) -> None:
        """Replace the record. Raises Unavailable."""
        ...

    async def close(self) -> None:
        """Let go."""
        ...
