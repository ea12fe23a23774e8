"""Node types in trouble: times in which launches of one do not get through, and what of that is told outward."""

from dataclasses import dataclass
from enum import StrEnum


class TroubleState(StrEnum):
    """What has become of a trouble."""

    BEGUN = "begun"
    CHANGED = "changed"
    ENDED = "ended"


@dataclass(frozen=True)
class NodeTypeTrouble:
    """A time in which launches of a node type do not get through; wall seconds.

    `cause` is that of the launch that failed last, or does not get on, in a word, `detail` in words, and `changes` how often it has become another one.
    `launches` is how many have failed or not got on since it began. `told` is the cause that was told outward last, "" before any was.
    """

    node_type: str
    cause: str
    since: float
    detail: str = ""
    launches: int = 0
    changes: int = 0
    told: str = ""
    ended_at: float | None = None

    @property
    def due(self) -> TroubleState | None:
        """What is to be told next; None while all is told. Each is told to have begun before it is told to have ended, however short it was."""
        if not self.told:
            return TroubleState.BEGUN
        if self.ended_at is not None:
            return TroubleState.ENDED
        return None if self.told == self.cause else TroubleState.CHANGED

    def is_same(self, other: "NodeTypeTrouble") -> bool:
        """Whether both are one trouble at one stage, whatever was told of it."""
        return (self.since, self.cause, self.changes, self.ended_at) == (other.since, other.cause, other.changes, other.ended_at)


@dataclass(frozen=True)
class Announcement:
    """A change of a trouble, to be told outward once; `retry_at` is when its node type is tried again, None if that is not known."""

    cluster: str
    state: TroubleState
    trouble: NodeTypeTrouble
    next_step: str
    retry_at: float | None = None
