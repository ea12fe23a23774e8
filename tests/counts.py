"""How much a test does: in `make verify` as little as shows the same, in `make soak` all that was asked for; the soak runs whoever asks here."""

import os
from typing import TypeVar

IN_FULL = "RAYSCALER_TESTS_IN_FULL"
"""Variable under which every test does all that was asked for."""
T = TypeVar("T")


def counted(*, gate: T, full: T) -> T:
    """Return how much to do now. Only for how often or how many: what is looked at, and what fails, is the same in both."""
    return full if os.environ.get(IN_FULL) else gate


def is_drawn_anew() -> bool:
    """Whether properties draw new examples in every run, as a soak and a long run do.

    The gate's follow from the text of each test, so that it does not refuse a change for what an older one did.
    """
    return bool(os.environ.get(IN_FULL)) or os.environ.get("HYPOTHESIS_PROFILE") == "long"
