"""What a plugin of ours has on disk: who it is, the pipes it prints into, and the directory of its socket, all for this user alone.

Knows files; starts and signals nothing. A new process of rayscaler finds here what an earlier one began. Layout: <root>/<name>/plugin.json,
beside it the pipes `stdout` and `stderr`, and the directory `s` of sockets.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rayscaler.plugin.faults import Failure, Fault
from rayscaler.processes import Identity

MARK = "RAYSCALER_PLUGIN_PLACE"
"""Variable that tells a plugin that was started and not noted down from a stranger: the path of its place."""
TEMPORARY = "rayscaler-plugin-"
"""What the directory of a socket begins with where the place itself has too long a path."""
SOCKET_BYTES = 107
"""What a unix socket's path may have."""
SOCKET_NAME_BYTES = 48
"""go-plugin calls its sockets `plugin` and a number of ten digits at most, rayscaler's own half has them in a directory each."""


@dataclass(frozen=True)
class Record:
    """A plugin that was started: `program` is what it was made of, `target` where it listens, "" until it has said so."""

    program: str
    sockets: Path
    identity: Identity | None = None
    target: str = ""


class Place:
    """The files of one plugin."""

    def __init__(self, root: Path, name: str) -> None:
        self.directory = root.absolute() / name
        self.stdout, self.stderr = self.directory / "stdout", self.directory / "stderr"
        self.mark = f"{MARK}={self.directory}"
        self._record = self.directory / "plugin.json"

    def prepare(self) -> Path:
        """Make everything that a plugin needs before its start; return the directory for its socket. Raises Failure."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
            for pipe in (self.stdout, self.stderr):
                pipe.unlink(missing_ok=True)  # what an earlier one printed
                os.mkfifo(pipe, 0o600)
            sockets = self.directory / "s"
            if len(os.fsencode(sockets)) + 1 + SOCKET_NAME_BYTES > SOCKET_BYTES:
                return Path(tempfile.mkdtemp(prefix=TEMPORARY))
            shutil.rmtree(sockets, ignore_errors=True)
            sockets.mkdir(mode=0o700)
        except OSError as error:
            raise _unusable(self.directory, error) from error
        return sockets

    def write(self, record: Record) -> None:
        """Put a record in place of the former one, all or nothing; raises Failure."""
        document = {**asdict(record), "sockets": str(record.sockets)}
        draft = self._record.with_suffix(".new")
        try:
            draft.write_text(json.dumps(document, indent=1))
            draft.replace(self._record)
        except OSError as error:
            raise _unusable(self.directory, error) from error

    def read(self) -> Record | None:
        """Return what was started here last and not removed; None if nothing was, or nothing that can be understood."""
        try:
            document = json.loads(self._record.read_text())
            identity = document["identity"]
            return Record(
                program=str(document["program"]),
                sockets=Path(document["sockets"]),
                identity=None if identity is None else Identity(**identity),
                target=str(document["target"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a process without a record is found by its mark

    def remove(self, record: Record | None) -> None:
        """Forget what was started here; `record` says where its socket was."""
        with contextlib.suppress(OSError):  # then it is read again, and its process is not there
            self._record.unlink()
        if record is not None and record.sockets.parent == Path(tempfile.gettempdir()) and record.sockets.name.startswith(TEMPORARY):
            shutil.rmtree(record.sockets, ignore_errors=True)  # nothing but what `prepare` makes, whatever somebody wrote into the record
        shutil.rmtree(self.directory, ignore_errors=True)


def program(argv: Sequence[str]) -> str:
    """Return what a command is made of: another line, or another file under the same name, is another plugin and is not adopted."""
    parts = []
    for word in argv:
        with contextlib.suppress(OSError, ValueError):
            seen = Path(word).stat()
            word = f"{word}\0{seen.st_dev}:{seen.st_ino}:{seen.st_size}:{seen.st_mtime_ns}"  # noqa: PLW2901 - the same word, with what it names
        parts.append(word)
    return hashlib.sha256("\0\0".join(parts).encode(errors="surrogateescape")).hexdigest()


def _unusable(directory: Path, error: OSError) -> Failure:
    return Failure(Fault.HOST, f"{directory} cannot be used for its files: {error.strerror}; make room, or set another state directory")
