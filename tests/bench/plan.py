"""Case `plan`: 10,000 demands in 100 shapes over 3 node types, from nothing; both planners in this process.

Also told: 1,000,000 demands in 100 shapes (ours alone; Ray's planner goes through them one by one).
"""

import statistics
import time
from collections import Counter

from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.bench.result import Options, Result, say, spread
from tests.bench.workload import Workload, make

SAMPLES = 20
ANCHOR_SAMPLES = 3
"""One takes seconds."""
RATIO = 100.0


def run(options: Options) -> Result:
    """Plan both ways, interleaved."""
    workload = make(options.seed, nodes=0, shapes=100, demands=10_000)
    samples = options.samples or SAMPLES
    ours, anchors, launches = [], [], {}
    for index in range(samples):
        took_s, launches["ours"] = _ours(workload)
        ours.append(took_s)
        if index < ANCHOR_SAMPLES:
            took_s, launches["anchor"] = _anchor(workload)
            anchors.append(took_s)
            say(f"ours {ours[-1] * 1000:.1f} ms, Ray's planner {took_s:.2f} s")
    million = [_ours(make(options.seed, nodes=0, shapes=100, demands=1_000_000))[0] for _ in range(3)]
    say(f"1,000,000 demands in 100 shapes: {statistics.median(million) * 1000:.1f} ms")
    mine, theirs = statistics.median(ours), statistics.median(anchors)
    extra = {
        "spread": spread(ours),
        "anchor_spread": spread(anchors),
        "nodes_launched": launches,
        "million_s": round(statistics.median(million), 6),
        "note": "medians; ours is plan(state) as the service calls it, the anchor ResourceDemandScheduler.schedule(request)",
    }
    return Result("plan", mine, theirs, f"ratio >= {RATIO:g}", theirs / mine >= RATIO, samples, extra)


def _ours(workload: Workload) -> tuple[float, dict[str, int]]:
    config = ClusterConfig("bench", workload.node_types)
    state = ClusterState(now=1_000_000.0, config=config, nodes=workload.nodes, demands=workload.demands)
    begun = time.perf_counter()
    made = plan(state)
    took_s = time.perf_counter() - begun
    if made.infeasible or not made.launches:
        raise RuntimeError(f"the planner placed nothing or not all: {made.infeasible[:3]}")
    return took_s, dict(sorted(Counter(each.node_type for each in made.launches).items()))


def _anchor(workload: Workload) -> tuple[float, dict[str, int]]:
    from tests.bench import ray_planner

    planned = ray_planner.plan(workload)
    if planned.infeasible:
        raise RuntimeError(f"Ray's planner left {planned.infeasible} demands")
    return planned.took_s, planned.launches
