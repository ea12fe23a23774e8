"""Case `plugin-launch`: one launch call through the plugins' door, a unix socket, beside the same call within the process.

Three executors without machines: in this process; in one of its own that `rayscaler.plugin` serves; and one that the real go-plugin serves and our
host started. A watch is open, as in the service; calls go one after the other.
"""

import asyncio
import contextlib
import itertools
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import structlog

from rayscaler.clock import SystemClock
from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.faults import State
from rayscaler.plugin.host import PluginHost
from rayscaler.plugin.started import Started
from rayscaler.processes import SystemProcesses
from rayscaler.settings import Timings
from rayscaler.tasks import calm_collector
from tests.bench.plugin_program import still
from tests.bench.result import Options, Result, say, spread
from tests.plugin import go_plugin
from tests.plugin.door import MAX_MESSAGE_BYTES

SAMPLES = 1000
WARM = 50
"""Calls that are not counted."""
TARGET_S = 0.002
LABELS = tuple((f"label-{number}", "value") for number in range(5))
ENV = tuple((f"NAME_{number}", "value") for number in range(10))


def spec(instance_id: str) -> LaunchSpec:
    """Return a spec as definitions have it."""
    node_type = NodeType("small", Resources.of(CPU=8, memory=32 << 30), labels=LABELS, env=ENV)
    return LaunchSpec("bench", instance_id, node_type, "192.0.2.9:6379")


def run(options: Options) -> Result:
    """Measure all three, in turns."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    samples = options.samples or SAMPLES
    program = str(go_plugin.build())
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        took = asyncio.run(_measured(samples, program, Path(directory)))
    medians = {name: statistics.median(each) for name, each in took.items()}
    within = medians.pop("within")
    worst = max(medians.values())
    extra = {
        "added": {name: round(each - within, 6) for name, each in medians.items()},
        "spread": {name: spread(each) for name, each in took.items()},
        "note": "ours: the slower of the medians through the door (python: rayscaler.plugin's server; go: the real go-plugin under our host); "
        "anchor: median within the process",
    }
    return Result("plugin-launch", worst, within, f"ours <= anchor + {TARGET_S:g} s", worst - within <= TARGET_S, samples, extra)


async def _measured(samples: int, program: str, directory: Path) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {"within": [], "python": [], "go": []}
    async with contextlib.AsyncExitStack() as stack:
        executors = {
            "within": still(),
            "python": await stack.enter_async_context(served(directory / "s", "fake")),
            "go": await stack.enter_async_context(hosted(program, directory / "p")),
        }
        for executor in executors.values():
            await stack.enter_async_context(watched(executor))
        numbers = itertools.count()
        calm_collector()  # as the service does
        for index in range(WARM + samples):
            for name, executor in executors.items():
                made = spec(f"i-{next(numbers)}")
                began = time.perf_counter()
                await executor.launch(made)
                if index >= WARM:
                    took[name].append(time.perf_counter() - began)
    for name, each in took.items():
        say(f"{name}: median {statistics.median(each) * 1000:.3f} ms")
    return took


@contextlib.asynccontextmanager
async def program(*argv: str) -> AsyncIterator[str]:
    """Run a process of tests/bench/plugin_program.py; give the line it says once it serves."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.plugin_program", *argv, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def served(socket: Path, what: str, *rest: str) -> AsyncIterator[PluginExecutor]:
    """Serve an executor in a process of its own, and call it."""
    async with program(what, str(socket), *rest):
        executor = PluginExecutor(Address(f"unix://{socket}", max_message_bytes=MAX_MESSAGE_BYTES))
        yield executor
        await executor.close()


@contextlib.asynccontextmanager
async def hosted(path: str, directory: Path) -> AsyncIterator[PluginExecutor]:
    """Host a plugin, and call it."""
    host = PluginHost(
        "bench",
        [path],
        directory,
        processes=SystemProcesses(),
        timings=Timings(),
        clock=SystemClock(),
        max_message_bytes=MAX_MESSAGE_BYTES,
    )
    running = asyncio.create_task(host.run())
    while (await host.changed()).state is not State.SERVING:
        say(host.status.text("bench"))
    executor = PluginExecutor(Started(host))
    yield executor
    await executor.close()
    running.cancel()
    await asyncio.wait({running})
    await host.stop()


@contextlib.asynccontextmanager
async def watched(executor: Executor) -> AsyncIterator[None]:
    """Watch a cluster meanwhile."""

    async def read() -> None:
        async for _ in executor.watch("bench"):
            pass

    reading = asyncio.create_task(read())
    yield
    reading.cancel()
    await asyncio.wait({reading})
