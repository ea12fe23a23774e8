"""Complaint D3: while the same is asked for all day long, nothing is launched and nothing ends once what it takes is there."""

import asyncio
import math
import random
from dataclasses import dataclass, field
from statistics import fmean

import pytest

from rayscaler.model.demand import Strategy
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.counts import counted
from tests.simulation.day import BOOT_S, DAY_S, STEP_S, Day
from tests.simulation.whole import running

pytestmark = pytest.mark.tier("unit")

MIXES = counted(gate=8, full=200)
SAFETY_S = 60.0
"""The service plans at least so often; here, where nothing has changed since, less often."""
EVERY_S = 10 * SAFETY_S
IDLE_S = 300.0
CONVERGED_S = 2 * (BOOT_S[1] + IDLE_S + SAFETY_S)
"""What is launched at first is there by then, and what of it was for something else has been idle for its time."""
R = Resources.of


def types(dice: random.Random) -> tuple[NodeType, ...]:
    """Return up to four kinds of node with all that may bring them about: costs, maxima, minimums, headroom."""
    has_costs = dice.random() < 0.5
    return tuple(_type(dice, name, has_costs=has_costs) for name in ("ant", "bee", "cow", "dog")[: dice.randint(1, 4)])


def _type(dice: random.Random, name: str, *, has_costs: bool) -> NodeType:
    cpus, gpus = dice.choice([2, 4, 8, 16, 64]), dice.choice([0, 0, 1, 4])
    most = dice.choice([-1, -1, 1, 3, 8])
    return NodeType(
        name,
        R(CPU=cpus, memory=cpus * dice.choice([2, 4, 8]), **({"GPU": gpus} if gpus else {})),
        min_workers=0 if most == 1 else dice.choice([0, 0, 0, 1, 2]),
        max_workers=most,
        headroom=dice.choice([0, 0, 0, 0, 1]),
        cost=round(cpus * dice.uniform(0.7, 1.4) + 8 * gpus, 2) if has_costs else None,
    )


def shapes(dice: random.Random) -> list[Resources]:
    """Return up to six shapes."""
    return [
        R(
            CPU=dice.choice([0.5, 1, 1, 2, 3, 4, 6, 20]),
            **dice.choice([{}, {"memory": dice.choice([1, 3, 5, 8])}]),
            **dice.choice([{}, {}, {"GPU": dice.choice([1, 2])}]),
        )
        for _ in range(dice.randint(1, 6))
    ]


@dataclass
class Steady(Day):
    """A day on which all that was asked for at its beginning goes on: what has a place keeps it, what waits waits on."""

    planned: list[int] = field(default_factory=list)
    """How many things were done by each plan after the convergence."""

    def runtime_s(self) -> float:
        return math.inf

    def plan(self) -> None:
        before = len(self.launched) + self.ended.total()
        super().plan()
        if self.now > CONVERGED_S:
            self.planned.append(len(self.launched) + self.ended.total() - before)

    def whole(self) -> None:
        """Let the day pass, in long steps once nothing is to happen any more."""
        while self.now < DAY_S:
            if self.now > CONVERGED_S:
                self.now += EVERY_S - STEP_S
            self.step()
            self.plan()


def whole_day(seed: int) -> Steady:
    dice = random.Random(seed)
    config = ClusterConfig("steady", types(dice), max_workers=dice.choice([6, 20, 200]), idle_timeout_s=IDLE_S)
    day = Steady(seed, dice.choice([0, 0, 100]), config)
    day.pending = [shape for shape in shapes(dice) for _ in range(dice.choice([1, 2, 5, 12, 30]))]
    day.whole()
    return day


@pytest.mark.timeout(3600)
def test_d3_under_constant_demand_nothing_is_launched_or_ended_for_a_day_after_the_first_convergence():
    days = [whole_day(seed) for seed in range(MIXES)]
    for each in days:
        assert len(each.planned) > 0.9 * DAY_S / EVERY_S
        assert sum(each.planned) == 0, (each.seed, each.launched[-1:], each.ended, each.ended_at)
        assert max([0.0, *(at for at, _ in each.launched)]) <= CONVERGED_S
    print(
        f"{fmean(len(each.launched) for each in days):.1f} launches a day, {sum(bool(each.pending) for each in days)} with some that waits"
    )
    assert sum(bool(each.launched) for each in days) > 0.8 * len(days)
    assert sum(bool(each.pending) for each in days) > len(days) / 10  # what cannot be had is asked for all day too


HOURS = counted(gate=0.1, full=4.0)


@pytest.mark.looptime
@pytest.mark.timeout(3600)
async def test_d3_the_whole_service_does_nothing_more_while_the_same_goes_on_and_the_same_waits():
    kinds = NodeType("small", R(CPU=4), min_workers=1), NodeType("large", R(CPU=16), max_workers=3), NodeType("gpu", R(CPU=4, GPU=1))
    async with running(ClusterConfig("demo", kinds, max_workers=12, idle_timeout_s=30.0)) as whole:
        whole.gcs.submit(R(CPU=3), 7)
        whole.gcs.submit(R(CPU=1, GPU=1), 3)
        whole.gcs.submit(R(CPU=200), 2)  # no type holds it
        whole.gcs.create_gang(Strategy.STRICT_SPREAD, [R(CPU=2)] * 3)
        whole.gcs.create_gang(Strategy.STRICT_SPREAD, [R(CPU=2)] * 30)  # nor so many
        whole.gcs.request_resources([R(CPU=1)] * 30)
        await asyncio.sleep(120)
        there, done = whole.nodes(), len(whole.events)
        assert len(whole.gcs.running()) == 10
        assert whole.of("launch")
        await asyncio.sleep(HOURS * 3600)
        assert (whole.nodes(), whole.events[done:]) == (there, [])
