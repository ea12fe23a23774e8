"""Mending loses nothing, holds every limit, and never makes a mix dearer unless that places more."""

import random
from collections import Counter

import pytest

from rayscaler.model.resources import UNIT
from rayscaler.planner.mix.fill import Filler
from rayscaler.planner.mix.mend import Mender
from rayscaler.planner.mix.problem import Column, Problem, Used, judged
from rayscaler.planner.mix.shares import Shares
from tests.counts import counted
from tests.planner.mixes import some_broken, some_problem, some_spends

pytestmark = pytest.mark.tier("unit")

CASES = counted(gate=200, full=2_000)


def pieces(nodes):
    there = Counter()
    for _, content in nodes:
        there.update(dict(content))
    return there


def cost(problem, nodes):
    return sum(problem.prices[each.type] for each in nodes)


def spent(problem, nodes):
    return sum(problem.spend(each.type) for each in nodes)


def test_what_is_mended_has_all_pieces_within_every_limit_and_is_no_worse():
    cheaper = placed_more = 0
    for seed in range(CASES):
        chance = random.Random(seed)
        problem = some_problem(chance)
        filler = Filler(problem)
        broken = some_broken(chance, problem)
        problem = some_spends(chance, problem)
        types = [Shares(problem, kind) for kind in range(len(problem.rooms))]
        nodes = Mender(problem, types, broken).run().nodes
        before, after = pieces(broken.nodes), pieces(nodes)
        assert all(after[shape] <= before[shape] + broken.left[shape] for shape in after), f"seed {seed}: placed twice"
        assert all(filler.holds(*each) for each in nodes), f"seed {seed}: does not fit"
        counts, limits = Counter(each.type for each in nodes), Counter(each.type for each in broken.nodes)
        assert all(counts[kind] <= limits[kind] + max(0, broken.spare[kind]) for kind in counts), f"seed {seed}: too many of a type"
        assert len(nodes) <= len(broken.nodes) + max(0, broken.total), f"seed {seed}: too many"
        assert broken.money is None or spent(problem, nodes) <= spent(problem, broken.nodes) + broken.money, f"seed {seed}: too dear"
        more, dearer = after.total() - before.total(), cost(problem, nodes) - cost(problem, broken.nodes)
        assert more > 0 or (more == 0 and dearer <= 0), f"seed {seed}: worse"
        placed_more += more > 0
        cheaper += more == 0 and dearer < 0
    assert placed_more > CASES / 3
    assert cheaper


def test_pieces_with_a_node_each_come_to_lie_together():
    """Two 4s fill a ten but for 2, three 3s but for 1: 12 nodes for all of them."""
    tens = Problem(
        needs=(((0, 4 * UNIT),), ((0, 3 * UNIT),)), counts=(10, 20), rooms=((10 * UNIT,),), prices=(100,), limits=(100,), allowed=(frozenset({0, 1}),), total=100
    )  # fmt: skip
    start = (Used(Column(0, ((0, 1),)), 10), Used(Column(0, ((1, 1),)), 20))
    found = judged(tens, Filler(tens).mended(start, [0.4, 0.3], 30_000, turn=0))
    assert found.unplaced == 0
    assert found.nodes <= 12


def test_of_many_nodes_alike_some_are_mended_and_none_is_lost():
    many = Problem(
        needs=(((0, UNIT),),), counts=(50_000,), rooms=((8 * UNIT,), (2 * UNIT,)), prices=(100, 40), limits=(10_000, 50_000), allowed=(frozenset({0}),) * 2, total=50_000
    )  # fmt: skip
    start = judged(many, (Used(Column(1, ((0, 2),)), 25_000),))
    found = judged(many, Filler(many).mended(start.recipe, [10.0], 100_000, turn=0))
    assert found.unplaced == 0
    assert found.cost < start.cost
