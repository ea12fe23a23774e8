"""What planning looks at grows with what there is to see, not with its square: counted, since time depends on the machine."""

import pytest

from rayscaler.planner import choose, gangs, order, packing, sim
from rayscaler.planner.plan import plan
from tests.bench.plan_cases import CASES

pytestmark = pytest.mark.tier("unit")


@pytest.fixture
def looks(monkeypatch):
    """Return a function that plans a case of `make bench-plan` and says how often a room was compared with a shape."""
    count, times = 0, sim.times

    def counted(room, needs):
        nonlocal count
        count += 1
        return times(room, needs)

    for module in (choose, gangs, order, packing, sim):
        monkeypatch.setattr(module, "times", counted)

    def looked(name: str, size: int) -> int:
        nonlocal count
        count = 0
        assert not plan(CASES[name].state(1, size)).infeasible
        return count

    return looked


def test_nodes_without_room_are_not_looked_at_one_by_one(looks):
    """A hundred shapes on a thousand nodes are 100,000 pairs."""
    assert looks("partly-used", 1000) < 20_000


def test_twice_the_shapes_are_not_four_times_the_work(looks):
    assert looks("distinct", 1600) < 2.8 * looks("distinct", 800)


def test_of_many_node_types_only_those_are_filled_that_may_be_the_cheapest(looks):
    """With all of them filled each time it is above 700,000."""
    assert looks("many", 20_000) < 400_000


def test_twice_the_placement_groups_are_not_four_times_the_work(looks):
    assert looks("gangs", 1600) < 2.5 * looks("gangs", 800)


def test_twice_the_groups_of_jobs_are_not_four_times_the_work(looks):
    """Nodes with something free that no group can take any more are passed by, though others may take it."""
    assert looks("jobs", 1600) < 2.5 * looks("jobs", 800)


def test_a_million_tasks_are_no_more_work_than_ten_thousand(looks):
    assert looks("million", 1_000_000) < 2 * looks("million", 10_000)
