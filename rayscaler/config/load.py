"""Definitions and demand from files."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

from rayscaler.config import demandfile, native
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import ClusterConfig

_T = TypeVar("_T")


def from_file(path: Path) -> ClusterConfig:
    """Return the definition in a YAML file; raises InvalidRequest naming the file and every problem."""
    return _read(path, native.cluster)


def demand_from_file(path: Path, config: ClusterConfig) -> demandfile.Wanted:
    """Return the demand in a YAML file, for a definition; raises InvalidRequest naming the file and every problem."""
    return _read(path, lambda document: demandfile.wanted(document, config))


def _read(path: Path, of_document: Callable[[object], _T]) -> _T:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML's own constructors raise all of these, such as ValueError for the date 2024-13-01.
        raise InvalidRequest(f"{path}: cannot be read as YAML: {error}") from error
    try:
        return of_document(document)
    except InvalidRequest as error:
        raise InvalidRequest(*(f"{path}: {problem}" for problem in error.problems)) from error
