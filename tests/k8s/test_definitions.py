"""What becomes of ConfigMaps with definitions, good, bad, unlabelled, deleted, out of reach: what is told, and what is kept."""

import asyncio
import contextlib
import json

import msgspec
import pytest
import yaml

from rayscaler.config import load
from rayscaler.errors import InvalidRequest
from rayscaler.k8s import definitions
from rayscaler.k8s.definitions import ENDING, MOST_BYTES, UNLABELLED
from rayscaler.k8s.objects import ConfigMap
from rayscaler.k8s.pods import Owner
from rayscaler.testing.memory_store import MemoryStore
from tests.k8s.fake_api import serving
from tests.k8s.sinks import TEMPLATE, config_map, following, text

pytestmark = pytest.mark.tier("protocol")

GOOD, BETTER = text("a"), text("a", "b")
BAD = text("a", idleTimeout="soon", maxWorkers=-3)
AWAY = (503, {}, {"message": "away"})


@contextlib.asynccontextmanager
async def world(*maps: dict, kept: MemoryStore | None = None):
    """An API server with these ConfigMaps, and what is told of them."""
    async with serving() as (api, client):
        for each in maps:
            await api.put(each)
        async with following(client, "ns", kept) as sink:
            yield api, sink


async def until_kept(store: MemoryStore, wanted: str, name: str = "demo") -> None:
    async with asyncio.timeout(5.0):
        while store.is_down or await store.last_good(name) != wanted:  # noqa: ASYNC110  # the store tells nobody
            await asyncio.sleep(0.01)


async def settle() -> None:
    """Give what must not happen the time to happen."""
    await asyncio.sleep(0.3)


async def test_a_good_definition_is_told_with_its_owner_and_kept():
    kept = MemoryStore()
    async with world(config_map("demo", GOOD), kept=kept) as (api, sink):
        assert await sink.until("defined") == [("defined", "demo", "a")]
        assert sink.owners["demo"] == Owner("v1", "ConfigMap", "demo", api.pods["demo"]["metadata"]["uid"])
        await until_kept(kept, GOOD)


async def test_cd14_an_edit_is_told_within_the_watch_and_an_unchanged_text_never():
    kept = MemoryStore()
    async with world(config_map("demo", GOOD), kept=kept) as (api, sink):
        await sink.until("defined")
        for index in range(24):
            await api.put(config_map("demo", GOOD, annotations={"applied": str(index)}))
        await api.put(config_map("demo", GOOD, key="another.yaml"))
        await api.put(config_map("demo", BETTER))
        assert await sink.until("defined") == [("defined", "demo", "a", "b")]
        await until_kept(kept, BETTER)


async def test_a_bad_edit_is_told_with_every_problem_and_place_and_mending_it_is_told_too():
    kept = MemoryStore()
    async with world(config_map("demo", GOOD), kept=kept) as (api, sink):
        await sink.until("defined")
        await api.put(config_map("demo", BAD))
        (refused,) = await sink.until("refused")
        assert len(refused) == 4
        assert refused[2].startswith("configmap demo: data.cluster.yaml: spec.maxWorkers: -3: ")
        assert refused[3].startswith("configmap demo: data.cluster.yaml: spec.idleTimeout: 'soon': ")
        await api.put(config_map("demo", BAD, annotations={"a": "b"}))
        await api.put(config_map("demo", GOOD))
        await sink.until("defined")
        await until_kept(kept, GOOD)


async def test_at_the_start_a_bad_one_is_in_force_as_it_was_good_last():
    kept = MemoryStore()
    await kept.keep_good("demo", BETTER)
    async with world(config_map("demo", BAD), kept=kept) as (_, sink):
        defined, refused = await sink.until("defined", "refused")
        assert defined == ("defined", "demo", "a", "b")
        assert len(refused) == 4


@pytest.mark.parametrize(
    ("last", "problems"),
    [(None, 2), (text("a", name="other"), 3), (text("a", idleTimeout="later"), 3)],
    ids=["never good", "another cluster's", "not good any more"],
)
async def test_at_the_start_a_bad_one_without_a_last_good_one_is_only_refused(last, problems):
    kept = MemoryStore()
    if last is not None:
        await kept.keep_good("demo", last)
    async with world(config_map("demo", BAD), kept=kept) as (api, sink):
        (refused,) = await sink.until("refused")
        assert len(refused) == 2 + problems, refused
        await api.put(config_map("demo", GOOD))
        await sink.until("defined")


