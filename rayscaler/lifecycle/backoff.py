"""Back-off per node type: a failure makes it wait, a join makes it well; others are planned meanwhile."""

from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.state import Backoff

Waits = tuple[float, ...]
"""Seconds after the first, second, ... failure in a row; the last for all further ones."""

REFUSED: Waits = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""A launch call failed: to ask again costs one call."""
NO_CAPACITY: Waits = (5.0, 10.0, 20.0, 30.0)
"""Quota or capacity was refused at once; more of it is used within half a minute (complaint H2)."""
CRASHED: Waits = (5.0, 60.0, 600.0, 1200.0, 1800.0)
"""It was made and ended by itself: once may be chance; at most three tries in ten minutes (complaint B6)."""
STUCK: Waits = (300.0, 600.0, 1200.0, 1800.0)
"""It was made and did not get on: each try holds its demand up for a while, so tries are few (complaint H1: after 5, 10, 20, 30 minutes)."""
FAILURES = frozenset({Reason.OVERDUE, Reason.LAUNCH_ERROR, Reason.CANNOT_START})
"""Ends of a launch that count as a failure of its node type."""
WAITS = {Reason.LAUNCH_ERROR: REFUSED, Reason.NO_CAPACITY: NO_CAPACITY, Reason.CANNOT_START: STUCK}
"""How long its node type waits after a launch that failed so; after any other, as after one that ended by itself."""
LONGEST_S = max(REFUSED + NO_CAPACITY + CRASHED + STUCK)


def is_failure(instance: Instance) -> bool:
    """Whether the status that an instance has got to is a failure of its node type."""
    is_ended_for_it = instance.status is InstanceStatus.TERMINATING and instance.reason in FAILURES
    return is_ended_for_it or instance.status is InstanceStatus.LAUNCH_FAILED


def cause(instance: Instance) -> str:
    """Return in a word why a launch failed, or does not get on: what is counted by."""
    return instance.trouble.name if instance.is_in_flight and instance.trouble is not None else instance.reason.value


def is_given_up(instance: Instance) -> bool:
    """Whether an instance makes way for one of another type."""
    return instance.status is InstanceStatus.TERMINATING and instance.reason is Reason.MAKES_WAY


def after(reason: Reason, *, was_stuck: bool) -> Waits:
    """Return how long the type of a launch that failed waits; one that did not get on before was tried for a while already."""
    return STUCK if was_stuck else WAITS.get(reason, CRASHED)


def failed(known: Backoff | None, node_type: str, detail: str, now: float, waits: Waits = REFUSED) -> Backoff:
    """Return the back-off after one more failure; failures inside a running back-off count as one (a burst fails as one)."""
    if known is not None and now < known.until:
        return Backoff(node_type, known.failures, known.until, detail)
    failures = 1 if known is None else known.failures + 1
    return Backoff(node_type, failures, now + waits[min(failures, len(waits)) - 1], detail)


def again(known: Backoff, now: float) -> str:
    """Return what is done about a node type that failed, for people."""
    return f"other node types are used meanwhile, and {known.node_type} is tried again in {max(0.0, known.until - now):.0f} s"


def given_up(known: Backoff, now: float) -> Backoff:
    """Return the back-off once a try has made way for another type.

    It has failed: were its pause over, the next plan would try its type again, in the place that it has left to the other.
    """
    return failed(known, known.node_type, known.detail, now, STUCK)
