"""Case `k8s-clusters`: 100 clusters of 100 workers that ask at once, against bare creates; and the memory of a service that knows 10,000 pods."""

import asyncio
import statistics

from tests.bench import k8s_world
from tests.bench.k8s_pods import interleaved
from tests.bench.result import Options, Result

CLUSTERS, EACH = 100, 100
TIMES_FLOOR, TIMES_MEDIAN, MEMORY = 1.3, 2.0, 250 << 20


def run(options: Options) -> Result:
    """Measure many clusters at once."""
    samples = options.samples or 1
    with k8s_world.kubernetes() as cluster:
        ours, floors = asyncio.run(interleaved(cluster, samples, CLUSTERS, EACH))
    mine = [each["total"] for each in ours]
    ratio = statistics.median(mine) / statistics.median(floors.smallest)
    slowest, memory = max(each["slowest"] for each in ours), max(each["rss"] for each in ours)
    is_met = ratio <= TIMES_FLOOR and slowest <= TIMES_MEDIAN and memory < MEMORY
    extra: dict[str, object] = {
        "times_floor": round(ratio, 3),
        "slowest_to_median": round(slowest, 3),
        "rss_mib": round(memory / (1 << 20), 1),
    }
    extra |= floors.beside(mine)
    target = f"ours <= {TIMES_FLOOR} x floor, slowest <= {TIMES_MEDIAN} x median, RSS < {MEMORY >> 20} MiB"
    return Result("k8s-clusters", statistics.median(mine), statistics.median(floors.smallest), target, is_met, samples, extra)
