"""Case `k8s-pods`: 1,000 pods from one report, against bare creates; and what `k8s-clusters` shares with it.

Ours runs from before the report's call to the last pod in a separate observer's watch; the floor, interleaved, from the first request to the
last answer, and of three numbers of requests in flight the best counts.
"""

import asyncio
import statistics

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
    mine, bare = [each["total"] for each in ours], floors
    ratio = statistics.median(mine) / statistics.median(bare)
    extra = {"spread": spread(mine), "floor_spread": spread(bare), "pods": PODS, "times_floor": round(ratio, 3)}
    return Result(
        "k8s-pods", statistics.median(mine), statistics.median(bare), f"ours <= {PODS_TARGET} x floor", ratio <= PODS_TARGET, samples, extra
    )


async def interleaved(cluster: servers.Cluster, samples: int, clusters: int, each: int) -> tuple[list[dict], list[float]]:
    ours, floors = [], []
    for index in range(samples):
        bare = []
        for in_flight in IN_FLIGHT:
            async with k8s_world.namespace(cluster) as namespace:
                bare.append(await k8s_world.floor(namespace, clusters * each, in_flight))
        floors.append(min(bare))
        say(f"sample {index + 1}: bare creates {', '.join(f'{took:.2f} s' for took in bare)}; {k8s_world.load()}")
        async with k8s_world.namespace(cluster) as namespace, k8s_world.site(namespace) as site:
            ours.append(await _ours(site, clusters, each))
        say(f"sample {index + 1}: ours {ours[-1]['total']:.2f} s; {k8s_world.load()}")
    return ours, floors


async def _ours(site, clusters: int, each: int) -> dict:
    service = await site.serve()
    names = [f"c{index:03d}" for index in range(clusters)]
    uids = await k8s_world.heads(site, names)
    selector = WORKERS.format(names[0]) if clusters == 1 else "rayscaler.io/role=worker"
    async with k8s_world.observer(site.namespace, selector) as observer, k8s_world.reports(service.address) as reports:
        for name in names:
            await reports.send(name, uids[name], 0)
        await asyncio.sleep(k8s_world.QUIET_S)  # the service's own rule of time must have passed
        sent = dict(zip(names, await asyncio.gather(*(reports.send(name, uids[name], each) for name in names)), strict=True))
        seen = await observer.pods(clusters * each, WITHIN_S)
    first = min(sent.values())
    last = {name: max(pod["at"] for pod in seen if pod["cluster"] == name) - sent[name] for name in names}
    return {
        "total": max(pod["at"] for pod in seen) - first,
        "slowest": max(last.values()) / statistics.median(last.values()),
        "rss": k8s_world.rss_bytes(service.process.pid),
    }
