"""Compiled code makes the fills that Python makes, is done without where it cannot be had, and never stands in for a source that has changed."""

import random
import shutil
from dataclasses import replace

import pytest

from deploy.native import LIBRARY, ROOT, compile_native
from rayscaler.model.resources import UNIT
from rayscaler.planner.devices import Devices
from rayscaler.planner.mix import native
from rayscaler.planner.mix.fill import Filler
from rayscaler.planner.mix.library import SOURCE
from rayscaler.planner.mix.library import library as library_in
from rayscaler.planner.mix.mend import Mender
from rayscaler.planner.mix.problem import Column, Problem, Used, judged
from rayscaler.planner.mix.search import Ask, Search
from rayscaler.planner.mix.shares import Shares
from rayscaler.planner.mix.solve import solve
from tests.counts import counted
from tests.planner.mixes import some_broken, some_problem, some_spends

pytestmark = pytest.mark.tier("unit")

CASES = counted(gate=300, full=5_000)


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Where the code is that was compiled just now."""
    folder = tmp_path_factory.mktemp("native")
    assert compile_native(folder=folder) == ""
    return library_in(folder)


def some_ask(chance, problem):
    worth = [chance.choice([0.0, 0.1, 1.0, chance.random() * 5, 2.0]) for _ in problem.needs]
    floors = {kind: chance.choice([0.0, 1.0, 10.0]) for kind in range(len(problem.rooms))}
    prices = worth if chance.random() < 0.5 else [each * chance.random() for each in worth]
    return Ask(
        worth,
        prices,
        problem.counts,
        floors,
        dict.fromkeys(floors, chance.choice([-1e9, 0.0])),
        chance.randint(0, 2),
        chance.choice([1, 3, 100, 100]),
    )


def told(found):
    return [(each.best, each.fills, each.work) for each in found]


def test_both_make_the_same_fills_with_the_same_effort(library):
    told_of = exchanged = 0
    for seed in range(CASES):
        chance = random.Random(seed)
        problem = some_problem(chance)
        types = [Shares(problem, kind) for kind in range(len(problem.rooms))]
        one, other = Search(problem, types), native.of(problem, types, library)
        for _ in range(3):
            ask = some_ask(chance, problem)
            mine = told(one.price([*ask.floors], ask))
            assert mine == told(other.price([*ask.floors], ask)), f"seed {seed}"
            told_of += sum(len(fills) for _, fills, _ in mine)
            exchanged += sum(len(fills) > 7 for _, fills, _ in mine)
        for kind in range(len(types)):
            assert one.led(kind, ask.worth, problem.counts) == other.led(kind, ask.worth, problem.counts), f"seed {seed}"
    assert told_of > 5 * CASES
    assert exchanged > CASES / 10


def test_more_fills_than_there_is_room_for_get_more_room(library, monkeypatch):
    chance = random.Random(1)
    problem = replace(some_problem(chance), rooms=((50 * UNIT,) * 4,), prices=(1,), limits=(1,))
    problem = replace(problem, needs=tuple(((0, (each + 1) * UNIT),) for each in range(9)), counts=(9,) * 9, allowed=(frozenset(range(9)),))
    ask = Ask([1.0] * 9, [1.0] * 9, problem.counts, {0: 1.0}, {0: -1e9}, 2, 100)
    types = [Shares(problem, 0)]
    monkeypatch.setattr(native, "FILLS", 2)
    monkeypatch.setattr(native, "PIECES", 2)
    assert told(native.of(problem, types, library).price([0], ask)) == told(Search(problem, types).price([0], ask))


def beyond(room):
    return Problem(needs=(((0, UNIT),),), counts=(1,), rooms=(room,), prices=(1,), limits=(1,), allowed=(frozenset({0}),), total=1)


@pytest.mark.parametrize(
    "room",
    [
        pytest.param((UNIT,) * (native.MOST_KINDS + 1), id="too many kinds"),
        pytest.param((UNIT, *[Devices([(UNIT, 1)])] * (native.MOST_POOLS + 1)), id="too many kinds of devices"),
        pytest.param((UNIT, Devices([(UNIT, native.MOST_DEVICES + 1)])), id="too many devices"),
    ],
)
def test_what_is_beyond_compiled_code_is_left_to_python(library, room):
    problem = beyond(room)
    assert native.of(problem, [Shares(problem, 0)], library) is None
    assert native.of(beyond((UNIT,)), [Shares(beyond((UNIT,)), 0)], library) is not None
    assert isinstance(Filler(problem)._search, Search)


def test_without_compiled_code_the_mix_is_the_same(library, monkeypatch, tmp_path):
    sevens = Problem(
        needs=(((0, 4 * UNIT),), ((0, 3 * UNIT),)),
        counts=(40, 80),
        rooms=((10 * UNIT,), (7 * UNIT,)),
        prices=(100, 80),
        limits=(100, 100),
        allowed=(frozenset({0, 1}),) * 2,
        total=200,
    )
    start = judged(sevens, (Used(Column(0, ((0, 2),)), 20), Used(Column(0, ((1, 3),)), 27)))
    found = []
    for path in (library, tmp_path / "none.so"):
        monkeypatch.setattr(native, "library", lambda path=path: path)
        assert (native.of(sevens, [Shares(sevens, 0)]) is None) == (path != library)
        found.append(solve(sevens, start, 100))
    assert found[0] == found[1]
    assert found[0].cost < start.cost


def test_a_file_that_cannot_be_loaded_is_no_compiled_code(tmp_path):
    (tmp_path / "broken.so").write_bytes(b"no library")
    assert native.of(beyond((UNIT,)), [], tmp_path / "broken.so") is None


def test_why_nothing_was_compiled_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "no-such-compiler" in compile_native(folder=tmp_path)
    (tmp_path / "cc").write_text("#!/bin/sh\necho this is wrong >&2\nexit 1\n")
    (tmp_path / "cc").chmod(0o755)
    monkeypatch.setenv("CC", f"{tmp_path}/cc -m32")
    assert compile_native(folder=tmp_path) == "this is wrong\n"
    assert [each.name for each in tmp_path.iterdir()] == ["cc"]


def test_a_changed_source_is_another_file_and_the_old_one_goes(tmp_path):
    folder = (tmp_path / LIBRARY).parent
    folder.mkdir(parents=True)
    for each in (ROOT / LIBRARY, SOURCE):
        shutil.copy(each, folder)
    names = []
    for _ in range(2):
        assert compile_native(tmp_path) == ""
        names.append([each.name for each in folder.glob("*.so")])
        with (folder / SOURCE.name).open("a") as source:
            source.write("/* changed */\n")
    assert [len(each) for each in names] == [1, 1]
    assert names[0] != names[1]


def test_both_mend_a_mix_in_the_same_way(library):
    changed = 0
    for seed in range(CASES // 3):
        chance = random.Random(seed)
        problem = some_problem(chance)
        types = [Shares(problem, kind) for kind in range(len(problem.rooms))]
        broken = some_broken(chance, problem)
        problem = some_spends(chance, problem)
        mine = Mender(problem, types, broken).run()
        assert mine == native.of(problem, types, library).mend(broken), f"seed {seed}"
        changed += sorted(mine.nodes) != sorted(broken.nodes)
    assert changed > CASES / 9
