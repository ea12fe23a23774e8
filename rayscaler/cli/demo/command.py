"""The command `rayscaler demo`."""

import asyncio
import logging
import signal
import sys
from pathlib import Path

import click
import structlog

from rayscaler.cli.demo.run import Demo, new_world
from rayscaler.cli.demo.view import View
from rayscaler.cli.demo.world import World
from rayscaler.cli.exits import Exit
from rayscaler.errors import RayscalerError, Unavailable


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per step.")
@click.option("--seed", default=0, show_default=True, help="Varies the job's parts, sizes and order.")
@click.option("--keep", is_flag=True, help="Leave everything running at the end, and say how to end it.")
@click.option("--end", "kept", type=click.Path(path_type=Path), metavar="DIR", help="End what --keep left running.")
def demo(as_json: bool, seed: int, keep: bool, kept: Path | None) -> None:
    """Run a real Ray job on this machine: nodes come for the demand and go when idle.

    Exits 0 only if each step was seen outside rayscaler: in Ray's own node table, in the tasks' own answers, in /proc.
    """
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    if kept is not None:
        sys.exit(_told(asyncio.run(World.kept(kept).end())))
    sys.exit(asyncio.run(_run(seed=seed, keep=keep, as_json=as_json)))


async def _run(*, seed: int, keep: bool, as_json: bool) -> int:
    world = new_world(_examples())
    task = asyncio.ensure_future(_tell(world, seed=seed, as_json=as_json))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    try:
        is_good = await task
    except asyncio.CancelledError:
        keep, is_good = False, None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, _ignore)
        if not keep:
            left = await world.end()
    if keep:
        world.keep()
        click.echo(
            f"left running, service at {world.service}, GCS at {world.gcs}; end it with: rayscaler demo --end {world.base}", err=True
        )
    elif _told(left):
        return Exit.FAILED
    if is_good is None:
        return Exit.INTERRUPTED
    return Exit.DONE if is_good else Exit.FAILED


async def _tell(world: World, *, seed: int, as_json: bool) -> bool:
    with View(as_json=as_json) as view:
        try:
            return await Demo(world, view, seed).run()
        except RayscalerError as error:
            view.wrong(str(error))
            return False


def _told(left: list[int]) -> int:
    """Say what would not end; return the exit code for it."""
    if left:
        click.echo(f"these processes would not end: {left}", err=True)
    return Exit.FAILED if left else Exit.DONE


def _ignore() -> None:
    """Swallow a second Ctrl-C: the end is under way."""


def _examples() -> Path:
    """Return the examples' folder: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parents[2]
    for folder in (package.parent / "examples", package / "_examples"):
        if (folder / "demo.yaml").exists():
            return folder
    raise Unavailable("the examples are not installed with rayscaler; install it again")
