"""`rayscaler plan --json` replayed by a judge that knows nothing of rayscaler (L5): the openb trace, random worlds, and forged plans."""

import copy
import json

import pytest
from hypothesis import given, settings

from rayscaler.cli.plan.document import document_of
from rayscaler.cli.plan.state import state_of
from rayscaler.config import demandfile, native
from rayscaler.planner.plan import plan
from tests.bench import openb
from tests.cli.replay import check
from tests.cli.test_plan import CLUSTER, DEMAND, VALID, run
from tests.config.demand_documents import worlds

pytestmark = pytest.mark.tier("property")


def made(cluster, demand):
    """Return the JSON of a plan, there and back."""
    config = native.cluster(cluster)
    wanted = demandfile.wanted(demand, config)
    state = state_of(config, wanted)
    return json.loads(json.dumps(document_of(state, wanted, plan(state), 0.0)))


@given(worlds)
@settings(database=None)
def test_any_plan_replays_and_fits_its_schema(world):
    cluster, demand = world
    found = made(cluster, demand)
    VALID.validate(found)
    assert check(cluster, demand, found) == []


@pytest.fixture(scope="module")
def trace():
    """The openb trace as a definition, a demand file and its plan by the command."""
    return openb.cluster(openb.rows(openb.NODES)), openb.demand(openb.rows(openb.PODS))


def test_the_plan_of_the_openb_trace_replays(trace, tmp_path):
    cluster, demand = trace
    said, code = run(tmp_path, cluster, demand, "--json")
    found = json.loads(said)
    VALID.validate(found)
    assert check(cluster, demand, found) == []
    refused = sum(each["count"] for each in found["infeasible"])
    placed = sum(held["count"] * each["nodes"] for each in found["placements"] for held in each["holds"])
    assert (code, placed + refused) == (1 if refused else 0, 8152)
    assert sum(found["launches"].values()) <= 1523
    assert {each["reason"] for each in found["infeasible"]} <= {"MAX_WORKERS_OF_TYPE"}  # every pod of the trace fits some node of it


def test_gpu_models_of_pods_become_label_wishes():
    nodes = [{"model": model, "gpu": "2", "cpu_milli": "8000", "memory_mib": "1024"} for model in ("T4", "V100M16", "V100M32")]
    pods = [
        {"cpu_milli": "500", "memory_mib": "100", "num_gpu": "1", "gpu_milli": "250", "gpu_spec": spec}
        for spec in ("", "V100M16|V100M32", "T4", "A10")
    ]
    cluster, demand = openb.cluster(nodes), openb.demand(pods)
    assert [each.get("labelSelectors") for each in demand["demands"]] == [
        None,
        [{"accelerator": "in(A10)"}],
        [{"accelerator": "in(T4)"}],
        [{"accelerator": "in(V100M16, V100M32)"}],
    ]
    found = made(cluster, demand)
    assert check(cluster, demand, found) == []
    assert [(each["demand"], each["reason"]) for each in found["infeasible"]] == [(1, "NO_TYPE_HAS_LABELS")]


def entry(found, *, index, existing=None):
    """Return a placement that holds what stands at `index`, and that part of it."""
    for each in found["placements"]:
        for held in each["holds"]:
            if held["demand"] == index and existing in (None, each["existing"]):
                return each, held
    raise LookupError(index)


def more_on_a_node(found):
    entry(found, index=0)[1]["count"] += 2


def on_a_node_of_other_labels(found):
    held = entry(found, index=2)[1]
    entry(found, index=2)[0]["holds"].remove(held)
    entry(found, index=0, existing=False)[0]["holds"].append(held)


def a_placement_left_out(found):
    entry(found, index=2)[0]["holds"].remove(entry(found, index=2)[1])


def refused_and_placed(found):
    found["infeasible"].append({"demand": 0, "count": 1, "reason": "NO_ROOM", "detail": "waits"})


def refused_less_than_asked(found):
    found["infeasible"].clear()


def refused_without_a_reason(found):
    found["infeasible"][0]["detail"] = ""


def refused_though_there_is_room(found):
    each, held = entry(found, index=2)
    found["infeasible"].append({"demand": 2, "count": held["count"], "reason": "NO_ROOM", "detail": "waits"})
    each["holds"].remove(held)


