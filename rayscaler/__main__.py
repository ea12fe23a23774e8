"""argv becomes settings, settings become a running process."""

import asyncio
import logging
import sys
from pathlib import Path

import click
import structlog

from rayscaler import __version__
from rayscaler.cli.demo.command import demo
from rayscaler.cli.plan.command import plan
from rayscaler.cli.status import status
from rayscaler.cli.up.command import down, up
from rayscaler.config import load
from rayscaler.errors import InvalidRequest, RayscalerError
from rayscaler.settings import MonitorSettings, ServiceSettings

USAGE = 2
"""Exit code for input that the caller must change."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="rayscaler")
def cli() -> None:
    """Scale Ray clusters from outside the head."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


@cli.command()
@click.option("-f", "--file", "files", multiple=True, required=True, type=click.Path(path_type=Path), help="Definition; repeatable.")
@click.option("--listen", help="Address to serve at; default 127.0.0.1:6380, or RAYSCALER_LISTEN.")
@click.option("--state-dir", type=click.Path(path_type=Path), help="Where records and local workers are kept; default ~/.rayscaler.")
def serve(files: tuple[Path, ...], listen: str | None, state_dir: Path | None) -> None:
    """Run the service."""
    from rayscaler import app

    settings = ServiceSettings.from_env(listen=listen, state_dir=state_dir)
    configs = [load.from_file(each) for each in files]
    names = [each.name for each in configs]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"metadata.name: {name!r}: two definitions have this name; names are unique")
    address = settings.listen.rpartition(":")[0]
    sys.exit(asyncio.run(app.serve(configs, settings, lambda port: click.echo(f"rayscaler listens at {address}:{port}"))))


@cli.command()
@click.option("--cluster", required=True, help="The cluster's name in its definition.")
@click.option("--gcs", default="127.0.0.1:6379", show_default=True, help="The head's GCS.")
@click.option("--service", default="127.0.0.1:6380", show_default=True, help="The rayscaler service.")
@click.option("--incarnation", default="", help="Which head this is: its reports are refused once another one has taken over.")
def monitor(cluster: str, gcs: str, service: str, incarnation: str) -> None:
    """Run beside a Ray head: read its demand, report it, carry out commands."""
    from rayscaler.monitor import main as monitor_main

    asyncio.run(monitor_main.run(MonitorSettings(cluster=cluster, gcs=gcs, service=service, incarnation=incarnation)))


cli.add_command(demo)
cli.add_command(plan)
cli.add_command(status)
cli.add_command(up)
cli.add_command(down)


def main() -> None:
    """Run the command line; errors of ours end in a sentence, never in a traceback."""
    try:
        cli()
    except InvalidRequest as error:
        for problem in error.problems:
            click.echo(f"error: {problem}", err=True)
        sys.exit(USAGE)
    except RayscalerError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
