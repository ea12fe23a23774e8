"""What becomes of a gang of which a launch failed."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Gang, Reserve, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import NodeType
from rayscaler.model.state import Backoff, Expectation
from rayscaler.planner.plan import plan
from tests.planner.test_plan_tables import NOW, R, requested, state, want

pytestmark = pytest.mark.tier("unit")


def test_i1_a_gang_that_lost_one_of_its_launches_for_good_gives_up_the_others():
    gang = Gang("g", Strategy.STRICT_SPREAD, (want(2, CPU=4),))
    given = state(
        NodeType("t", R(CPU=4)),
        instances=(requested("f"),),
        gangs=(gang,),
        expectations=(Expectation("f", "t", NOW + 60, (Reserve(Bundle(R(CPU=4)), 1, "g"),), ("g",)),),
        backoffs=(Backoff("t", 3, NOW + 60, "no quota"),),
    )
    found = plan(given)
    assert [(each.what, each.reason) for each in found.infeasible] == [(gang, Reason.BACKED_OFF)]
    assert (found.placements, found.unneeded) == ((), ("f",))


@pytest.mark.parametrize(("strategy", "launched"), [(Strategy.STRICT_SPREAD, ["u"]), (Strategy.STRICT_PACK, ["u"])])
def test_dk_23_a_gang_of_which_a_launch_failed_gets_another_type(strategy, launched):
    bundle = Bundle(R(CPU=2))
    gang = Gang("g", strategy, (want(2, CPU=2),))
    at_first = plan(state(NodeType("t", R(CPU=4), cost=1.0), NodeType("u", R(CPU=8), cost=3.0), gangs=(gang,)))
    assert {each.node_type for each in at_first.launches} == {"t"}
    one_is_left = strategy is Strategy.STRICT_SPREAD
    found = plan(
        state(
            NodeType("t", R(CPU=4), cost=1.0),
            NodeType("u", R(CPU=8), cost=3.0),
            instances=(requested("f"),) if one_is_left else (),
            gangs=(gang,),
            expectations=(Expectation("f", "t", NOW + 60, (Reserve(bundle, 1, "g"),), ("g",)),) if one_is_left else (),
            backoffs=(Backoff("t", 1, NOW + 60, "no quota"),),
        )
    )
    assert [each.node_type for each in found.launches] == launched
    assert (found.infeasible, found.unneeded) == ((), ())


def test_sp_13_after_the_pause_what_a_gang_has_on_its_way_is_no_other_try():
    """With a gang scheduler it only joins once the rest is there too."""
    config = NodeType("t", R(CPU=4))
    kept = Expectation("f", "t", NOW + 60, (Reserve(Bundle(R(CPU=4)), 1, "g"),), ("g",))
    gang = Gang("g", Strategy.STRICT_SPREAD, (want(3, CPU=4),))
    given = state(
        config, instances=(requested("f"),), gangs=(gang,), expectations=(kept,), backoffs=(Backoff("t", 1, NOW - 1, "no quota"),)
    )
    found = plan(given)
    assert ([each.gangs for each in found.launches], found.infeasible) == ([("g",), ("g",)], ())
    others = Expectation("f", "t", NOW + 60, (Reserve(Bundle(R(CPU=4)), 1),))
    waits = plan(replace(given, demands=(want(1, CPU=4),), expectations=(others,)))
    assert (waits.launches, [each.reason for each in waits.infeasible]) == ((), [Reason.BACKED_OFF])
