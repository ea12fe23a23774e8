"""Case `k8s-pods`: 1,000 pods from one report, against bare creates; and what `k8s-clusters` shares with it.

Ours runs from before the report's call to the last pod in a separate observer's watch; the floor, interleaved, from the first request to the
last answer, and of three numbers of requests in flight the best counts. Beside it, and judged by nothing: bare creates of pods such as ours.
"""

import asyncio
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import k8s_world
from tests.bench.result import Options, Result, say, spread
from tests.cluster import servers
from tests.cluster.product import WORKERS

IN_FLIGHT = (10, 32, 100)
WITHIN_S = 600.0
PODS, PODS_TARGET, SAMPLES = 1000, 1.2, 5


def run(options: Options) -> Result:
    """Measure one cluster's burst."""
    samples = options.samples or SAMPLES
    with k8s_world.kubernetes() as cluster:
        ours, floors = asyncio.run(interleaved(cluster, samples, 1, PODS))
    mine, bare = [each["total"] for each in ours], floors.smallest
    ratio = statistics.median(mine) / statistics.median(bare)
    extra = {"spread": spread(mine), "floor_spread": spread(bare), "pods": PODS, "times_floor": round(ratio, 3), **floors.beside(mine)}
    return Result(
        "k8s-pods", statistics.median(mine), statistics.median(bare), f"ours <= {PODS_TARGET} x floor", ratio <= PODS_TARGET, samples, extra
    )


@dataclass
class Floors:
    """Seconds of bare creates, a figure per sample."""

    smallest: list[float] = field(default_factory=list)
    alike: list[float] = field(default_factory=list)
    """Of pods such as ours."""

    def beside(self, ours: Sequence[float]) -> dict[str, object]:
        """Return what is told of pods such as ours."""
        return {"alike_spread": spread(self.alike), "times_alike": round(statistics.median(ours) / statistics.median(self.alike), 3)}


async def interleaved(cluster: servers.Cluster, samples: int, clusters: int, each: int) -> tuple[list[dict], Floors]:
    """Return what our side took in each sample, and the floor beside it."""
    ours, floors = [], Floors()
    with tempfile.TemporaryDirectory(prefix="rs-k8s-") as directory:
        pod = Path(directory) / "pod.json"
        await asyncio.to_thread(pod.write_text, json.dumps(k8s_world.sample_pod()))
        for index in range(samples):
            took, in_flight = min([(await _floor(cluster, clusters * each, count), count) for count in IN_FLIGHT])
            floors.smallest.append(took)
            floors.alike.append(await _floor(cluster, clusters * each, in_flight, pod))
            told = f"bare creates {took:.2f} s with {in_flight} in flight, of pods such as ours {floors.alike[-1]:.2f} s"
            say(f"sample {index + 1}: {told}; {k8s_world.load()}")
            async with k8s_world.namespace(cluster) as namespace, k8s_world.site(namespace) as site:
                ours.append(await _ours(site, clusters, each))
            say(f"sample {index + 1}: ours {ours[-1]['total']:.2f} s; {k8s_world.load()}")
    return ours, floors


async def _floor(cluster: servers.Cluster, pods: int, in_flight: int, pod: Path | None = None) -> float:
    async with k8s_world.namespace(cluster) as namespace:
        return await k8s_world.floor(namespace, pods, in_flight, pod)


async def _ours(site, clusters: int, each: int) -> dict:
    service = await site.serve()
    names = [f"c{index:03d}" for index in range(clusters)]
    uids = await k8s_world.heads(site, names)
    selector = WORKERS.format(names[0]) if clusters == 1 else "rayscaler.io/role=worker"
    async with k8s_world.observer(site.namespace, selector) as observer, k8s_world.reports(service.address) as reports:
        for name in names:
            await reports.send(name, uids[name], 0)
        await asyncio.sleep(k8s_world.QUIET_S)  # the service's own rule of time must have passed
        async with asyncio.TaskGroup() as group:  # read while sending: an observer that waits for its reader is cut off by the API server
            seeing = group.create_task(observer.pods(clusters * each, WITHIN_S))
            sending = [group.create_task(reports.send(name, uids[name], each)) for name in names]
        sent = {name: task.result() for name, task in zip(names, sending, strict=True)}
        seen = seeing.result()
    first = min(sent.values())
    last = {name: max(pod["at"] for pod in seen if pod["cluster"] == name) - sent[name] for name in names}
    return {
        "total": max(pod["at"] for pod in seen) - first,
        "slowest": max(last.values()) / statistics.median(last.values()),
        "rss": k8s_world.rss_bytes(service.process.pid),
    }
