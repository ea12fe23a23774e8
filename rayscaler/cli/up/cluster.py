"""A cluster's three parts on this machine: where they are kept, and their end. What brings them up is in start.py."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from rayscaler.cli.up.view import View
from rayscaler.local.executor import LocalTimings, terminate_all
from rayscaler.local.parts import Parts
from rayscaler.local.rundir import RunDir
from rayscaler.processes import SystemProcesses
from rayscaler.settings import ServiceSettings

SERVICE, HEAD, MONITOR = "service", "head", "monitor"
LOOK_S = 0.1
"""Between two looks at what is awaited."""
GRACE_S: Mapping[str, float] = {SERVICE: 15.0, HEAD: 10.0, MONITOR: 5.0}
"""From SIGTERM to SIGKILL; the service lets calls under way end, the head's processes end each in its turn."""


def state_flag(state_dir: Path) -> str:
    """Return what `up` and `down` have to be told, after a space, to mean this state directory."""
    return "" if state_dir == ServiceSettings().state_dir.expanduser() else f" --state-dir {state_dir}"


class LocalCluster:
    """One cluster's parts. One state directory has one cluster: its service, record and run directory are that cluster's alone."""

    def __init__(self, name: str, settings: ServiceSettings, view: View) -> None:
        self.name = name
        self.settings = settings
        self.parts = Parts(SystemProcesses(), root(settings) / name)
        self._view = view

    @property
    def kept_definition(self) -> Path:
        """The definition's copy that the service reads: an edit counts when `up` has checked it, not at a restart by chance."""
        return self.parts.directory / "cluster.yaml"

    def listen(self) -> str | None:
        """Return where the service was told to listen; None if there is none."""
        service = self.parts.find(SERVICE)
        return None if service is None else service.facts.get("listen")

    def is_up(self) -> bool:
        """Whether anything was started here and not ended since."""
        return bool(self.parts.names())

    async def end(self) -> int:
        """End everything: monitor, service, workers, head; return how many workers there were.

        The record of a part goes only when what depends on it has ended, so that whoever is stopped half-way can begin again.
        """
        await self.end_part(MONITOR)
        await self._end(SERVICE)
        workers = await self.end_workers()
        self.parts.forget(SERVICE)
        await self.end_part(HEAD)
        self.kept_definition.unlink(missing_ok=True)
        return workers

    async def end_workers(self) -> int:
        """End every worker of the run directory; Ray drains each, which takes up to 30 s for a busy one."""
        telling = asyncio.create_task(self._tell_workers(), name="tell workers")
        try:
            ended = await terminate_all(SystemProcesses(), self.settings.run_dir, LocalTimings().grace_s)
        finally:
            telling.cancel()
            await asyncio.wait({telling})
        self._view.show("workers", f"{ended} ended", is_done=True)
        return ended

    async def end_part(self, name: str) -> None:
        """End one part and forget it."""
        await self._end(name)
        self.parts.forget(name)

    async def _end(self, name: str) -> None:
        if self.parts.find(name) is not None:
            self._view.show(name, "ending")
            await self.parts.end(name, GRACE_S[name])
            self._view.show(name, "ended", is_done=True)

    async def _tell_workers(self) -> None:
        rundir = RunDir(self.settings.run_dir)
        while True:
            left = sum(len(rundir.read(cluster)) for cluster in rundir.clusters())
            self._view.show("workers", f"ending, {left} left")
            await asyncio.sleep(LOOK_S)


def root(settings: ServiceSettings) -> Path:
    """Return where the parts of a state directory's clusters are kept."""
    return settings.state_dir.absolute() / "up"


def names(settings: ServiceSettings) -> list[str]:
    """Return the clusters of a state directory that have parts."""
    return sorted({path.parent.name for path in root(settings).glob("*/*.json")})
