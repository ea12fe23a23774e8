"""What may count a task twice while a node stays full: a task that ends hands its place on, and its successor is pending and running (D1)."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Snapshot
from rayscaler.reconciler.state import build_state
from tests.reconciler.builders import CPU, FIRST, NOW, instance, memory, report, row, tasks

pytestmark = pytest.mark.tier("unit")


def seen(*counts_at: tuple[float, int], used: int):
    """A memory after reports of one node, long known, and so many pending tasks."""
    known = memory(instance())
    for sequence, (at, count) in enumerate(counts_at, start=2):
        snapshot = Snapshot(nodes=(row(used=used, cpus=6),), demands=tasks(count))
        known.take_report(report(sequence, snapshot), replace(known.order, sequence=sequence, session=FIRST), at)
    return known


def pending(known, now: float) -> int:
    return sum(each.count for each in build_state(known, now).demands if each.bundle.resources == CPU)


def test_a_count_that_rises_for_a_second_while_a_full_node_works_on_is_not_believed():
    known = seen((NOW - 60, 8), (NOW - 0.3, 8), (NOW, 9), used=6)
    assert pending(known, NOW) == 8


def test_a_count_that_stays_risen_is_believed():
    known = seen((NOW - 60, 8), (NOW, 9), used=6)
    later = NOW + known.timings.backlog_lag_s
    assert pending(known, later) == 8  # nobody has seen that it stays
    known.fresh_at = later
    assert pending(known, later) == 9


def test_a_rise_while_nothing_works_is_believed_at_once():
    known = seen((NOW - 60, 8), (NOW - 0.3, 8), (NOW, 9), used=0)
    assert pending(known, NOW) == 9
