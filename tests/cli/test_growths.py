"""Growth in place (J4) in `rayscaler plan` and `rayscaler simulate`: nodes that are there grow before any is launched, and that is told."""

import pytest

from tests.cli import test_plan, test_simulate

pytestmark = pytest.mark.tier("unit")

TYPES = [{"name": "small", "resources": {"CPU": 1}, "cost": 3.6, "resize": {"maxResources": {"CPU": 4}}}]
DEMAND = {"demands": [{"resources": {"CPU": 2}}], "nodes": [{"type": "small", "count": 10, "used": {"CPU": 1}}]}


def test_j4_a_plan_tells_which_nodes_grow_and_to_what(tmp_path):
    found = test_plan.planned(tmp_path, DEMAND, nodeTypes=TYPES)
    assert found["growths"] == [{"node": "nodes[0] #1", "resources": {"CPU": 3}}]
    assert (found["launches"], found["infeasible"], found["cost"]) == ({}, [], 0.0)
    assert {"type": "small", "nodes": 1, "existing": True, "holds": [{"demand": 0, "count": 1}]} in found["placements"]
    said, code = test_plan.run(tmp_path, {**test_plan.CLUSTER, "spec": {"nodeTypes": TYPES}}, DEMAND)
    assert "small 1 nodes[0] #1 {CPU: 3}" in test_plan.words(said)
    assert test_plan.words(said)[-1].startswith(
        "0 nodes to launch at a cost of 0 per hour, 1 to grow, 0 to end; everything asked for has a place"
    )
    assert code == 0


def test_a_plan_in_which_nothing_grows_says_nothing_of_it(tmp_path):
    assert "growths" not in test_plan.planned(tmp_path, {"demands": [{"resources": {"CPU": 1}}]}, nodeTypes=TYPES)


def test_in_a_simulation_a_node_grows_at_once_and_none_is_launched_for_that(tmp_path):
    """The first task launches a node; three more make it grow, and begin as soon as that is planned."""
    trace = "arrival_s,duration_s,count,CPU\n0,600,1,1\n100,100,3,1\n"
    found = test_simulate.simulated(tmp_path, trace, {"nodeTypes": TYPES})
    [kind] = found["node_types"]
    assert (kind["launches"], found["tasks"]["finished"]) == (1, 4), found
    fixed = [{key: value for key, value in TYPES[0].items() if key != "resize"}]
    [kind] = test_simulate.simulated(tmp_path, trace, {"nodeTypes": fixed})["node_types"]
    assert kind["launches"] == 4
