"""The chart of `make bench-plan`: seconds and cost of each case, ours beside Ray's planner, as PNG."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

Line = Mapping[str, Any]
Bars = Mapping[str, Sequence[float | None]]


def draw(lines: Sequence[Line], path: Path) -> None:
    """Draw what the cases said; those that did not end are left blank."""
    names = [title(line) for line in lines]
    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 1.5 + 0.6 * len(lines)), sharey=True, layout="constrained")
    _bars(left, names, seconds(lines))
    left.set(xscale="log", xlabel="seconds", title="time")
    _bars(right, names, ratios(lines))
    right.axvline(1.0, color="black", linewidth=0.8)
    right.set(xlim=(0.98, None), xlabel="times the bound", title="cost")
    left.invert_yaxis()
    left.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def title(line: Line) -> str:
    """Return a case's name, with how many demands were left out: its cost is for the others only."""
    worths = {"ours": _final_worth(line.get("worth", {})), "Ray's": line["anchor_worth"] or {}}
    told = [f"{worth['unplaced']} by {side}" for side, worth in worths.items() if worth.get("unplaced")]
    return "\nleft out: ".join([line["case"].removeprefix("plan-"), *([", ".join(told)] if told else [])])


def _final_worth(by_label: Mapping[str, Line]) -> Line:
    return [*by_label.values()][-1] if by_label else {}


def seconds(lines: Sequence[Line]) -> Bars:
    """Return the seconds by who planned."""
    return {
        "first plan, cold": [line.get("cold_s", {}).get("first") for line in lines],
        "first plan": [line.get("warm_s", {}).get("first") for line in lines],
        "final plan": [_final(line.get("warm_s", {})) for line in lines],
        "Ray's planner": [line["anchor"] for line in lines],
    }


def ratios(lines: Sequence[Line]) -> Bars:
    """Return the cost beside the bound by who planned."""
    worths = [{label: worth["ratio"] for label, worth in line.get("worth", {}).items()} for line in lines]
    return {
        "first plan, cold": [None for _ in lines],
        "first plan": [each.get("first") for each in worths],
        "final plan": [_final(each) for each in worths],
        "Ray's planner": [line["anchor_worth"] and line["anchor_worth"]["ratio"] for line in lines],
    }


def _final(by_label: Mapping[str, float | None]) -> float | None:
    """Return the figure of the largest budget, None where there is no plan but the first."""
    return [*by_label.values()][-1] if len(by_label) > 1 else None


def _bars(axes: Axes, names: Sequence[str], bars: Bars) -> None:
    height = 0.8 / len(bars)
    for index, (label, values) in enumerate(bars.items()):
        at = [position + (index - (len(bars) - 1) / 2) * height for position, value in enumerate(values) if value is not None]
        known = [value for value in values if value is not None]
        drawn = axes.barh(at, known, height, label=label, color=f"C{index}")
        axes.bar_label(drawn, fmt=lambda value: f"{value:.4g}", fontsize=7, padding=2)
    axes.set_yticks(range(len(names)), names)
    axes.grid(axis="x", alpha=0.3)
    axes.margins(x=0.1)
