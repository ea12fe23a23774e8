"""What is due to be told of node types in trouble: by what stands, by what is written, and by what was told."""

from dataclasses import replace

import pytest

from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.state import Backoff
from rayscaler.model.trouble import TroubleState
from rayscaler.reconciler.troubles import LONGEST, Troubles
from tests.reconciler.builders import NOW, instance

pytestmark = pytest.mark.tier("unit")

OVER_S = 60.0


def failed(reason: Reason = Reason.NO_CAPACITY, detail: str = "no quota") -> Instance:
    return instance("i", InstanceStatus.LAUNCH_FAILED, reason=reason, detail=detail)


class Life:
    """Troubles whose record is written after each step, unless it cannot be."""

    def __init__(self) -> None:
        self.troubles = Troubles(is_told=True)
        self.written = ()
        self.backoffs = {}
        self.now = NOW

    def step(self, *failures: Instance, is_well: bool = False, is_written: bool = True) -> list[tuple[str, str]]:
        """Let a second pass in which launches fail, or one gets through; return what is due then."""
        self.now += 1
        for each in failures:
            self.troubles.count(each)
            self.backoffs["small"] = Backoff("small", 1, self.now + 5, each.detail)
        if is_well:
            self.backoffs.clear()
        self.troubles.follow(self.backoffs, (), (), self.now, over_s=OVER_S)
        self.written = self.troubles.kept if is_written else self.written
        return [(each.state.value, each.trouble.cause) for each in self.due]

    @property
    def due(self):
        return list(self.troubles.due("demo", self.written, self.backoffs, self.now))

    def tell(self, untold: str = "") -> None:
        (each,) = self.due
        self.troubles.take_told(each, untold, self.now)


def test_only_what_is_written_is_told_so_that_another_life_calls_it_the_same():
    life = Life()
    assert life.step(failed(), is_written=False) == []
    assert life.step() == [("begun", "NO_CAPACITY")]
    life.tell()
    assert life.step(failed(Reason.EXITED), is_written=False) == []
    assert life.step() == [("changed", "EXITED")]
    life.tell()
    assert life.step(is_well=True, is_written=False) == []
    assert life.step() == [("ended", "EXITED")]


def test_what_was_told_is_due_no_more_before_that_is_written_too():
    life = Life()
    life.step(failed())
    life.tell()
    assert life.due == []


def test_a_blip_is_told_as_a_beginning_and_an_end():
    life = Life()
    life.step(failed(), is_written=False)
    assert life.step(is_well=True) == [("begun", "NO_CAPACITY")]
    life.tell()
    assert life.step() == [("ended", "NO_CAPACITY")]
    life.tell()
    assert (life.step(), life.troubles.kept) == ([], ())


def test_what_changed_and_changed_back_before_it_could_be_told_is_none_and_the_next_change_is_another_one():
    life = Life()
    life.step(failed())
    life.tell()
    life.step(failed(Reason.EXITED))
    assert life.step(failed()) == []
    assert life.step(failed(Reason.EXITED)) == [("changed", "EXITED")]
    assert life.troubles.kept[0].changes == 3


def test_what_comes_back_before_its_end_was_told_has_never_ended_and_after_that_is_another_one():
    life = Life()
    life.step(failed())
    life.tell()
    life.step(is_well=True)
    assert life.step(failed()) == []
    life.step(is_well=True)
    (end,) = life.due
    life.step(failed())
    life.troubles.take_told(end, "", life.now)  # it was under way
    assert life.step() == [("begun", "NO_CAPACITY")]
    assert life.due[0].trouble.since > end.trouble.since


def test_a_type_that_nothing_wants_is_in_trouble_no_more_a_while_after_its_pause():
    life = Life()
    life.step(failed())
    life.tell()
    pause_s = life.backoffs["small"].until - life.now
    life.now += pause_s + OVER_S - 2
    assert life.step() == []
    assert life.step() == [("ended", "NO_CAPACITY")]


def test_one_that_is_on_its_way_may_yet_end_it():
    life = Life()
    life.step(failed())
    life.tell()
    life.now += 3600
    life.troubles.follow(life.backoffs, [instance("j", InstanceStatus.ALLOCATED)], (), life.now, over_s=OVER_S)
    assert life.troubles.kept[0].ended_at is None
    life.troubles.follow(life.backoffs, (), ["small"], life.now, over_s=OVER_S)
    assert life.troubles.kept[0].ended_at is None


def test_what_is_given_up_counts_as_told_and_is_said_until_something_is_told():
    life = Life()
    life.step(failed())
    life.tell(untold="12 tries")
    assert (life.due, life.troubles.untold) == ([], "12 tries")
    life.step(is_well=True)
    life.tell()
    assert life.troubles.untold == ""


def test_what_is_told_of_another_one_changes_nothing():
    life = Life()
    life.step(failed())
    (old,) = life.due
    life.troubles.take_told(replace(old, trouble=replace(old.trouble, since=NOW - 100)), "", life.now)
    assert [each.state for each in life.due] == [TroubleState.BEGUN]
    life.troubles.take_told(replace(old, trouble=replace(old.trouble, node_type="gone")), "", life.now)
    assert set(life.troubles.standing) == {"small"}


def test_the_record_keeps_no_more_of_a_text_than_it_has_room_for():
    life = Life()
    life.step(failed(detail="x" * 10_000))
    assert len(life.troubles.kept[0].detail) == LONGEST


def test_what_an_earlier_version_left_of_a_pause_is_no_trouble_that_could_be_told():
    life = Life()
    life.backoffs["small"] = Backoff("small", 3, NOW + 1000, "no quota")
    assert life.step() == []
