"""Case `plan`: 10,000 demands in 100 shapes over 3 node types, from nothing; both planners in this process."""

import statistics
import time
from collections import Counter
from functools import partial

from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.resources import UNIT
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.bench.result import Options, Result, anchored, say, spread
from tests.bench.workload import Planned, Workload, make

SAMPLES = 20
ANCHOR_SAMPLES = 3
"""One takes seconds."""
RATIO = 100.0
MAX_WORKERS = 1_000_000
"""Said, since a definition without a limit gets one, far below what a million demands need."""


def run(options: Options) -> Result:
    """Plan both ways, interleaved."""
    workload = make(options.seed, nodes=0, shapes=100, demands=10_000)
    samples = options.samples or SAMPLES
    ours: list[Planned] = []
    anchors: list[Planned | None] = []
    for index in range(samples):
        ours.append(_ours(workload))
        if index < ANCHOR_SAMPLES:
            anchors.append(anchored(partial(_anchor, workload)))
            say(f"ours {ours[-1].took_s * 1000:.1f} ms, Ray's planner {anchors[-1] and anchors[-1].took_s} s")
    mine = statistics.median(each.took_s for each in ours)
    planned = [each for each in anchors if each is not None]
    theirs = statistics.median(each.took_s for each in planned) if len(planned) == len(anchors) else None
    launches = {"ours": ours[0].launches, **({"anchor": planned[0].launches} if planned else {})}
    extra = {
        "spread": spread([each.took_s for each in ours]),
        "nodes_launched": launches,
        "cpus_launched": {side: _cpus(workload, each) for side, each in launches.items()},
        "note": "medians; ours is plan(state) as the service calls it, the anchor ResourceDemandScheduler.schedule(request)",
    }
    return Result("plan", mine, theirs, f"ratio >= {RATIO:g}", theirs is not None and theirs / mine >= RATIO, samples, extra)


def _ours(workload: Workload) -> Planned:
    config = ClusterConfig("bench", workload.node_types, max_workers=MAX_WORKERS)
    state = ClusterState(now=1_000_000.0, config=config, nodes=workload.nodes, demands=workload.demands)
    begun = time.perf_counter()
    made = plan(state)
    took_s = time.perf_counter() - begun
    if made.infeasible or not made.launches:
        raise RuntimeError(f"the planner placed nothing or not all: {made.infeasible[:3]}")
    return Planned(took_s, dict(sorted(Counter(each.node_type for each in made.launches).items())))


def _anchor(workload: Workload) -> Planned:
    from tests.bench import ray_planner

    planned = ray_planner.plan(workload)
    if planned.left:
        raise RuntimeError(f"Ray's planner left {sum(planned.left.values())} demands")
    return planned


def _cpus(workload: Workload, launches: dict[str, int]) -> int:
    """Return how many CPUs were launched: nodes of different sizes do not compare by number."""
    per_node = {each.name: each.resources["CPU"] // UNIT for each in workload.node_types}
    return sum(per_node[name] * count for name, count in launches.items())