def launched_above_the_maximum(found):
    found["launches"]["cpu-large"] = 2
    found["placements"].append({"type": "cpu-large", "nodes": 2, "existing": False, "holds": []})
    found["cost"] = 9.3 + 1.6


def launched_without_a_node(found):
    found["launches"]["gpu"] += 1
    found["cost"] = 12.4


def another_cost(found):
    found["cost"] = 9.31


def no_cost(found):
    found["cost"] = None


def spread_on_one_node(found):
    for each in found["placements"]:
        each["holds"] = [held for held in each["holds"] if held["demand"] != 3]
    entry(found, index=0, existing=False)[0]["holds"].append({"demand": 3, "count": 3})


def packed_on_two_nodes(found):
    each, held = entry(found, index=4)
    each["holds"].remove(held)
    gpu, _ = entry(found, index=0)
    gpu["nodes"] = 2
    found["placements"].append({**gpu, "nodes": 1, "holds": [*gpu["holds"], {"demand": 4, "bundle": 0, "count": 1}]})
    held["count"] -= 1
    each["holds"].append(held)


def half_a_gang(found):
    each, held = entry(found, index=4)
    each["holds"].remove(held)


def a_constraint_above_the_totals(found):
    entry(found, index=5)[1]["count"] += 1


def a_node_more_than_there_is(found):
    found["placements"][2]["nodes"] += 1


def a_node_of_no_type(found):
    found["placements"][0]["type"] = "cpu-larger"


def an_index_beyond_the_file(found):
    entry(found, index=0)[1]["demand"] = 6


def a_bundle_beyond_the_gang(found):
    entry(found, index=4)[1]["bundle"] = 2


def a_negative_count(found):
    each, held = entry(found, index=2)
    each["holds"] += [{**held, "count": held["count"] + 1}, {**held, "count": -1}]
    each["holds"].remove(held)


def an_end_of_no_node(found):
    found["terminations"].append({"node": "nodes[1] #2", "reason": "IDLE"})


def an_end_told_twice(found):
    found["terminations"] += [{"node": "nodes[1] #1", "reason": "IDLE"}] * 2


def an_end_of_a_node_that_holds_something(found):
    found["terminations"].append({"node": "nodes[0] #1", "reason": "IDLE"})


FORGERIES = {
    more_on_a_node: "is more than a node holds",
    on_a_node_of_other_labels: "breaks labels on gpu",
    a_placement_left_out: "entry 2: 3 placed and 0 refused of 4",
    refused_and_placed: "entry 0: 3 placed and 1 refused of 3",
    refused_less_than_asked: "entry 1: 0 placed and 0 refused of 1",
    refused_without_a_reason: "gives no reason",
    refused_though_there_is_room: "is refused, though one more cpu-large could hold it",
    launched_above_the_maximum: "5 of cpu-large, there may be 4",
    launched_without_a_node: "3} nodes are new",
    another_cost: "the cost is 9.3, not 9.31",
    no_cost: "the cost is 9.3, not None",
    spread_on_one_node: "3 bundles of 2 STRICT_SPREAD gangs",
    packed_on_two_nodes: "a STRICT_PACK gang is on more than one node",
    half_a_gang: "not each of their bundles",
    a_constraint_above_the_totals: "does not fit on the nodes that are there",
    a_node_more_than_there_is: "3 of cpu-large are there, 4 are told of",
    a_node_of_no_type: "is of no node",
    an_index_beyond_the_file: "is of nothing in the file",
    a_bundle_beyond_the_gang: "is of no bundle",
    a_negative_count: "is of nothing in the file",
    an_end_of_no_node: "nodes[1] #2 ends 1 times",
    an_end_told_twice: "nodes[1] #1 ends 2 times",
    an_end_of_a_node_that_holds_something: "does not fit on the nodes that are there and stay",
}


@pytest.fixture(scope="module")
def good():
    return made(CLUSTER, DEMAND)


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_a_forged_plan_is_caught(forge, good):
    assert check(CLUSTER, DEMAND, good) == []
    forged = copy.deepcopy(good)
    forge(forged)
    assert any(FORGERIES[forge] in each for each in check(CLUSTER, DEMAND, forged)), check(CLUSTER, DEMAND, forged)
