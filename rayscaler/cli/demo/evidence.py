"""What is seen outside rayscaler: Ray's own node table, the job's own answers, `/proc`, the run directory. Knows nothing of the service."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayscaler.local.command import HEAD

INSTANCE_ENV = b"RAY_CLOUD_INSTANCE_ID="
TMP_MARK = b"RAYSCALER_DEMO="
GCS = "gcs_server"
"""Name of the process that is Ray's head proper."""


@dataclass
class Process:
    """A worker's supervisor, the leader of its session, as `/proc` showed it; wall seconds. `started` in clock ticks since boot."""

    pid: int
    instance: str
    seen_at: float
    gone_at: float | None = None
    started: int = 0


@dataclass
class Head:
    """One life of the head: the pids of its `ray start --head` and of its GCS; wall seconds."""

    pid: int
    gcs_pid: int
    seen_at: float
    gone_at: float | None = None


@dataclass
class Node:
    """A node as Ray's table showed it; wall seconds of this machine."""

    node: str
    instance: str
    node_type: str
    is_head: bool
    seen_at: float
    is_alive: bool = True
    death: str | None = None
    ended_at: float | None = None
    cluster_id: str = ""
    is_busy: bool = False


@dataclass
class Evidence:
    """All that was seen. `mark` is the demo's own mark in the environment of every process it started.

    A new head's cluster has a new id and a table of its own; what the old one's last said of its nodes stays as it was. `job` and
    `answers` are those of the job's last submission, `job_before` those that its head took with it.
    """

    mark: str
    nodes: dict[str, Node] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    heads: dict[int, Head] = field(default_factory=dict)
    recorded: dict[str, float] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    job: list[dict[str, Any]] = field(default_factory=list)
    job_before: list[dict[str, Any]] = field(default_factory=list)
    cluster_id: str = ""

    def take_table(self, reading: dict[str, Any]) -> None:
        """Take one reading of Ray's node table."""
        self.cluster_id = reading["cluster_id"]
        for row in reading["nodes"]:
            fresh = Node(row["node"], row["instance"], row["type"], row["head"], seen_at=reading["at"], cluster_id=self.cluster_id)
            node = self.nodes.setdefault(row["node"], fresh)
            node.is_busy = row["busy"]
            if node.is_alive and not row["alive"]:
                node.is_alive, node.death, node.ended_at = False, row["death"], row["ended_ms"] / 1000

    def take_job(self, line: dict[str, Any]) -> None:
        """Take one line of the job's."""
        self.job.append(line)
        self.answers += line.get("answers", [])

    def begin_job_anew(self) -> None:
        """Set aside what the job has said: it is submitted again."""
        self.job_before, self.job, self.answers = self.job_before + self.job, [], []

    def look_at_processes(self) -> None:
        """Look into `/proc` for the heads and workers of this demo; a worker's first leader is the one that counts."""
        now = time.time()
        alive: set[tuple[str, int, int]] = set()
        gcs_pids: set[int] = set()
        for process, name, parent in marked_leaders(self.mark, now):
            if name == GCS:
                gcs_pids.add(process.pid)
                self.heads.setdefault(process.pid, Head(parent, process.pid, now))
            else:
                alive.add((process.instance, process.pid, process.started))
                self.processes.setdefault(process.instance, process)
        for each in self.processes.values():
            if each.gone_at is None and (each.instance, each.pid, each.started) not in alive:
                each.gone_at = now
        for head in self.heads.values():
            if head.gone_at is None and head.gcs_pid not in gcs_pids:
                head.gone_at = now

    def look_at_records(self, directory: Path) -> None:
        """Look into the run directory: each launch is recorded there before its process is started."""
        for path in directory.glob("*.json"):
            self.recorded.setdefault(path.stem, time.time())

    def workers(self) -> list[Node]:
        """Return every worker node that ever joined the present cluster, in order of joining."""
        found = (each for each in self.nodes.values() if not each.is_head and each.cluster_id == self.cluster_id)
        return sorted(found, key=lambda each: (each.seen_at, each.node))

    def joined(self) -> dict[str, Node]:
        """Return the worker nodes of the present cluster that are alive, by instance."""
        return {each.instance: each for each in self.workers() if each.is_alive}

    def living_heads(self) -> list[Head]:
        """Return the heads that the last look found."""
        return [each for each in self.heads.values() if each.gone_at is None]

    def nodes_of(self, kind: str) -> list[str]:
        """Return the node of each answer of one kind."""
        return [each["node"] for each in self.answers if each["kind"] == kind]


def marked_leaders(mark: str, now: float) -> Iterable[tuple[Process, str, int]]:
    """Yield every live session leader that carries the demo's mark and an instance id, and each GCS; with its name and its parent's pid."""
    for pid, environ, stat in _environs():
        if TMP_MARK + mark.encode() not in environ.split(b"\0"):
            continue
        instance = next((each[len(INSTANCE_ENV) :] for each in environ.split(b"\0") if each.startswith(INSTANCE_ENV)), b"")
        name, fields = stat.partition("(")[2].rpartition(")")[0], stat.rpartition(")")[2].split()
        is_leader = instance not in {b"", HEAD.encode()} and int(fields[3]) == pid
        if is_leader or name == GCS:
            yield Process(pid, instance.decode(), now, started=int(fields[19])), name, int(fields[1])


def marked_pids(mark: str) -> list[int]:
    """Return every live process that carries the demo's mark, this one left out."""
    return [pid for pid, environ, _ in _environs() if TMP_MARK + mark.encode() in environ.split(b"\0") and pid != os.getpid()]


def _environs() -> Iterable[tuple[int, bytes, str]]:
    """Yield pid, environment and stat of every live process of this user's."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
                stat = (entry / "stat").read_text(errors="replace")
            except OSError:
                continue  # ended, or another user's
            if environ and stat.rpartition(")")[2].split()[0] != "Z":
                yield int(entry.name), environ, stat
