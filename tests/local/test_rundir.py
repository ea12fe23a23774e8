"""Records: what was written is read, all or nothing; names stay inside the directory."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from rayscaler.errors import InvalidRequest, Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import spec_document, spec_hash
from rayscaler.local.rundir import LOGS_KEPT, Record, RunDir
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.processes import Identity

pytestmark = pytest.mark.tier("unit")

NODE_TYPE = NodeType(
    "gpu", Resources.of(CPU=2, x=3), labels=(("zone", "a"),), is_spot=True, env=(("A", "1"),), start_params=(("metrics-export-port", "0"),)
)
SPEC = LaunchSpec("c", "i-1", NODE_TYPE, "192.0.2.9:6379")


@pytest.fixture
def rundir(tmp_path):
    return RunDir(tmp_path)


def record(rundir, instance_id="i-1"):
    spec = replace(SPEC, instance_id=instance_id)
    return Record(spec, rundir.log_path("c", instance_id), Identity(7, 8, "boot", "A=1"))


def test_a_record_is_read_as_it_was_written(rundir):
    rundir.write(record(rundir))
    rundir.write(replace(record(rundir, "i-2"), identity=None, is_ending=True))
    assert rundir.read("c") == [record(rundir), replace(record(rundir, "i-2"), identity=None, is_ending=True)]
    assert rundir.clusters() == ["c"]


def test_a_write_that_breaks_off_leaves_the_former_record(rundir, monkeypatch):
    rundir.write(record(rundir))

    def no_room(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(Unavailable, match="No space left on device; make room"):
        rundir.write(replace(record(rundir), is_ending=True))
    assert rundir.read("c") == [record(rundir)]


def test_a_broken_record_is_told_not_skipped(rundir):
    rundir.write(record(rundir))
    (rundir.root / "c" / "i-2.json").write_text("{")
    with pytest.raises(Unavailable, match=r"i-2\.json is not readable"):
        rundir.read("c")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a\0b", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(rundir, name):
    with pytest.raises(InvalidRequest, match="instance_id"):
        rundir.log_path("c", name)
    with pytest.raises(InvalidRequest, match="cluster"):
        rundir.read(name)


def test_the_hash_is_of_what_makes_the_instance(rundir):
    same = replace(SPEC, node_type=replace(NODE_TYPE, max_workers=9, cost=1.0))
    other = replace(SPEC, node_type=replace(NODE_TYPE, labels=(("zone", "b"),)))
    assert spec_hash(same) == spec_hash(SPEC) != spec_hash(other)


def test_a_host_of_a_replica_is_read_as_it_was_written_and_one_of_none_is_hashed_as_ever(rundir):
    host = replace(SPEC, node_type=replace(NODE_TYPE, hosts_per_replica=4), replica="c-slice-1-r0", host=3)
    rundir.write(Record(host, rundir.log_path("c", host.instance_id)))
    (found,) = rundir.read("c")
    assert (found.spec.replica, found.spec.host, found.spec.node_type.hosts_per_replica) == ("c-slice-1-r0", 3, 4)
    assert found.spec_hash == spec_hash(host) != spec_hash(replace(host, host=2))
    assert not {"replica", "host"} & spec_document(SPEC).keys()
    assert "hosts_per_replica" not in spec_document(SPEC)["node_type"]


def test_only_the_newest_logs_of_the_dead_stay(rundir):
    for index in range(LOGS_KEPT + 5):
        each = record(rundir, f"i-{index}")
        rundir.write(each)
        each.log_path.write_text("died")
        os.utime(each.log_path, (index, index))
    for index in range(LOGS_KEPT + 5):
        rundir.remove(record(rundir, f"i-{index}"), keep_log=True)
    left = {path.name for path in Path(rundir.root / "c").iterdir()}
    assert left == {f"i-{index}.log" for index in range(5, LOGS_KEPT + 5)}


def test_what_was_ended_on_purpose_leaves_nothing(rundir):
    rundir.write(record(rundir))
    record(rundir).log_path.write_text("fine")
    rundir.remove(record(rundir), keep_log=False)
    assert list((rundir.root / "c").iterdir()) == []
    assert rundir.read("c") == []
