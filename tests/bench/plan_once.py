"""One case in a process of its own, which no case before it has warmed: python -m tests.bench.plan_once CASE SIZE SEED WARM [judge | anchor].

The last line of standard output is JSON: seconds of the first plan and of those by a budget, cold (the process's first) and warm, peak memory,
and a digest of each plan, which must be the same in every process. With `judge` also what each plan is worth; with `anchor` the seconds,
memory and worth of Ray's planner, and nothing of ours.
"""

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from rayscaler.reconciler.improve import STEPS_PER_S
from rayscaler.tasks import calm_collector
from tests.bench.plan_cases import CASES, POOL, Case, renamed
from tests.bench.plan_judge import Verdict, judge, verdict
from tests.bench.workload import Workload

ENOUGH_S = 10.0
"""After so long, one cold plan and one warm one will do."""


def main(case: Case, size: int, seed: int, warm: int, more: str) -> dict[str, Any]:
    """Measure a case and say what was seen."""
    state = case.state(seed, size)
    calm_collector()  # as the service does
    before = peak_mib(is_new=True)
    if more == "anchor":
        return _anchor(state, before)
    runs: dict[str, Callable[[], Plan]] = {"first": partial(plan, state)}
    runs |= {f"{budget:g}s": partial(improved, state, budget) for budget in case.finals}
    plans, seconds = {}, {}
    for name, run in runs.items():
        plans[name], seconds[name] = timed(run, warm)
    found: dict[str, Any] = {"seconds": seconds, "peak_mib": {"before": before, "after": peak_mib()}}
    found["digest"] = {name: digest(each) for name, each in plans.items()}
    if more == "judge":
        found["worth"] = {name: told(judge(state, each)) for name, each in plans.items()}
    return found


def improved(state: ClusterState, budget_s: float) -> Plan:
    """Return the plan that the service would have after so many seconds of improvement."""
    return plan(state, round(budget_s * STEPS_PER_S))


def timed(run: Callable[[], Plan], warm: int) -> tuple[Plan, dict[str, Any]]:
    """Return the plan with how long it took the first time, and then."""
    seconds: list[float] = []
    while len(seconds) < 2 or (len(seconds) <= warm and sum(seconds) < ENOUGH_S):
        begun = time.perf_counter()
        made = run()
        seconds.append(round(time.perf_counter() - begun, 6))
    return made, {"cold": seconds[0], "warm": seconds[1:]}


def digest(made: Plan) -> str:
    """Return what two plans have in common only if they are the same."""
    return hashlib.sha256(f"{made.launches}{made.placements.runs}{made.infeasible}".encode()).hexdigest()[:16]


def told(worth: Verdict) -> dict[str, Any]:
    """Return a verdict as it is printed: of many breaches a few."""
    ratio = None if worth.ratio is None else round(worth.ratio, 5)
    return {**asdict(worth), "bound": round(worth.bound, 4), "ratio": ratio, "breaches": worth.breaches[:3]}


def peak_mib(*, is_new: bool = False) -> float:
    """Return the most memory this process has had, `is_new`: counted from now on. The kernel's own count of a child begins with its parent's."""
    if is_new:
        Path("/proc/self/clear_refs").write_text("5")
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return round(int(peak.split()[1]) / 1024, 1)


def _anchor(state: ClusterState, before: float) -> dict[str, Any]:
    """Ask Ray's planner, to which a GPU has to be called one, and judge what it says as our plan of the same pool."""
    from tests.bench import ray_planner

    known = renamed(state, POOL, "GPU")
    planned = ray_planner.plan(Workload(known.config.node_types, known.nodes, known.demands, known.gangs))
    after = peak_mib()
    if planned.left_gangs:
        raise RuntimeError(f"Ray's planner left {planned.left_gangs} groups")
    placed = Counter({each.bundle: each.count - planned.left.get(index, 0) for index, each in enumerate(state.demands)})
    for bundle in (bundle for gang in state.gangs for bundle in gang.bundles):
        placed[bundle.bundle] += bundle.count
    worth = verdict(state, planned.launches, +placed)
    return {"seconds": round(planned.took_s, 6), "peak_mib": {"before": before, "after": after}, "worth": told(worth)}


if __name__ == "__main__":
    name, *numbers = sys.argv[1:5]
    print(json.dumps(main(CASES[name], *map(int, numbers), sys.argv[5] if len(sys.argv) > 5 else "")))