async def test_what_was_good_last_is_asked_for_until_it_is_known():
    kept = MemoryStore()
    await kept.keep_good("demo", GOOD)
    kept.is_down = True
    async with world(config_map("demo", BAD), kept=kept) as (_, sink):
        (refused,) = await sink.until("refused")
        assert refused[-1] == "configmap demo: no last good one can be had: the record is out of reach"
        kept.is_down = False
        _, refused = await sink.until("defined", "refused")
        assert len(refused) == 4


async def test_a_definition_counts_though_it_cannot_be_kept_and_is_kept_once_it_can_whatever_comes_after():
    kept = MemoryStore()
    kept.is_down = True
    async with world(config_map("demo", GOOD), kept=kept) as (api, sink):
        await sink.until("defined")
        await api.put(config_map("demo", BAD))
        await sink.until("refused")
        kept.is_down = False
        await until_kept(kept, GOOD)


async def test_deleted_and_absent_is_gone_and_the_last_good_one_is_not_its_successors():
    kept = MemoryStore()
    async with world(config_map("demo", GOOD), kept=kept) as (api, sink):
        await sink.until("defined")
        await until_kept(kept, GOOD)
        await api.drop("demo")
        await sink.until("gone")
        assert api.calls["get"] == 1
        await api.put(config_map("demo", BAD))
        await sink.until("refused")
        await api.put(config_map("demo", GOOD))
        await sink.until("defined")


@pytest.mark.parametrize("is_seen", [True, False])
async def test_another_one_of_the_same_name_is_gone_and_then_defined_anew(is_seen):
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        before = sink.owners["demo"].uid
        await api.drop("demo", silently=not is_seen)
        await api.put(config_map("demo", GOOD))
        await sink.until("gone", "defined")
        assert sink.owners["demo"].uid != before
        await settle()
        assert sink.told == []


async def test_one_whose_successor_has_no_label_is_gone():
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        before = api.pods["demo"]
        api.pods["demo"] = {**before, "metadata": {**before["metadata"], "uid": "another"}}
        api.version += 1
        await api.say({"type": "DELETED", "object": {**before, "metadata": {**before["metadata"], "resourceVersion": str(api.version)}}})
        await sink.until("gone")


async def test_a_lost_label_holds_until_it_is_back():
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        await api.hide("demo")
        assert await sink.until("held") == [("held", "demo", UNLABELLED)]
        await settle()
        assert sink.told == []
        await api.put(config_map("demo", GOOD))
        await sink.until("defined")
        await settle()
        assert sink.told == []


async def test_a_label_that_comes_back_to_a_bad_text_puts_the_last_good_one_in_force():
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        await api.hide("demo")
        await sink.until("held")
        await api.put(config_map("demo", BAD))
        defined, _ = await sink.until("defined", "refused")
        assert defined == ("defined", "demo", "a")


async def test_what_was_good_last_is_not_put_in_force_while_held():
    kept = MemoryStore()
    await kept.keep_good("demo", GOOD)
    kept.is_down = True
    async with world(config_map("demo", BAD), kept=kept) as (api, sink):
        await sink.until("refused")
        await api.hide("demo")
        await sink.until("held")
        kept.is_down = False
        await settle()
        assert sink.told == []
        await api.put(config_map("demo", BAD))
        await sink.until("defined", "refused")


async def test_an_unlabelled_one_that_is_deleted_later_is_gone():
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        await api.hide("demo")
        await sink.until("held")
        await api.drop("demo", silently=True)
        await sink.until("gone")


async def test_an_end_that_cannot_be_confirmed_holds_until_it_can():
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        api.refuse["get"] = [AWAY] * 3
        await api.drop("demo")
        (held,) = await sink.until("held")
        assert held[2].startswith("its ConfigMap is not shown any more, and whether it exists cannot be known: get configmaps in ns")
        await sink.until("gone")
        assert api.calls["get"] == 4


async def test_one_that_is_being_deleted_is_held_until_it_is_gone():
    ending = config_map("demo", GOOD, deletionTimestamp="2100-01-01T00:00:00Z", finalizers=["a/b"])
    async with world(config_map("demo", GOOD)) as (api, sink):
        await sink.until("defined")
        await api.put(ending)
        assert await sink.until("held") == [("held", "demo", ENDING)]
        await api.hide("demo")
        await settle()
        assert sink.told == []
        await api.drop("demo")
        await sink.until("gone")
    async with world(ending) as (_, sink):
        await sink.until("held")


