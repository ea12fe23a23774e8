"""Case `plugin-thousand`: a thousand launches at once through the plugins' door, one call, beside the same within the process.

The executor is the one of Kubernetes on a small API server, which has a process of its own; so has the one behind the door. Pairs are interleaved.

Each side launches a thousand that are not counted first. A process that has just begun does its first thousand slower by a tenth, wherever the door is:
memory grows, code is read for the first time. Without them the process behind the door, new in each pair, was held against one that had done it before.
"""

import asyncio
import contextlib
import json
import logging
import statistics
import tempfile
import time
from pathlib import Path

import structlog

from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.tasks import calm_collector
from tests.bench.plugin_launch import program, served, watched
from tests.bench.plugin_program import pods_of
from tests.bench.result import Options, Result, say, spread

LAUNCHES = 1000
PAIRS = 9
TARGET = 1.1
REST_S = 0.2
"""What the thousand before has left to do is done by then: watches gather for a quarter of it."""
TEMPLATE = json.dumps({"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}]}})


def run(options: Options) -> Result:
    """Measure both, in turns."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    pairs = options.pairs or PAIRS
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        ours, within = asyncio.run(_measured(pairs, Path(directory)))
    mine, theirs = statistics.median(ours), statistics.median(within)
    extra = {
        "times": round(mine / theirs, 3),
        "spread": {"ours": spread(ours), "within": spread(within)},
        "note": f"ours: median of {LAUNCHES} launches of the Kubernetes executor on a small API server, through the door in one call; "
        "anchor: the same within the process",
    }
    return Result("plugin-thousand", mine, theirs, f"ours <= {TARGET:g} x anchor", mine <= TARGET * theirs, pairs, extra)


async def _measured(pairs: int, directory: Path) -> tuple[list[float], list[float]]:
    ours: list[float] = []
    within: list[float] = []
    calm_collector()  # as the service does
    for pair in range(-1, pairs):
        for name, took in (("ours", ours), ("within", within)):
            async with contextlib.AsyncExitStack() as stack:
                port = await stack.enter_async_context(program("api"))
                if name == "ours":
                    executor: Executor = await stack.enter_async_context(served(directory / f"s{pair}", "kubernetes", port))
                else:
                    executor = await stack.enter_async_context(pods_of(int(port)))
                await stack.enter_async_context(watched(executor))
                await _launched(executor, "first")
                await asyncio.sleep(REST_S)  # nobody tells when the last change was told
                seconds = await _launched(executor, "i")
            if pair >= 0:  # the pair before warms up
                took.append(seconds)
                say(f"{name}: {seconds:.3f} s")
    return ours, within


async def _launched(executor: Executor, prefix: str) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(executor.launch(_spec(f"{prefix}-{number}")) for number in range(LAUNCHES)))
    return time.perf_counter() - began


def _spec(instance_id: str) -> LaunchSpec:
    return LaunchSpec("bench", instance_id, NodeType("small", Resources.of(CPU=1), template=TEMPLATE), "192.0.2.9:6379")
