"""What a service starts with: each definition as its file says, or, where that is bad, as it was good last (CD-9)."""

import os
from collections.abc import Iterable
from pathlib import Path

from rayscaler.config import load
from rayscaler.config.file import Definition, DefinitionFile, first_look, judged
from rayscaler.errors import InvalidRequest, Problem, Unavailable
from rayscaler.store.base import Definitions


def source(path: Path) -> str:
    """Return what a file's last good text is kept under: its path from the root. Links stay: kubelet makes each edit another target."""
    return os.path.normpath(path.absolute())


async def opened(paths: Iterable[Path], kept: Definitions) -> list[DefinitionFile]:
    """Return a definition per file; raises InvalidRequest with every problem of all files when one has none to start with."""
    found: list[DefinitionFile] = []
    problems: list[Problem] = []
    for path in paths:
        try:
            found.append(await _opened(path, kept))
        except InvalidRequest as error:
            problems += error.problems
    names = [each.first.config.name for each in found]
    problems += [
        Problem("metadata.name", repr(name), "two definitions have this name; names are unique")
        for name in dict.fromkeys(names)
        if names.count(name) > 1
    ]
    if problems:
        raise InvalidRequest(*problems)
    return found


async def _opened(path: Path, kept: Definitions) -> DefinitionFile:
    seen = first_look(path)
    try:
        return DefinitionFile(path, seen, judged(path, seen))
    except InvalidRequest as error:
        last = await _last_good(path, kept, error.problems)
        named = None if isinstance(seen, str) else load.name_in(seen)
        if last is None or named not in {None, last.config.name}:  # a file that names another cluster stands for that one
            raise
        return DefinitionFile(path, seen, last, tuple(map(str, error.problems)))


async def _last_good(path: Path, kept: Definitions, problems: tuple[Problem, ...]) -> Definition | None:
    """Return what was good last in a file that has problems now; None if nothing ever was.

    Raises InvalidRequest with them and why the text cannot be had, or is not good any more: this version may be stricter than the last.
    """
    try:
        text = await kept.last_good(source(path))
        return None if text is None else judged(path, text.encode())
    except InvalidRequest as error:
        stale = (Problem(f"{path}, as it was good last: {_within(path, each)}", each.value, each.rule) for each in error.problems)
        raise InvalidRequest(*problems, *stale) from error
    except Unavailable as error:
        raise InvalidRequest(*problems, Problem(str(path), "", f"no last good one can be had: {error}")) from error


def _within(path: Path, problem: Problem) -> str:
    return problem.path.removeprefix(f"{path}: ")
