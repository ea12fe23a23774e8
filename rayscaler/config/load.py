"""Definitions from files: every problem of a file at once, and what is allowed but hardly meant."""

from dataclasses import dataclass
from pathlib import Path

from rayscaler.config import advice, document, native
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.nodetype import ClusterConfig


@dataclass(frozen=True)
class Checked:
    """A file that was checked: the definition unless there are problems. Warnings are no reason to refuse it."""

    config: ClusterConfig | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


def from_file(path: Path) -> ClusterConfig:
    """Return the definition in a YAML file; raises InvalidRequest naming the file and every problem."""
    checked = check(path)
    if checked.config is None:
        raise InvalidRequest(*(each.inside(str(path)) for each in checked.problems))
    return checked.config


def check(path: Path) -> Checked:
    """Check a file; never raises for what is in it, nor for a file that is not there."""
    try:
        return check_text(path.read_text(encoding="utf-8"))
    except OSError as error:
        return Checked(None, (Problem("", "", f"cannot be read: {error.strerror or error}"),))
    except ValueError as error:  # not UTF-8
        return Checked(None, (Problem("", "", f"cannot be read as text: {error}"),))


def check_text(text: str) -> Checked:
    """Check a definition's text; never raises for what is in it."""
    problems: list[Problem] = []
    try:
        read = document.read(text)
        problems += read.problems
        config = native.cluster(read.content)
    except InvalidRequest as error:
        return Checked(None, (*problems, *error.problems))
    if problems:
        return Checked(None, tuple(problems))
    return Checked(config, warnings=advice.of(config, read.content))
