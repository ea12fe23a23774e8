"""Each reason has exactly one text for people, and somebody, or nobody, who must move."""

import pytest

from rayscaler.model.instance import NEVER, Reason
from rayscaler.model.reasons import MEANINGS, MOVERS, Mover, mover, reason_text

pytestmark = pytest.mark.tier("unit")


def test_every_reason_has_a_text_of_its_own_and_no_other_is_named():
    assert set(MEANINGS) == set(Reason)
    texts = [reason_text(each) for each in Reason]
    assert len(set(texts)) == len(texts)
    assert all(text and text == text.strip() and not text.endswith(".") and len(text) <= 120 for text in texts)


def test_every_mover_is_described():
    assert set(MOVERS) == set(Mover)


@pytest.mark.parametrize("reason", sorted(NEVER))
def test_what_can_never_be_is_somebodys_move(reason):
    assert mover(reason) in (Mover.USER, Mover.OPERATOR)
