"""The benchmark of the planner cannot rot: what it asks, how it judges plans and targets, and that each case plans at a small size."""

import json
from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, LabelCondition, LabelSelector, Operator, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.plan import Launch, Placement, Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from tests.bench import plan_chart, plan_once, plan_service, planning
from tests.bench.__main__ import PLAN
from tests.bench.plan_cases import CASES, POOL, Case, Goal, renamed, trace
from tests.bench.plan_judge import judge

pytestmark = pytest.mark.tier("unit")

SMALL = {"openb": 60, "million": 500, "many": 300, "distinct": 60, "partly": 150, "jobs": 60, "gang": 20}
"""Sizes for a test, by how a case's name begins."""

GPU = Bundle(Resources.of(CPU=1, GPU=0.6))
ON_A = Bundle(Resources.of(CPU=1), (LabelSelector((LabelCondition("model", Operator.IN, ("A",)),)),))
TYPES = (
    NodeType("gpu", Resources.of(CPU=4, GPU=2), cost=3.0, max_workers=2),
    NodeType("plain", Resources.of(CPU=4), (("model", "A"),), cost=1.0),
)
GANG = Gang("g", Strategy.STRICT_SPREAD, (Demand(Bundle(Resources.of(CPU=2)), 2),))
STATE = ClusterState(
    1.0,
    ClusterConfig("c", TYPES, max_workers=10),
    nodes=(RayNode("n", "", "", NodeStatus.RUNNING, Resources.of(CPU=4), Resources.of(CPU=1)),),
    demands=(Demand(GPU, 3), Demand(ON_A, 2)),
    gangs=(GANG,),
)
GOOD = Plan(
    launches=tuple(Launch(name, Reason.DEMAND, "") for name in ("gpu", "gpu", "plain", "plain")),
    placements=(
        Placement(GPU, 2, "new:0"),
        Placement(GPU, 1, "new:1"),
        Placement(ON_A, 2, "new:2"),
        Placement(GANG.bundles[0].bundle, 1, "new:2", "g"),
        Placement(GANG.bundles[0].bundle, 1, "new:3", "g"),
    ),
)


def test_a_plan_s_worth_is_reckoned_from_its_launches_and_placements():
    worth = judge(STATE, GOOD)
    assert (worth.launches, worth.cost, worth.unplaced, worth.breaches) == ({"gpu": 2, "plain": 2}, 8.0, 0, ())
    assert 0 < worth.bound <= worth.cost
    assert worth.ratio == worth.cost / worth.bound


def test_what_is_left_out_is_counted_and_the_bound_is_of_the_rest():
    half = replace(GOOD, launches=GOOD.launches[:1], placements=GOOD.placements[:1])
    worth = judge(STATE, half)
    assert (worth.cost, worth.unplaced, worth.at_least) == (3.0, 5, 0)
    assert worth.bound == pytest.approx(3.0)


def _moved(index: int, node: str) -> tuple[Placement, ...]:
    return tuple(replace(each, node=node) if position == index else each for position, each in enumerate(GOOD.placements))


@pytest.mark.parametrize(
    ("forged", "breach"),
    [
        pytest.param({"placements": _moved(1, "new:0")}, "new:0 does not hold its GPU", id="three of 0.6 on two devices"),
        pytest.param({"placements": _moved(2, "new:1")}, "breaks labels on new:1", id="another label"),
        pytest.param({"placements": _moved(2, "ray:n")}, "breaks labels on ray:n", id="a node that is there"),
        pytest.param({"placements": _moved(3, "ray:n")}, "ray:n does not hold its CPU", id="and has not that much left"),
        pytest.param({"placements": _moved(0, "i7")}, "i7 is no node that takes work", id="no node"),
        pytest.param({"placements": _moved(3, "new:3")}, "group g is not apart", id="a group on one node"),
        pytest.param({"placements": GOOD.placements[:-1]}, "group g is placed in part", id="half a group"),
        pytest.param({"placements": (*GOOD.placements, Placement(ON_A, 1, "new:3"))}, "more often than it is wanted", id="one too many"),
        pytest.param({"launches": (*GOOD.launches, GOOD.launches[0])}, "more than 2 of gpu", id="above a type's maximum"),
        pytest.param({"launches": (*GOOD.launches, *GOOD.launches[2:] * 4)}, "12 workers", id="above the cluster's"),
    ],
)
def test_a_plan_that_does_not_hold_is_caught(forged, breach):
    assert any(breach in each for each in judge(STATE, replace(GOOD, **forged)).breaches)


