"""Where plugins are started in tests: one directory, hosts with short durations, and nothing left in the end."""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rayscaler.clock import SystemClock
from rayscaler.plugin.faults import State
from rayscaler.plugin.host import PluginHost
from rayscaler.processes import SystemProcesses
from rayscaler.settings import Timings

TIMINGS = replace(
    Timings(), plugin_start_s=20.0, plugin_still_s=0.2, plugin_health_s=4.0, plugin_retry_s=0.2, plugin_retry_max_s=0.4, plugin_grace_s=5.0
)
WITHIN_S = 30.0
"""Deadline of anything waited for in a test; none takes 2 s alone."""
POLL_S = 0.01
"""Between two looks at what tells nobody when it changes."""


async def until(claim: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - logs and files tell nobody
            await asyncio.sleep(POLL_S)


class Stage:
    """Hosts of one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.processes = SystemProcesses()
        self._hosts: list[tuple[PluginHost, asyncio.Task[None]]] = []

    def sockets(self, name: str) -> Path:
        """Return where a running plugin was told to have its socket."""
        return Path(json.loads((self.directory / name / "plugin.json").read_text())["sockets"])

    def host(self, *argv: str, name: str = "fake", max_message_bytes: int = 32 << 20, **timings: float) -> PluginHost:
        """Make a host that nobody runs yet."""
        durations = replace(TIMINGS, **timings)
        return PluginHost(
            name,
            argv,
            self.directory,
            processes=self.processes,
            timings=durations,
            clock=SystemClock(),
            max_message_bytes=max_message_bytes,
        )

    def run(self, host: PluginHost) -> asyncio.Task[None]:
        """Run a host until the end of the test."""
        running = asyncio.create_task(host.run())
        self._hosts.append((host, running))
        return running

    async def begun(self, *argv: str, **options: float) -> tuple[PluginHost, asyncio.Task[None]]:
        """Run a host and wait until its plugin serves."""
        host = self.host(*argv, **options)
        running = self.run(host)
        await until(lambda: host.status.state in (State.SERVING, State.WAITING) or running.done())
        assert host.status.state is State.SERVING, (host.status, running)
        return host, running

    async def failed(self, *argv: str, **options: float) -> tuple[PluginHost, asyncio.Task[None]]:
        """Run a host and wait until its plugin has failed."""
        host = self.host(*argv, **options)
        running = self.run(host)
        await until(lambda: host.status.state is State.WAITING or running.done())
        assert host.status.state is State.WAITING, (host.status, running)
        return host, running

    async def cancelled(self, running: asyncio.Task[None]) -> None:
        """Cancel a host's task, as the app does in the end."""
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running

    async def stopped(self, host: PluginHost) -> None:
        """Cancel a host's task and end its plugin."""
        for each, running in self._hosts:
            if each is host:
                await self.cancelled(running)
        await host.stop()

    async def end(self) -> None:
        """End every plugin; raises whatever a host raised."""
        for host, running in self._hosts:
            await self.cancelled(running)
            await host.stop()
