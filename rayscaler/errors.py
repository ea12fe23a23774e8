"""The error tree; each class states its rule of retry and its gRPC code's name (this file imports no grpc).

RayscalerError
├── InvalidRequest        INVALID_ARGUMENT     never     the caller fixes it
├── NotFound              NOT_FOUND            never     success for terminate
├── Conflict              ALREADY_EXISTS       never     same id, other spec: the operator looks
├── Superseded            FAILED_PRECONDITION  never     a newer monitor or session has taken over; this one stops
├── Fenced                FAILED_PRECONDITION  never     another service leads; this process ends, and is started again as a standby
├── Busy                  ABORTED              backoff
├── InsufficientCapacity  RESOURCE_EXHAUSTED   elsewhere that node type is backed off, another planned
├── Denied                PERMISSION_DENIED    long
├── Unauthenticated       UNAUTHENTICATED      long       the caller renews its credential, or the operator does
├── Unsupported           UNIMPLEMENTED        never     the capability is dropped
├── BookmarkExpired       OUT_OF_RANGE         never     the caller lists again and goes on from there
├── NotLeader             UNAVAILABLE          backoff   over a fresh connection, which may reach the one that leads
├── BrokenPlugin          UNAVAILABLE          backoff   nothing of such an answer is taken; the plugin's author mends it
└── Unavailable           UNAVAILABLE          backoff
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self


class Retry(StrEnum):
    """What may be done after an error."""

    NEVER = "never"
    BACKOFF = "backoff"
    LONG = "long"
    ELSEWHERE = "elsewhere"


class RayscalerError(Exception):
    """Base of all errors that cross a door of rayscaler."""

    code: ClassVar[str] = "INTERNAL"
    retry: ClassVar[Retry] = Retry.NEVER

    @property
    def name(self) -> str:
        """UPPER_SNAKE name, the `reason` of google.rpc.ErrorInfo."""
        return "".join(f"_{c}" if c.isupper() else c for c in type(self).__name__).lstrip("_").upper()


@dataclass(frozen=True)
class Problem:
    """One thing that must change: where it stands, what stands there as shown to people ("" if nothing can be shown), the rule it breaks."""

    path: str
    value: str
    rule: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.path, self.value, self.rule) if part)

    @classmethod
    def of(cls, text: str) -> Self:
        """Make from a sentence that begins with its path."""
        path, _, rule = text.partition(": ")
        return cls(path, "", rule)

    def inside(self, place: str) -> "Problem":
        """Return the problem as told by who knows more of the place, such as the file."""
        return Problem(f"{place}: {self.path}" if self.path else place, self.value, self.rule)


class InvalidRequest(RayscalerError):
    """The caller must change what it sends; `problems` lists every one with its path."""

    code = "INVALID_ARGUMENT"

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(each if isinstance(each, Problem) else Problem.of(each) for each in problems)
        super().__init__("; ".join(map(str, self.problems)))


class NotFound(RayscalerError):
    """No such thing; for terminate that is success."""

    code = "NOT_FOUND"


class Conflict(RayscalerError):
    """The same id with another spec."""

    code = "ALREADY_EXISTS"


class Superseded(RayscalerError):
    """A newer monitor, or a newer session, has taken over."""

    code = "FAILED_PRECONDITION"


class Fenced(RayscalerError):
    """Another service leads, or may: nothing more is written or sent, and this process ends."""

    code = "FAILED_PRECONDITION"


class NotLeader(RayscalerError):
    """This replica does not lead; another one takes the report."""

    code = "UNAVAILABLE"
    retry = Retry.BACKOFF


class Busy(RayscalerError):
    """Somebody else works on it."""

    code = "ABORTED"
    retry = Retry.BACKOFF


class InsufficientCapacity(RayscalerError):
    """The world has no room for it now."""

    code = "RESOURCE_EXHAUSTED"
    retry = Retry.ELSEWHERE


class Denied(RayscalerError):
    """Rights are missing; an operator must act."""

    code = "PERMISSION_DENIED"
    retry = Retry.LONG


class Unauthenticated(RayscalerError):
    """The caller's credential is missing or not valid: the caller renews it, or an operator gives it another."""

    code = "UNAUTHENTICATED"
    retry = Retry.LONG


class Unsupported(RayscalerError):
    """The executor cannot do this at all."""

    code = "UNIMPLEMENTED"


class BookmarkExpired(RayscalerError):
    """What came after a bookmark, or after a page, is not known any more: list again."""

    code = "OUT_OF_RANGE"


class BrokenPlugin(RayscalerError):
    """A plugin breaks a rule of executor/v1: what it said is not taken, and nobody knows what it did."""

    code = "UNAVAILABLE"
    retry = Retry.BACKOFF


class Unavailable(RayscalerError):
    """It does not answer now."""

    code = "UNAVAILABLE"
    retry = Retry.BACKOFF
