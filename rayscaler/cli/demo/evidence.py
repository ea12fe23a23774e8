"""What is seen outside rayscaler: Ray's own node table, the job's own answers, `/proc`. Knows nothing of the service."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rayscaler.local.command import HEAD

INSTANCE_ENV = b"RAY_CLOUD_INSTANCE_ID="
TMP_MARK = b"RAYSCALER_DEMO="


@dataclass
class Process:
    """A worker's leader process as `/proc` showed it; wall seconds."""

    pid: int
    instance: str
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


@dataclass
class Evidence:
    """All that was seen. `mark` is the demo's own mark in the environment of every process it started."""

    mark: str
    nodes: dict[str, Node] = field(default_factory=dict)
    processes: dict[str, Process] = field(default_factory=dict)
    answers: list[dict[str, Any]] = field(default_factory=list)
    job: list[dict[str, Any]] = field(default_factory=list)
    cluster_id: str = ""

    def take_table(self, reading: dict[str, Any]) -> None:
        """Take one reading of Ray's node table."""
        self.cluster_id = reading["cluster_id"]
        for row in reading["nodes"]:
            node = self.nodes.setdefault(row["node"], Node(row["node"], row["instance"], row["type"], row["head"], seen_at=reading["at"]))
            if node.is_alive and not row["alive"]:
                node.is_alive, node.death, node.ended_at = False, row["death"], row["ended_ms"] / 1000

    def take_job(self, line: dict[str, Any]) -> None:
        """Take one line of the job's."""
        self.job.append(line)
        self.answers += line.get("answers", [])

    def look_at_processes(self) -> None:
        """Look into `/proc` for the workers of this demo."""
        now = time.time()
        alive = {instance: pid for pid, instance in marked_leaders(self.mark)}
        for instance, pid in alive.items():
            self.processes.setdefault(instance, Process(pid, instance, now))
        for process in self.processes.values():
            if process.gone_at is None and process.instance not in alive:
                process.gone_at = now

    def workers(self) -> list[Node]:
        """Return every worker node that ever joined, in order of joining."""
        return sorted((each for each in self.nodes.values() if not each.is_head), key=lambda each: (each.seen_at, each.node))

    def nodes_of(self, kind: str) -> list[str]:
        """Return the node of each answer of one kind."""
        return [each["node"] for each in self.answers if each["kind"] == kind]


def marked_leaders(mark: str) -> Iterable[tuple[int, str]]:
    """Yield (pid, instance id) of every live session leader that carries the demo's mark and an instance id."""
    for pid, environ in _environs():
        if TMP_MARK + mark.encode() not in environ.split(b"\0"):
            continue
        instance = next((each[len(INSTANCE_ENV) :] for each in environ.split(b"\0") if each.startswith(INSTANCE_ENV)), b"")
        if instance and instance != HEAD.encode() and os.getsid(pid) == pid:
            yield pid, instance.decode()


def marked_pids(mark: str) -> list[int]:
    """Return every live process that carries the demo's mark, this one left out."""
    return [pid for pid, environ in _environs() if TMP_MARK + mark.encode() in environ.split(b"\0") and pid != os.getpid()]


def _environs() -> Iterable[tuple[int, bytes]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environ = (entry / "environ").read_bytes()
                state = (entry / "stat").read_bytes().rpartition(b")")[2].split()[0]
            except OSError:
                continue  # ended, or another user's
            if environ and state != b"Z":
                yield int(entry.name), environ
