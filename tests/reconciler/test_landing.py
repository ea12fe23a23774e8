"""landing: whether Ray shows work twice, as use and as demand (D1)."""

import pytest

from rayscaler.model.demand import Snapshot
from rayscaler.reconciler import landing
from tests.reconciler.builders import row, tasks

pytestmark = pytest.mark.tier("unit")


def followed(*samples):
    """Follow samples of (pending tasks of one CPU, used CPUs of one node of eight)."""
    ledger = None
    for pending, used in samples:
        demands = tasks(pending) if pending else ()
        ledger = landing.follow(ledger, Snapshot(nodes=(row(used=used, cpus=8),), demands=demands))
    return ledger


@pytest.mark.parametrize(
    ("samples", "is_doubled"),
    [
        ([(14, 0)], False),
        ([(14, 0), (14, 6)], True),
        ([(14, 0), (14, 6), (9, 6)], True),
        ([(14, 0), (14, 6), (9, 6), (8, 6)], False),
        ([(14, 0), (8, 6)], False),
        ([(14, 0), (8, 6), (7, 6), (6, 6)], False),
        ([(0, 6), (5, 6)], False),
        ([(2, 6), (6, 6)], False),
        ([(14, 0), (14, 6), (18, 6)], True),
        ([(14, 0), (14, 6), (0, 6)], False),
        ([(0, 6), (6, 0)], False),
        ([(4, 6), (4, 4)], False),
    ],
    ids=[
        "the first snapshot is believed",
        "use that grows while nothing leaves the demand is the same work twice",
        "as long as the sum is too high",
        "and over when it has fallen",
        "work that lands in one step is not",
        "work that ends and is followed by the next is not",
        "new work on busy nodes is new",
        "more new work on busy nodes is new",
        "new work does not make up for what is shown twice",
        "without demand nothing is shown twice",
        "work that is tried again is not twice",
        "work that ends is not twice",
    ],
)
def test_the_sum_of_use_and_demand_tells(samples, is_doubled):
    assert followed(*samples).is_doubled is is_doubled
