"""The SQLite store: what goes in comes out, whole, also after kill -9; what cannot be read is said to be unreadable."""

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rayscaler.errors import Unavailable
from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import Bundle, Constraint, Demand, LabelCondition, LabelSelector, Operator, Session
from rayscaler.model.instance import Reason
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, Begun, FloorOwners, Hold
from rayscaler.store import codec
from rayscaler.store.base import ClusterRecord, OpenBatch
from rayscaler.store.sqlite import SqliteStore

pytestmark = pytest.mark.tier("property")

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 1 << 62)
SESSIONS = st.builds(Session, TEXT, TEXT)
SELECTORS = st.builds(
    LabelSelector,
    st.lists(st.builds(LabelCondition, TEXT, st.sampled_from(Operator), st.lists(TEXT, max_size=3).map(tuple)), max_size=2).map(tuple),
)
BUNDLES = st.builds(Bundle, st.dictionaries(TEXT, COUNT, max_size=3).map(Resources), st.lists(SELECTORS, max_size=2).map(tuple))
MOMENT = st.floats(allow_nan=False)
TARGETS = st.dictionaries(TEXT, st.integers(0, 10**6), max_size=4).map(lambda each: tuple(sorted(each.items())))
DRAINS = st.builds(
    AskedDrain,
    TEXT,
    st.sampled_from(Reason),
    st.builds(DrainCommand, TEXT, TEXT, is_preemption=st.booleans(), detail=TEXT, deadline_at=st.none() | MOMENT),
)
RECORDS = st.builds(
    ClusterRecord,
    cluster=TEXT,
    session=st.none() | SESSIONS,
    retired=st.lists(SESSIONS, max_size=3).map(tuple),
    incarnation=TEXT,
    retired_incarnations=st.lists(TEXT, max_size=3).map(tuple),
    batch=COUNT,
    open_batches=st.lists(st.builds(OpenBatch, COUNT, st.lists(st.tuples(TEXT, COUNT, COUNT), max_size=3).map(tuple)), max_size=2).map(tuple),
    state_version=COUNT,
    floor=st.none() | st.builds(Constraint, st.lists(st.builds(Demand, BUNDLES, COUNT), max_size=3).map(tuple)),
    floor_until=st.none() | MOMENT,
    floor_owners=st.builds(FloorOwners, st.none() | st.frozensets(TEXT, max_size=3), st.none() | MOMENT, st.booleans()),
    hold=st.none() | st.builds(Hold, MOMENT, TARGETS),
    drains=st.lists(DRAINS, max_size=3).map(tuple),
    targets=TARGETS,
    begun=st.lists(st.builds(Begun, MOMENT, TEXT, COUNT), max_size=3).map(tuple),
    backoffs=st.lists(st.builds(Backoff, TEXT, st.integers(0, 99), st.floats(allow_nan=False), TEXT, st.integers(0, 9)), max_size=3).map(tuple),
)  # fmt: skip

EMPTY = {"cluster": "a"}
FULL = json.loads(
    codec.encode(ClusterRecord("a", Session("c", "s"), batch=3, targets=(("small", 2),), backoffs=(Backoff("small", 1, 2.0, "x"),)))
)


