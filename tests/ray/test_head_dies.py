"""Scenario 2 and complaints F1 to F4: the head dies half-way up; nothing is lost, nothing is started twice, nothing stays behind.

Small here; the soak has 20 workers, stored state and none, and 1 and 20 restarts of each.
"""

import random

import pytest

from tests.ray.head_loss import SMALL, head_dies

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(900)]


@pytest.mark.parametrize(("is_stored", "restarts"), [(True, 1), (False, 2)], ids=["stored state", "no stored state, two in a row"])
async def test_scenario_2_the_head_dies_half_way_up_and_the_target_is_reached_with_what_was_begun(is_stored: bool, restarts: int):
    await head_dies(random.randrange(10**6), is_stored=is_stored, restarts=restarts, size=SMALL)
