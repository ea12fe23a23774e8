"""argv becomes settings, settings become a running process."""

import asyncio
import importlib
import json
import logging
import sys
from pathlib import Path

import click
import structlog

from rayscaler import __version__
from rayscaler.cli import exits
from rayscaler.cli.completion import PROGRAM, clusters, completion
from rayscaler.cli.demo.command import demo
from rayscaler.cli.exits import Exit
from rayscaler.cli.explain import explain
from rayscaler.cli.plan.command import plan
from rayscaler.cli.simulate.command import simulate
from rayscaler.cli.source import check_namespaced
from rayscaler.cli.status import status
from rayscaler.cli.up.command import down, up
from rayscaler.cli.validate import validate
from rayscaler.cli.version import version
from rayscaler.errors import InvalidRequest, RayscalerError
from rayscaler.settings import MonitorSettings, NamespaceSettings, ServiceSettings

LATE = {"conformance": "rayscaler.cli.conformance.command", "executor": "rayscaler.cli.executor"}
"""Commands that need much which no other does, and the modules that have them under the same names."""


class _Commands(click.Group):
    """All commands; Ctrl-C ends each with the same code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *LATE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in LATE:
            return super().get_command(ctx, cmd_name)
        command: click.Command = getattr(importlib.import_module(LATE[cmd_name]), cmd_name)
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo(f"interrupted: {ctx.invoked_subcommand} has ended", err=True)
            ctx.exit(Exit.INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog=exits.EPILOG)
@click.version_option(__version__, prog_name="rayscaler")
@click.option("-n", "--namespace", envvar="RAYSCALER_NAMESPACE", help="On Kubernetes: the namespace whose clusters are meant.")
@click.pass_context
def cli(context: click.Context, namespace: str | None) -> None:
    """Scale Ray clusters from outside the head."""
    check_namespaced(context, context.invoked_subcommand or "")
    context.obj = namespace
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # what it is now, also where a caller has put another in its place
    )


@cli.command()
@click.option("-f", "--file", "files", multiple=True, type=click.Path(path_type=Path), help="Definition; repeatable; followed.")
@click.option("--listen", help="Address to serve at; default 127.0.0.1:6380, or RAYSCALER_LISTEN.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where records and local workers are kept; default ~/.rayscaler.")
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
@click.pass_context
def serve(context: click.Context, files: tuple[Path, ...], listen: str | None, state_dir: Path | None, as_json: bool) -> None:
    """Run the service: with workers on this machine for the definitions of -f, or for a namespace of Kubernetes, given before the command."""
    settings = ServiceSettings.from_env(listen=listen, state_dir=state_dir)
    host = settings.listen.rpartition(":")[0]

    def tell(port: int) -> None:
        click.echo(json.dumps({"service": f"{host}:{port}"}) if as_json else f"rayscaler listens at {host}:{port}")

    def warn(problem: str) -> None:
        click.echo(f"warning: {problem}", err=True)

    if files:
        from rayscaler.app import local

        sys.exit(asyncio.run(local.serve(files, settings, tell, warn)))
    if not context.obj:
        raise click.UsageError("give definitions with -f, or a namespace with -n before the command")
    from rayscaler.app import kubernetes

    sys.exit(asyncio.run(kubernetes.serve(NamespaceSettings.from_env(context.obj), settings, tell)))


@cli.command()
@click.option("--cluster", required=True, shell_complete=clusters, help="The cluster's name in its definition.")
@click.option("--gcs", default="127.0.0.1:6379", show_default=True, help="The head's GCS.")
@click.option("--service", default="127.0.0.1:6380", show_default=True, help="The rayscaler service.")
@click.option("--incarnation", default="", help="Which head this is: its reports are refused once another one has taken over.")
@click.option("--ca", type=click.Path(path_type=Path), help="Dial the service over TLS, trusting this authority's certificates (PEM).")
@click.option("--token", type=click.Path(path_type=Path), help="Show the service the token in this file, as it is at each report.")
def monitor(*, cluster: str, gcs: str, service: str, incarnation: str, ca: Path | None, token: Path | None) -> None:
    """Run beside a Ray head: read its demand, report it, carry out commands."""
    from rayscaler.monitor import main as monitor_main

    settings = MonitorSettings(cluster=cluster, gcs=gcs, service=service, incarnation=incarnation, ca=ca, token=token)
    asyncio.run(monitor_main.run(settings))


for command in (up, down, status, explain, validate, plan, simulate, demo, version, completion):
    cli.add_command(command)


def main() -> None:
    """Run the command line; errors of ours end in a sentence, never in a traceback."""
    try:
        cli(prog_name=PROGRAM)
    except InvalidRequest as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(Exit.USAGE)
    except RayscalerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(Exit.FAILED)


if __name__ == "__main__":
    main()
