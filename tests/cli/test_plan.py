"""`rayscaler plan` (complaint L5): what would be launched and ended and why, without a cluster; as tables and as JSON."""

import json
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from click.testing import CliRunner

from rayscaler.__main__ import main
from rayscaler.cli.plan.command import plan as command
from rayscaler.cli.plan.view import move
from rayscaler.errors import InvalidRequest
from rayscaler.model.instance import NEVER, PACED, Reason
from rayscaler.planner.refuse import SOONEST_FIRST

pytestmark = pytest.mark.tier("unit")

SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "plan.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)

CLUSTER = yaml.safe_load("""
apiVersion: rayscaler.io/v1
kind: Cluster
metadata: {name: demo}
spec:
  maxWorkers: 12
  nodeTypes:
  - {name: cpu-large, maxWorkers: 4, resources: {CPU: 16, memory: 64Gi}, labels: {zone: a}, cost: 0.8}
  - {name: gpu, resources: {CPU: 8, GPU: 1}, labels: {zone: b}, cost: 3.1}
""")
DEMAND = yaml.safe_load("""
demands:
- {resources: {CPU: 4, GPU: 1}, count: 3, labelSelectors: [{zone: a}, {zone: "!in(a, c)"}]}
- {resources: {CPU: 64}}
- {resources: {CPU: 2}, count: 4, labelSelectors: [{zone: a}]}
gangs:
- {strategy: STRICT_SPREAD, count: 2, bundles: [{resources: {CPU: 1}, count: 3}]}
- {strategy: STRICT_PACK, bundles: [{resources: {CPU: 4}, count: 2}, {resources: {memory: 1Gi}}]}
constraints: [{resources: {CPU: 1}, count: 32}]
nodes: [{type: cpu-large, count: 2, used: {CPU: 3}}, {type: cpu-large}]
""")


EMPTY = {**CLUSTER, "spec": {"nodeTypes": []}}


def files(tmp_path, cluster, demand):
    (tmp_path / "cluster.yaml").write_text(yaml.safe_dump(cluster))
    (tmp_path / "demand.yaml").write_text(yaml.safe_dump(demand))
    return ["-f", str(tmp_path / "cluster.yaml"), "--demand", str(tmp_path / "demand.yaml")]


