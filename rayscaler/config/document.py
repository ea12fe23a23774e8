"""The text of a file becomes one document: faults of YAML with line and column, keys that stand there twice, text that cannot be written.

PyYAML's own loader lets the last of two equal keys win without a word, and takes an empty file for a document that says null. It is read
with libyaml, several times faster, as the service reads definitions between two renewals of its Lease; what libyaml refuses is judged, and
its fault told, by PyYAML's own loader.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from yaml.composer import Composer

from rayscaler.config import shown
from rayscaler.errors import InvalidRequest, Problem

_BROKEN = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError)
"""PyYAML's own constructors raise all of these, such as ValueError for the date 2024-13-01."""
_HALF = re.compile("[\ud800-\udfff]")
_NULL = "tag:yaml.org,2002:null"


if yaml.__with_libyaml__:

    class _Fast(Composer, yaml.CSafeLoader):
        """Scanned and parsed by libyaml, composed in Python: in C that recurses without a limit, and a text of many `[` ends the process."""

        def __init__(self, text: str) -> None:
            Composer.__init__(self)
            yaml.CSafeLoader.__init__(self, text)

    _LOADERS: tuple[type[yaml.SafeLoader | yaml.CSafeLoader], ...] = (_Fast, yaml.SafeLoader)
else:
    _LOADERS = (yaml.SafeLoader,)


@dataclass(frozen=True)
class Document:
    """What a text says, and what is wrong with it: of keys that stand there twice the last one is what `content` has."""

    content: Any
    problems: tuple[Problem, ...]


def read(text: str) -> Document:
    """Return the one document in `text`; raises InvalidRequest when it is not YAML, or not one document."""
    for loader in _LOADERS:
        try:
            return _read(loader(text))
        except _BROKEN as error:
            fault = error
    raise InvalidRequest(_unreadable(text, fault)) from fault


def _read(loader: yaml.SafeLoader | yaml.CSafeLoader) -> Document:
    try:
        node = _only(loader)
        problems = tuple(_problems("", node, set()))
        return Document(loader.construct_document(node), problems)
    finally:
        loader.dispose()


def _only(loader: yaml.SafeLoader | yaml.CSafeLoader) -> yaml.Node:
    """Return the document of a stream that has one; empty ones, as a `---` at the end makes, do not count."""
    found: list[yaml.Node] = []
    while loader.check_node():
        node = loader.get_node()
        if node is not None and not (isinstance(node, yaml.ScalarNode) and node.tag == _NULL and not node.value):
            found.append(node)
    if not found:
        raise InvalidRequest(Problem("", "", "is empty; there must be one document"))
    if len(found) > 1:
        where = f"line {found[1].start_mark.line + 1}"
        raise InvalidRequest(Problem(where, "", f"the second of {len(found)} documents begins here; put each into a file of its own"))
    return found[0]


def _problems(path: str, node: yaml.Node, seen: set[int]) -> Iterator[Problem]:
    """Yield each key that a mapping has twice, and each text with half a character; what aliases show again is looked at once."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
        yield Problem(
            path,
            shown.value(node.value),
            "has half a character, a surrogate, which no file, flag or message can carry; write the whole one",
        )
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            yield from _problems(f"{path}[{index}]", item, seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            where, line, what = shown.under(path, key.value), key.start_mark.line + 1, (key.tag, key.value)
            if what in lines:
                yield Problem(where, shown.value(key.value), f"stands in line {lines[what]} and again in line {line}; keys are unique")
            lines.setdefault(what, line)
            yield from _problems(where, key, seen)
            yield from _problems(where, value, seen)


def _unreadable(text: str, error: Exception) -> Problem:
    """Say where a text stops being YAML, with the line that stands there, and why."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    if mark is None:
        why = "is nested too deeply" if isinstance(error, RecursionError) else str(error).partition("\n")[0]
        return Problem("", "", f"cannot be read as YAML: {why}")
    context = getattr(error, "context", None)
    line = next(iter(text.splitlines()[mark.line : mark.line + 1]), "")
    reason = getattr(error, "problem", None) or "something is missing here"
    return Problem(
        f"line {mark.line + 1}, column {mark.column + 1}",
        shown.value(line),
        f"cannot be read as YAML: {f'{context}: ' if context else ''}{reason}",
    )
