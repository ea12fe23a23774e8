"""Which nodes the others could do without."""

import pytest

from rayscaler.model.resources import Resources
from rayscaler.planner import spare
from rayscaler.planner.spare import Hosts, Place

pytestmark = pytest.mark.tier("unit")

R = Resources.of
ZONE = frozenset({("zone", "a")})


def test_what_one_host_has_taken_counts_for_the_next():
    hosts = Hosts([Place("a", R(CPU=4), R(CPU=1)), Place("b", R(CPU=4), R(CPU=2)), Place("c", R(CPU=4), R(CPU=3))])
    assert hosts.take(Place("c", R(CPU=4), R(CPU=3))) == "a"
    assert hosts.take(Place("b", R(CPU=4), R(CPU=2))) is None
    assert hosts.take(Place("a", R(CPU=4), R(CPU=1))) is None  # it is to take what c had


def test_nobody_takes_from_itself_and_nothing_is_taken_by_one_that_goes():
    hosts = Hosts([Place("a", R(CPU=4), R(CPU=1)), Place("b", R(CPU=4), R(CPU=1))])
    assert hosts.take(Place("b", R(CPU=4), R(CPU=1))) == "a"
    assert hosts.take(Place("c", R(CPU=4), R(CPU=3))) is None
    assert Hosts([Place("a", R(CPU=4), R(CPU=1))]).take(Place("a", R(CPU=4), R(CPU=1))) is None


@pytest.mark.parametrize(
    ("used", "more", "fits"),
    [(0.4, 0.6, True), (0.6, 0.6, False), (0, 1.5, True), (0.5, 1.5, False), (1, 1, True)],
    ids=["shares of one device", "shares of two", "more than one is taken as two", "of which one is begun", "whole ones"],
)
def test_of_devices_it_must_follow_from_the_sum(used, more, fits):
    hosts = Hosts([Place("a", R(GPU=2 if more >= 1 else 1), R(GPU=used))])
    assert (hosts.take(Place("b", R(GPU=2), R(GPU=more))) == "a") is fits


def test_work_stays_where_the_labels_of_its_type_are():
    hosts = Hosts([Place("a", R(CPU=4), R(CPU=1)), Place("b", R(CPU=4), R(CPU=1), ZONE)])
    assert hosts.take(Place("c", R(CPU=4), R(CPU=1), ZONE)) == "b"
    assert hosts.take(Place("d", R(CPU=4), R(CPU=1), frozenset({("zone", "b")}))) is None


def test_a_great_many_nodes_are_looked_at_only_as_far_as_one_plan_may_take(monkeypatch):
    monkeypatch.setattr(spare, "MOST_TRIES", 10)
    hosts = Hosts(Place(f"full-{index}", R(CPU=4), R(CPU=4)) for index in range(9))
    empty = [Place(f"e-{index}", R(CPU=4), R()) for index in range(2)]
    assert hosts.take(Place("big", R(CPU=4), R(CPU=1))) is None
    assert [hosts.take(each) for each in empty] == ["full-0", None]
