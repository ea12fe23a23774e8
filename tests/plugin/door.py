"""An executor behind the door: served at a real unix socket by PluginServer, called by a PluginExecutor."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from rayscaler.errors import Unavailable
from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.instance import InstanceObservation
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, WantedGroup
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.host import PluginHost
from rayscaler.plugin.serve import PluginServer
from rayscaler.plugin.session import PluginTimings
from rayscaler.plugin.started import Started
from rayscaler.testing import conformance

QUICK = PluginTimings(call_s=20.0, introduce_s=5.0, quiet_s=15.0, resume_s=2.0, gone_lag_s=0.5)
MAX_MESSAGE_BYTES = 32 << 20
cases = pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
"""One test for each promise of the port."""
LISTED_S = 60.0
"""For a plugin to be started, and ready."""


def spec(instance_id: str, cluster: str = "c", template: str = "") -> LaunchSpec:
    """Return what is launched where that does not matter."""
    return LaunchSpec(cluster, instance_id, NodeType("small", Resources.of(CPU=1), template=template), "192.0.2.9:6379")


def dialled(socket: Path, timings: PluginTimings = QUICK) -> PluginExecutor:
    """Return an executor that calls whoever serves at the socket."""
    return PluginExecutor(Address(f"unix://{socket}", max_message_bytes=MAX_MESSAGE_BYTES), timings=timings)


class Behind:
    """The port of one executor through the door: the server begins with the first call and ends with `close`, as after a restart of both."""

    def __init__(self, inner: Executor) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="door-")
        socket = Path(self._directory.name) / "s"
        self._server = PluginServer(inner, name="tested.rayscaler.io")
        self._starting = asyncio.create_task(self._server.start(f"unix:{socket}"))
        self._executor = dialled(socket)
        self.pace = self._executor.pace

    async def launch(self, spec: LaunchSpec) -> str:
        await self._starting
        return await self._executor.launch(spec)

    async def terminate(self, cluster: str, instance_id: str) -> None:
        await self._starting
        await self._executor.terminate(cluster, instance_id)

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        await self._starting
        await self._executor.resize(cluster, instance_id, resources)

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:
        await self._starting
        await self._executor.group(cluster, scheduler, groups)

    async def list(self, cluster: str) -> list[InstanceObservation]:
        await self._starting
        return await self._executor.list(cluster)

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        return self._executor.watch(cluster)

    async def close(self) -> None:
        await self._starting
        await self._executor.close()
        await self._server.stop()
        self._directory.cleanup()


class Through:
    """A harness of the conformance suite whose executors are behind the door."""

    def __init__(self, harness) -> None:
        self._harness = harness
        self.patience_s = harness.patience_s

    def executor(self) -> Behind:
        return Behind(self._harness.executor())

    def spec(self, instance_id: str) -> LaunchSpec:
        return self._harness.spec(instance_id)

    async def kill(self, instance_id: str) -> None:
        await self._harness.kill(instance_id)


class Hosted:
    """What the suite needs of a plugin that a host runs; each has its own way to `kill`."""

    patience_s = 30.0
    head = "192.0.2.9:6379"

    def __init__(self, host: PluginHost) -> None:
        self._host = host

    def executor(self) -> Executor:
        return PluginExecutor(Started(self._host), timings=QUICK)

    def spec(self, instance_id: str) -> LaunchSpec:
        return LaunchSpec("c", instance_id, NodeType("small", Resources.of(CPU=1), labels=(("zone", "a"),)), self.head)


@contextlib.asynccontextmanager
async def served(inner: Executor, directory: Path, *, timings: PluginTimings = QUICK, **options) -> AsyncIterator[PluginExecutor]:
    """Serve an executor in a directory, and call it."""
    server = PluginServer(inner, name="tested.rayscaler.io", **options)
    await server.start(f"unix:{directory / 's'}")
    executor = dialled(directory / "s", timings)
    try:
        yield executor
    finally:
        await executor.close()
        await server.stop()


async def listed(executor: Executor) -> list[str]:
    """Return what is listed in cluster "c" once somebody serves and is ready; whoever has just found nobody tries again a little later."""
    async with asyncio.timeout(LISTED_S):
        while True:
            with contextlib.suppress(Unavailable):
                return [each.instance_id for each in await executor.list("c")]
            await asyncio.sleep(0.05)  # it says so only when asked


async def to_the_end(watch) -> None:
    """Read until it raises."""
    async with asyncio.timeout(10.0):
        async for _ in watch:
            pass
