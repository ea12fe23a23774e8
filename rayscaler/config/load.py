"""Files become definitions and demand: every problem of a file at once, and what is allowed but hardly meant."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rayscaler.config import advice, demandfile, document, executors, manifest, native
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.nodetype import ClusterConfig

_T = TypeVar("_T")


@dataclass(frozen=True)
class Checked:
    """A file that was checked: the definition, or the demand, unless there are problems. Warnings are no reason to refuse it."""

    config: ClusterConfig | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()
    demand: demandfile.Wanted | None = None
    is_demand: bool = False
    """Whether it was taken for a demand file."""


def from_file(path: Path) -> ClusterConfig:
    """Return the definition in a YAML file; raises InvalidRequest naming the file and every problem."""
    return _config(path, check(path))


def with_text(path: Path) -> tuple[str, ClusterConfig, tuple[Problem, ...]]:
    """Return a YAML file's text, the definition in it and its warnings; raises InvalidRequest naming the file and every problem."""
    try:
        text = _text(path)
    except InvalidRequest as error:
        raise _of_file(path, error.problems) from error
    checked = check_text(text)
    return text, _config(path, checked), checked.warnings


def from_content(path: Path | str, content: bytes, executor: str = executors.LOCAL) -> tuple[ClusterConfig, tuple[Problem, ...]]:
    """Return the definition in what was read from a place, such as a file, and its warnings.

    Raises InvalidRequest naming the place and every problem.
    """
    try:
        text = content.decode()
    except ValueError as error:
        raise _of_file(path, (Problem("", "", f"cannot be read as text: {error}"),)) from error
    checked = check_text(text, executor)
    return _config(path, checked), checked.warnings


def name_in(content: bytes) -> str | None:
    """Return the cluster's name in what may be no good definition at all; None where no name can be read."""
    try:
        return native.name_in(document.read(content.decode()).content)
    except (ValueError, InvalidRequest):
        return None


def _config(path: Path | str, checked: Checked) -> ClusterConfig:
    if checked.config is None:
        raise _of_file(path, checked.problems)
    return checked.config


def demand_from_file(path: Path, config: ClusterConfig) -> demandfile.Wanted:
    """Return the demand in a YAML file, for a definition; raises InvalidRequest naming the file and every problem."""
    checked = _check_demand(path, config)
    if checked.demand is None:
        raise _of_file(path, checked.problems)
    return checked.demand


def check_all(paths: Iterable[Path]) -> dict[Path, Checked]:
    """Check definitions, also in manifests of ConfigMaps, and demand files; never raises for what is in them.

    The demand is of the definition among them; where that is not exactly one good one, nothing is said of the nodes' types.
    """
    files = list(paths)
    demands = {path for path in files if _is_demand(path)}
    checked = {path: _check_manifest(path) or check(path) for path in files if path not in demands}
    config = next(iter(checked.values())).config if len(checked) == 1 else None
    return {path: _check_demand(path, config) if path in demands else checked[path] for path in files}


def _is_demand(path: Path) -> bool:
    try:
        return demandfile.is_demand(document.read(_text(path)).content)
    except InvalidRequest:
        return False


def _check_demand(path: Path, config: ClusterConfig | None) -> Checked:
    try:
        _, made = _read(_text(path), lambda content: demandfile.wanted(content, config))
    except InvalidRequest as error:
        return Checked(None, error.problems, is_demand=True)
    return Checked(None, (), _untested(made, config), made, is_demand=True)


def _untested(wanted: demandfile.Wanted, config: ClusterConfig | None) -> tuple[Problem, ...]:
    rule = "node types are not checked: give the one definition that they are of as well"
    return (Problem("nodes", "", rule),) if wanted.nodes and config is None else ()


def check(path: Path) -> Checked:
    """Check a file; never raises for what is in it, nor for a file that is not there."""
    try:
        return check_text(_text(path))
    except InvalidRequest as error:
        return Checked(None, error.problems)


def check_text(text: str, executor: str = executors.LOCAL) -> Checked:
    """Check a definition's text for a service that has this executor; never raises for what is in it."""
    try:
        content, config = _read(text, lambda content: native.cluster(content, executor))
    except InvalidRequest as error:
        return Checked(None, error.problems)
    return Checked(config, warnings=advice.of(config, content))


def _check_manifest(path: Path) -> Checked | None:
    """Check the definition in a ConfigMap's manifest; None if the file is none."""
    try:
        read = document.read(_text(path))
    except InvalidRequest:
        return None
    try:
        found = manifest.definition(read.content)
    except InvalidRequest as error:
        return Checked(None, (*read.problems, *error.problems))
    if found is None:
        return None
    checked = check_text(found.text, executors.KUBERNETES)
    problems = [*read.problems, *(each.inside(found.place) for each in checked.problems)]
    if checked.config is not None and checked.config.name != found.name:
        rule = f"must be {found.name}, as the ConfigMap is called"
        problems.append(Problem("metadata.name", repr(checked.config.name), rule).inside(found.place))
    warnings = tuple(each.inside(found.place) for each in checked.warnings)
    return Checked(None if problems else checked.config, tuple(problems), warnings)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidRequest(Problem("", "", f"cannot be read: {error.strerror or error}")) from error
    except ValueError as error:  # not UTF-8
        raise InvalidRequest(Problem("", "", f"cannot be read as text: {error}")) from error


def _read(text: str, make: Callable[[object], _T]) -> tuple[Any, _T]:
    """Return a text's document and what is made of it; raises InvalidRequest with the problems of both."""
    read = document.read(text)
    try:
        made = make(read.content)
    except InvalidRequest as error:
        raise InvalidRequest(*read.problems, *error.problems) from error
    if read.problems:
        raise InvalidRequest(*read.problems)
    return read.content, made


def _of_file(path: Path | str, problems: tuple[Problem, ...]) -> InvalidRequest:
    return InvalidRequest(*(each.inside(str(path)) for each in problems))
