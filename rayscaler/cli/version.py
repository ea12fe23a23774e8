"""`rayscaler version`: what to name in a report of a fault."""

import importlib.metadata
import json
import platform

import click
from rich.console import Console
from rich.table import Table

from rayscaler import __version__
from rayscaler.api.head.v1 import head_pb2


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def version(as_json: bool) -> None:
    """Show the versions of rayscaler, Python, the protocol, and Ray where it is installed beside rayscaler."""
    found = {"rayscaler": __version__, "python": platform.python_version(), "protocol": head_pb2.DESCRIPTOR.package, "ray": _ray()}
    if as_json:
        click.echo(json.dumps(found))
        return
    table = Table.grid(padding=(0, 2))
    for name, text in found.items():
        table.add_row(name, text or "not installed here")
    Console(highlight=False).print(table)


def _ray() -> str | None:
    """Return the version of the installed Ray without importing it."""
    try:
        return importlib.metadata.version("ray")
    except importlib.metadata.PackageNotFoundError:
        return None
