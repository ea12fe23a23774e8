"""The transition table, written down a second time by somebody who had not written the first one (house section 8)."""

import inspect
import re

import pytest

from rayscaler.lifecycle import table
from rayscaler.lifecycle.table import EDGES, Fact, IllegalTransition, can, move
from rayscaler.model.instance import ENDED, InstanceStatus, Reason
from tests.lifecycle.builders import NOW, instance

pytestmark = pytest.mark.tier("unit")

R, A, N, J, D, T = (InstanceStatus[name] for name in ("REQUESTED", "ALLOCATED", "RUNNING", "REJOINING", "DRAINING", "TERMINATING"))
ENDS, FAILED = InstanceStatus.TERMINATED, InstanceStatus.LAUNCH_FAILED

EXPECTED = {
    Fact.EXISTS: {R: A, A: A, N: N, J: J, D: D, T: T},
    Fact.REFUSED: {R: FAILED, T: FAILED},
    Fact.JOINED: {R: N, A: N, N: N, J: N, D: D, T: T},
    Fact.HEAD_LOST: {R: R, A: A, N: J, J: J, D: J, T: T},
    Fact.DRAIN_ASKED: {N: D},
    Fact.DRAIN_VOID: {D: N},
    Fact.END_ASKED: {R: T, A: T, N: T, J: T, D: T, T: T},
    Fact.GONE: {R: FAILED, A: FAILED, N: ENDS, J: ENDS, D: ENDS, T: ENDS},
}
PAIRS = [(status, fact) for status in InstanceStatus for fact in Fact]


@pytest.mark.parametrize(("status", "fact"), PAIRS, ids=lambda each: each.name)
def test_each_status_and_fact_leads_where_the_second_table_says_or_is_refused(status, fact):
    before = instance(status, since=NOW - 5, reason=Reason.GANG, detail="before")
    wanted = EXPECTED[fact].get(status)
    assert can(before, fact) is (wanted is not None)
    if wanted is None:
        with pytest.raises(IllegalTransition, match=f"i: {status.value} has no edge"):
            move(before, fact, NOW, reason=Reason.IDLE, detail="after")
        assert before == instance(status, since=NOW - 5, reason=Reason.GANG, detail="before")
    else:
        assert move(before, fact, NOW).status is wanted


def test_the_table_has_no_edge_more_than_the_second_one():
    assert {(status, fact): after for fact, column in EXPECTED.items() for status, after in column.items()} == EDGES


def test_nothing_leads_out_of_an_end_and_every_other_status_can_reach_one():
    assert not [edge for edge in EDGES if edge[0] in ENDED]
    assert all(EDGES[status, Fact.GONE] in ENDED for status in InstanceStatus if status not in ENDED)


def test_every_edge_in_the_source_says_why():
    lines = [line for line in inspect.getsource(table).splitlines() if re.match(r"\s+\([A-Z_]+, Fact\.", line)]
    assert len(lines) == len(EDGES)
    assert not [line for line in lines if not line.partition("#")[2].strip()]


def test_since_reason_and_detail_change_with_the_status_and_only_with_it():
    before = instance(A, since=NOW - 5, reason=Reason.GANG, detail="for a gang")
    assert move(before, Fact.EXISTS, NOW, reason=Reason.IDLE, detail="x") is before
    joined = move(before, Fact.JOINED, NOW, reason=Reason.JOINED, detail="x")
    assert (joined.since, joined.reason, joined.detail) == (NOW, Reason.JOINED, "x")
    kept = move(before, Fact.JOINED, NOW)
    assert (kept.since, kept.reason, kept.detail) == (NOW, Reason.GANG, "for a gang")