def run(tmp_path, cluster, demand, *more):
    """Run the command on files; return what it printed and its exit code."""
    result = CliRunner().invoke(command, [*files(tmp_path, cluster, demand), *more], env={"COLUMNS": "300"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output, result.exit_code


def planned(tmp_path, demand, **spec):
    """Return the JSON for a demand file and the cluster with some of its spec changed."""
    said, _ = run(tmp_path, {**CLUSTER, "spec": {**CLUSTER["spec"], **spec}}, demand, "--json", "--steps", "0")
    found = json.loads(said)
    VALID.validate(found)
    assert found.pop("planning_seconds") >= 0
    return found


def test_json_says_what_is_launched_what_lies_where_and_what_has_no_place(tmp_path):
    assert planned(tmp_path, DEMAND) == {
        "launches": {"gpu": 3},
        "placements": [
            {
                "type": "cpu-large",
                "nodes": 1,
                "existing": True,
                "holds": [
                    {"demand": 2, "count": 1},
                    {"demand": 3, "count": 2},
                    {"demand": 4, "bundle": 0, "count": 2},
                    {"demand": 4, "bundle": 1, "count": 1},
                    {"demand": 5, "count": 16},
                ],
            },
            {
                "type": "cpu-large",
                "nodes": 1,
                "existing": True,
                "holds": [{"demand": 2, "count": 3}, {"demand": 3, "count": 2}, {"demand": 5, "count": 16}],
            },
            {"type": "cpu-large", "nodes": 1, "existing": True, "holds": [{"demand": 3, "count": 2}]},
            {"type": "gpu", "nodes": 3, "existing": False, "holds": [{"demand": 0, "count": 1}]},
        ],
        "terminations": [],
        "infeasible": [
            {
                "demand": 1,
                "count": 1,
                "reason": "NO_TYPE_FITS",
                "detail": "{CPU: 64} x 1 cannot be launched: no node of cpu-large, gpu is big enough, even when empty",
            }
        ],
        "cost": 9.3,
        "mix": {"cost": 9.3, "bound": None, "gap": None, "steps": 0, "binds": []},
    }


TABLES = """
launch nodes reason cost per hour
gpu 3 DEMAND 9.3
node type nodes each holds
cpu-large 1 there 1 x {CPU: 2} [zone in (a)]
2 x {CPU: 1} of a STRICT_SPREAD gang
2 x {CPU: 4} of a STRICT_PACK gang
1 x {memory: 1 GiB} of a STRICT_PACK gang
16 x {CPU: 1} of request_resources
cpu-large 1 there 3 x {CPU: 2} [zone in (a)]
2 x {CPU: 1} of a STRICT_SPREAD gang
16 x {CPU: 1} of request_resources
cpu-large 1 there 2 x {CPU: 1} of a STRICT_SPREAD gang
gpu 3 new 1 x {CPU: 4, GPU: 1} [zone in (a) else zone !in (a, c)]
no place for count reason detail whose move
{CPU: 64} 1 NO_TYPE_FITS {CPU: 64} x 1 cannot be launched: no node of cpu-large, gpu is big enough, even when empty the operator: change the definition, or mend what is broken
the mix for what waits costs 9.3 per hour (the first plan); how much cheaper a mix could be at most was not reckoned
3 nodes to launch at a cost of 9.3 per hour, 0 to end; 1 asked for has no place; planned in
"""


def words(said):
    """Return the lines of tables without their frames."""
    lines = (" ".join(line.translate(dict.fromkeys(map(ord, "┃│┏┡┗└━─┳╇┻┴┓┩┛┘"), " ")).split()) for line in said.splitlines())
    return [line for line in lines if line]


def test_tables_say_the_same_and_whose_move_it_is(tmp_path):
    said, code = run(tmp_path, CLUSTER, DEMAND, "--steps", "0")
    found, expected = words(said), TABLES.strip().splitlines()
    assert found[:-1] == expected[:-1]
    assert found[-1].startswith(expected[-1])
    assert code == 1


def test_everything_placed_is_exit_code_0_and_a_green_line(tmp_path):
    said, code = run(tmp_path, CLUSTER, {"demands": [{"resources": {"CPU": 16}, "count": 2}]})
    assert code == 0
    assert words(said)[-1].startswith("2 nodes to launch at a cost of 1.6 per hour, 0 to end; everything asked for has a place;")


def test_nothing_asked_of_nothing_is_an_empty_plan(tmp_path):
    said, code = run(tmp_path, EMPTY, None)
    assert words(said)[0].startswith("0 nodes to launch at a cost of 0 per hour, 0 to end; everything asked for has a place;")
    assert code == 0
    assert planned(tmp_path, None) == {"launches": {}, "placements": [], "terminations": [], "infeasible": [], "cost": 0.0, "mix": None}


def test_nodes_that_nothing_needs_end_and_so_does_what_is_above_a_maximum(tmp_path):
    demand = {
        "nodes": [{"type": "cpu-large", "count": 6, "used": {"CPU": 1}}, {"type": "gpu", "count": 5}],
        "demands": [{"resources": {"GPU": 1}}],
    }
    found = planned(tmp_path, demand)
    assert found["terminations"] == [
        {"node": "nodes[0] #1", "reason": "MAX_WORKERS_OF_TYPE"},
        {"node": "nodes[0] #2", "reason": "MAX_WORKERS_OF_TYPE"},
        *({"node": f"nodes[1] #{number}", "reason": "IDLE"} for number in (2, 3, 4, 5)),
    ]
    assert found["placements"] == [
        {"type": "cpu-large", "nodes": 6, "existing": True, "holds": []},
        {"type": "gpu", "nodes": 4, "existing": True, "holds": []},
        {"type": "gpu", "nodes": 1, "existing": True, "holds": [{"demand": 0, "count": 1}]},
    ]
    said, code = run(tmp_path, CLUSTER, demand)
    assert code == 0
    assert "gpu 4 nodes[1] #2, nodes[1] #3, nodes[1] #4 and 1 more IDLE" in "\n".join(words(said))
    assert "cpu-large has 6 of at most 4 workers" in " ".join(words(said))


def test_a_launch_without_a_cost_makes_the_cost_unknown(tmp_path):
    types = [{"name": "free", "resources": {"CPU": 1}}, {"name": "paid", "resources": {"GPU": 1}, "cost": 0.1}]
    demand = {"demands": [{"resources": {"CPU": 1}}, {"resources": {"GPU": 1}, "count": 3}]}
    assert planned(tmp_path, demand, nodeTypes=types)["cost"] is None
    assert planned(tmp_path, {"demands": demand["demands"][1:]}, nodeTypes=types)["cost"] == 0.3
    said, _ = run(tmp_path, {**CLUSTER, "spec": {"nodeTypes": types}}, demand)
    assert "at unknown cost" in said


def test_equal_entries_are_told_apart_in_the_order_of_the_file(tmp_path):
    one = {"resources": {"GPU": 1}, "count": 2}
    found = planned(tmp_path, {"demands": [one, {"resources": {"CPU": 8, "GPU": 1}}, one, one]}, maxWorkers=4)
    placed = [held["demand"] for each in found["placements"] for held in each["holds"] for _ in range(each["nodes"])]
    assert placed == [0, 0, 1, 2]
    assert [(each["demand"], each["count"], each["reason"]) for each in found["infeasible"]] == [
        (2, 1, "MAX_WORKERS"),
        (3, 2, "MAX_WORKERS"),
    ]


def test_of_equal_gangs_that_have_no_place_their_number_is_told(tmp_path):
    gang = {"strategy": "STRICT_PACK", "count": 5, "bundles": [{"resources": {"CPU": 8}, "count": 2}]}
    found = planned(tmp_path, {"gangs": [gang, {"bundles": [{"resources": {"TPU": 1}}]}]})
    assert found["launches"] == {"cpu-large": 4}
    assert [(each["demand"], each["count"], each["reason"]) for each in found["infeasible"]] == [
        (0, 1, "MAX_WORKERS_OF_TYPE"),
        (1, 1, "NO_TYPE_FITS"),
    ]


def test_the_speed_of_upscaling_counts_the_nodes_that_are_there(tmp_path):
    demand = {"demands": [{"resources": {"GPU": 1}, "count": 10}], "nodes": [{"type": "gpu", "used": {"GPU": 1}}]}
    found = planned(tmp_path, demand, upscalingSpeed=1)
    assert found["launches"] == {"gpu": 5}
    assert [each["reason"] for each in found["infeasible"]] == ["UPSCALING_SPEED"]
    said, _ = run(tmp_path, {**CLUSTER, "spec": {**CLUSTER["spec"], "upscalingSpeed": 1}}, demand)
    assert "nobody: it passes by itself, or rayscaler is on it" in " ".join(words(said))


def test_d4_what_is_above_a_limit_of_launches_is_planned_and_begun_later(tmp_path):
    demand = {"demands": [{"resources": {"GPU": 1}, "count": 10}]}
    cluster = {**CLUSTER, "spec": {**CLUSTER["spec"], "maxConcurrentLaunches": 4, "maxLaunchesPerMinute": 4}}
    found = json.loads(run(tmp_path, cluster, demand, "--json", "--explain")[0])
    VALID.validate(found)
    (waits,), (needed,) = found["infeasible"], found["explanation"]["needed"]
    assert (found["launches"], waits["count"], waits["reason"]) == ({"gpu": 4}, 6, "MAX_CONCURRENT_LAUNCHES")
    assert (
        "4 of at most 4 launches are on their way; 4 of at most 4 launches in 60 s were begun; the next can be in 60 s" in waits["detail"]
    )
    assert needed["needed"].startswith("6 more nodes of gpu")
    assert needed["needed"].endswith("; they follow as limits of launches allow")


def test_the_head_takes_work_where_the_definition_gives_it_resources(tmp_path):
    demand = {"demands": [{"resources": {"CPU": 1}, "count": 2}]}
    found = planned(tmp_path, demand, head={"resources": {"CPU": 2}})
    assert found["placements"] == [{"type": "head", "nodes": 1, "existing": True, "holds": [{"demand": 0, "count": 2}]}]


def test_minimums_are_launched_and_hold_nothing(tmp_path):
    found = planned(tmp_path, {}, nodeTypes=[{"name": "always", "minWorkers": 2, "resources": {"CPU": 1}, "cost": 1}])
    assert found["launches"] == {"always": 2}
    assert found["placements"] == [{"type": "always", "nodes": 2, "existing": False, "holds": []}]


def test_a_bad_demand_file_ends_in_exit_code_2_with_every_problem_and_its_place(tmp_path, monkeypatch, capsys):
    bad = {"demand": [], "demands": [{"resources": {"CPU": -1}, "count": 0}], "nodes": [{"type": "gpux", "count": 1}]}
    argv = files(tmp_path, CLUSTER, bad)
    monkeypatch.setattr(sys, "argv", ["rayscaler", "plan", *argv])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert said == [
        f"error: {argv[3]}: demand: 'demand': unknown key; did you mean demands?",
        f"error: {argv[3]}: demands[0].resources.CPU: -1: an amount is 0 or more",
        f"error: {argv[3]}: demands[0].count: 0: must be a whole number from 1 to 1000000",
        f"error: {argv[3]}: nodes[0].type: 'gpux': no such node type in the definition; did you mean gpu?",
    ]


def test_the_example_plans():
    examples = Path(__file__).parents[2] / "examples"
    result = CliRunner().invoke(command, ["-f", str(examples / "demo.yaml"), "--demand", str(examples / "demand.yaml")])
    assert "everything asked for has a place" in " ".join(words(result.output))
    assert result.exit_code == 0


def test_every_refusal_that_a_plan_can_have_is_in_the_schema_and_somebody_can_move():
    reasons = SCHEMA["properties"]["infeasible"]["items"]["properties"]["reason"]["enum"]
    possible = {*NEVER, *PACED, *SOONEST_FIRST, Reason.NO_ROOM, Reason.BUNDLE_ORDER}
    assert {*reasons, Reason.BACKED_OFF} == possible  # nothing has failed in a file
    assert all(move(Reason(each)) for each in reasons)


def test_a_demand_file_that_is_no_yaml_is_named(tmp_path):
    argv = files(tmp_path, CLUSTER, DEMAND)
    Path(argv[3]).write_text("demands: [")
    with pytest.raises(InvalidRequest, match=r"demand\.yaml: line 1, column 11: .*: cannot be read as YAML"):
        CliRunner().invoke(command, argv, catch_exceptions=False)


def test_explain_says_why_the_mix_and_what_each_limit_would_have_to_be(tmp_path):
    cluster = {**EMPTY, "spec": {"spendLimit": 3, "nodeTypes": [{"name": "cpu", "resources": {"CPU": 4}, "cost": 1.5, "maxWorkers": 3}]}}
    demand = {"demands": [{"resources": {"CPU": 4}, "count": 5}]}
    found = json.loads(run(tmp_path, cluster, demand, "--json", "--explain")[0])
    VALID.validate(found)
    (use,), (needed,) = found["explanation"]["node_types"], found["explanation"]["needed"]
    assert (use["name"], use["nodes"], use["cost"], use["used"]) == ("cpu", 2, 3.0, {"CPU": 1.0})
    assert needed["reason"] == "SPEND_LIMIT"
    assert "3 more nodes of cpu at 4.5 per hour" in needed["needed"]
    assert "maxWorkers of cpu 3 -> 5" in needed["needed"]
    assert "spec.spendLimit 3 -> 7.5" in needed["needed"]


def test_steps_make_a_cheaper_mix_and_say_how_near_the_least_it_is(tmp_path):
    cluster = {**EMPTY, "spec": {"nodeTypes": [{"name": "ten", "resources": {"CPU": 10}, "cost": 0.5}]}}
    demand = {"demands": [{"resources": {"CPU": 4}, "count": 10}, {"resources": {"CPU": 3}, "count": 20}]}
    first, better = (json.loads(run(tmp_path, cluster, demand, "--json", "--steps", steps)[0]) for steps in ("0", "200"))
    assert (first["cost"], better["cost"]) == (6.0, 5.0)
    assert better["launches"] == {"ten": 10}
    assert (better["mix"]["cost"], better["mix"]["bound"], better["mix"]["gap"]) == (5.0, pytest.approx(5.0), pytest.approx(0.0))
    assert better["mix"]["steps"] > 0
    assert json.loads(run(tmp_path, cluster, demand, "--json")[0])["cost"] == 5.0  # what a service would launch, for it waits for this one


def test_a_packed_group_that_ray_would_never_make_is_told(tmp_path):
    cluster = {**EMPTY, "spec": {"nodeTypes": [{"name": "two", "resources": {"GPU": 2}}]}}
    found = json.loads(
        run(tmp_path, cluster, {"gangs": [{"strategy": "PACK", "bundles": [{"resources": {"GPU": 0.6}, "count": 3}]}]}, "--json")[0]
    )
    VALID.validate(found)
    assert [(each["reason"], found["launches"]) for each in found["infeasible"]] == [("PACKED_BY_SUM", {})]
