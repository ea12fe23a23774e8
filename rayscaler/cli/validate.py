"""`rayscaler validate`: every problem of every file, before anything is started with it."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from rayscaler.cli.exits import Exit
from rayscaler.config import load
from rayscaler.config.load import Checked
from rayscaler.errors import Problem
from rayscaler.model.words import counted

_STYLE = {"good": "green", "error": "bold red", "warning": "yellow"}


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def validate(files: tuple[Path, ...], as_json: bool) -> None:
    """Check definitions and demand files: every problem of every file with its path, value and rule. Warnings are no reason to refuse.

    A file is a demand file if it has demands, gangs, constraints or nodes, and no kind. Its node types are those of the definition that is
    checked with it.
    """
    checked = {str(path): each for path, each in load.check_all(files).items()}
    if as_json:
        click.echo(json.dumps({"files": [_told(file, each) for file, each in checked.items()]}))
    else:
        console = Console(highlight=False)
        for file, each in checked.items():
            for line in _lines(file, each):
                console.print(line, soft_wrap=True)
    sys.exit(Exit.USAGE if any(each.problems for each in checked.values()) else Exit.DONE)


def _told(file: str, checked: Checked) -> dict[str, Any]:
    return {
        "file": file,
        "kind": "demand" if checked.is_demand else "cluster",
        "cluster": None if checked.config is None else checked.config.name,
        "problems": [asdict(each) for each in checked.problems],
        "warnings": [asdict(each) for each in checked.warnings],
    }


def _lines(file: str, checked: Checked) -> Iterator[Text]:
    if checked.config is not None:
        kinds = ", ".join(each.name for each in checked.config.node_types) or "none"
        yield _line("good", Problem(file, "", f"cluster {checked.config.name}, node types: {kinds}"))
    if checked.demand is not None:
        entries = (
            ", ".join(counted(len(found), name.removesuffix("s")) for name, found in vars(checked.demand).items() if found) or "nothing"
        )
        yield _line("good", Problem(file, "", f"demand file: {entries}"))
    for kind, problems in (("error", checked.problems), ("warning", checked.warnings)):
        for each in problems:
            yield _line(kind, each.inside(file))


def _line(kind: str, problem: Problem) -> Text:
    """Return `kind: path: value: rule` in colours."""
    parts = [(f"{kind}", _STYLE[kind]), (problem.path, "bold"), (problem.value, "cyan"), (problem.rule, "")]
    return Text(": ").join(Text(text, style) for text, style in parts if text)
