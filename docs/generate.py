"""python docs/generate.py [--check]: writes docs/reference.md from schema and code, or fails when it is stale.

Owns the order and the headings; every sentence comes from where its rule lives.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from rayscaler import errors, settings
from rayscaler.cli import exits
from rayscaler.lifecycle import table
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.reasons import MEANINGS, MOVERS

HERE = Path(__file__).parent
TARGET = HERE / "reference.md"
SCHEMA = json.loads((HERE.parent / "schema/cluster.schema.json").read_text())
TOP = """# Reference

Made by `make docs` from `schema/` and the code; a test fails when it is stale.

- [Definition](#definition) · [Statuses](#statuses) · [Reasons](#reasons) · [Errors](#errors) · [Exit codes](#exit-codes) · [Durations](#durations)
"""


def text() -> str:
    """Return the whole page."""
    parts = [TOP, definition(), statuses(), reasons(), error_table(), exit_codes(), durations()]
    return "\n".join(each.rstrip() + "\n" for each in parts)


def rows(heads: tuple[str, ...], body: Iterator[tuple[str, ...]]) -> str:
    """Return a table."""
    lines = [heads, ("---",) * len(heads), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines)


def definition() -> str:
    """Return every field of a definition, as its schema says."""
    return "## Definition\n\n" + rows(("field", "type", "default", "meaning"), walk("", SCHEMA))


def walk(path: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    """Yield the row of each field below a schema, depth first."""
    for name, raw in resolved(schema).get("properties", {}).items():
        where, found = f"{path}.{name}".lstrip("."), resolved(raw)
        default = json.dumps(found["default"]) if "default" in found else ""
        yield f"`{where}`", kind(found), f"`{default}`" if default else "", found.get("description", "")
        yield from walk(where, found)
        if "items" in found:
            yield from walk(f"{where}[]", found["items"])


def resolved(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference within the schema; what stands beside it wins."""
    found = dict(schema)
    while "$ref" in found:
        target: Any = SCHEMA
        for part in found.pop("$ref").removeprefix("#/").split("/"):
            target = target[part]
        found = {**target, **found}
    return found


def kind(schema: Mapping[str, Any]) -> str:
    """Return what a field holds, in a word or two."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return " or ".join(f"`{json.dumps(each)}`" for each in schema["enum"] if each is not None)
    if "anyOf" in schema or "oneOf" in schema:
        found = [kind(resolved(each)) for each in schema.get("anyOf", schema.get("oneOf", ()))]
        return " or ".join(dict.fromkeys(each for each in found if each))
    kinds = schema.get("type", "")
    return " or ".join(each for each in ([kinds] if isinstance(kinds, str) else kinds) if each != "null")


def statuses() -> str:
    """Return the statuses and the edges between them."""
    head = "## Statuses\n\nOf an instance, from request to end: " + ", ".join(f"`{each.value}`" for each in InstanceStatus) + ".\n\n"
    edges = ((f"`{at.value}`", fact.value, f"`{to.value}`") for (at, fact), to in table.EDGES.items())
    return head + rows(("status", "fact", "next status"), edges)


def reasons() -> str:
    """Return every reason with its meaning and whose move it is."""
    movers = "\n".join(f"- **{mover.value}**: {said.partition(': ')[2] or said}" for mover, said in MOVERS.items())
    body = ((f"`{each.value}`", MEANINGS[each].text, MEANINGS[each].mover.value) for each in Reason)
    return f"## Reasons\n\nWhat `rayscaler status` and `rayscaler explain` name. Whose move it is:\n\n{movers}\n\n" + rows(
        ("reason", "meaning", "whose move"), body
    )


def error_table() -> str:
    """Return the errors of all protocols."""
    classes = sorted((each for each in vars(errors).values() if is_error(each)), key=lambda each: each.code)
    body = ((f"`{each.__name__}`", f"`{each.code}`", each.retry.value, inspect.getdoc(each) or "") for each in classes)
    return "## Errors\n\n" + rows(("error", "gRPC code", "tried again", "meaning"), body)


def is_error(found: object) -> bool:
    """Whether it is a class of error that crosses a door."""
    return isinstance(found, type) and issubclass(found, errors.RayscalerError) and found is not errors.RayscalerError


def exit_codes() -> str:
    """Return what the exit codes of all commands mean."""
    return "## Exit codes\n\n" + rows(("code", "meaning"), ((f"`{code.value}`", said) for code, said in exits.MEANING.items()))


def durations() -> str:
    """Return the durations of the service: each field's own docstring, from the source."""
    (made,) = [each for each in ast.parse(inspect.getsource(settings)).body if isinstance(each, ast.ClassDef) and each.name == "Timings"]
    told: dict[str, str] = {}
    for field, after in zip(made.body, [*made.body[1:], ast.Pass()], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            is_told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            told[field.target.id] = str(after.value.value) if is_told else ""
    body = ((f"`{each.name}`", f"{each.default:g} s", told[each.name]) for each in fields(settings.Timings))
    return "## Durations\n\nOf the service; `RAYSCALER_TIME_FACTOR` divides them all.\n\n" + rows(("duration", "default", "meaning"), body)


def main(args: list[str]) -> int:
    """Write the page, or compare it."""
    made = text()
    if args == ["--check"]:
        return 0 if TARGET.read_text() == made else 1
    TARGET.write_text(made)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
