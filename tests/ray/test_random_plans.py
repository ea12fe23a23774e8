"""Random small plans on real raylets: exactly the planned nodes are launched, and all that is said to be held starts at the same time.

Ray itself chooses nodes by sums: of 0.6 GPU three times it may send all to a node of two. So everything is sent where the plan has put it,
and it is the raylets, who give out device by device, that say whether it has room there.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.counts import counted
from tests.properties.checker import check
from tests.ray.carrying import bench
from tests.ray.plans import Case, cases

CASES = counted(gate=20, full=200)
BENCHES = 2
"""One node starts at a time at each head: two of them keep a small machine busy."""

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(counted(gate=900, full=5400))]


async def test_what_is_planned_is_launched_and_what_is_held_starts_at_once():
    seed = random.getrandbits(32)  # of the whole run's, which is printed at its beginning
    print(f"seed {seed}, {CASES} cases")
    left = cases(random.Random(seed), CASES)
    wrong: list[str] = []
    kinds: Counter[str] = Counter()
    async with asyncio.TaskGroup() as tasks:
        for number in range(BENCHES):
            tasks.create_task(_carry_out(left, wrong, kinds), name=f"bench {number}")
    print(dict(kinds))
    assert not wrong, "\n".join([f"seed {seed}, {len(wrong)} wrong", *wrong])
    assert kinds["cases"] == CASES
    assert kinds["parts of GPUs"] >= CASES // 2
    assert kinds["gangs"] >= CASES // 3


async def _carry_out(left: Iterator[Case], wrong: list[str], kinds: Counter[str]) -> None:
    """Carry cases out until there are none left."""
    async with bench() as here:
        for case in left:
            said = check(case.state, case.plan) or await here.wrong_with(case)
            wrong += [f"{case}\n  {each}" for each in said]
            kinds.update(
                {
                    "cases": 1,
                    "parts of GPUs": case.has_fractions,
                    "gangs": case.has_gangs,
                    "nodes": len(case.nodes),
                    "held": len(case.held),
                    "left out": bool(case.plan.infeasible),
                }
            )
