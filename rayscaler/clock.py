"""Time: the only place that reads a clock. Everything else is handed a Clock."""

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings; waiting is asyncio's, which the event loop can make virtual."""

    def now(self) -> float:
        """Wall seconds since the epoch, UTC."""
        ...

    def mono(self) -> float:
        """Seconds that never jump; compare only within one process."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        """Read the wall clock."""
        return time.time()

    def mono(self) -> float:
        """Read the monotonic clock."""
        return time.monotonic()
