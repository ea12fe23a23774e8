"""What every store must do, as plain async functions over a way to open it: the sentences of the store ports, one case each.

    @pytest.mark.parametrize("case", store_conformance.CASES, ids=store_conformance.name)
    async def test_conforms(case):
        await case(open_store)

Knows the ports only. Each call of `open_store` gives a store over the same place as before, as after a restart. A breach raises Breach.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Protocol

from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import Bundle, Constraint, Demand, Session
from rayscaler.model.instance import Reason
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, FloorOwners, Hold
from rayscaler.model.trouble import NodeTypeTrouble
from rayscaler.store.base import ClusterRecord, Definitions, OpenBatch, Store
from rayscaler.testing.conformance import Breach


class Kept(Store, Definitions, Protocol):
    """Both ports."""


Open = Callable[[], Awaitable[Kept]]
Case = Callable[[Open], Awaitable[None]]

FULL = ClusterRecord(
    "full",
    session=Session("c1", "session_1"),
    retired=(Session("c0", "session_0"),),
    incarnation="pod-2",
    retired_incarnations=("pod-1",),
    batch=7,
    open_batches=(OpenBatch(6, (("large", 0, 2),)), OpenBatch(7, (("small", 0, 3), ("small", 5, 1)))),
    state_version=1_800_000_000_000,
    floor=Constraint((Demand(Bundle(Resources.of(CPU=4, Tülle=0.5)), 3),)),
    floor_until=1_800_000_000.25,
    floor_owners=FloorOwners(frozenset({"01000000"}), 2.5),
    hold=Hold(1_800_000_000.5, (("small", 3),)),
    drains=(AskedDrain("full-small-1-0", Reason.IDLE, DrainCommand("d", "f" * 56, is_preemption=False, detail="idle: “60 s”")),),
    targets=(("large", 2), ("small", 3)),
    backoffs=(Backoff("large", 2, 1_800_000_009.0, "no room\n in zone b"),),
    troubles=(NodeTypeTrouble("large", "RETRIED", 1_800_000_001.123456, "“tag” not found", 3, 1, "UNSCHEDULABLE", 1_800_000_008.5),),
)


async def what_was_never_saved_is_none(open_store: Open) -> None:
    """Check that there is neither a record nor a definition, and that asking makes none."""
    for _ in range(2):
        store = await open_store()
        _require(await store.load("new") is None, "a record that was never saved is None")
        _require(await store.last_good("new") is None, "a definition that was never kept is None")
        await store.close()


async def a_record_comes_back_whole_after_a_restart(open_store: Open) -> None:
    """Check every field."""
    store = await open_store()
    await store.load("full")
    await store.save(FULL)
    _require(await store.load("full") == FULL, "what was saved is loaded")
    await store.close()
    again = await open_store()
    _require(await again.load("full") == FULL, "what was saved is loaded by the next one")
    await again.close()


async def the_newest_record_counts_and_each_cluster_has_its_own(open_store: Open) -> None:
    """Check that a save replaces, of one cluster only, and that fields that became empty are so."""
    store = await open_store()
    for cluster in ("a", "b"):
        await store.load(cluster)
    for record in (replace(FULL, cluster="a"), ClusterRecord("b", batch=1), ClusterRecord("a", batch=8), ClusterRecord("a", batch=9)):
        await store.save(record)
    await store.close()
    again = await open_store()
    _require(await again.load("a") == ClusterRecord("a", batch=9), "the newest save counts")
    _require(await again.load("b") == ClusterRecord("b", batch=1), "another cluster's save touches nothing")
    await again.close()


async def a_save_without_a_load_is_a_save(open_store: Open) -> None:
    """Check that nobody has to ask first."""
    store = await open_store()
    await store.save(ClusterRecord("unasked", batch=3))
    await store.close()
    again = await open_store()
    _require(await again.load("unasked") == ClusterRecord("unasked", batch=3), "a save without a load is one")
    await again.close()


async def a_definition_comes_back_beside_the_record(open_store: Open) -> None:
    """Check that the last good text is one per source, byte for byte, and that record and definition leave each other alone."""
    texts = ("name: é\n", "a: 1\r\nb: \t2 \n", "x" * 200_000 + "\n")
    for number, text in enumerate(texts):
        store = await open_store()
        if number == 1:
            await store.save(ClusterRecord("both", batch=number))
        await store.keep_good("both", text)
        await store.keep_good("both", text)
        _require(await store.last_good("both") == text, "the text that was kept is told")
        await store.close()
    again = await open_store()
    _require(await again.last_good("both") == texts[-1], "the last text that was kept is told by the next one")
    _require(await again.last_good("neither") is None, "of another source nothing is told")
    _require(await again.load("both") == ClusterRecord("both", batch=1), "a definition changes no record")
    await again.save(ClusterRecord("both", batch=2))
    _require(await again.last_good("both") == texts[-1], "a record changes no definition")
    await again.close()


async def many_saves_in_a_row_end_with_the_last(open_store: Open) -> None:
    """Check a run of saves, as a busy hour makes them."""
    store = await open_store()
    for batch in range(1, 31):
        await store.save(ClusterRecord("busy", batch=batch, targets=(("small", batch),)))
    await store.close()
    again = await open_store()
    _require(await again.load("busy") == ClusterRecord("busy", batch=30, targets=(("small", 30),)), "the last save counts")
    await again.close()


CASES: tuple[Case, ...] = (
    what_was_never_saved_is_none,
    a_record_comes_back_whole_after_a_restart,
    the_newest_record_counts_and_each_cluster_has_its_own,
    a_save_without_a_load_is_a_save,
    a_definition_comes_back_beside_the_record,
    many_saves_in_a_row_end_with_the_last,
)


def name(case: Case) -> str:
    """Return a case's name, for test ids."""
    return case.__name__


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Breach(sentence)
