"""The store port and the record it keeps."""

from dataclasses import dataclass
from typing import Protocol

from rayscaler.model.demand import Constraint, Session
from rayscaler.model.state import Backoff


@dataclass(frozen=True)
class ClusterRecord:
    """What survives the service: session identity, floors, targets, back-offs, and counters that must never fall.

    `batch` numbers launches (names are <cluster>-<type>-<batch>-<index>, never reused); it is written before the launch it names.
    `targets` are instances per node type at the last good report; `floor` is the last constraint asked for.
    """

    cluster: str
    session: Session | None = None
    retired: tuple[Session, ...] = ()
    batch: int = 0
    state_version: int = 0
    floor: Constraint | None = None
    targets: tuple[tuple[str, int], ...] = ()
    backoffs: tuple[Backoff, ...] = ()


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