@pytest.mark.parametrize("name", CASES)
def test_each_case_plans_and_is_judged(name):
    size = next(size for start, size in SMALL.items() if name.startswith(start))
    found = plan_once.main(CASES[name], size, 1, 1, "judge")
    labels = {"first", *(f"{budget:g}s" for budget in CASES[name].finals)}
    assert set(found["seconds"]) == set(found["digest"]) == set(found["worth"]) == labels
    assert all(len(each["warm"]) == 1 for each in found["seconds"].values())
    assert all(each["unplaced"] == 0 and each["bound"] <= each["cost"] + 1e-6 for each in found["worth"].values())


def test_the_pooled_trace_is_the_trace_with_gpus_that_are_no_devices():
    made = trace(1, 100)
    pooled = renamed(made, "GPU", POOL)
    assert renamed(pooled, POOL, "GPU") == made
    assert not any("GPU" in each.bundle.resources for each in pooled.demands)
    assert sum(each.count for each in pooled.demands) == 100


CASE = Case(trace, (10, 20), Goal(1.0, 1.1), {0.5: Goal(2.0, 1.05)}, factor=2.0, rate=10)


def sample(first: float = 0.1, final: float = 0.2, digest: str = "d", **worth) -> dict:
    seconds = {"first": {"cold": 9.0, "warm": [first]}, "0.5s": {"cold": 9.0, "warm": [final]}}
    told = {"ratio": 1.0, "unplaced": 3, "at_least": 3, "breaches": [], **worth}
    return {
        "seconds": seconds,
        "digest": {"first": "d", "0.5s": digest},
        "worth": {"first": told, "0.5s": told},
        "peak_mib": {"before": 1.0, "after": 2.0},
    }


@pytest.mark.parametrize(
    ("samples", "missed"),
    [
        pytest.param({10: [sample()], 20: [sample()]}, [], id="all met"),
        pytest.param({10: [sample()], 20: [sample(ratio=1.07)]}, ["0.5s: 1.0700 x bound"], id="dearer than the final plan may be"),
        pytest.param({10: [sample(0.9)], 20: [sample(1.5)]}, ["first: 1.500 s"], id="the first plan slow"),
        pytest.param({10: [sample()], 20: [sample(final=2.1)]}, ["0.5s: 2.100 s"], id="the final one slow"),
        pytest.param({10: [sample(0.1)], 20: [sample(0.3)]}, ["3.00 x per doubling"], id="more than in proportion"),
        pytest.param(
            {10: [sample()], 20: [sample(), sample(digest="e")]}, ["0.5s: another plan in another process"], id="not the same plan"
        ),
        pytest.param(
            {10: [sample()], 20: [sample(at_least=2)]},
            ["0.5s: 3 unplaced, 2 have to be"],
            id="left out without need",
        ),
        pytest.param({10: [sample()], 20: [sample(breaches=["x"])]}, ["first: x", "0.5s: x"], id="a plan that does not hold"),
        pytest.param({10: [sample(2.0)], 20: [sample(4.0)]}, ["first: 4.000 s", "5 demands/s"], id="too few in a second"),
    ],
)
def test_misses_are_told_in_words(samples, missed):
    assert planning.misses(CASE, samples) == missed


def test_the_same_plan_has_one_digest_wherever_it_is_made_and_another_plan_has_another():
    one, other = (plan_once.digest(plan_once.improved(CASES["gang"].state(1, size), 0.0)) for size in (8, 8))
    assert one == other
    assert one != plan_once.digest(plan_once.improved(CASES["gang"].state(1, 9), 0.0))


