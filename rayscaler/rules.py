"""Rules that every field keeps that comes over a wire, and the problems of one message: all of them, each with its path and its rule.

Reports, and what plugins say, are untrusted: counts, names and sizes are bounded here (SE-9), so that nothing behind the doors needs to ask.
"""

import re

from google.protobuf.duration_pb2 import Duration

from rayscaler.errors import InvalidRequest

MAX_NAME = 512
"""Characters of any name or key; Ray's own are below 300."""
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What no name or key has: it would break the lines of logs and tables."""
MAX_COUNT = 1 << 40
"""Of one demand."""
MAX_GANG = 10_000
"""Bundles of one gang: they are placed one by one, and Ray's own groups have some hundreds as a rule."""
MAX_JOBS = 1000
"""Live jobs whose ids are kept of one snapshot; where there are more, none are."""
MAX_AMOUNT = 1 << 62
"""Of one resource, in units: 46,000 times Ray's own largest."""
MAX_DURATION_S = 366 * 86_400
"""Of an age or an idle time: a year."""
MAX_AT = 253_402_300_799
"""The last second that a Timestamp can name."""
MAX_DETAIL = 1000
"""Characters kept of a text for people."""
MAX_PROBLEMS = 20
"""Told in one answer."""


def is_sayable(name: str) -> bool:
    """Whether a name may stand in a message."""
    return 0 < len(name) <= MAX_NAME and CONTROL.search(name) is None


class Rules:
    """Collects the problems of one message."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def need(self, path: str, holds: bool, rule: str) -> None:
        """Note a problem unless it holds."""
        if not holds:
            self.broken(path, rule)

    def broken(self, path: str, rule: str) -> None:
        """Note a problem: for who asks first, where the text of a rule costs more than the question."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{path}: {rule}")

    def check(self) -> None:
        """Raise InvalidRequest with every problem, if there is any."""
        if self.problems:
            raise InvalidRequest(*self.problems)

    def name(self, path: str, value: str, *, required: bool = False) -> str:
        """Return a name or key."""
        if not is_sayable(value):
            self.need(path, len(value) <= MAX_NAME, f"is longer than {MAX_NAME} characters")
            self.need(path, CONTROL.search(value) is None, "has a line break or another control character")
            self.need(path, bool(value) or not required, "is required")
        return value

    def natural(self, path: str, value: int) -> int:
        """Return a number of 0 or more."""
        if value < 0:
            self.broken(path, f"{value} is negative")
        return value

    def duration(self, path: str, value: Duration) -> float:
        """Return seconds."""
        return self.duration_s(path, value.seconds + value.nanos / 1e9)  # protobuf's own conversions raise on some that the wire can carry

    def duration_s(self, path: str, value_s: float) -> float:
        """Return seconds."""
        self.need(path, 0 <= value_s <= MAX_DURATION_S, f"{value_s} s is not from 0 to {MAX_DURATION_S} s")
        return value_s
