"""kill -9 of service, monitor and head, each in a scale-up and in a scale-down: nothing starts twice, no busy node ends, nothing is orphaned."""

import random

import pytest

from tests.ray.kills import LIFE, SPEC, VICTIMS, Round
from tests.ray.wreck import wreck

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(900)]


async def test_a_kill_9_of_any_part_at_any_moment_loses_and_doubles_nothing():
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    draw = random.Random(seed)
    async with wreck(SPEC) as stack:
        for number, victim in enumerate(VICTIMS):
            await Round(stack, victim, draw, number * LIFE).run((draw.random() < 0.5, draw.random() < 0.5))
