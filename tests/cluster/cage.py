"""A process with so much of the machine and no more, as a container's limits give it: control groups of Linux (v1 or v2), gone after the test."""

import contextlib
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
"""Kubernetes' own."""
ENTER = 'for each in $CAGE; do echo $$ > "$each/cgroup.procs"; done; exec "$@"'
"""Into each of the groups before the program begins, so that all of its threads and children are in them."""
END_S = 10.0
"""For the kernel to see that a group is empty."""


@dataclass(frozen=True)
class Cage:
    """The groups, those of CPU time and of memory; one and the same in v2."""

    cpu: Path
    memory: Path

    @classmethod
    @contextlib.contextmanager
    def made(cls, *, cpus: float, memory_bytes: int) -> Iterator[Self]:
        """Have one for the length of the block; raises OSError where no such groups can be made."""
        name = f"rayscaler-{secrets.token_hex(4)}"
        is_v2 = (ROOT / "cgroup.controllers").exists()
        cage = cls(ROOT / name, ROOT / name) if is_v2 else cls(_own("cpu") / name, _own("memory") / name)
        quota_us = round(cpus * PERIOD_US)
        limits = (
            {cage.cpu / "cpu.max": f"{quota_us} {PERIOD_US}", cage.memory / "memory.max": memory_bytes}
            if is_v2
            else {
                cage.cpu / "cpu.cfs_period_us": PERIOD_US,
                cage.cpu / "cpu.cfs_quota_us": quota_us,
                cage.memory / "memory.limit_in_bytes": memory_bytes,
            }
        )
        groups = {cage.cpu, cage.memory}
        try:
            for each in groups:
                each.mkdir()
            for file, limit in limits.items():
                file.write_text(f"{limit}")
            yield cage
        finally:
            for each in groups:
                _remove(each)

    @property
    def environ(self) -> dict[str, str]:
        """What `inside` needs of the environment."""
        return {"CAGE": f"{self.cpu} {self.memory}"}

    def inside(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs another one in here."""
        return ["sh", "-c", ENTER, "sh", *argv]

    def processes(self) -> set[int]:
        """Return the ids of those inside, as the group of CPU time has them."""
        return {int(each) for each in (self.cpu / "cgroup.procs").read_text().split()}

    def throttled(self) -> int:
        """Return in how many periods it got less time than it wanted."""
        return _count(self.cpu / "cpu.stat", "nr_throttled")

    def peak_mib(self) -> float:
        """Return the most memory that it had, or what it has now where the kernel (v2 before 5.19) keeps no peak."""
        names = ("memory.max_usage_in_bytes", "memory.peak", "memory.current")
        return next(int((self.memory / each).read_text()) for each in names if (self.memory / each).exists()) / 2**20

    def kills(self) -> int:
        """Return how many processes were ended for want of memory."""
        found = next(self.memory / each for each in ("memory.oom_control", "memory.events") if (self.memory / each).exists())
        return _count(found, "oom_kill")


def _own(controller: str) -> Path:
    """Return the group that this process is in; in a container its path may be the machine's, which is not seen from inside."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            own = ROOT / controller / path.lstrip("/")
            return own if own.is_dir() else ROOT / controller
    raise FileNotFoundError(f"no control group of {controller}")


def _count(file: Path, name: str) -> int:
    return next((int(line.split()[1]) for line in file.read_text().splitlines() if line.split()[0] == name), 0)


def _remove(group: Path) -> None:
    """Remove a group once its last process is gone, if it was made."""
    deadline = time.monotonic() + END_S
    while group.is_dir():
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
