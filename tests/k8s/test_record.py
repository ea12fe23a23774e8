"""The record in a ConfigMap: it fences a former leader, outlives lost answers, other people's hands and its deletion, and stays small."""

import base64
import gzip
import random
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from rayscaler.errors import Fenced, Unavailable
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.record import ConfigMapStore
from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import Bundle, Constraint, Demand, Session
from rayscaler.model.instance import Reason
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, Begun, FloorOwners
from rayscaler.store import codec, fit
from rayscaler.store.base import ClusterRecord, OpenBatch
from rayscaler.testing.store_conformance import FULL
from tests.k8s.fake_objects import serving

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(60)]

NAME = "demo.rayscaler-record"
KEY = "configmaps", NAME


def store(client, holder="a", transitions=1, owner=None):
    return ConfigMapStore(client, "ns", holder=holder, transitions=lambda: transitions, owner=lambda _: owner)


@pytest.fixture
async def api():
    async with serving() as running:
        yield running


@pytest.fixture
async def client(api):
    made = api.client()
    yield made
    await made.close()


async def test_2b_1_after_a_take_over_the_old_leader_writes_nothing_more_and_says_who_has_it(api, client):
    old, new = store(client, "a", 1), store(client, "b", 2)
    await old.load("demo")
    await old.save(ClusterRecord("demo", batch=1))
    assert await new.load("demo") == ClusterRecord("demo", batch=1)
    before = api.objects[KEY]["metadata"]["resourceVersion"]
    with pytest.raises(Fenced, match="taken over by b, epoch 2; this was 1"):
        await old.save(ClusterRecord("demo", batch=2))
    asked = api.calls.total()
    for again in (old.save(ClusterRecord("demo", batch=3)), old.save(ClusterRecord("other")), old.keep_good("demo", "x"), old.load("demo")):
        with pytest.raises(Fenced):
            await again
    assert api.calls.total() == asked
    assert api.objects[KEY]["metadata"]["resourceVersion"] == before
    await new.save(ClusterRecord("demo", batch=2))


async def test_2b_1_a_save_that_says_nothing_new_is_refused_as_well(api, client):
    old, new = store(client, "a", 1), store(client, "b", 2)
    await old.save(ClusterRecord("demo", batch=1))
    await new.load("demo")
    with pytest.raises(Fenced):
        await old.save(ClusterRecord("demo", batch=1))


async def test_the_epoch_grows_with_each_life_also_of_one_name_and_when_the_count_of_leaders_began_anew(api, client):
    for life, transitions in enumerate((1, 2, 0, 0, 9), start=1):
        await store(client, "a", transitions).load("demo")
        assert int(api.objects[KEY]["data"]["epoch"]) >= life
    assert api.objects[KEY]["data"]["epoch"] == "9"
    former, present = store(client, "a", 9), store(client, "a", 9)
    await former.load("demo")
    await present.load("demo")
    with pytest.raises(Fenced):
        await former.save(ClusterRecord("demo"))


async def test_a_save_whose_answer_was_lost_is_made_again_and_is_no_fence(api, client):
    kept = store(client)
    await kept.load("demo")
    api.loses = 1
    with pytest.raises(Unavailable):
        await kept.save(ClusterRecord("demo", batch=1))
    await kept.save(ClusterRecord("demo", batch=2))
    assert codec.decode(api.objects[KEY]["data"]["record.json"]).batch == 2


async def test_what_other_people_put_on_it_is_kept_and_is_no_fence(api, client):
    kept = store(client)
    await kept.save(ClusterRecord("demo", batch=1))
    found = api.objects[KEY]
    await api.put("configmaps", {**found, "metadata": {**found["metadata"], "annotations": {"team": "ml"}}})
    await kept.save(ClusterRecord("demo", batch=2))
    assert api.objects[KEY]["metadata"]["annotations"] == {"team": "ml"}
    assert codec.decode(api.objects[KEY]["data"]["record.json"]).batch == 2


async def test_one_that_somebody_deleted_is_made_again_whole(api, client):
    kept = store(client)
    await kept.save(FULL)
    await kept.keep_good("full", "text\n")
    await api.drop("configmaps", "full.rayscaler-record")
    await kept.keep_good("full", "newer\n")
    assert await store(client, "b").load("full") == FULL
    assert await kept.last_good("full") == "newer\n"


async def test_2b_1_a_former_leader_that_finds_it_deleted_can_make_it_and_is_fenced_all_the_same(api, client):
    old, new = store(client, "a", 1), store(client, "b", 2)
    await old.save(ClusterRecord("demo", batch=1))
    await new.load("demo")
    await api.drop("configmaps", NAME)
    await old.save(ClusterRecord("demo", batch=2))
    await new.save(ClusterRecord("demo", batch=3))
    with pytest.raises(Fenced):
        await old.save(ClusterRecord("demo", batch=4))
    assert codec.decode(api.objects[KEY]["data"]["record.json"]).batch == 3


async def test_two_that_take_over_at_once_have_different_epochs_and_one_is_fenced(api, client):
    await store(client, "z", 1).load("demo")
    first, second = store(client, "a", 2), store(client, "b", 2)
    raced = False

    def before(verb, name):
        nonlocal raced
        if verb == "patch" and not raced:
            raced = True
            return 409, "Conflict"
        return None

    api.before = before
    await first.load("demo")
    await second.load("demo")
    with pytest.raises(Fenced):
        await first.save(ClusterRecord("demo"))
    await second.save(ClusterRecord("demo", batch=5))


