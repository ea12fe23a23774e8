"""A definition's file, looked at again and again: what it has become, once it stays so. Knows no cluster and no clock.

Whoever writes it may replace it by a rename, swap a symbolic link, or empty it and write it anew. So the contents are compared, not
times or inodes, and an edit counts once two looks at some distance in time found the same: a file that is being written may look whole
half-way, and half a definition would end half of the workers.
"""

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rayscaler.config import executors, load
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import ClusterConfig

MOST_BYTES = 1 << 20
"""A definition of a thousand node types has 200 KB; more than this is another file, and reading it would hold everything up."""


def content_hash(content: bytes) -> str:
    """Return what tells one text of a definition from another."""
    return hashlib.sha256(content).hexdigest()[:16]


@dataclass(frozen=True)
class Definition:
    """A good definition, its text as it was read, the hash of that, and what somebody should look at in it all the same."""

    config: ClusterConfig
    content: bytes
    warnings: tuple[str, ...] = ()

    @property
    def content_hash(self) -> str:
        """What tells its text from another."""
        return content_hash(self.content)


class DefinitionFile:
    """A file with a definition; `first` is what it is to begin with, `problems` why that is not what the file says.

    `seen` is what was in the file at the beginning, as `first_look` has it.
    """

    def __init__(self, path: Path, seen: bytes | str, first: Definition, problems: tuple[str, ...] = ()) -> None:
        self.path = path
        self.first = first
        self.problems = problems
        self._judged = seen
        self._seen = seen
        self._seen_since = 0.0

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and check a file; raises InvalidRequest naming it and every problem."""
        seen = first_look(path)
        return cls(path, seen, judged(path, seen))

    @property
    def can_change(self) -> bool:
        """Whether a second look can find anything: a pipe is read once. A file that is bad to begin with is waited for."""
        return bool(self.problems) or self.path.is_file()

    def look(self, now: float, steady_s: float) -> Definition | None:
        """Return what the file has become, once it has been so for `steady_s`; None while there is nothing new.

        Raises InvalidRequest, once for each content, when that cannot be put in force. `now` is in seconds of any clock that only grows.
        """
        seen = _content(self.path)
        if seen != self._seen:
            self._seen, self._seen_since = seen, now
        if seen == self._judged or now - self._seen_since < steady_s:
            return None
        self._judged = seen
        found = judged(self.path, seen)
        self._check_same(found.config)
        return found

    def _check_same(self, config: ClusterConfig) -> None:
        """Refuse what makes it the definition of something else."""
        kept = (
            ("metadata.name", config.name, self.first.config.name),
            ("spec.executor", config.executor, self.first.config.executor),
            ("spec.executor.exec", list(config.command), list(self.first.config.command)),
        )
        rule = "while the service runs; put it back, or start a service anew for another one"
        problems = [f"{self.path}: {path}: {now!r}: must stay {first!r} {rule}" for path, now, first in kept if now != first]
        if problems:
            raise InvalidRequest(*problems)


def first_look(path: Path) -> bytes | str:
    """Return what is in a file, or, as text, why it cannot be known; of a pipe all that its writer writes."""
    try:
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"


def judged(path: Path | str, seen: bytes | str, executor: str = executors.LOCAL) -> Definition:
    """Return the definition in what was seen in a place, such as a file; raises InvalidRequest naming the place and every problem."""
    if isinstance(seen, str):
        raise InvalidRequest(f"{path}: {seen}")
    config, warnings = load.from_content(path, seen, executor)
    return Definition(config, seen, tuple(str(each.inside(str(path))) for each in warnings))


def _content(path: Path) -> bytes | str:
    """Return what is in a file, or, as text, why it cannot be known. Never waits, also not for the writer of a pipe."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return "is not a file any more"
            content = os.read(fd, MOST_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return content if len(content) <= MOST_BYTES else f"is larger than {MOST_BYTES >> 10} KiB, as no definition is"
