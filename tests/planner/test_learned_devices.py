"""What is said of accelerators where nodes of a type are known to join with less than defined."""

import pytest

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan

pytestmark = pytest.mark.tier("unit")


@pytest.mark.parametrize(("amount", "reason"), [(1.5, Reason.NO_TYPE_FITS), (4, Reason.NODES_SMALLER), (5, Reason.NO_TYPE_FITS)])
def test_only_what_the_definition_holds_device_by_device_waits_for_larger_nodes(amount, reason):
    node_type = NodeType("gpu", Resources.of(CPU=4, GPU=4))
    state = ClusterState(
        1000.0,
        ClusterConfig("c", (node_type,)),
        demands=(Demand(Bundle(Resources.of(GPU=amount)), 1),),
        learned=(("gpu", Resources.of(CPU=4, GPU=1)),),
    )
    assert [each.reason for each in plan(state).infeasible] == [reason]
