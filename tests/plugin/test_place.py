"""What a plugin has on disk: found again as it was written, and nothing else is ever removed."""

import json
import os
import sys

import pytest

from rayscaler.plugin.place import Place, Record, program
from rayscaler.processes import Identity

pytestmark = pytest.mark.tier("unit")


def test_a_record_is_read_as_it_was_written(tmp_path):
    place = Place(tmp_path, "ssh")
    sockets = place.prepare()
    record = Record("p", sockets, Identity(7, 8, "boot", place.mark), "unix:/x")
    place.write(record)
    assert Place(tmp_path, "ssh").read() == record
    place.write(Record("p", sockets))
    assert place.read() == Record("p", sockets)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"program": "p", "sockets": 7, "identity": null, "target": ""}', '{"program": 1, "identity": {"pid": 1}}'],
)
def test_what_cannot_be_understood_is_no_record(tmp_path, text):
    place = Place(tmp_path, "ssh")
    place.prepare()
    (tmp_path / "ssh/plugin.json").write_text(text)
    assert place.read() is None


def test_removing_leaves_nothing_and_touches_nothing_else(tmp_path):
    place = Place(tmp_path / "run", "ssh")
    sockets = place.prepare()
    others = tmp_path / "others"
    others.mkdir()
    (others / "file").touch()
    place.write(Record("p", sockets))
    document = json.loads((tmp_path / "run/ssh/plugin.json").read_text())
    (tmp_path / "run/ssh/plugin.json").write_text(json.dumps({**document, "sockets": str(others)}))
    place.remove(place.read())
    assert (others / "file").exists()
    assert list((tmp_path / "run").iterdir()) == []
    place.remove(None)


def test_a_program_is_its_line_and_its_files(tmp_path):
    file = tmp_path / "plugin.py"
    file.write_text("1")
    argv = [sys.executable, str(file), "--fleet", "a"]
    before = program(argv)
    assert program(list(argv)) == before
    assert program([*argv[:-1], "b"]) != before
    assert program([*argv[:2], "--fleeta"]) != before
    os.utime(file, (1, 1))
    assert program(argv) != before
    assert program(["\0", "x" * 5000])  # what names no file is a word
