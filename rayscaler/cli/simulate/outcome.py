"""From a simulation's log to the document that `simulate --json` prints (`schema/simulate.schema.json`). Pure.

Costs run from launch to end, utilisation is of workers that have joined, both weighted by time. A percentile is the wait that so many of a
hundred did not pass.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from rayscaler.cli.simulate.engine import Simulation
from rayscaler.cli.simulate.fleet import Assumed
from rayscaler.cli.simulate.log import Log, Sample
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.resources import UNIT

PERIODS = 24
"""Equal parts of the time that are told of."""
HOUR_S = 3600.0
PLANNED = "PLANNED_THERE"
"""Beside the planner's own reasons: it has planned for what waits, and Ray cannot start it there."""


def document_of(config: ClusterConfig, simulation: Simulation, assumed: Assumed, planning_s: Sequence[float]) -> dict[str, Any]:
    """Return the document of a simulation that has ended; `planning_s` are the seconds that each plan took."""
    log = simulation.log
    never = never_placed(simulation)
    types = [_of_type(log, each.name, each.cost) for each in sorted(config.node_types, key=lambda each: each.name)]
    used = [each["cost"] for each in types if each["launches"]]
    begin, end = log.samples[0].at, log.samples[-1].at
    return {
        "cluster": config.name,
        "begin_s": begin,
        "span_s": end - begin,
        "tasks": {"arrived": log.arrived, "finished": log.finished, "never_placed": sum(each["count"] for each in never)},
        "cost": None if None in used else math.fsum(used),
        "waiting_s": _waiting(log.waits),
        "utilisation": utilisation(log, begin, end),
        "churn": {
            "launches": log.launches.total(),
            "ends": log.ends.total(),
            "launches_cancelled": log.cancelled.total(),
            "launches_cancelled_and_relaunched": log.relaunched.total(),
            "launch_reasons": {key.value: value for key, value in sorted(log.launch_reasons.items())},
            "end_reasons": {key.value: value for key, value in sorted(log.end_reasons.items())},
        },
        "node_types": types,
        "never_placed": never,
        "over_time": [period(log, *each) for each in periods(begin, end, PERIODS)],
        "plans": {
            "count": len(planning_s),
            "total_s": round(math.fsum(planning_s), 6),
            "longest_s": round(max(planning_s, default=0.0), 6),
        },
        "assumed": {
            "start_up_s": dict(sorted(assumed.start_up_s.items())),
            "reaction_s": assumed.reaction_s,
        },
    }


def never_placed(simulation: Simulation) -> list[dict[str, Any]]:
    """Return what still waits at the end, and why."""
    refused = {each.what: each for each in simulation.last_plan.infeasible}
    told = []
    for each in sorted(simulation.waiting, key=str):
        why = refused.get(each.bundle)
        detail = "the plan has room for it on nodes that are there, and Ray cannot start it on any" if why is None else why.detail
        told.append(
            {"shape": str(each.bundle), "count": each.count, "reason": PLANNED if why is None else why.reason.value, "detail": detail}
        )
    return told


def _of_type(log: Log, name: str, cost: float | None) -> dict[str, Any]:
    hours = log.paid_s[name] / HOUR_S
    return {
        "name": name,
        "launches": log.launches[name],
        "ends": log.ends[name],
        "launches_cancelled": log.cancelled[name],
        "launches_cancelled_and_relaunched": log.relaunched[name],
        "peak": log.peak[name],
        "node_hours": hours,
        "spared_hours": log.spared_s[name] / HOUR_S,
        "cost": None if cost is None else hours * cost,
    }


def _waiting(waits: Sequence[tuple[float, int]]) -> dict[str, float | None]:
    """Return percentiles of the waits of what was placed; None where nothing was."""
    found = sorted(waits)
    count = sum(each for _, each in found)
    if not count:
        return dict.fromkeys(("mean", "median", "p95", "max"))
    return {
        "mean": math.fsum(wait * each for wait, each in found) / count,
        "median": _at(found, math.ceil(count * 0.5)),
        "p95": _at(found, math.ceil(count * 0.95)),
        "max": found[-1][0],
    }


def _at(found: Sequence[tuple[float, int]], rank: int) -> float:
    """Return the wait of the `rank`-th, the shortest first."""
    for wait, count in found:
        rank -= count
        if rank <= 0:
            return wait
    return found[-1][0]


def utilisation(log: Log, begin: float, end: float) -> dict[str, float | None]:
    """Return the used share of each resource that work asked for; None where no worker had any."""
    sums = {name: [0.0, 0.0] for name in log.resources}
    for sample, seconds in spans(log.samples, begin, end):
        for name, used, total in zip(log.resources, sample.used, sample.total, strict=True):
            sums[name][0] += used / UNIT * seconds
            sums[name][1] += total / UNIT * seconds
    return {name: used / total if total else None for name, (used, total) in sums.items()}


def periods(begin: float, end: float, number: int) -> list[tuple[float, float]]:
    """Return equal parts of the time, none where no time passed."""
    if end <= begin:
        return []
    return list(pairwise(begin + (end - begin) * index / number for index in range(number + 1)))


def spans(samples: Sequence[Sample], begin: float, end: float) -> Iterator[tuple[Sample, float]]:
    """Yield what stood between two seconds, and for how many seconds."""
    first = max(0, bisect_right(samples, begin, key=lambda each: each.at) - 1)
    for index in range(first, len(samples)):
        sample = samples[index]
        if sample.at >= end:
            return
        until = samples[index + 1].at if index + 1 < len(samples) else end
        seconds = min(until, end) - max(sample.at, begin)
        if seconds > 0:
            yield sample, seconds


def period(log: Log, begin: float, end: float) -> dict[str, Any]:
    """Return how things stood between two seconds."""
    found = list(spans(log.samples, begin, end))
    return {
        "begin_s": begin,
        "end_s": end,
        "cost": math.fsum(sample.cost_per_hour * seconds / HOUR_S for sample, seconds in found),
        "starting": math.fsum(sample.starting * seconds for sample, seconds in found) / (end - begin),
        "nodes": math.fsum((sample.starting + sample.joined) * seconds for sample, seconds in found) / (end - begin),
        "most_nodes": max(sample.starting + sample.joined for sample, _ in found),
        "running": math.fsum(sample.running * seconds for sample, seconds in found) / (end - begin),
        "most_waiting": max(sample.waiting for sample, _ in found),
        "utilisation": utilisation(log, begin, end),
    }
