"""A simulation as a picture: cost, nodes, work and utilisation over time, as PNG or as a page that needs nothing else.

Drawn by matplotlib, the extra `plot`; nobody else needs it.
"""

import html
import io
import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayscaler.cli.simulate.log import Log
from rayscaler.cli.simulate.outcome import HOUR_S, period, periods
from rayscaler.cli.simulate.view import figures, unit_of
from rayscaler.errors import InvalidRequest, Problem

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

POINTS = 600
"""Parts of the time that are drawn: about as many as a picture has columns."""
SUFFIXES = (".png", ".html")
INK, SOFT, ALERT = "#1f4e79", "#9dc3e6", "#c0392b"
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body {{ font: 15px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }} th {{ text-align: left; padding-right: 1.5rem }}
svg {{ width: 100%; height: auto }}</style></head>
<body><h1>{title}</h1><table>
{rows}
</table>
{picture}
</body></html>
"""


def check(path: Path) -> None:
    """Raise InvalidRequest where no such picture can be made: before anybody waits for it."""
    if path.suffix not in SUFFIXES:
        raise InvalidRequest(Problem("--plot", repr(str(path)), f"must end in {' or '.join(SUFFIXES)}"))
    if find_spec("matplotlib") is None:
        raise InvalidRequest(Problem("--plot", repr(str(path)), "needs matplotlib, which is not installed: pip install 'rayscaler[plot]'"))


def write(path: Path, log: Log, document: Mapping[str, Any]) -> None:
    """Draw a simulation into a file; raises InvalidRequest where that cannot be written."""
    from matplotlib import rc_context

    said = [_title(document), *(f"{name}: {figure}" for name, figure in figures(document))]
    content = io.BytesIO()
    # With the salt the same simulation is the same page; a name with a dollar is no formula.
    with rc_context({"svg.hashsalt": "rayscaler", "axes.spines.top": False, "axes.spines.right": False, "text.parse_math": False}):
        if path.suffix == ".png":
            _figure(log, document, "\n".join(said)).savefig(content, format="png", dpi=110)
            made = content.getvalue()
        else:
            _figure(log, document, "").savefig(content, format="svg", metadata={"Date": None})
            made = _page(document, content.getvalue().decode()).encode()
    try:
        path.write_bytes(made)
    except OSError as error:
        raise InvalidRequest(Problem("--plot", repr(str(path)), f"cannot be written: {error.strerror or error}")) from error


def _page(document: Mapping[str, Any], svg: str) -> str:
    rows = "\n".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(said)}</td></tr>" for name, said in figures(document))
    return PAGE.format(title=html.escape(_title(document)), rows=rows, picture=svg[svg.index("<svg") :])


def _title(document: Mapping[str, Any]) -> str:
    return f"{document['cluster']}, simulated"


def _figure(log: Log, document: Mapping[str, Any], title: str) -> "Figure":
    from matplotlib.figure import Figure

    begin, span_s = document["begin_s"], document["span_s"]
    parts = [period(log, *each) for each in periods(begin, begin + span_s, POINTS)]
    unit_s, unit = unit_of(span_s)
    at = [(each["begin_s"] - begin) / unit_s for each in parts]
    figure = Figure(figsize=(10, 11 if title else 10), layout="constrained")
    figure.suptitle(title, fontsize=9)
    rows = figure.subplots(4, 1, sharex=True)
    for axes, draw in zip(rows, (_cost, _nodes, _work, _used), strict=True):
        draw(axes, at, parts)
        axes.set_ylim(bottom=0)
    rows[-1].set_xlabel(f"time ({unit})")
    return figure


def _cost(axes: "Axes", at: list[float], parts: list[dict[str, Any]]) -> None:
    axes.fill_between(at, [each["cost"] / (each["end_s"] - each["begin_s"]) * HOUR_S for each in parts], step="post", color=INK)
    axes.set_ylabel("cost per hour")


def _nodes(axes: "Axes", at: list[float], parts: list[dict[str, Any]]) -> None:
    axes.fill_between(at, [each["nodes"] for each in parts], step="post", color=SOFT, label="starting")
    axes.fill_between(at, [each["nodes"] - each["starting"] for each in parts], step="post", color=INK, label="joined")
    axes.set_ylabel("nodes")
    axes.legend(frameon=False, loc="upper left")


def _work(axes: "Axes", at: list[float], parts: list[dict[str, Any]]) -> None:
    axes.step(at, [each["running"] for each in parts], where="post", color=INK, label="running, the mean")
    axes.step(at, [each["most_waiting"] for each in parts], where="post", color=ALERT, label="waiting, the most", linewidth=0.8)
    axes.set_ylabel("tasks")
    axes.legend(frameon=False, loc="upper left")


def _used(axes: "Axes", at: list[float], parts: list[dict[str, Any]]) -> None:
    for name in parts[0]["utilisation"] if parts else ():
        shares = [math.nan if each["utilisation"][name] is None else each["utilisation"][name] for each in parts]
        axes.step(at, shares, where="post", label=name.lstrip("_"), linewidth=1)
    axes.set_ylabel("share in use")
    if axes.get_lines():
        axes.legend(frameon=False, loc="upper left")
