"""Case `first-task`: from a task's submission, with no worker node there, to its start, stamped inside the task.

Pairs are interleaved (ours, anchor, ours, ...), each run with a fresh real head of 0 CPUs and a driver that is already connected.
The submission waits for a moment drawn by seed, the same in both halves of a pair: a loop's phase must not favour anyone.
"""

import json
import os
import random
import re
import select
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise

from rayscaler.local import startup
from tests.bench import worlds
from tests.bench.result import Options, Result, anchored, say, spread
from tests.bench.worlds import World

PAIRS = 10
TARGET_S = 4.5
RUN_S = 90.0
"""Whoever has not started the task by then never will."""
PHASE_S = 5.0
"""The anchor's loop comes round this often."""
STEPS = ("submitted", "demand_visible", "launch", "process", "raylet", "node_alive", "worker", "task")
"""Moments on the way, as far as a side has them; each is told as seconds after the one before."""


def run(options: Options) -> Result:
    """Measure all pairs."""
    pairs, rng = options.pairs or PAIRS, random.Random(options.seed)
    ours: list[dict[str, float]] = []
    anchors: list[dict[str, float] | None] = []
    for index in range(pairs):
        phase_s = rng.uniform(0.0, PHASE_S)
        ours.append(_measure(worlds.ours(), phase_s))
        anchors.append(anchored(partial(_measure, worlds.anchor(), phase_s)))
        beside = "did not run" if anchors[-1] is None else f"{_total(anchors[-1]):.2f} s"
        say(f"pair {index + 1}: ours {_total(ours[-1]):.2f} s, Ray's fake multi-node {beside}; load {os.getloadavg()[0]:.1f}")
    return _result(ours, [each for each in anchors if each is not None])


def _result(ours: list[dict[str, float]], anchors: list[dict[str, float]]) -> Result:
    """Reduce all runs; an anchor that failed once is none."""
    mine, theirs = [_total(each) for each in ours], [_total(each) for each in anchors]
    is_anchored = len(theirs) == len(mine)
    ways = {"ours": _way(ours), "anchor": _way(anchors)}
    _tell(ways)
    median = statistics.median(mine)
    extra = {
        "spread": spread(mine),
        "anchor_spread": spread(theirs) if theirs else None,
        "wins": sum(a < b for a, b in zip(mine, theirs, strict=True)) if is_anchored else None,
        "way": ways,
        "note": "medians; anchor: Ray's autoscaler v2 with its fake multi-node provider at their defaults (a look every 5 s), same head flags",
    }
    other = statistics.median(theirs) if is_anchored else None
    return Result("first-task", median, other, f"ours median <= {TARGET_S:g} s", median <= TARGET_S, len(mine), extra)


def _measure(running: AbstractContextManager[World], phase_s: float) -> dict[str, float]:
    """Run one world for one task; return the moments on its way."""
    with running as world:
        argv = [sys.executable, "-m", "tests.bench.driver", world.address]
        with (
            world.log("driver").open("wb") as log,
            subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log) as driver,
        ):
            try:
                _line(driver, world)
                time.sleep(phase_s)  # drawn by seed: samples meet Ray's reporting periods at all their phases
                driver.stdin.write("go\n")
                driver.stdin.flush()
                return _moments(world, _line(driver, world))
            finally:
                driver.kill()


def _line(driver: subprocess.Popen[str], world: World) -> dict[str, float]:
    """Read the driver's next line; a dead or stuck driver is an error."""
    is_silent = not select.select([driver.stdout], [], [], RUN_S)[0]
    line = "" if is_silent else driver.stdout.readline()
    if not line:
        what = f"said nothing in {RUN_S:g} s" if is_silent else "ended"
        raise RuntimeError(
            f"the driver {what}; the head's end:\n{startup.tail(world.log('head'))}\nits own:\n{startup.tail(world.log('driver'))}"
        )
    return json.loads(line)


def _moments(world: World, told: dict[str, float]) -> dict[str, float]:
    """Complete what the driver tells by what /proc and the service's log still show."""
    moments = {name: at for name, at in told.items() if name != "pid"}
    moments["worker"] = worlds.started_at(int(told["pid"]))
    for pid in worlds.marked(world.mark):
        line, began = worlds.command_line(pid), worlds.started_at(pid)
        if began > moments["submitted"]:
            if "ray start" in line and "--address=" in line:
                moments["process"] = min(began, moments.get("process", began))  # the supervisor comes before its `ray start`
            elif "raylet/raylet " in line:
                moments["raylet"] = began
    launched = re.search(r"timestamp=(\S+) \S+ event=cycle .*launches=.*worker", startup.text(world.log("service")))
    if launched:
        moments["launch"] = datetime.fromisoformat(launched[1]).replace(tzinfo=UTC).timestamp()
    return moments


def _total(moments: dict[str, float]) -> float:
    return moments["task"] - moments["submitted"]


def _way(runs: list[dict[str, float]]) -> dict[str, float]:
    """Return, for each moment that all runs have, the median of its distance from the one before."""
    steps = [step for step in STEPS if runs and all(step in each for each in runs)]
    return {after: round(statistics.median(each[after] - each[before] for each in runs), 3) for before, after in pairwise(steps)}


def _tell(ways: dict[str, dict[str, float]]) -> None:
    """Print where the time goes."""
    say("median seconds from the moment before:")
    for step in STEPS[1:]:
        cells = (f"{ways[side][step]:8.2f}" if step in ways[side] else "       -" for side in ("ours", "anchor"))
        say(f"  {step:<16}" + "".join(cells))
