"""backlog: counts of demand that rise while work lands (DK-26, D1)."""

import pytest

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.resources import Resources
from rayscaler.reconciler import backlog

pytestmark = pytest.mark.tier("unit")

CPU = Bundle(Resources.of(CPU=1))
GPU = Bundle(Resources.of(GPU=1))
LAG_S = 1.5


def seen(*samples):
    """Fold (read_at, count) samples of the CPU shape."""
    history = {}
    for at, count in samples:
        history = backlog.remember(history, [Demand(CPU, count)] if count else [], at, LAG_S)
    return history


def counted(history, now, count):
    return backlog.settled([Demand(CPU, count)], history, now, LAG_S)[0].count


def test_a_rise_is_not_believed_at_once():
    assert counted(seen((6.7, 12), (8.8, 13)), 8.8, 13) == 12


def test_a_rise_that_lasts_is_believed():
    history = seen((6.7, 12), (8.8, 13))
    assert backlog.next_expiry(history, 8.8, LAG_S) == pytest.approx(10.3)
    assert counted(history, 10.3, 13) == 13


def test_a_fall_is_believed_at_once():
    assert counted(seen((6.7, 12), (8.8, 9)), 8.8, 9) == 9


def test_a_rise_after_a_fall_counts_from_the_fewest():
    assert counted(seen((6.0, 12), (6.5, 8), (7.0, 11)), 7.0, 11) == 8


def test_a_new_shape_is_believed_at_once():
    history = seen((6.7, 12))
    assert backlog.settled([Demand(GPU, 5)], history, 6.8, LAG_S) == (Demand(GPU, 5),)


def test_a_shape_that_was_away_is_new():
    assert counted(seen((6.0, 2), (6.5, 0), (7.0, 9)), 7.0, 9) == 9