@pytest.mark.parametrize(("status", "reason"), [(403, "Forbidden"), (500, "InternalError"), (422, "Invalid"), (409, "Conflict")])
async def test_whatever_is_in_the_way_is_unavailable_and_no_fence(api, client, status, reason):
    kept = store(client)
    await kept.load("demo")
    api.before = lambda verb, name: (status, reason) if verb != "get" else None
    with pytest.raises(Unavailable):
        await kept.save(ClusterRecord("demo", batch=1))
    with pytest.raises(Unavailable):
        await store(client, "b", 2).load("demo")
    api.before = lambda verb, name: None
    await kept.save(ClusterRecord("demo", batch=1))


async def test_a_record_that_is_none_is_unavailable_and_never_taken_for_no_record(api, client):
    await store(client).save(ClusterRecord("demo"))
    found = api.objects[KEY]
    for body in ("{", "null", '{"cluster": "demo", "batch": "x"}'):
        await api.put("configmaps", {**found, "data": {**found["data"], "record.json": body}})
        with pytest.raises(Unavailable, match="cannot be read"):
            await store(client, "b").load("demo")
    await api.put("configmaps", {**found, "binaryData": {"definition.yaml.gz": base64.b64encode(b"no gzip").decode()}})
    with pytest.raises(Unavailable, match="cannot be read"):
        await store(client).last_good("demo")


async def test_it_belongs_to_the_definition_of_today_and_says_whose_it_is(api, client):
    await store(client, owner=Owner("v1", "ConfigMap", "demo", "uid-1")).load("demo")
    assert api.objects[KEY]["metadata"]["labels"] == {"app.kubernetes.io/managed-by": "rayscaler", "rayscaler.io/cluster": "demo"}
    await store(client, "b", 2, owner=Owner("v1", "ConfigMap", "demo", "uid-2")).load("demo")
    (owner,) = api.objects[KEY]["metadata"]["ownerReferences"]
    assert (owner["uid"], owner["controller"], "blockOwnerDeletion" in owner) == ("uid-2", True, False)


# size


async def test_2b_10_a_definition_of_a_mebibyte_fits_beside_a_full_record_and_one_that_cannot_is_not_kept(api, client):
    kept = store(client)
    text = "".join(f"  line-{n}: {n * 7919 % 100_003}\n" for n in range(50_000))[: 1 << 20]
    await kept.keep_good("demo", text)
    await kept.save(FULL)
    stored = api.objects[KEY]["binaryData"]["definition.yaml.gz"]
    assert len(base64.b64decode(stored)) + fit.MOST_BYTES < 1 << 20
    assert gzip.decompress(base64.b64decode(stored)).decode() == text
    noise = base64.b64encode(random.Random(1).randbytes(1 << 20)).decode()
    with pytest.raises(Unavailable, match="is not kept: 921600 at most"):
        await kept.keep_good("demo", noise)
    assert await kept.last_good("demo") == text


def drain(number: int) -> AskedDrain:
    node = f"{number:056x}"
    return AskedDrain(f"demo-small-{number}-0", Reason.IDLE, DrainCommand(f"drain-{node}", node, is_preemption=False, detail="idle" * 50))


def shapes(count: int) -> Constraint:
    return Constraint(tuple(Demand(Bundle(Resources.of(CPU=1, **{f"resource-{n}": 1})), 1) for n in range(count)))


BIG = replace(
    FULL,
    drains=tuple(drain(n) for n in range(2000)),
    retired=tuple(Session(f"{n:056x}", f"session_{n}") for n in range(32)),
    floor_owners=FloorOwners(frozenset(f"{n:08x}" for n in range(1000))),
    backoffs=tuple(Backoff(f"type-{n}", 1, 0.0, "no room " * 200) for n in range(20)),
    open_batches=tuple(OpenBatch(n, (("small", 0, 9),)) for n in range(256)),
)


def test_2b_10_what_is_least_missed_is_left_out_first():
    fits, left_out = fit.fitted(FULL)
    assert (codec.decode(fits), left_out) == (FULL, "")
    text, left_out = fit.fitted(BIG)
    cut = codec.decode(text)
    assert len(text.encode()) <= fit.MOST_BYTES
    assert 0 < len(cut.drains) < 2000
    assert left_out == f"drains but {len(cut.drains)}"
    assert (cut.open_batches, cut.retired, cut.floor, cut.floor_owners) == (BIG.open_batches, BIG.retired, BIG.floor, BIG.floor_owners)
    text, left_out = fit.fitted(replace(BIG, floor=shapes(2000)))
    cut = codec.decode(text)
    assert left_out == "drains, the floor, and older heads"
    assert (cut.floor, cut.open_batches, cut.batch, cut.session, cut.hold) == (None, BIG.open_batches, 7, FULL.session, FULL.hold)


def test_2b_10_launches_of_a_minute_that_fill_the_record_are_kept_as_begun_with_the_last_of_their_type():
    begun = tuple(Begun(1000.0 + n, f"type-{kind}", 3) for n in range(60) for kind in range(50))
    text, left_out = fit.fitted(replace(FULL, begun=begun))
    assert left_out == "ends of details, and exact times of launches"
    assert codec.decode(text).begun == tuple(sorted(Begun(1059.0, f"type-{kind}", 180) for kind in range(50)))


def test_2b_10_a_record_that_cannot_be_small_is_said_to_be_too_big():
    with pytest.raises(Unavailable, match=r"the record of full has \d+ bytes, 65536 at most: 5000 node types, 2 open batches"):
        fit.fitted(replace(FULL, targets=tuple((f"type-{n}", n) for n in range(5000))))


async def test_what_is_left_out_is_said_once(api, client):
    kept = store(client)
    with capture_logs() as logs:
        for _ in range(3):
            await kept.save(replace(BIG, cluster="demo"))
        await kept.save(ClusterRecord("demo"))
    assert [each["left_out"] for each in logs if each["event"] == "record.cut"][1:] == [""]
