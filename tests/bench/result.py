"""What a case says in the end, and how its figures are reduced."""

import json
import os
import statistics
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

NO_ANCHOR = 2
"""Exit code: the other side did not run in this run."""
MISSED = 1
"""Exit code: a target was missed."""


@dataclass(frozen=True)
class Options:
    """What the command line asked for; None leaves it to the case."""

    pairs: int | None = None
    samples: int | None = None
    seed: int = 1
    case: str = ""
    """Its name, for a module with several."""


@dataclass(frozen=True)
class Result:
    """One case: `ours` and `anchor` in seconds (or in the `unit` of `extra`), `target` in words, `met` as it was reckoned from them."""

    case: str
    ours: float
    anchor: float | None
    target: str
    met: bool
    samples: int
    extra: Mapping[str, Any] = field(default_factory=dict)
    is_relative: bool = True
    """Whether the target is one beside an anchor of the same run; else it is in plain units."""

    @property
    def exit_code(self) -> int:
        """0, or why not."""
        if self.anchor is None and self.is_relative:
            return NO_ANCHOR
        return 0 if self.met else MISSED

    def line(self) -> str:
        """Return the one line for standard output."""
        ratio = None if self.anchor is None else round(self.anchor / self.ours, 2)
        anchor = None if self.anchor is None else round(self.anchor, 6)
        figures = {"case": self.case, "ours": round(self.ours, 6), "anchor": anchor, "ratio": ratio}
        verdict = {"target": self.target, "met": self.met, "samples": self.samples, "unit": "s"}
        return json.dumps({**figures, **verdict, **self.extra, "load_1min": round(os.getloadavg()[0], 2)})


def say(text: str) -> None:
    """Tell how it goes, on standard error."""
    print(text, file=sys.stderr, flush=True)


def anchored(measure: Callable[[], T]) -> T | None:
    """Measure the other side; where that fails, say so and return None: the run then has no anchor."""
    try:
        return measure()
    except Exception:  # noqa: BLE001 - whatever went wrong there, our side is still worth telling
        say(f"the anchor did not run:\n{traceback.format_exc()}")
        return None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of all do not exceed (nearest rank: always one that was measured)."""
    ordered = sorted(values)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return minimum, median, p99 and maximum."""
    return {
        "min": round(min(values), 6),
        "median": round(statistics.median(values), 6),
        "p99": round(percentile(values, 0.99), 6),
        "max": round(max(values), 6),
    }
