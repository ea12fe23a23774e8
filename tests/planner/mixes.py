"""Random problems of the mix, and random mixes to mend."""

from dataclasses import replace

from rayscaler.model.resources import UNIT
from rayscaler.planner.devices import Devices, Several
from rayscaler.planner.mix.fill import Filler
from rayscaler.planner.mix.mend import Broken
from rayscaler.planner.mix.problem import Column, Problem


def some_needs(chance, kinds):
    """Return what a shape needs of some kinds; the last is of devices: a share of one, whole ones, or several at once."""
    needs = [(kind, chance.choice([1, 3, 10, 25]) * UNIT // 10) for kind in range(kinds) if chance.random() < 0.7]
    if chance.random() < 0.5:
        some = [(chance.choice([1_000, 3_000, 5_000]), chance.randint(1, 2)), (UNIT, chance.randint(1, 2))]
        one = chance.choice([1_000, 2_500, 3_300, 5_000, UNIT, 2 * UNIT])
        needs.append((kinds, Several.of(some[: chance.randint(1, 2)]) if chance.random() < 0.3 else one))
    return tuple(needs)


def some_room(chance, kinds):
    """Return a room: amounts, some of them none, and devices, some of them in use; or none of such."""
    amounts = [chance.choice([0, 1, 4, 16, 50]) * UNIT for _ in range(kinds)]
    free = sorted({chance.randint(1, UNIT - 1) for _ in range(chance.randint(0, 2))})
    held = Devices([*((each, chance.randint(1, 2)) for each in free), (UNIT, chance.randint(1, 8))])
    return (*amounts, held if chance.random() < 0.7 else Devices() if chance.random() < 0.5 else 0)


def some_problem(chance):
    kinds, shapes, types = chance.randint(1, 3), chance.randint(1, 12), chance.randint(1, 3)
    needs = tuple(some_needs(chance, kinds) for _ in range(shapes))
    return Problem(
        needs=needs,
        counts=tuple(chance.choice([0, 1, 2, 7, 50, 10_000]) for _ in needs),
        rooms=tuple(some_room(chance, kinds) for _ in range(types)),
        prices=tuple(chance.randint(1, 9) * 1_000_000 for _ in range(types)),
        limits=(5,) * types,
        allowed=tuple(frozenset(each for each in range(shapes) if needs[each] and chance.random() < 0.9) for _ in range(types)),
        total=100,
    )


def some_spends(chance, problem):
    """Return the problem with prices that are weighed, half of the time: what is spent is something else."""
    spends = tuple(chance.randint(1, 9) * 1_000_000 for _ in problem.prices)
    return replace(problem, spends=chance.choice([(), spends]))


def some_broken(chance, problem):
    """Return some mix, of fills made one by one, with the rest left out."""
    filler = Filler(problem)
    left, spare, nodes = list(problem.counts), [chance.randint(0, 9) for _ in problem.rooms], []
    for _ in range(chance.randint(0, 12)):
        kind = chance.randrange(len(spare))
        pieces = tuple((shape, chance.randint(1, 2)) for shape in sorted(problem.allowed[kind]) if chance.random() < 0.3)
        if all(left[shape] >= count for shape, count in pieces) and pieces and filler.holds(kind, pieces):
            nodes.append(Column(kind, pieces))
            left = [count - dict(pieces).get(shape, 0) for shape, count in enumerate(left)]
    return Broken(
        nodes=nodes,
        left=[min(each, 20) for each in left],
        spare=spare,
        total=chance.randint(0, 12),
        money=chance.choice([None, chance.randint(0, 40) * 1_000_000]),
        worth=[chance.choice([0.1, 1.0, chance.random() * 5 + 0.01, 2.0]) for _ in problem.needs],
        looks=chance.choice([0, 300, 3_000]),
        most_nodes=chance.choice([14, 60]),
        chance=chance.randrange(2**32),
    )
