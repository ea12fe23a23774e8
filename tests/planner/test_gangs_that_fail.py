"""What becomes of a gang of which a launch failed."""

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
