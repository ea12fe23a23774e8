"""What the cases on Kubernetes share: the test cluster, a service in a namespace of its own, heads that report by a bare call, an observer."""

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.config import native
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s import pods, services
from tests.bench.result import say
from tests.cluster import namespaces, product, servers
from tests.cluster.api import JSON, Api, LateError
from tests.cluster.namespaces import Namespace
from tests.cluster.product import Site

HERE = Path(__file__).parent
QUIET_S = 3.5
"""After a first report without demand: longer than the service takes use that is new for that of demand still shown."""
CALL_S = 30.0


@dataclass
class Observer:
    """The process that sees pods appear."""

    process: asyncio.subprocess.Process

    async def pods(self, count: int, within_s: float) -> list[dict]:
        """Return the next so many pods, each with the moment in which it was seen."""
        found: list[dict] = []
        async with asyncio.timeout(within_s):
            while len(found) < count:
                line = await self.process.stdout.readline()
                if not line:
                    raise RuntimeError("the observer ended")
                found.append(json.loads(line))
        return found


@contextlib.contextmanager
def kubernetes() -> Iterator[servers.Cluster]:
    """Run the test cluster."""
    with tempfile.TemporaryDirectory(prefix="rs-k8s-") as directory, servers.running(Path(directory)) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def namespace(cluster: servers.Cluster) -> AsyncIterator[Namespace]:
    """A namespace whose pods are gone at the end, so that the next sample finds the cluster as this one did."""
    async with Api(cluster) as api:
        made = await namespaces.fresh(cluster, api)
        try:
            yield made
        finally:
            await _emptied(made)


async def _emptied(made: Namespace) -> None:
    await made.api.delete(made.path("configmaps"))
    async with asyncio.timeout(300):
        while (await made.api.get(made.path("pods"), limit="1"))["items"]:
            with contextlib.suppress(LateError):  # of ten thousand it ends some and gives up: the next call goes on
                await made.api.delete(made.path("pods"), gracePeriodSeconds="0")
            await asyncio.sleep(0.5)  # the API server deletes a page at a time


@contextlib.asynccontextmanager
async def observer(of: Namespace, selector: str) -> AsyncIterator[Observer]:
    """See pods of a selector appear."""
    arguments = [of.cluster.url, str(of.cluster.ca), of.cluster.token, of.name, selector]
    process = await asyncio.create_subprocess_exec(sys.executable, HERE / "k8s_observer.py", *arguments, stdout=asyncio.subprocess.PIPE)
    try:
        if (await process.stdout.readline()).strip() != b"ready":
            raise RuntimeError("the observer did not start")
        yield Observer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def floor(of: Namespace, pods: int, in_flight: int, pod: Path | None = None) -> float:
    """Return the seconds that bare creates of so many pods take: of the smallest, or of the one in a file."""
    arguments = [of.cluster.url, str(of.cluster.ca), of.cluster.token, of.name, str(pods), str(in_flight), *([] if pod is None else [pod])]
    process = await asyncio.create_subprocess_exec(sys.executable, HERE / "k8s_floor.py", *arguments, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the floor ended with {process.returncode}")
    return float(json.loads(out)["seconds"])


def sample_pod() -> pods.Manifest:
    """Return a worker's pod as the service asks for it, without its cluster as owner: the garbage collector would take it away."""
    (node_type,) = native.cluster(definition("sample"), native.KUBERNETES).node_types
    spec = LaunchSpec("sample", "sample-small-1-0", node_type, services.address("sample", "any"))
    entry = pods.entry_config_map("sample", pods.entry_text(), None)["metadata"]["name"]
    return pods.worker(spec, namespace="any", entry=entry)


@contextlib.asynccontextmanager
async def site(of: Namespace) -> AsyncIterator[Site]:
    """A service's place."""
    with tempfile.TemporaryDirectory(prefix="rs-k8s-") as directory:
        async with product.site(of, Path(directory)) as made:
            yield made


class Reports:
    """Calls the service as the monitors of its clusters would, one report at a time."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = head_pb2_grpc.HeadServiceStub(channel)
        self._sequence = 0

    async def send(self, cluster: str, head_uid: str, tasks: int) -> float:
        """Report that so many tasks of one CPU wait; return the moment before the call."""
        self._sequence += 1
        demand = ray.ResourceRequestByCount(
            request=ray.ResourceRequest(resources_bundle={"CPU": 1.0}, label_selectors=[ray.LabelSelector()]), count=tasks
        )
        state = ray.ClusterResourceState(pending_resource_requests=[demand] if tasks else [])
        request = pb.ReportDemandRequest(
            cluster=cluster,
            session=pb.Session(cluster_id=cluster.encode().hex(), session_name=f"session_{cluster}"),
            head_incarnation=head_uid,
            monitor_epoch=1,
            sequence=self._sequence,
            snapshot=pb.Snapshot(state=state, jobs=[ray.JobTableData(job_id=b"job1")]),
        )
        sent_at = time.monotonic()
        await self._stub.ReportDemand(request, timeout=CALL_S)
        return sent_at


@contextlib.asynccontextmanager
async def reports(address: str) -> AsyncIterator[Reports]:
    """A way to report."""
    async with grpc.aio.insecure_channel(address) as channel:
        yield Reports(channel)


def definition(name: str) -> JSON:
    """Return a cluster of small workers."""
    return product.document(name, {"name": "small", "resources": {"CPU": 1}})


async def heads(made: Site, names: Sequence[str]) -> dict[str, str]:
    """Define clusters of small workers, and return the uid of each one's head once all are ready."""
    for name in names:
        await made.define(definition(name))
    found = {name: (await made.head(name))["metadata"]["uid"] for name in names}
    say(f"{len(found)} heads are ready")
    return found


def rss_bytes(pid: int) -> int:
    """Return the resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) << 10 if found else 0


def load() -> str:
    """Return the machine's load, in words."""
    return f"load {os.getloadavg()[0]:.1f}"