def test_a_case_is_met_missed_or_without_its_anchor():
    samples = {10: [sample()], 20: [sample()]}
    asked = replace(CASE, anchor_s=1.0)
    anchor = {"seconds": 2.0, "worth": {"ratio": 1.4}, "peak_mib": {"before": 1.0, "after": 2.0}}
    assert planning.result("plan-x", CASE, samples, None, 1).exit_code == 0
    assert planning.result("plan-x", asked, samples, None, 1).exit_code == 2
    met = planning.result("plan-x", asked, samples, anchor, 1)
    assert (met.exit_code, met.ours, met.anchor) == (0, 0.2, 2.0)
    assert planning.result("plan-x", CASE, {10: [sample()], 20: []}, None, 1).exit_code == 1


def test_the_command_has_a_case_for_each():
    assert set(PLAN) == {f"plan-{name}" for name in CASES}


def test_the_chart_is_a_picture_of_whatever_the_cases_said(tmp_path):
    anchor = {"seconds": 2.0, "worth": {"ratio": 1.4, "unplaced": 1}, "peak_mib": {"before": 1.0, "after": 2.0}}
    told = [
        planning.result("plan-a", CASE, {10: [sample()], 20: [sample()]}, anchor, 1),
        planning.result("plan-b", CASE, {10: [sample()], 20: []}, None, 1),
    ]
    lines = [json.loads(each.line()) for each in told]
    assert plan_chart.seconds(lines) == {
        "first plan, cold": [9.0, None],
        "first plan": [0.1, None],
        "final plan": [0.2, None],
        "Ray's planner": [2.0, None],
    }
    assert plan_chart.ratios(lines)["Ray's planner"] == [1.4, None]
    assert [plan_chart.title(each) for each in lines] == ["a\nleft out: 3 by ours, 1 by Ray's", "b"]
    plan_chart.draw(lines, tmp_path / "new" / "chart.png")
    assert (tmp_path / "new" / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_an_anchor_that_was_asked_for_less_says_for_how_much_and_how_ours_does_with_that():
    asked = replace(CASE, anchor_s=1.0)
    less = replace(asked, anchor_size=5)
    anchor = {"seconds": 2.0, "worth": {"ratio": 1.4}, "peak_mib": {"before": 1.0, "after": 2.0}}
    assert planning.beside(CASE, None, None) == {}
    assert planning.beside(asked, anchor, None) == {"anchor_size": 20}
    assert planning.beside(less, anchor, sample(final=0.1)) == {"anchor_size": 5, "anchor_size_ours": 0.1, "anchor_size_ratio": 20.0}
    assert planning.beside(less, None, sample(final=0.1))["anchor_size_ratio"] is None


@pytest.mark.tier("ray")
@pytest.mark.parametrize("case", ["gangs", "gang", "distinct"])
def test_ray_s_planner_is_asked_for_groups_and_many_shapes_alike(case):
    found = planning.once(case, 20, 1, 120.0, "anchor")
    assert (found["worth"]["unplaced"], found["worth"]["breaches"]) == (0, [])
    if case != "distinct":
        assert found["worth"]["launches"] == {"worker": 20}


@pytest.mark.tier("ray")
def test_ray_s_planner_is_asked_and_judged_alike():
    found = planning.once("openb-500", 60, 1, 120.0, "anchor")
    assert found["seconds"] > 0
    assert (found["worth"]["unplaced"], found["worth"]["breaches"]) == (0, [])
    assert found["worth"]["ratio"] >= 1


def test_a_process_that_does_not_end_is_no_sample():
    assert planning.once("openb-500", 60, 1, 0.01, "") is None


def test_what_the_service_missed_is_said_of_every_round():
    good = {"breaches": (), "unplaced": 0, "ratio": plan_service.RATIO}
    bad = {"breaches": ("new:0 does not hold its GPU",), "unplaced": 2, "ratio": 1.0345}
    assert plan_service.misses([good, good], plan_service.OTHERS_S) == []
    assert plan_service.misses([good, bad], 0.25) == ["new:0 does not hold its GPU", "2 unplaced", "1.0345 x bound", "others: p99 0.250 s"]
