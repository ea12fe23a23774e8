"""Scenario 2 and complaints F1 to F4: the head dies half-way up; nothing is lost, nothing is started twice, nothing stays behind."""

import random

import pytest

from tests.ray.head_loss import FULL, SMALL, Size, head_dies

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    ("is_stored", "restarts", "size"),
    [(True, 1, FULL), (False, 1, SMALL), (False, 3, SMALL)],
    ids=["stored state", "no stored state", "three in a row"],
)
async def test_scenario_2_the_head_dies_half_way_up_and_the_target_is_reached_with_what_was_begun(
    is_stored: bool, restarts: int, size: Size
):
    await head_dies(random.randrange(10**6), is_stored=is_stored, restarts=restarts, size=size)
