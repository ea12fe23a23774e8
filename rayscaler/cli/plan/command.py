"""The command `rayscaler plan`."""

import json
import sys
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from rayscaler.cli.exits import Exit
from rayscaler.cli.plan.document import document_of
from rayscaler.cli.plan.state import state_of
from rayscaler.cli.plan.view import render
from rayscaler.cli.plan.why import why
from rayscaler.clock import SystemClock
from rayscaler.config import load
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan as planned
from rayscaler.reconciler.improve import pays, steps_of
from rayscaler.settings import Timings


@click.command()
@click.option("-f", "--file", "path", required=True, type=click.Path(path_type=Path), help="Definition of the cluster.")
@click.option("--demand", "demand_path", required=True, type=click.Path(path_type=Path), help="What is asked for, and what is there.")
@click.option(
    "--steps",
    type=click.IntRange(0),
    default=None,
    help="Work to make the mix cheaper; 0 is the first plan. By default as a service does: what planBudget (0.25 s) is worth, where that may pay.",
)
@click.option("--explain", "is_explained", is_flag=True, help="Say why this mix, and what would help what has no place.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, as schema/plan.schema.json says.")
def plan(*, path: Path, demand_path: Path, steps: int | None, is_explained: bool, as_json: bool) -> None:
    """Tell what would be launched and ended for a demand, and why. Needs no cluster and does nothing.

    Nodes of the demand file that have nothing in use count as idle for their timeout.

    Exit code: 0 when everything asked for has a place, 1 when something has none, 2 for a file that must be changed.
    """
    config = load.from_file(path)
    wanted = load.demand_from_file(demand_path, config)
    state = state_of(config, wanted)
    clock = SystemClock()
    begun = clock.mono()
    make = decided if steps is None else partial(planned, steps=steps)
    made = make(state)
    document = document_of(state, wanted, made, clock.mono() - begun)
    if is_explained:
        document["explanation"] = why(state, made, make)
    if as_json:
        click.echo(json.dumps(document, indent=2))
    else:
        Console(highlight=False).print(render(state, wanted, made, document))
    sys.exit(Exit.FAILED if made.infeasible else Exit.DONE)


def decided(state: ClusterState) -> Plan:
    """Return the plan that a service carries out: the first one, or where that may pay the one that it waits for."""
    first = planned(state)
    return planned(state, steps_of(Timings().plan_budget_s)) if pays(first, state.config) else first
