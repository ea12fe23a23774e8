"""L1: in random traces the stated reason predicts the next action, of every node and shape, each time."""

import asyncio
import random
from collections.abc import Iterator
from itertools import pairwise

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.model.explanation import Because, Explanation
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing.loop_clock import START_AT
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

IDLE_S = 6.0
STEP_S = 0.1
"""Between two looks."""
SOON_S = 3.2
"""From the moment that a reason ends to the act: a heartbeat (2 s) and its reading, a cycle, the drain's way to Ray, a look."""
CLUSTER = ClusterConfig(
    "demo",
    (NodeType("small", Resources.of(CPU=2), min_workers=1, max_workers=6), NodeType("large", Resources.of(CPU=8), max_workers=2)),
    idle_timeout_s=IDLE_S,
)
GOES = {Reason.WAITING_IDLE, Reason.DRAIN_REFUSED, Reason.SETTLING}
"""What an idle node may be said to be just before its drain; no other reason lets a node go in these traces."""

Trace = list[tuple[float, Explanation]]


async def watch(whole: Whole, trace: Trace) -> None:
    """Look at everything again and again; times are those of the loop."""
    while True:
        assert whole.reconciler is not None
        trace.append((asyncio.get_running_loop().time(), whole.reconciler.explanation()))
        await asyncio.sleep(STEP_S)


async def live(whole: Whole, rng: random.Random) -> None:
    """Work of all sizes comes and goes; now and then a launch fails."""
    for _ in range(rng.randint(3, 7)):
        if rng.random() < 0.3:
            whole.executor.fail_next_launch(InsufficientCapacity("no machines"))
        cpus = rng.choice([1, 1, 2, 8, 64])
        whole.gcs.submit(Resources.of(CPU=cpus), rng.randint(1, 6), runtime_s=rng.uniform(0.5, 8.0))
        await asyncio.sleep(rng.uniform(0.1, 9.0))
    await asyncio.sleep(25)


def of_node(trace: Trace, name: str) -> Iterator[tuple[float, Because]]:
    for at, told in trace:
        yield from ((at, each.because) for each in told.nodes if each.instance_id == name)


def last(told: Iterator[tuple[float, Because]], before: float) -> Because | None:
    found = [because for at, because in told if at < before]
    return found[-1] if found else None


def check_nodes(whole: Whole, trace: Trace) -> int:
    """Who is drained was said to go, by then; who was said to go by then is drained. Return how many were judged."""
    drained = {name: at for at, what, name in whole.events if what in ("drained", "drain refused")}
    judged = 0
    for name, at in drained.items():
        because = last(of_node(trace, name), at)
        assert because is not None
        assert because.reason in GOES or because.reason is Reason.IDLE, (name, at, because)
        if because.reason in GOES:
            assert because.until is not None
            assert because.until <= START_AT + at + 0.01, (name, at, because)
        judged += 1
    for name in whole.of("join"):
        for at, because in of_node(trace, name):
            if because.reason is Reason.WAITING_IDLE and because.until is not None and because.until + SOON_S < START_AT + at:
                raise AssertionError(f"{name} was to go at {because.until}, and at {START_AT + at} it still waits")
            assert because.until is None or because.until > because.since, (name, because)
    return judged


def check_shapes(whole: Whole, trace: Trace) -> int:
    """What was said to be launching had its nodes; a pause was kept to its end, and ended with a try. Return how many were judged."""
    launches = [at for at, what, _ in whole.events if what == "launch"]
    tries = {
        each.name: [at for at, what, name in whole.events if what == "launch" and f"-{each.name}-" in name] for each in CLUSTER.node_types
    }
    judged = 0
    for (at, told), (next_at, following) in pairwise(trace):
        flying = {each.node_type for each in told.nodes if each.because.reason is Reason.LAUNCHING}
        for each in told.shapes:
            if each.because.reason is Reason.LAUNCHING:
                assert {way.node_type for way in each.on_the_way} <= flying, (at, each)
                judged += 1
            assert each.because.reason is not Reason.NO_TYPE_FITS or each.shape == "{CPU: 64}"
        after = {each.name: each.because for each in following.node_types}
        for each in told.node_types:
            if each.because.reason is Reason.BACKED_OFF and after[each.name] == each.because:
                assert each.because.until is None or not [when for when in tries[each.name] if at < when < next_at], "no try in a pause"
        for shape in told.shapes:
            until = shape.because.until
            if shape.because.reason is Reason.BACKED_OFF and until is not None and START_AT + at < until <= START_AT + next_at:
                judged += 1
                assert [when for when in launches if 0 <= when - (until - START_AT) + 0.01 <= SOON_S], (at, shape)
    return judged


@pytest.mark.parametrize("seed", range(30))
async def test_l1_what_is_said_is_what_happens_next(seed):
    rng = random.Random(seed)
    trace: Trace = []
    async with running(CLUSTER) as whole:
        looking = asyncio.create_task(watch(whole, trace))
        await live(whole, rng)
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    judged = check_nodes(whole, trace) + check_shapes(whole, trace)
    assert judged or len(whole.of("join")) <= 1, "more than the minimum came"