def run(coroutine):
    """Run in a loop of its own; asyncio.run would take away the loop that pytest-asyncio keeps."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def load(path, cluster="a"):
    async def once():
        store = SqliteStore(path)
        try:
            return await store.load(cluster)
        finally:
            await store.close()

    return run(once())


def save(path, *records):
    async def once():
        store = SqliteStore(path)
        try:
            for record in records:
                await store.save(record)
        finally:
            await store.close()

    run(once())


def put(path, body):
    save(path, ClusterRecord("a"))
    db = sqlite3.connect(path)
    db.execute("UPDATE record SET body = ?", (body,))
    db.commit()
    db.close()


@given(RECORDS)
def test_a_record_comes_back_from_its_text(record):
    assert codec.decode(codec.encode(record)) == record


@given(RECORDS)
def test_equal_records_have_equal_texts(record):
    assert codec.encode(codec.decode(codec.encode(record))) == codec.encode(record)


def test_each_cluster_has_a_record_of_its_own_that_outlives_the_store(tmp_path):
    path = tmp_path / "deep" / "er" / "record.sqlite"
    save(path, ClusterRecord("a", batch=1), ClusterRecord("b", batch=7), ClusterRecord("a", batch=2))
    assert load(path) == ClusterRecord("a", batch=2)
    assert load(path, "b") == ClusterRecord("b", batch=7)
    assert load(path, "c") is None


def test_k2_fields_of_a_later_version_are_ignored_and_missing_ones_take_their_default():
    later = {**FULL, "version": 99, "spend": {"limit": 5}, "backoffs": [{**FULL["backoffs"][0], "zone": "b"}]}
    with capture_logs() as logs:
        assert codec.decode(json.dumps(later)) == codec.decode(json.dumps(FULL))
        assert codec.decode(json.dumps(EMPTY)) == ClusterRecord("a")
    assert logs == [
        {"event": "record.of_another_version", "log_level": "warning", "cluster": "a", "version": 99, "left_out": ["spend"]},
    ]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        '{"cluster": "a", "session": []}',
        '{"cluster": "a", "session": 5}',
        '{"cluster": "a", "batch": "x"}',
        '{"cluster": "a", "batch": Infinity}',
        '{"cluster": "a", "targets": [1]}',
        '{"cluster": "a", "targets": {"small": null}}',
        '{"cluster": "a", "retired": 7}',
        '{"cluster": "a", "floor": [1]}',
        '{"cluster": "a", "floor": [{"resources": {"CPU": "x"}, "count": 1}]}',
        '{"cluster": "a", "floor": [{"resources": {"CPU": 1}, "selectors": [[["k", "=", []]]], "count": 1}]}',
        '{"cluster": "a", "backoffs": [{"node_type": "small"}]}',
        '{"cluster": "a", "hold": {"since": 1}}',
        '{"cluster": "a", "floor_until": "soon"}',
        '{"cluster": "a", "floor_owners": [1]}',
        '{"cluster": "a", "floor_owners": {"jobs": 7}}',
        '{"cluster": "a", "drains": [{"instance_id": "i", "reason": "IDLE"}]}',
        '{"cluster": "a", "drains": [{"instance_id": "i", "reason": "?", "command_id": "c", "ray_node_id": "n", "is_preemption": false}]}',
        '{"cluster": "a", "open_batches": [[]]}',
        '{"cluster": "a", "open_batches": [[1, ["small", 2]]]}',
        "[" * 100_000,
    ],
    ids=range(27),
)
def test_a_record_that_is_none_is_unavailable_and_never_taken_for_no_record(tmp_path, body):
    put(tmp_path / "r", body)
    with pytest.raises(Unavailable, match="the record of a cannot be read"):
        load(tmp_path / "r")


def test_a_file_that_is_no_database_is_unavailable(tmp_path):
    path = tmp_path / "r"
    path.write_bytes(b"not a database, but long enough to look at" * 200)
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteStore(path)


def test_a_path_that_cannot_be_had_is_unavailable(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Unavailable, match="cannot be opened"):
        SqliteStore(tmp_path / "file" / "record.sqlite")


@given(seed=st.integers(0, 1 << 30))
def test_a_file_with_bytes_overwritten_gives_the_record_or_unavailable(tmp_path_factory, seed):
    path = tmp_path_factory.mktemp("s") / "r"
    record = ClusterRecord("a", batch=1, targets=tuple((f"t{i:04}", i) for i in range(1500)))
    save(path, record)
    content = bytearray(path.read_bytes())
    chance = random.Random(seed)
    at = chance.randrange(len(content))
    content[at : at + 64] = chance.randbytes(64)
    path.write_bytes(content)
    try:
        found = load(path)
    except Unavailable:
        return
    assert found is None or isinstance(found, ClusterRecord)


WRITER = """
import asyncio, itertools, sys
from pathlib import Path
from rayscaler.store.base import ClusterRecord
from rayscaler.store.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]))
    known = await store.load("a")
    for n in itertools.count(1 if known is None else known.batch + 1):
        await store.save(ClusterRecord("a", batch=n, state_version=n, targets=tuple((f"type-{i}", n) for i in range(300))))
        print(n, flush=True)

asyncio.run(main())
"""


@pytest.mark.tier("protocol")
def test_kill_9_at_any_moment_leaves_the_last_saved_record_or_the_one_being_saved(tmp_path):
    path, chance, last = tmp_path / "r", random.Random(5), 0
    for _ in range(8):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = 0
        for _ in range(chance.randrange(1, 60)):
            told = int(child.stdout.readline())
        # A random moment of the next saves: busy reading is the only wait.
        for _ in range(chance.randrange(20_000)):
            pass
        os.kill(child.pid, signal.SIGKILL)
        told = max([told, *map(int, child.stdout.read().split("\n")[:-1])])
        child.stdout.close()
        child.wait()
        record = load(path)
        assert record is not None
        assert record.batch in (told, told + 1)  # what was told to be saved is there; the one under way may be
        assert record.state_version == record.batch
        assert record.targets == tuple(sorted((f"type-{i}", record.batch) for i in range(300)))
        assert last < record.batch
        last = record.batch


@pytest.mark.tier("protocol")
def test_a_file_that_another_process_holds_is_unavailable_and_works_again_when_it_lets_go(tmp_path):
    path: Path = tmp_path / "r"
    save(path, ClusterRecord("a", batch=1))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Unavailable, match="cannot be written"):
        save(path, ClusterRecord("a", batch=2))
    other.execute("ROLLBACK")
    other.close()
    save(path, ClusterRecord("a", batch=2))
    assert load(path) == ClusterRecord("a", batch=2)


async def test_the_last_good_text_of_a_definition_outlives_the_store_and_is_one_per_source(tmp_path):
    for text in ("first: é\n", "second\n"):
        store = SqliteStore(tmp_path / "r")
        await store.keep_good("/etc/a.yaml", text)
        await store.close()
    store = SqliteStore(tmp_path / "r")
    assert await store.last_good("/etc/a.yaml") == "second\n"
    assert await store.last_good("/etc/b.yaml") is None
    assert await store.load("/etc/a.yaml") is None
    await store.close()