async def test_the_definitions_survive_a_forgotten_version_and_an_api_server_that_is_away():
    async with world(config_map("demo", GOOD), config_map("other", text("x", name="other"))) as (api, sink):
        await sink.until("defined", "defined")
        await api.drop("other", silently=True)
        await api.say({"type": "ERROR", "object": {"code": 410, "reason": "Expired", "message": "too old"}})
        assert await sink.until("gone") == [("gone", "other")]
        await api.stop()
        await settle()
        await api.start()
        await api.put(config_map("demo", BETTER))
        assert await sink.until("defined") == [("defined", "demo", "a", "b")]


async def test_a_bug_in_reading_one_definition_stops_nothing(monkeypatch):
    broken = text("a", name="odd")

    def reading(place, *args):
        if place.startswith("configmap odd"):
            raise ZeroDivisionError
        return of_before(place, *args)

    of_before = load.from_content
    monkeypatch.setattr(load, "from_content", reading)
    async with world(config_map("odd", broken)) as (api, sink):
        (refused,) = await sink.until("refused")
        assert refused[2].startswith("configmap odd: data.cluster.yaml: cannot be judged: ZeroDivisionError, a bug of rayscaler")
        await api.put(config_map("demo", GOOD))
        await sink.until("defined")


def problems_of(name: str, **found) -> list[str]:
    made = msgspec.json.decode(json.dumps({"metadata": {"name": name}, **found}), type=ConfigMap)
    with pytest.raises(InvalidRequest) as caught:
        definitions.read(name, *definitions.content(made))
    return [str(each) for each in caught.value.problems]


def with_spec(**spec) -> dict:
    return {"data": {"cluster.yaml": yaml.safe_dump({**yaml.safe_load(GOOD), "spec": {"head": {"template": TEMPLATE}, **spec}})}}


@pytest.mark.parametrize(("found", "says"), [
    ({}, ["configmap demo: data: has no key; put the definition under cluster.yaml"]),
    ({"binaryData": {"x": "AA=="}}, [
        "configmap demo: binaryData: is left aside, a definition is text; data: has no key; put the definition under cluster.yaml"]),
    ({"data": {"b": GOOD, "a": ""}}, ["configmap demo: data: has the keys a, b; have one, or call that of the definition cluster.yaml"]),
    ({"data": {"a": ""}}, ["configmap demo: data.a: is empty; there must be one document"]),
    ({"data": {"cluster.yaml": GOOD + "#" * MOST_BYTES, "a": ""}},
     ["configmap demo: data.cluster.yaml: is larger than 256 KiB, as no definition is"]),
    (with_spec(executor="local"), ["configmap demo: data.cluster.yaml: spec.executor: 'local': this service has 'k8s' only"]),
    ({"data": {"c": text("a", name="other", idleTimeout=0.5)}},
     ["configmap demo: data.c: spec.idleTimeout: 0.5: a duration is written like 30s, 5m or 1h30m; never means no timeout",
      "configmap demo: data.c: metadata.name: 'other': must be the ConfigMap's name, 'demo'"]),
])  # fmt: skip
def test_what_is_no_definition_is_told_with_its_place(found, says):
    assert problems_of("demo", **found) == says


def test_design_2b_9_a_name_with_kustomizes_hash_is_refused_with_the_hint():
    says = "configmap demo-5hk7b2m9tg: data.cluster.yaml: metadata.name: 'demo': must be the ConfigMap's name, 'demo-5hk7b2m9tg'"
    hint = "; kustomize has put a hash behind it: set generatorOptions.disableNameSuffixHash to true"
    assert problems_of("demo-5hk7b2m9tg", data={"cluster.yaml": GOOD}) == [says + hint]
    (without,) = problems_of("demo-production", data={"cluster.yaml": GOOD})
    assert "kustomize" not in without


def test_the_executor_is_that_of_pods_and_any_key_will_do():
    made = ConfigMap(data={"demo.yml": GOOD})
    made.metadata.name = "demo"
    found = definitions.read("demo", *definitions.content(made))
    assert (found.config.executor, found.content) == ("k8s", GOOD.encode())
