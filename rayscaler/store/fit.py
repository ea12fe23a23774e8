"""A record within its bound: what is least missed is left out first. Pure.

Drains go early: Ray goes on with them, and whoever finds a node drained ends its instance. Who is over and what was launched stays.
"""

from collections.abc import Iterator
from dataclasses import replace

from rayscaler.errors import Unavailable
from rayscaler.model.state import Begun, FloorOwners
from rayscaler.store import codec
from rayscaler.store.base import ClusterRecord

MOST_BYTES = 64 << 10
"""Of a record's text: it is written whole each time, to a store that other people share (design §2b.10)."""
WORDS = 80
"""Characters kept of a detail."""
FEW = 4
"""Ended sessions and heads kept: those of the last minutes, whose reports may still be under way."""


def fitted(record: ClusterRecord, most_bytes: int = MOST_BYTES) -> tuple[str, str]:
    """Return the record's text and what had to be left out of it, "" mostly; raises Unavailable if it is too big all the same."""
    text, left_out = codec.encode(record), ""
    for smaller, what in _smaller(record):
        if len(text.encode()) <= most_bytes:
            break
        text, left_out = codec.encode(smaller), what
    size = len(text.encode())
    if size > most_bytes:
        types, batches = len(record.targets), len(record.open_batches)
        text = (
            f"the record of {record.cluster} has {size} bytes, {most_bytes} at most: {types} node types, {batches} open batches of launches"
        )
        raise Unavailable(f"{text}; fewer node types make it smaller")
    return text, left_out


def _smaller(record: ClusterRecord) -> Iterator[tuple[ClusterRecord, str]]:
    """Yield ever smaller records, and what is missing in each."""
    record = replace(
        record,
        drains=tuple(replace(each, command=replace(each.command, detail=each.command.detail[:WORDS])) for each in record.drains),
        backoffs=tuple(replace(each, detail=each.detail[:WORDS]) for each in record.backoffs),
        troubles=tuple(replace(each, detail=each.detail[:WORDS]) for each in record.troubles),
    )
    yield record, "ends of details"
    record = replace(record, begun=tuple(_at_once(record.begun)))
    yield record, "ends of details, and exact times of launches"
    while record.drains:
        record = replace(record, drains=record.drains[: len(record.drains) // 2])
        yield record, f"drains but {len(record.drains)}"
    record = replace(record, floor_owners=replace(record.floor_owners, jobs=None))
    yield record, "drains, and whose the floor is"
    record = replace(record, retired=record.retired[-FEW:], retired_incarnations=record.retired_incarnations[-FEW:])
    yield record, "drains, whose the floor is, and older heads"
    if record.troubles:
        record = replace(record, troubles=())
        yield record, "drains, whose the floor is, older heads, and what a webhook was told"
    record = replace(record, floor=None, floor_until=None, floor_owners=FloorOwners())
    yield record, "drains, the floor, and older heads"


def _at_once(begun: tuple[Begun, ...]) -> Iterator[Begun]:
    """Yield all launches of each type as if they were begun with the last of them: a limit is kept, and room comes later."""
    latest = {each.node_type: each.at for each in sorted(begun)}
    for name, at in sorted(latest.items()):
        yield Begun(at, name, sum(each.launches for each in begun if each.node_type == name))
