"""Launches of the last minute (complaint D4): what counts, for how long, and what a clock that is set back makes of it."""

import pytest

from rayscaler.model.state import Begun
from rayscaler.reconciler import begun
from tests.reconciler.builders import NOW, config, node_type
from tests.reconciler.test_unfinished import COUNT, crashed
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

PACED = config(node_type("small"), node_type("large"), max_launches_per_minute=9)


def test_a_launch_counts_for_a_minute_and_those_of_one_second_are_one_entry_of_the_time_of_the_last():
    known = begun.after((), PACED, ["small", "small", "large"], NOW)
    known = begun.after(known, PACED, ["small"], NOW + 0.5)
    known = begun.after(known, PACED, ["small"], NOW + 1.5)
    assert known == (Begun(NOW, "large", 1), Begun(NOW + 0.5, "small", 3), Begun(NOW + 1.5, "small", 1))
    assert begun.current(known, NOW + 59.9) == known
    assert begun.current(known, NOW + 60) == known[1:]
    assert begun.after(known, PACED, [], NOW + 99) == known  # a record is not written because time passes
    assert begun.after(known, PACED, ["small"], NOW + 61) == (Begun(NOW + 1.5, "small", 1), Begun(NOW + 61, "small", 1))


def test_only_what_is_limited_is_kept():
    assert begun.after((), config(), ["small"], NOW) == ()
    own = config(node_type("small", max_launches_per_minute=1), node_type("large"))
    assert begun.after((), own, ["small", "large"], NOW) == (Begun(NOW, "small", 1),)
    assert begun.sent_late((), config(), "small", NOW, NOW + 9) == ()


def test_a_clock_that_is_set_back_makes_no_minute_longer_than_one():
    known = begun.after((Begun(NOW + 3600, "small", 4),), PACED, [], NOW)
    assert known == (Begun(NOW, "small", 4),)


def test_the_minute_of_a_launch_that_waited_for_its_turn_begins_when_it_is_sent():
    known = begun.after((), PACED, ["small"] * 2, NOW)
    known = begun.sent_late(known, PACED, "small", NOW, NOW + 7)
    assert known == (Begun(NOW, "small", 1), Begun(NOW + 7, "small", 1))
    assert begun.sent_late(known, PACED, "small", NOW, NOW + 7.5) == (Begun(NOW + 7.5, "small", 2),)
    assert begun.sent_late((), PACED, "small", NOW, NOW + 99) == (Begun(NOW + 99, "small", 1),)  # its old entry is forgotten


async def test_2b_1_launches_that_are_sent_again_count_again():
    definition = config(max_launches_per_minute=COUNT)
    async with crashed(1, definition) as (left, unsent), world(definition, **left) as w:
        await w.live(3)
        assert len(unsent) == COUNT - 1
        assert sum(each.launches for each in w.store.saves[-1].begun) == COUNT + COUNT - 1
