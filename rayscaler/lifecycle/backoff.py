"""Back-off per node type: a failure makes it wait, a join makes it well; others are planned meanwhile."""

from rayscaler.model.state import Backoff

FIRST_S = 5.0
"""Wait after the first failure in a row."""
LONGEST_S = 300.0
"""Longest wait; doubling from FIRST_S gets there with the seventh failure."""


def failed(known: Backoff | None, node_type: str, detail: str, now: float) -> Backoff:
    """Return the back-off after one more failure; failures inside a running back-off count as one (a burst fails as one)."""
    if known is not None and now < known.until:
        return Backoff(node_type, known.failures, known.until, detail)
    failures = 1 if known is None else known.failures + 1
    wait_s = min(LONGEST_S, FIRST_S * 2 ** min(failures - 1, 10))
    return Backoff(node_type, failures, now + wait_s, detail)
