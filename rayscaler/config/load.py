"""Definitions from files."""

from pathlib import Path

import yaml

from rayscaler.config import native
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import ClusterConfig


def from_file(path: Path) -> ClusterConfig:
    """Return the definition in a YAML file; raises InvalidRequest naming the file and every problem."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        # PyYAML's own constructors raise all of these, such as ValueError for the date 2024-13-01.
        raise InvalidRequest(f"{path}: cannot be read as YAML: {error}") from error
    try:
        return native.cluster(document)
    except InvalidRequest as error:
        raise InvalidRequest(*(f"{path}: {problem}" for problem in error.problems)) from error
