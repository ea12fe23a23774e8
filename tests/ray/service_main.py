"""The service with traps between a write and its effect. python -m tests.ray.service_main serve -f ... with TRAP set to a file's path.

The file holds "<step> <signal>". At the next such step the process takes the file away and sends itself the signal: 9 and it is dead
between the write and the effect, 19 and it stands there until somebody lets it go on. Nothing else differs from the real service.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from rayscaler import __main__
from rayscaler.app import local
from rayscaler.local import executor
from rayscaler.local.rundir import Record, RunDir
from rayscaler.processes import Identity, SystemProcesses
from rayscaler.store.base import ClusterRecord
from rayscaler.store.sqlite import SqliteStore

TRAP = "RAYSCALER_TEST_TRAP"
UP = ("launch", "intent", "spawn")
"""Steps of a scale-up: the batch is in the store and no instance is asked for; an instance's intent is noted and nothing runs;
its process runs and nobody has noted who it is."""
DOWN = ("drain", "ending")
"""Steps of a scale-down: the drain is in the store and Ray was not asked; the end is noted and the process was not told."""


def _reached(step: str) -> None:
    path = Path(os.environ[TRAP])
    text = path.read_text().split() if path.exists() else []
    if text[:1] == [step]:
        path.unlink()
        os.kill(os.getpid(), signal.Signals(int(text[1])))


class TrappedStore(SqliteStore):
    """The store, with a trap behind each write that something follows."""

    _batch = 0
    _drains: frozenset[str] = frozenset()

    async def load(self, cluster: str) -> ClusterRecord | None:
        record = await super().load(cluster)
        if record is not None:
            self._note(record)
        return record

    async def save(self, record: ClusterRecord) -> None:
        await super().save(record)
        batch, drains = self._batch, self._drains
        self._note(record)
        if self._batch > batch:
            _reached("launch")
        if self._drains - drains:
            _reached("drain")

    def _note(self, record: ClusterRecord) -> None:
        self._batch = record.batch
        self._drains = frozenset(each.command.command_id for each in record.drains)


class TrappedRunDir(RunDir):
    """The run directory, with a trap behind an intent and behind the note of an end."""

    def write(self, record: Record) -> None:
        super().write(record)
        if record.is_ending:
            _reached("ending")
        elif record.identity is None:
            _reached("intent")


class TrappedProcesses(SystemProcesses):
    """The machine, with a trap behind each start."""

    def spawn(self, argv: Sequence[str], *, env: Mapping[str, str], log_path: Path, mark: str = "") -> Identity:
        identity = super().spawn(argv, env=env, log_path=log_path, mark=mark)
        _reached("spawn")
        return identity


if __name__ == "__main__":
    local.SqliteStore = TrappedStore  # type: ignore[misc]
    local.SystemProcesses = TrappedProcesses  # type: ignore[misc]
    executor.RunDir = TrappedRunDir  # type: ignore[misc]
    __main__.main()
