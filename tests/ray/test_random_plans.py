"""Random small plans on real raylets: exactly the planned nodes are launched, and all that is said to be held starts at the same time.

Ray itself chooses nodes by sums: of 0.6 GPU three times it may send all to a node of two. So everything is sent where the plan has put it,
and it is the raylets, who give out device by device, that say whether it has room there.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.plan import Launch, Placed, Placements, Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from tests.counts import counted
from tests.properties.checker import check
from tests.ray.carrying import bench
from tests.ray.plans import STEPS, Case, cases

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
            print(f"case {case.number}: {len(case.nodes)} nodes, {len(case.held)} held: {said or 'as planned'}", flush=True)
            wrong += [f"{case}\n  {each}" for each in said]
            kinds.update(
                {
                    "cases": 1,
                    "parts of GPUs": case.has_fractions,
                    "gangs": case.has_gangs,
                    "by a service": case.is_for_service,
                    "improved": case.is_improved,
                    "nodes": len(case.nodes),
                    "held": len(case.held),
                    "left out": bool(case.plan.infeasible),
                }
            )


async def test_a_plan_that_takes_gpus_as_a_pool_is_found_out():
    """The plan of others: of two GPUs there is 1.8 to be had, so 0.6 three times."""
    node_type = NodeType("ant", Resources.of(CPU=4, GPU=2))
    bundle = Bundle(Resources.of(CPU=1, GPU=0.6))
    state = ClusterState(0.0, ClusterConfig("pool", (node_type,)), demands=(Demand(bundle, 3),))
    pool = Plan((Launch("ant", Reason.DEMAND, "as a pool"),), placements=Placements((Placed(bundle, 3, range(1)),)))
    case = Case(0, state, STEPS, pool)
    async with bench() as here:
        wrong = await here.wrong_with(case, patience_s=3.0)
    print(wrong)
    assert set(wrong) == {f"does not start: single: {bundle} on 0"}  # one, or on a busy machine more
