"""How much a test does: in `make verify` as little as shows the same, in `make soak` all that was asked for; the soak runs whoever asks here."""

import os
from typing import TypeVar

IN_FULL = "RAYSCALER_TESTS_IN_FULL"
"""Variable under which every test does all that was asked for."""
T = TypeVar("T")


def counted(*, gate: T, full: T) -> T:
    """Return how much to do now. Only for how often or how many: what is looked at, and what fails, is the same in both."""
    return full if os.environ.get(IN_FULL) else gate
