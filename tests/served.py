"""`rayscaler serve` as a user runs it, in a process of its own, for a test or a benchmark that sees what is launched and when.

Only the executor is made up: a plugin at a unix socket, served by the process that asks, which notes each launch as it comes in.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.config import native
from rayscaler.errors import Unsupported
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.demand import Demand
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.scheduling import GangScheduler, WantedGroup
from rayscaler.plugin.serve import PluginServer
from rayscaler.testing.fake_ray import by_count
from rayscaler.throttle import Unpaced

ROOT = Path(__file__).parents[1]
STARTED_S = 60.0
STOPPED_S = 30.0


@dataclass(frozen=True)
class Launched:
    """One launch call: the monotonic clock, which all processes of a machine share, as it came in."""

    at: float
    node_type: str
    instance_id: str


class NotingExecutor:
    """Takes every launch and notes it; none gets any further. Every cluster has `there` from the beginning."""

    def __init__(self, there: Iterable[InstanceObservation] = ()) -> None:
        self._there = tuple(there)
        self._changed = asyncio.Condition()
        self.launched: defaultdict[str, list[Launched]] = defaultdict(list)
        self._made: defaultdict[str, list[InstanceObservation]] = defaultdict(list)
        self.terminated: list[tuple[str, str]] = []
        self.pace = Unpaced()

    async def launch(self, spec: LaunchSpec) -> str:
        at = time.monotonic()
        made = InstanceObservation(spec.instance_id, spec.node_type.name, spec.instance_id, Phase.UNSCHEDULED)
        self._made[spec.cluster].append(made)
        self.launched[spec.cluster].append(Launched(at, spec.node_type.name, spec.instance_id))
        async with self._changed:
            self._changed.notify_all()
        return spec.instance_id

    async def terminate(self, cluster: str, instance_id: str) -> None:
        self.terminated.append((cluster, instance_id))

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        raise Unsupported("keeps their size")

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:
        raise Unsupported("are alone")

    async def list(self, cluster: str) -> list[InstanceObservation]:
        return [*self._there, *self._made[cluster]]

    async def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        await asyncio.Event().wait()
        yield self._made[cluster][0]  # never

    async def close(self) -> None:
        pass

    async def launches_of(self, *clusters: str, count: int = 1) -> None:
        """Return once each of these clusters has so many launches. The caller sets the deadline."""
        async with self._changed:
            await self._changed.wait_for(lambda: all(len(self.launched[each]) >= count for each in clusters))

    def counted(self, cluster: str) -> Counter[str]:
        """Return a cluster's launches by node type."""
        return Counter(each.node_type for each in self.launched[cluster])


@dataclass
class Service:
    """A service that runs: where it listens, its process, and what it has said so far."""

    address: str
    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)

    def pids(self) -> list[int]:
        """Return it and the process that improves plans."""
        return [self.process.pid, *_children(self.process.pid)]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may be gone by now
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):  # one of its threads, likewise
                found += map(int, (task / "children").read_text().split())
    return [*found, *(more for each in found for more in _children(each))]


@asynccontextmanager
async def serving(
    directory: Path, executor: NotingExecutor, configs: Iterable[ClusterConfig], env: Mapping[str, str] | None = None
) -> AsyncIterator[Service]:
    """Serve clusters until left."""
    with tempfile.TemporaryDirectory(prefix="rs-") as short:  # a socket's path has an end
        socket = Path(short) / "s"
        files = [argument for each in configs for argument in ("-f", str(_written(each, directory, socket)))]
        plugin = PluginServer(executor, name="noting.rayscaler.io")
        await plugin.start(f"unix:{socket}")
        argv = ("-m", "rayscaler", "serve", *files, "--listen", "127.0.0.1:0", "--state-dir", str(directory / "state"), "--json")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *argv),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
            limit=1 << 24,
        )
        service = Service("", process)
        listening = asyncio.create_task(_read(process.stderr, service.said))
        try:
            async with asyncio.timeout(STARTED_S):
                line = await process.stdout.readline()
            if not line:
                await listening
                raise RuntimeError("the service did not begin:\n" + "\n".join(service.said[-20:]))
            service.address = json.loads(line)["service"]
            yield service
        finally:
            await _stop(process)
            await listening
            await plugin.stop()


async def _read(stream: asyncio.StreamReader, said: list[str]) -> None:
    while line := await stream.readline():
        said.append(line.decode(errors="replace").rstrip())


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOPPED_S):
            await process.wait()
    except TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _written(config: ClusterConfig, directory: Path, socket: Path) -> Path:
    """Write a cluster's definition, with the plugin as its executor."""
    made = definition(config)
    if native.cluster(made) != config:
        raise ValueError(f"{config} is more than this writes into definitions")
    path = directory / f"{config.name}.yaml"
    path.write_text(yaml.safe_dump({**made, "spec": {**made["spec"], "executor": f"unix://{socket}"}}))
    return path


def definition(config: ClusterConfig) -> dict[str, Any]:
    """Return a definition as people write it."""
    limits = {} if config.max_workers == UNLIMITED else {"maxWorkers": config.max_workers}
    types = [_type(each) for each in config.node_types]
    return {"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": config.name}, "spec": {**limits, "nodeTypes": types}}


def _type(node_type: NodeType) -> dict[str, Any]:
    limits = {} if node_type.max_workers == UNLIMITED else {"maxWorkers": node_type.max_workers}
    cost = {} if node_type.cost is None else {"cost": node_type.cost}
    amounts = {name: amount // UNIT if amount % UNIT == 0 else amount / UNIT for name, amount in node_type.resources.items_sorted}
    return {"name": node_type.name, "resources": amounts, "labels": dict(node_type.labels), **limits, **cost}


def report(cluster: str, sequence: int, demands: Iterable[Demand], nodes: Sequence[ray.NodeState] = ()) -> pb.ReportDemandRequest:
    """Return a cluster's report, of a head with one job: what is asked for, and its nodes."""
    wanted = [by_count(each.bundle, each.count) for each in demands]
    state = ray.ClusterResourceState(node_states=nodes, pending_resource_requests=wanted)
    snapshot = pb.Snapshot(state=state, jobs=[ray.JobTableData(job_id=b"job1")])
    session = pb.Session(cluster_id=cluster.encode().hex().zfill(56), session_name=f"session_{cluster}")
    return pb.ReportDemandRequest(cluster=cluster, session=session, monitor_epoch=1, sequence=sequence, snapshot=snapshot)


def node_state(node: RayNode) -> ray.NodeState:
    """Return a node as a report has it."""
    return ray.NodeState(
        node_id=bytes.fromhex(node.ray_node_id),
        instance_id=node.instance_id,
        ray_node_type_name=node.node_type,
        status=ray.NODE_STATUS_RUNNING,
        total_resources=_doubles(node.total),
        available_resources=_doubles(node.available),
    )


def _doubles(resources: Resources) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in resources.items()}
