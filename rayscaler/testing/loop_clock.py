"""A clock that is the event loop's: under a virtual loop (looptime) all time of a test is virtual."""

import asyncio

START_AT = 1_800_000_000.0
"""Wall time at the loop's 0: a date, so that nothing takes it for a duration."""


class LoopClock:
    """Both readings from the running loop's time."""

    def now(self) -> float:
        """Read the wall clock."""
        return START_AT + self.mono()

    def mono(self) -> float:
        """Read the loop's time."""
        return asyncio.get_running_loop().time()
