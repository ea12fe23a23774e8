"""How far apart cycles begin, by how long the last one kept the event loop.

The calls that a cycle has decided on must get on too, and so must other clusters: the longer cycles take, the further apart they are.
"""

from rayscaler.settings import Timings

CYCLE_SHARE = 4
"""Long cycles begin so many times their length apart."""
STEP_SHARE = 20
"""Those that decide nothing, and only tell how launches get on, so many times, whatever cluster each is of."""


def apart_s(took_s: float, timings: Timings) -> float:
    """Return the seconds from the beginning of a cycle that took `took_s` to that of the next one, at least."""
    return min(CYCLE_SHARE * took_s, timings.long_apart_s) if took_s > timings.long_cycle_s else timings.coalesce_s


class Turns:
    """When cycles that only tell of steps may begin: those of all clusters of a service go round."""

    def __init__(self) -> None:
        self._free_at = 0.0

    def next(self, now: float, took_s: float, timings: Timings) -> float:
        """Return when a cluster whose last cycle took `took_s` may have one, at the earliest; `now` is a step's monotonic second."""
        rest_s = min(STEP_SHARE * took_s, timings.step_apart_s)
        at = max(now + rest_s, self._free_at)
        self._free_at = at + rest_s
        return at
