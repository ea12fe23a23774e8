"""Cases `plan-...`: the planner on big input, every sample in a process of its own; beside it Ray's planner where it comes to an end.

`ours` and `anchor` are seconds: ours of the final plan, warm, the anchor's of its only run in a process of its own. A plan is called by the
budget it was given, as `0.25s`, or `first`; `worth` says what each costs beside the lower bound (tests/optimum/bound.py) on placing the same.

Where Ray's planner would not come to an end with all of it, it is asked for less, `anchor_size`: `ratio` is then its seconds for the less beside
ours for all, which favours it, and `anchor_size_ours` and `anchor_size_ratio` say how both do with the same.
"""

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.bench.plan_cases import CASES, Case, Goal
from tests.bench.result import Options, Result, anchored, say

PROCESSES = 3
WARM = 3
"""Further plans in each process, after the cold one."""
DEADLINE_S = 120.0
"""For one process of ours: far more than any target."""
PREFIX = "plan-"
Sample = Mapping[str, Any]


def run(options: Options) -> Result:
    """Measure the case of that name."""
    name = options.case.removeprefix(PREFIX)
    case = CASES[name]
    count = options.samples or PROCESSES
    samples: dict[int, list[Sample]] = {size: [] for size in case.sizes}
    for size, index in itertools.product(case.sizes, range(count)):
        found = once(name, size, options.seed, DEADLINE_S, "" if index else "judge", hash_seed=index)
        if found is None:
            break
        samples[size].append(found)
        say(f"{size}: {found['seconds']}, peak {found['peak_mib']['after']:.0f} MiB")
    anchor = like = None
    if case.anchor_s is not None:
        size = case.anchor_size or case.sizes[-1]
        anchor = anchored(lambda: once(name, size, options.seed, case.anchor_s, "anchor"))
        like = once(name, size, options.seed, DEADLINE_S, "") if case.anchor_size else None
    found = result(options.case, case, samples, anchor, count)
    return replace(found, extra={**found.extra, **beside(case, anchor, like)})


def beside(case: Case, anchor: Sample | None, like: Sample | None) -> dict[str, Any]:
    """Return for how much the anchor was asked, and how both sides did with that where it is less than all."""
    if case.anchor_s is None:
        return {}
    if like is None:
        return {"anchor_size": case.anchor_size or case.sizes[-1]}
    ours = median([like], list(like["seconds"])[-1], "warm")
    ratio = None if anchor is None else round(anchor["seconds"] / ours, 2)
    return {"anchor_size": case.anchor_size, "anchor_size_ours": ours, "anchor_size_ratio": ratio}


def once(name: str, size: int, seed: int, deadline_s: float, more: str, hash_seed: int = 0) -> Sample | None:
    """Measure in a fresh process, with another order of sets in each; None where it did not end in time."""
    argv = [sys.executable, "-m", "tests.bench.plan_once", name, str(size), str(seed), str(WARM), more]
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    try:
        done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True, timeout=deadline_s, env=environment)
    except subprocess.TimeoutExpired:
        say(f"{name}, {size}: did not end in {deadline_s:g} s")
        return None
    return json.loads(done.stdout.splitlines()[-1])


def result(name: str, case: Case, samples: Mapping[int, Sequence[Sample]], anchor: Sample | None, count: int) -> Result:
    """Judge what was measured."""
    largest = case.sizes[-1]
    texts = targets(case)
    extra: dict[str, Any] = {"anchor_worth": anchor and anchor["worth"], "anchor_peak_mib": anchor and anchor["peak_mib"]}
    theirs = None if anchor is None else anchor["seconds"]
    if any(len(samples[size]) < count for size in case.sizes):
        extra["missed"] = [f"did not end in {DEADLINE_S:g} s"]
        extra["least_s"] = {size: least(each) for size, each in samples.items() if each}
        return Result(name, DEADLINE_S, theirs, "; ".join(texts), False, count, extra, case.anchor_s is not None)
    missed = misses(case, samples)
    last = samples[largest]
    labels = list(last[0]["seconds"])
    extra |= {
        "missed": missed,
        "cold_s": {label: median(last, label, "cold") for label in labels},
        "warm_s": {label: median(last, label, "warm") for label in labels},
        "least_s": {size: least(each) for size, each in samples.items()},
        "peak_mib": last[0]["peak_mib"],
        "worth": last[0]["worth"],
    }
    return Result(name, median(last, labels[-1], "warm"), theirs, "; ".join(texts), not missed, count, extra, case.anchor_s is not None)


def targets(case: Case) -> list[str]:
    """Return the targets of a case in words."""
    goals = {"first": case.first, **{f"{budget:g}s": goal for budget, goal in case.finals.items()}}
    texts = [f"{label} <= {goal.within_s:g} s" for label, goal in goals.items() if goal.within_s is not None]
    texts += [f"{label} <= {goal.ratio:g} x bound" for label, goal in goals.items() if goal.ratio is not None]
    texts += [f"<= {case.factor:g} x per doubling"] if case.factor else []
    texts += [f">= {case.rate:g} demands/s"] if case.rate else []
    return [*texts, "none unplaced in the last that can be placed", "every placement holds"]


def misses(case: Case, samples: Mapping[int, Sequence[Sample]]) -> list[str]:
    """Return what was missed, in words."""
    last = samples[case.sizes[-1]]
    wrong = []
    for label in last[0]["seconds"]:
        goal = case.first if label == "first" else case.finals[float(label.removesuffix("s"))]
        is_last = label == list(last[0]["seconds"])[-1]
        wrong += _missed(goal, label, median(last, label, "warm"), last[0]["worth"][label], is_last=is_last)
        if len({each["digest"][label] for each in last}) > 1:
            wrong.append(f"{label}: another plan in another process")
    for one, two in itertools.pairwise(least(each) for each in samples.values()):
        if case.factor is not None and two > one * case.factor:
            wrong.append(f"{two / one:.2f} x per doubling")
    rate = case.sizes[-1] / median(last, "first", "warm")
    if case.rate is not None and rate < case.rate:
        wrong.append(f"{rate:.0f} demands/s")
    return wrong


def _missed(goal: Goal, label: str, seconds: float, worth: Mapping[str, Any], *, is_last: bool) -> list[str]:
    """Return what a plan missed. Only of the last one must all be placed that can be: earlier ones are what there is at once, and say what they leave."""
    wrong = [f"{label}: {each}" for each in worth["breaches"]]
    if is_last and worth["unplaced"] > worth["at_least"]:
        wrong.append(f"{label}: {worth['unplaced']} unplaced, {worth['at_least']} have to be")
    if goal.within_s is not None and seconds > goal.within_s:
        wrong.append(f"{label}: {seconds:.3f} s")
    if goal.ratio is not None and worth["ratio"] is not None and worth["ratio"] > goal.ratio:
        wrong.append(f"{label}: {worth['ratio']:.4f} x bound")
    return wrong


def median(samples: Sequence[Sample], label: str, kind: str) -> float:
    """Return the median over all processes, of cold or of warm plans."""
    seconds = [each["seconds"][label][kind] for each in samples]
    return round(statistics.median(value for each in seconds for value in (each if isinstance(each, list) else [each])), 6)


def least(samples: Sequence[Sample]) -> float:
    """Return the quickest first plan: what grows with the size, without what else the machine did."""
    return min(value for each in samples for value in each["seconds"]["first"]["warm"])
