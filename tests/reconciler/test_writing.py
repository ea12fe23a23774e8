"""When the record is written: at once for what guards an act, once a second for news, seldom for launches that merely arrived."""

from dataclasses import replace

import pytest

from rayscaler.model.nodetype import ClusterConfig
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.writing import write
from rayscaler.settings import Timings
from rayscaler.store.base import ClusterRecord, OpenBatch
from rayscaler.testing.memory_store import MemoryStore

pytestmark = pytest.mark.tier("unit")

RECORD = ClusterRecord("c", batch=1, open_batches=(OpenBatch(1, (("small", 0, 20),)),), targets=(("small", 20),))
ARRIVED = replace(RECORD, open_batches=(OpenBatch(1, (("small", 7, 13),)),))
FEWER = replace(ARRIVED, targets=(("small", 19),))


async def written(*steps: tuple[float, ClusterRecord, bool]) -> tuple[list[ClusterRecord], Memory]:
    """Write at each moment, and return what the store was given."""
    memory, store = Memory(ClusterConfig("c", ()), Timings(), ClusterRecord("c")), MemoryStore()
    for at, record, guards in steps:
        await write(record, memory, store, guards=guards, now=at)
    return store.saves, memory


async def test_what_guards_an_act_is_written_at_once_and_also_when_it_says_nothing_new():
    saves, _ = await written((100.0, RECORD, True), (100.1, RECORD, True))
    assert saves == [RECORD, RECORD]


async def test_news_waits_for_a_second_after_the_last_write_and_says_when_it_is_due():
    saves, memory = await written((100.0, RECORD, True), (100.5, FEWER, False))
    assert (saves, memory.write_due) == ([RECORD], 100.0 + Timings().record_rest_s)
    saves, memory = await written((100.0, RECORD, True), (100.5, FEWER, False), (101.0, FEWER, False))
    assert (saves, memory.write_due) == ([RECORD, FEWER], None)


async def test_launches_that_arrive_one_by_one_are_not_a_write_each():
    saves, memory = await written((100.0, RECORD, True), (102.0, ARRIVED, False), (110.0, ARRIVED, False))
    assert (saves, memory.write_due) == ([RECORD], 100.0 + Timings().record_closing_s)
    saves, _ = await written((100.0, RECORD, True), (102.0, ARRIVED, False), (100.0 + Timings().record_closing_s, ARRIVED, False))
    assert saves == [RECORD, ARRIVED]
