"""When the record is written: before an act that it guards, at once; for what has only come to be known, now and then."""

from dataclasses import replace

from rayscaler.reconciler.memory import Memory
from rayscaler.store.base import ClusterRecord, Store


async def write(record: ClusterRecord, memory: Memory, store: Store, *, guards: bool, now: float) -> None:
    """Write the record if an act waits for it, or if it is news and the last write was a while ago; else note when it is due.

    A write that guards is made also when it says nothing new, since a store that has another leader refuses it. Raises Unavailable and
    Fenced, with nothing changed.
    """
    is_news = memory.written is None or record != memory.written
    timings = memory.timings
    is_closing = memory.written is not None and _is_closing(record, memory.written)
    rest_s = timings.record_closing_s if is_closing else timings.record_rest_s
    is_resting = 0.0 <= now - memory.written_at < rest_s
    if guards or (is_news and not (is_resting and _who(record) == _who(memory.written))):
        await store.save(record)
        memory.written, memory.written_at, is_news = record, now, False
    memory.record = record
    memory.write_due = memory.written_at + rest_s if is_news else None


def _is_closing(record: ClusterRecord, written: ClusterRecord) -> bool:
    return replace(record, open_batches=written.open_batches) == written


def _who(record: ClusterRecord | None) -> object:
    """Return which heads count and which versions are over: the next answer to a monitor rests on that (H4, H16, H21)."""
    return record and (record.session, record.retired, record.incarnation, record.retired_incarnations, record.state_version)
