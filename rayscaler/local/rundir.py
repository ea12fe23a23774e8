"""The run directory: one small record per local instance, so that a new process of rayscaler knows what an earlier one began.

Knows files; starts and signals nothing. Layout: <root>/<cluster>/<instance_id>.json, beside it <instance_id>.log and a socket;
<root>/<cluster>.lock is held by a worker that starts.
"""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rayscaler.errors import InvalidRequest, Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import spec_document, spec_from, spec_hash
from rayscaler.model.resources import Resources
from rayscaler.processes import Identity

FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""What may become a file's name: no separators, nothing hidden, below the 255 bytes of file systems."""
LOGS_KEPT = 50
"""Logs of dead workers kept per cluster, for those who ask why."""


@dataclass(frozen=True)
class Record:
    """One instance: `identity` is None from the intent to launch until the process runs, `resized` while it is to bring what it was launched with."""

    spec: LaunchSpec
    log_path: Path
    identity: Identity | None = None
    is_ending: bool = False
    resized: Resources | None = None

    @property
    def spec_hash(self) -> str:
        """What tells one spec from another."""
        return spec_hash(self.spec)


class RunDir:
    """The records of all clusters under one root."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()

    def log_path(self, cluster: str, instance_id: str) -> Path:
        """Return where the output of an instance goes; raises InvalidRequest for names that are no file names."""
        return self._path(cluster, instance_id, "log")

    def socket_path(self, cluster: str, instance_id: str) -> Path:
        """Return where the supervisor of an instance answers: a short name, for an id may be longer than a socket's can be."""
        return self._directory(cluster) / f"{hashlib.sha256(instance_id.encode()).hexdigest()[:16]}.sock"

    def lock_path(self, cluster: str) -> Path:
        """Return what workers of a cluster hold while they start."""
        _check_name("cluster", cluster)
        return self.root / f"{cluster}.lock"

    def write(self, record: Record) -> None:
        """Put a record in place of the former one, all or nothing, also in a power cut; raises Unavailable."""
        path = self._path(record.spec.cluster, record.spec.instance_id, "json")
        draft = path.with_suffix(".new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w") as file:
                json.dump(_document(record), file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
            _sync_directory(path.parent)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror}; make room or set another state directory") from error

    def remove(self, record: Record, *, keep_log: bool) -> None:
        """Forget an instance; the newest LOGS_KEPT logs of those that died by themselves stay."""
        path = self._path(record.spec.cluster, record.spec.instance_id, "json")
        path.unlink(missing_ok=True)
        self.socket_path(record.spec.cluster, record.spec.instance_id).unlink(missing_ok=True)
        if not keep_log:
            record.log_path.unlink(missing_ok=True)
            return
        logs = [log for log in path.parent.glob("*.log") if not log.with_suffix(".json").exists()]
        for log in sorted(logs, key=lambda each: each.stat().st_mtime, reverse=True)[LOGS_KEPT:]:
            log.unlink(missing_ok=True)

    def read(self, cluster: str) -> list[Record]:
        """Read every record of a cluster; raises Unavailable rather than leave one out."""
        return [_read(path) for path in sorted(self._directory(cluster).glob("*.json"))]

    def clusters(self) -> list[str]:
        """Return the clusters that have a directory here."""
        return sorted(path.name for path in self.root.iterdir() if path.is_dir()) if self.root.is_dir() else []

    def _directory(self, cluster: str) -> Path:
        _check_name("cluster", cluster)
        return self.root / cluster

    def _path(self, cluster: str, instance_id: str, kind: str) -> Path:
        _check_name("instance_id", instance_id)
        return self._directory(cluster) / f"{instance_id}.{kind}"


def _check_name(path: str, name: str) -> None:
    if not FILE_NAME.fullmatch(name):
        raise InvalidRequest(f"{path}: {name!r}: must be letters, digits, '-', '_' and '.', not start with '.', 200 characters at most")


def _sync_directory(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _document(record: Record) -> dict[str, Any]:
    return {
        "spec_hash": record.spec_hash,
        "spec": spec_document(record.spec),
        "log_path": str(record.log_path),
        "identity": None if record.identity is None else asdict(record.identity),
        "is_ending": record.is_ending,
        **({} if record.resized is None else {"resized": record.resized.amounts}),
    }


def _read(path: Path) -> Record:
    try:
        document = json.loads(path.read_text())
        identity = document["identity"]
        return Record(
            spec=spec_from(document["spec"]),
            log_path=Path(document["log_path"]),
            identity=None if identity is None else Identity(**identity),
            is_ending=document["is_ending"],
            resized=Resources(document["resized"]) if "resized" in document else None,
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unavailable(f"{path} is not readable as a record ({error}); end its process by hand and remove the file") from error
