"""What a check is, and what can come of one. Pure."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayscaler.plugin.conformance.lab import Lab


class Breach(Exception):
    """A rule that does not hold, with the sentence that says how."""

    def __init__(self, rule: str, sentence: str) -> None:
        super().__init__(sentence)
        self.rule = rule


class Skipped(Exception):
    """A check that cannot be made here, with the reason."""


class Want(StrEnum):
    """What a check needs of whoever runs it, besides instances."""

    NOTHING = ""
    STARTED = "needs a plugin that is started: give its command with --exec"
    RESTART = "needs a plugin that can be started again: give its command with --exec"
    ADDRESS = "needs a plugin at a dns:/// address"
    KILL = "needs a way to end an instance from outside: give a command with --kill"


@dataclass(frozen=True)
class Check:
    """A function that raises Breach for a plugin that breaks one of the rules; `instances` are alive at once at most."""

    run: Callable[["Lab"], Awaitable[None]]
    rules: tuple[str, ...]
    instances: int = 0
    want: Want = Want.NOTHING

    @property
    def name(self) -> str:
        """Its name, for people and for --only."""
        return self.run.__name__.replace("_", "-")

    @property
    def sentence(self) -> str:
        """What it checks."""
        return (self.run.__doc__ or "").partition("\n")[0]


class Outcome(StrEnum):
    """What came of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Result:
    """What came of one check: `rule` is the one that was broken, where it is known, `detail` says how, or why nothing was checked."""

    check: Check
    outcome: Outcome
    took_s: float = 0.0
    rule: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Patience:
    """How long things may take; seconds. The first three are the caller's choice, the others are SPEC.md's own."""

    call_s: float = 25.0
    """One call: what rayscaler gives it."""
    end_s: float = 180.0
    """From Terminate until an instance is gone."""
    settle_s: float = 5.0
    """How long an instance is looked at on its way; none needs to come anywhere."""
    prompt_s: float = 3.0
    """A call that only begins something is done by then; and the deadline of a caller in a hurry (X12)."""
    introduce_s: float = 5.0
    """X3."""
    first_s: float = 1.0
    """X28."""
    change_s: float = 5.0
    """X29."""
    beat_s: float = 10.0
    """X32."""
    died_s: float = 30.0
    """X35."""
    stop_s: float = 5.0
    """X47."""
