"""The node type that a run launches: of a file with nothing else in it, or of a definition; a small one unless said otherwise."""

from pathlib import Path
from typing import Any

from rayscaler.config import document, native
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.nodetype import NodeType

SMALL = {"name": "conformance", "resources": {"CPU": 1}}
"""Launched where no file is given."""


def chosen(path: Path | None, name: str, executor: object) -> NodeType:
    """Return the node type in a file, or the one called `name` of a definition there, for this executor; raises InvalidRequest."""
    try:
        content = SMALL if path is None else document.read(path.read_text(encoding="utf-8")).content
        config = native.cluster(_definition(content, executor))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path}: cannot be read: {error}") from error
    except InvalidRequest as error:
        raise InvalidRequest(*(each.inside(str(path)) for each in error.problems)) if path else error from error
    found = [each for each in config.node_types if not name or each.name == name]
    if len(found) == 1:
        return found[0]
    names = ", ".join(each.name for each in config.node_types) or "none"
    raise InvalidRequest(Problem("--type", repr(name), f"must be the name of one of its node types: {names}").inside(str(path)))


def _definition(content: object, executor: object) -> Any:
    """Return a definition with this executor: the file's own, or one around its node type."""
    if isinstance(content, dict) and isinstance(content.get("spec"), dict):
        return {**content, "spec": {**content["spec"], "executor": executor}}
    return {
        "apiVersion": native.API_VERSION,
        "kind": "Cluster",
        "metadata": {"name": "conformance"},
        "spec": {"executor": executor, "nodeTypes": [content]},
    }
