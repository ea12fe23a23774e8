"""The judge's own arithmetic of devices, on cases worked out by hand: a judge that is wrong would be believed."""

import ast
import random
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Reserve, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.plan import Infeasible, Launch, Placement, Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from tests.properties.checker import check
from tests.properties.devices import items, pack, remainders, rooms

pytestmark = pytest.mark.tier("unit")

HERE = Path(__file__).parent


def tenths(*amounts: float) -> dict[int, int]:
    return Counter(round(amount * UNIT) for amount in amounts)


def whole(count: int) -> tuple[int, ...]:
    return (UNIT,) * count


@pytest.mark.parametrize(
    ("wanted", "count", "is_good"),
    [
        ((0.6, 0.6, 0.6), 2, False),
        ((0.6, 0.6), 2, True),
        ((0.6, 0.4, 0.5, 0.5), 2, True),
        ((0.5, 0.25, 0.25, 0.4, 0.3, 0.3), 2, True),  # largest first into the first that has room fails here
        ((0.25,) * 8, 2, True),
        ((0.25,) * 9, 2, False),
        ((1, 0.5, 0.5), 2, True),
        ((1, 0.5, 0.6), 2, False),
        ((2, 1), 3, True),
        ((2, 1, 0.3), 3, False),
        ((1.5,), 2, False),
        ((0.001,) * 7_999 + (0.5,), 8, False),
        ((0.001,) * 7_500 + (0.5,), 8, True),
        ((), 0, True),
    ],
)
def test_what_devices_hold_at_once(wanted, count, is_good):
    assert pack(items(tenths(*wanted)), whole(count)) is is_good


@pytest.mark.parametrize(
    ("total", "free", "expected"),
    [
        (4, 4, whole(4)),
        (4, 3, whole(3)),
        (4, 0, ()),
        (2, 1.4, (UNIT, 4_000)),
        (2, 0.5, (2_500, 2_500)),
        (4, 2.7, (UNIT, UNIT, 3_500, 3_500)),
        (3, 0.0001, ()),  # less than a unit on each
        (0, 0, ()),
        (1, 2, whole(1)),  # more free than there is: not below nothing used
    ],
)
def test_what_is_left_of_devices_where_only_sums_are_known(total, free, expected):
    assert rooms(round(total * UNIT), round(free * UNIT)) == expected


def test_all_that_may_be_left():
    assert remainders(items(tenths(0.5, 0.3)), whole(2)) == {(UNIT, 2_000), (7_000, 5_000)}
    assert remainders(items(tenths(0.6, 0.6, 0.6)), whole(2)) == frozenset()


def test_the_search_finds_what_trying_all_ways_finds():
    seed = 20_812
    print(f"seed {seed}")
    dice = random.Random(seed)
    answers = Counter()
    for _ in range(300):
        free = tuple(sorted((dice.choice([10_000, 7_000, 4_000, 3_000]) for _ in range(dice.randint(1, 3))), reverse=True))
        wanted = [dice.choice([6_000, 5_000, 3_000, 2_500, 4_000]) for _ in range(dice.randint(1, 5))]
        good = any(
            all(sum(each for each, place in zip(wanted, way, strict=True) if place == i) <= room for i, room in enumerate(free))
            for way in product(range(len(free)), repeat=len(wanted))
        )
        assert pack(items(Counter(wanted)), free) is good, (wanted, free)
        assert bool(remainders(items(Counter(wanted)), free)) is good
        answers[good] += 1
    assert min(answers[True], answers[False]) > 50  # the cases decide something


def asked(amount: float, count: int, *, most: int = -1, **more) -> tuple[ClusterState, Bundle]:
    """Return a state in which nodes of two GPUs can be launched for a demand."""
    bundle = Bundle(Resources.of(GPU=amount))
    config = ClusterConfig("c", (NodeType("two", Resources.of(CPU=4, GPU=2), cost=1.0),), max_workers=most)
    return ClusterState(1000.0, config, demands=(Demand(bundle, count),), **more), bundle


def on_one_new(bundle: Bundle, count: int, *infeasible: Infeasible) -> Plan:
    launch = Launch("two", Reason.DEMAND, "", (Reserve(bundle, count),))
    return Plan((launch,), infeasible=infeasible, placements=(Placement(bundle, count, "new:0"),))


@pytest.mark.parametrize(("amount", "count", "is_good"), [(0.6, 2, True), (0.6, 3, False), (0.5, 4, True), (0.3, 6, True), (0.3, 7, False)])
def test_the_judge_sees_what_two_devices_do_not_hold(amount, count, is_good):
    state, bundle = asked(amount, count)
    wrong = check(state, on_one_new(bundle, count))
    assert wrong == [] if is_good else any("has not enough GPU" in each for each in wrong), wrong


@pytest.mark.parametrize(("free", "is_good"), [(1.4, True), (1.5, True), (1.3, False), (0.5, False)])
def test_the_judge_knows_what_a_partly_used_node_has(free, is_good):
    """0.4 and another: of 1.4 free one device is whole and the other has 0.4 left; of 0.5 free nobody knows of which."""
    row = RayNode("n", "", "", NodeStatus.RUNNING, Resources.of(GPU=2), Resources.of(GPU=free))
    state, bundle = asked(0.4, 3, nodes=(row,))
    wrong = check(state, Plan(placements=(Placement(bundle, 3, "ray:n"),)))
    assert wrong == [] if is_good else any("has not enough GPU" in each for each in wrong), wrong


def test_the_judge_accuses_of_leaving_out_only_where_any_way_leaves_room():
    state, bundle = asked(0.6, 3, most=1)
    rest = Infeasible(bundle, 1, Reason.MAX_WORKERS, "waits")
    assert check(state, on_one_new(bundle, 2, rest)) == []
    state, bundle = asked(0.5, 3, most=1)
    rest = Infeasible(bundle, 1, Reason.MAX_WORKERS, "waits")
    assert any("is left out though ['new:0'] have room" in each for each in check(state, on_one_new(bundle, 2, rest)))


@pytest.mark.parametrize(
    ("amount", "reason", "word"),
    [(0.6, Reason.NO_TYPE_FITS, ""), (0.6, Reason.MAX_WORKERS, "never"), (0.5, Reason.NO_TYPE_FITS, "for ever")],
)
def test_the_judge_knows_which_gang_no_node_ever_holds(amount, reason, word):
    state, bundle = asked(amount, 0, most=0)
    gang = Gang("g", Strategy.STRICT_PACK, (Demand(bundle, 3),))
    wrong = check(replace(state, gangs=(gang,)), Plan(infeasible=(Infeasible(gang, 1, reason, "so it is"),)))
    assert [word in each for each in wrong] == ([True] if word else []), wrong


def test_the_judge_shares_no_code_with_the_planner():
    """A contract of pyproject.toml says it too; this one also keeps the judge off all else that is not the model."""
    seen, left = set(), {"checker"}
    while left:
        name = left.pop()
        seen.add(name)
        imported = imports(HERE / f"{name}.py")
        assert sorted(each for each in imported if not each.startswith(("rayscaler.model.", "tests.properties."))) == [], name
        left |= {each.split(".")[2] for each in imported if each.startswith("tests.properties.")} - seen
    assert {"checker", "devices", "ends", "world"} <= seen
    assert not {each for each in seen if each.startswith("test_")}


def imports(path: Path) -> set[str]:
    """Return what a file imports of this repository."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{each.name}" for each in node.names}
    return {each for each in found if each.startswith(("rayscaler", "tests"))}
