"""A real monitor beside a real head, with a fake service in this process."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.clock import SystemClock
from rayscaler.local.command import inherited
from rayscaler.local.head import HeadOptions
from rayscaler.model.demand import Snapshot
from rayscaler.model.node import RayNode
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.gcs import GrpcGcs
from rayscaler.monitor.main import Monitor
from tests.monitor.doors import FakeService, read
from tests.ray_tier import RayHead

PATIENCE_S = 90.0
"""Nothing here takes so long; a loaded machine may."""


INCARNATION = "41-7"


@dataclass
class Beside:
    """A monitor's doors: the real one to the GCS, and the service that it reports to."""

    gcs: GrpcGcs
    service: FakeService = field(default_factory=FakeService)

    async def until(self, holds: Callable[[Snapshot], bool]) -> head_pb2.ReportDemandRequest:
        """Wait for a snapshot of which something holds, the newest one included."""
        return await self.report(lambda request: request.HasField("snapshot") and holds(read(request.snapshot)), newest=True)

    async def report(self, holds: Callable[[head_pb2.ReportDemandRequest], bool], *, newest: bool = False) -> head_pb2.ReportDemandRequest:
        """Wait for a report, from now on, of which something holds; with `newest`, the last snapshot counts too."""
        seen = self.service.snapshots[-1:] if newest else []
        start = len(self.service.reports)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    found = next((each for each in [*seen, *self.service.reports[start:]] if holds(each)), None)
                    if found is not None:
                        return found
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never reported; the last snapshot was {self.service.snapshots[-1:]}") from None

    async def command(self, command: head_pb2.Command) -> head_pb2.CommandResult:
        """Give a command and wait for its result."""
        self.service.commands.append(command)
        report = await self.report(lambda request: any(each.command_id == command.command_id for each in request.results))
        return next(each for each in report.results if each.command_id == command.command_id)


@contextlib.asynccontextmanager
async def beside(address: str, **environ: str) -> AsyncIterator[Beside]:
    """Run a monitor at the GCS's address."""
    gcs = GrpcGcs(address, SystemClock(), TokenSource(environ))
    made = Beside(gcs)
    made.service.interval_s = 0.1
    monitor = Monitor(gcs, made.service, SystemClock(), cluster="demo", incarnation=INCARNATION)
    task = asyncio.create_task(monitor.run())
    try:
        yield made
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await gcs.close()


def drain(command_id: str, ray_node_id: str, reason: gcs_pb2.DrainNodeReason, *, deadline_at: int = 0) -> head_pb2.Command:
    """Make a drain command."""
    request = gcs_pb2.DrainNodeRequest(
        node_id=bytes.fromhex(ray_node_id), reason=reason, reason_message="a test asked for it", deadline_timestamp_ms=deadline_at * 1000
    )
    return head_pb2.Command(command_id=command_id, drain_node=request)


def rows(snapshot: Snapshot, instance_id: str) -> list[RayNode]:
    """Return the rows that carry an instance id."""
    return [node for node in snapshot.nodes if node.instance_id == instance_id]


async def ray_status(head: RayHead, *, is_verbose: bool = True) -> str:
    """Return what Ray's own command shows."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).parent / "ray"),
        "status",
        *(("-v",) if is_verbose else ()),
        f"--address={head.address}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**inherited(os.environ), "RAY_USAGE_STATS_ENABLED": "0"},
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


def stored(directory: Path, *env: tuple[str, str]) -> HeadOptions:
    """Options of a head whose GCS keeps its state in a directory; `env` is what else its environment has."""
    return HeadOptions(env=(("RAY_gcs_storage", "rocksdb"), ("RAY_gcs_storage_path", str(directory)), *env))


async def restart(head: RayHead) -> None:
    """Kill the head and everything in its session, and start it anew on its port."""
    await head.head.stop(grace_s=0.0)
    await head.head.start()
