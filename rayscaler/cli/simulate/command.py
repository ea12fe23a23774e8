"""The command `rayscaler simulate`."""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from rayscaler.cli.exits import Exit
from rayscaler.cli.simulate import outcome, plot, trace
from rayscaler.cli.simulate.engine import Planner, Simulation
from rayscaler.cli.simulate.fleet import Assumed
from rayscaler.cli.simulate.trace import Arrival
from rayscaler.cli.simulate.view import render
from rayscaler.clock import SystemClock
from rayscaler.config import load, quantity
from rayscaler.config.reader import near
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan as planned
from rayscaler.settings import Timings

START_UP_S = 60.0
"""Where nothing is said: about what a node of a cloud takes, its image already there."""


@click.command()
@click.option("--trace", "trace_path", required=True, type=click.Path(path_type=Path), help="Work that comes and ends, a CSV file.")
@click.option("--cluster", "path", required=True, type=click.Path(path_type=Path), help="Definition of the cluster.")
@click.option(
    "--start-up",
    "start_ups",
    multiple=True,
    metavar="[TYPE=]DURATION",
    help=f"From a launch to its node, of a node type or of all others; repeatable; default {START_UP_S:g}s.",
)
@click.option("--steps", type=click.IntRange(0), default=0, show_default=True, help="Work of each plan to make its mix cheaper.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as schema/simulate.schema.json says.")
@click.option(
    "--plot", "plot_path", type=click.Path(path_type=Path), help="Draw it as well: FILE.png, or FILE.html that needs nothing else."
)
def simulate(*, trace_path: Path, path: Path, start_ups: tuple[str, ...], steps: int, as_json: bool, plot_path: Path | None) -> None:
    """Replay a trace of work: what it would cost, how long it would wait, how used the nodes would be. Needs no cluster and does nothing.

    The trace is a CSV file with the columns arrival_s and duration_s, perhaps count, label:KEY for label wishes, and a column for each resource, such
    as CPU, memory, GPU. That of openb is read as it is. Time is virtual; what is launched and ended when is for the planner of the service to say.

    Exit code: 0 when all work got a place, 1 when some never did, 2 for a file or flag that must be changed.
    """
    if plot_path is not None:
        plot.check(plot_path)
    config, arrivals = _read(path, trace_path)
    assumed = _assumed(config, start_ups)
    took_s: list[float] = []
    simulation = Simulation(config, arrivals, assumed, _timed(steps, took_s))
    _run(simulation, arrivals)
    document = outcome.document_of(config, simulation, assumed, took_s)
    if plot_path is not None:
        plot.write(plot_path, simulation.log, document)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        Console(highlight=False).print(render(document))
    sys.exit(Exit.FAILED if document["never_placed"] else Exit.DONE)


def _read(path: Path, trace_path: Path) -> tuple[ClusterConfig, tuple[Arrival, ...]]:
    """Read both files; the problems of both are told at once."""
    problems: list[Problem] = []
    config, arrivals = None, None
    try:
        config = load.from_file(path)
    except InvalidRequest as error:
        problems += error.problems
    try:
        arrivals = trace.from_file(trace_path)
    except InvalidRequest as error:
        problems += error.problems
    if config is None or arrivals is None:
        raise InvalidRequest(*problems)
    return config, arrivals


def _assumed(config: ClusterConfig, start_ups: Sequence[str]) -> Assumed:
    names = [each.name for each in config.node_types]
    problems: list[Problem] = []
    own_s = {"": START_UP_S}
    for text in start_ups:
        name, _, duration = text.rpartition("=")
        if name and name not in names:
            problems.append(Problem("--start-up", repr(text), f"no such node type in the definition; {near(name, names)}"))
        try:
            own_s[name] = quantity.duration_s(duration)
        except ValueError as error:
            problems.append(Problem("--start-up", repr(text), str(error)))
    if problems:
        raise InvalidRequest(*problems)
    timings = Timings()
    start_up_s = {name: own_s.get(name, own_s[""]) for name in names}
    return Assumed(start_up_s, timings.busy_interval_s + timings.coalesce_s, timings.unneeded_grace_s)


def _timed(steps: int, took_s: list[float]) -> Planner:
    """Return the planner; it notes how long each plan takes."""
    clock = SystemClock()

    def timed(state: ClusterState) -> Plan:
        begun = clock.mono()
        made = planned(state, steps)
        took_s.append(clock.mono() - begun)
        return made

    return timed


def _run(simulation: Simulation, arrivals: Iterable[Arrival]) -> None:
    """Run it, with a bar at a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("simulating", total=sum(each.count for each in arrivals))
        for finished in simulation.run():
            progress.update(bar, completed=finished)
