"""The commands `rayscaler up` and `rayscaler down`."""

import asyncio
import json
import logging
import signal
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import click
import structlog

from rayscaler.cli.completion import clusters
from rayscaler.cli.exits import Exit
from rayscaler.cli.up.cluster import LocalCluster, names, root, state_flag
from rayscaler.cli.up.definition import Definition
from rayscaler.cli.up.start import Start
from rayscaler.cli.up.view import View
from rayscaler.config.executors import is_plugin
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.local.parts import only_one
from rayscaler.settings import ServiceSettings

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_T = TypeVar("_T")

state_dir_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), help="Where records, logs and local workers are kept; default ~/.rayscaler."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("-f", "--file", "path", required=True, type=click.Path(path_type=Path), help="Definition of the cluster.")
@click.option("--listen", help="Address of its service; default where it is, else 127.0.0.1:6380, or RAYSCALER_LISTEN.")
@state_dir_option
@json_option
def up(path: Path, listen: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Start a Ray head on this machine with its monitor and the service, and keep all three alive until `rayscaler down`.

    Run again, it starts what is missing and applies what has changed in the definition; a running head is never changed.
    """
    settings = _settings(state_dir, listen)
    definition = Definition.read(path)
    _check_local(definition)
    for each in definition.warnings:
        click.echo(f"warning: {each.inside(str(path))}", err=True)
    with only_one(root(settings) / "lock"), View(as_json=as_json) as view:
        _quiet()
        if listen is None:  # a service that is up stays where it is
            settings = replace(settings, listen=LocalCluster(definition.name, settings, view).listen() or settings.listen)
        result = _until_done(Start(definition, settings, view).run(), "what this call had started has ended")
    click.echo(json.dumps(result) if as_json else _usage(result, path))


@click.command()
@click.argument("cluster", required=False, shell_complete=clusters)
@click.option("-f", "--file", "path", type=click.Path(path_type=Path), help="Definition of the cluster, instead of its name.")
@state_dir_option
@json_option
def down(cluster: str | None, path: Path | None, state_dir: Path | None, as_json: bool) -> None:
    """End what `rayscaler up` started: monitor, service, every worker after its drain, head. Logs stay."""
    settings = _settings(state_dir, None)
    wanted = cluster or (None if path is None else Definition.read(path).name)
    with only_one(root(settings) / "lock"), View(as_json=as_json) as view:
        _quiet()
        found = [name for name in names(settings) if wanted in {None, name}]
        ended = {}
        for name in found:
            work = LocalCluster(name, settings, view).end()
            ended[name] = _until_done(work, "not everything has ended; run `rayscaler down` again")
    if as_json:
        click.echo(json.dumps({"state_dir": str(settings.state_dir), "ended": [{"cluster": k, "workers": n} for k, n in ended.items()]}))
    else:
        where = f"in {settings.state_dir}"
        said = [f"{name} is down; its logs are in {root(settings) / name}" for name in ended]
        click.echo("\n".join(said) or (f"{wanted} is not up {where}" if wanted else f"nothing is up {where}"))


def _settings(state_dir: Path | None, listen: str | None) -> ServiceSettings:
    """Return the settings, with a state directory that stays the same wherever a part is started from."""
    settings = ServiceSettings.from_env(listen=listen, state_dir=state_dir)
    if settings.listen.rpartition(":")[2] == "0":
        raise InvalidRequest(f"--listen: {settings.listen!r}: must name a port, at which monitor and commands find the service")
    return replace(settings, state_dir=settings.state_dir.absolute())


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


def _check_local(definition: Definition) -> None:
    """Refuse what `rayscaler down` could not end: a plugin's instances are wherever it makes them."""
    if is_plugin(definition.config.executor):
        rule = "`rayscaler up` and `down` keep workers of this machine; with a plugin run `rayscaler serve`, and `rayscaler monitor` beside your head"
        raise InvalidRequest(Problem("spec.executor", definition.config.executor, rule).inside(str(definition.path)))


def _until_done(work: Coroutine[Any, Any, _T], interrupted: str) -> _T:
    """Run to the end; after Ctrl-C say how things stand and exit as shells have it."""
    try:
        return asyncio.run(_interruptible(work))
    except asyncio.CancelledError:
        click.echo(f"interrupted: {interrupted}", err=True)
        sys.exit(Exit.INTERRUPTED)


async def _interruptible(work: Coroutine[Any, Any, _T]) -> _T:
    """Cancel the work at the first signal; what it then does to leave nothing behind is not cut short by a second one."""
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in SIGNALS:
            loop.add_signal_handler(number, _ignore)
        task.cancel()

    for number in SIGNALS:
        loop.add_signal_handler(number, stop)
    return await task


def _ignore() -> None:
    """Swallow a second Ctrl-C: the end is under way."""


def _usage(result: dict[str, Any], path: Path) -> str:
    """Say how it is used."""
    outcomes = ", ".join(f"{name} {part['outcome']}" for name, part in result["parts"].items())
    asked_at = "" if result["service"] == ServiceSettings().listen else f" --service {result['service']}"
    kept_in = state_flag(Path(result["state_dir"]))
    rows = [
        (f'ray.init("{result["gcs"]}")', "in a Ray program on this machine"),
        (f'ray.init("{result["client"]}")', "as a client, from elsewhere with this machine's address"),
        (f"rayscaler status{asked_at}", "what is done, and why"),
        (f"rayscaler up -f {path}{kept_in}", "applies what has been edited there"),
        (f"rayscaler down{kept_in}", "ends it"),
    ]
    width = max(len(what) for what, _ in rows)
    lines = [f"  {what:{width}}  {why}" for what, why in rows]
    return "\n".join([f"{result['cluster']} is up: {outcomes}", *lines])
