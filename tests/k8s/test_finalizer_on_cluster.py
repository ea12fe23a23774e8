"""Definitions whose instances no object's deletion ends, on a real API server with the Role's rights: marked first, kept until all is ended."""

import asyncio
from collections.abc import Callable

import pytest

from rayscaler.k8s import labels
from rayscaler.k8s.definitions import ENDING
from tests.cluster.api import ApiError
from tests.k8s import bed
from tests.k8s.sinks import config_map, following, text
from tests.k8s.test_definitions_on_cluster import apply, entered, label

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]

GOOD = text("a")
THEIRS = "example.com/theirs"
LEFT = "its instances are ended first"


class Instances:
    """What is there of clusters: a deletion waits until somebody ends it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.ended = asyncio.Event()

    async def clear(self, name: str, told: Callable[[str], None]) -> None:
        self.asked.append(name)
        told(LEFT)
        await self.ended.wait()


async def finalizers(namespace) -> list[str] | None:
    """Return those of the definition; None if it is gone."""
    try:
        found = await namespace.api.get(f"{namespace.path('configmaps')}/demo")
    except ApiError:
        return None
    return found["metadata"].get("finalizers", [])


async def delete(namespace) -> None:
    await namespace.api.delete(f"{namespace.path('configmaps')}/demo")


async def test_a_definition_is_marked_before_it_is_in_force_and_goes_when_its_instances_have_ended(namespace):
    there = Instances()
    async with entered(namespace, clear=there.clear) as (_, sink):
        await apply(namespace, config_map("demo", GOOD, finalizers=[THEIRS]))
        await sink.until("defined")
        assert await finalizers(namespace) == [THEIRS, labels.FINALIZER]
        await apply(namespace, config_map("demo", text("a", "b"), finalizers=[THEIRS]))  # takes nothing off that is not its own
        await sink.until("defined")
        await delete(namespace)
        assert await sink.until("held", "held") == [("held", "demo", ENDING), ("held", "demo", f"{ENDING}: {LEFT}")]
        assert (there.asked, await finalizers(namespace)) == (["demo"], [THEIRS, labels.FINALIZER])
        there.ended.set()
        await sink.until("held")
        assert await finalizers(namespace) == [THEIRS]
        await namespace.api.patch(f"{namespace.path('configmaps')}/demo", {"metadata": {"finalizers": None}})
        await sink.until("gone")
    assert there.asked == ["demo"]


async def test_a_mark_that_is_taken_off_comes_back_and_the_cluster_goes_on(namespace):
    async with entered(namespace, clear=Instances().clear) as (_, sink):
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("defined")
        await namespace.api.patch(f"{namespace.path('configmaps')}/demo", {"metadata": {"finalizers": None}})
        async with asyncio.timeout(30.0):
            while await finalizers(namespace) != [labels.FINALIZER]:  # noqa: ASYNC110 - the witness looks by itself
                await asyncio.sleep(0.05)
        assert sink.told == []


async def test_a_deletion_goes_on_in_the_next_life(namespace):
    first, second = Instances(), Instances()
    second.ended.set()
    async with bed.entered(namespace) as client:
        async with following(client, namespace.name, clear=first.clear) as sink:
            await apply(namespace, config_map("demo", GOOD))
            await sink.until("defined")
            await delete(namespace)
            await sink.until("held", "held")
        async with following(client, namespace.name, clear=second.clear) as sink:
            await sink.until("held", "held", "gone")
    assert (first.asked, second.asked) == (["demo"], ["demo"])


async def test_a_lost_label_ends_nothing_and_a_deletion_after_it_does(namespace):
    there = Instances()
    there.ended.set()
    async with entered(namespace, clear=there.clear) as (_, sink):
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("defined")
        await label(namespace, "demo", None)
        await sink.until("held")
        assert there.asked == []
        await delete(namespace)
        told = await sink.until("held", "held", "gone")
        assert told[0] == ("held", "demo", ENDING)
    assert there.asked == ["demo"]


async def test_where_pods_are_made_nothing_is_marked_and_a_mark_that_a_plugin_has_left_holds_up_nobody(namespace):
    async with entered(namespace) as (_, sink):
        await apply(namespace, config_map("demo", GOOD))
        await sink.until("defined")
        assert await finalizers(namespace) == []
        await namespace.api.patch(f"{namespace.path('configmaps')}/demo", {"metadata": {"finalizers": [labels.FINALIZER]}})
        await delete(namespace)
        await sink.until("held", "gone")


async def test_without_the_right_to_mark_it_nothing_is_in_force_and_that_is_told(namespace):
    there = Instances()
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "list", "watch"]}]
    async with entered(namespace, clear=there.clear, rules=rules) as (_, sink):
        await apply(namespace, config_map("demo", GOOD))
        (held,) = await sink.until("held")
        assert held[2].startswith(f"its finalizer {labels.FINALIZER} cannot be changed: ")
