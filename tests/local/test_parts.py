"""Kept parts with real supervisors and small real processes: whoever dies, each is found again, and its end is the end of all of it."""

import asyncio
import json
import os
import re
import signal
import socket
import sys

import pytest

from rayscaler.errors import Busy, Unavailable
from rayscaler.local import parts as module
from rayscaler.local.parts import Parts, is_taken, only_one, write_whole
from rayscaler.processes import SystemProcesses
from tests.local import workers

pytestmark = pytest.mark.tier("protocol")


@pytest.fixture
async def parts(tmp_path):
    """Parts in a directory whose path is too long for a unix socket's."""
    made = Parts(SystemProcesses(), tmp_path / ("long" * 25) / "parts")
    yield made
    for name in made.names():
        part = made.find(name)
        await made.end(name, 0.0)
        assert made.members(part) == ()


def python(code):
    return [sys.executable, "-S", "-c", code]


async def start(parts, code=workers.SLOW, **facts):
    """Start a part and wait until its supervisor answers that it runs."""
    identity = await parts.start("a", python(code), env=os.environ, facts=facts)
    await answer(parts, lambda said: said.pid)
    part = parts.find("a")
    assert part.identity == identity
    return part


async def answer(parts, is_so):
    """Wait until the supervisor's answer is so, and return it."""
    while True:
        said = await parts.ask("a")
        if said is not None and is_so(said):
            return said
        await asyncio.sleep(0.01)


async def until(is_so):
    """Wait until something is so, and return it."""
    while True:
        if found := is_so():
            return found
        await asyncio.sleep(0.01)


async def test_a_part_runs_and_is_found_again_with_what_its_starter_noted(parts):
    part = await start(parts, "print('hello', flush=True);" + workers.SLOW, colour="red")
    assert parts.kept("a") == part
    later = Parts(SystemProcesses(), parts.directory)
    assert later.names() == ["a"]
    assert later.find("a") == part
    assert later.find("a").facts == {"colour": "red"}
    assert await until(lambda: "hello" in parts.log_path("a").read_text())
    said = await later.ask("a")
    assert (said.state, said.starts) == ("running", 1)
    assert said.pid in later.members(part)


async def test_a_command_that_dies_runs_again_under_the_same_supervisor(parts):
    part = await start(parts)
    first = await parts.ask("a")
    os.kill(first.pid, signal.SIGKILL)
    second = await answer(parts, lambda said: said.starts == 2 and said.pid)
    assert second.pid != first.pid
    assert parts.find("a") == part
    assert parts.kept("a") == part


async def test_its_end_is_the_end_of_everything_in_its_session_and_forgetting_leaves_the_log(parts):
    part = await start(parts, workers.STUBBORN)
    await until(lambda: len(parts.members(part)) == 3)
    await parts.end("a", 0.1)
    assert parts.members(part) == ()
    assert parts.kept("a") is None
    assert parts.find("a") == part, "the record stays until it is forgotten"
    parts.forget("a")
    assert parts.find("a") is None
    assert [path.name for path in parts.directory.iterdir()] == ["a.log"]


async def test_a_part_that_is_asked_to_end_ends_and_is_not_run_again(parts):
    part = await start(parts)
    await parts.end("a", 10.0)
    assert parts.members(part) == ()
    assert parts.kept("a") is None


async def test_what_a_killed_supervisor_left_is_ended_by_the_next_start(parts):
    part = await start(parts, workers.STUBBORN)
    await until(lambda: len(parts.members(part)) == 3)
    os.kill(part.identity.pid, signal.SIGKILL)
    await until(lambda: not SystemProcesses().is_alive(part.identity))
    SystemProcesses().reap(part.identity)
    assert parts.kept("a") is None
    assert len(parts.members(part)) == 2, "its stragglers are told by their mark"
    again = await start(parts)
    assert parts.members(part) == ()
    assert parts.kept("a") == again


async def test_a_supervisor_that_was_spawned_and_not_noted_is_found_by_its_command_line(parts):
    part = await start(parts)
    record = parts.directory / "a.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "identity": None}))
    found = Parts(SystemProcesses(), parts.directory).find("a")
    assert found == part
    assert json.loads(record.read_text())["identity"]["pid"] == part.identity.pid, "and noted now"


async def test_what_a_part_starts_in_a_session_of_its_own_is_never_taken_for_its_supervisor_and_outlives_it(parts):
    """A service's workers inherit its environment, mark and all, and must survive it."""
    child = f"subprocess.Popen([sys.executable, '-S', '-c', {workers.SLOW!r}], start_new_session=True)"
    await start(parts, f"import subprocess, sys; print('child', {child}.pid, flush=True);" + workers.SLOW)
    pid = int((await until(lambda: re.search(r"child (\d+)\n", parts.log_path("a").read_text()))).group(1))
    try:
        first = await parts.ask("a")
        os.kill(first.pid, signal.SIGKILL)
        await answer(parts, lambda said: said.starts == 2)
        assert workers.runs(pid)
        await parts.end("a", 5.0)
        assert workers.runs(pid)
        record = parts.directory / "a.json"
        record.write_text(json.dumps({**json.loads(record.read_text()), "identity": None}))
        assert parts.find("a").identity is None
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_an_intent_without_a_process_is_no_part_that_runs(parts, monkeypatch):
    monkeypatch.setattr(module.sys, "executable", "/nowhere/python")
    with pytest.raises(Unavailable, match="/nowhere/python does not start"):
        await parts.start("a", ["true"], env={}, facts={})
    assert parts.kept("a") is None
    assert await parts.ask("a") is None
    await parts.end("a", 0.0)


async def test_a_record_that_is_none_is_told_with_its_path(parts):
    parts.directory.mkdir(parents=True)
    (parts.directory / "a.json").write_text("{")
    with pytest.raises(Unavailable, match=r"parts/a\.json is not readable as a record"):
        parts.find("a")
    (parts.directory / "a.json").unlink()


async def test_a_long_log_makes_way_and_the_record_says_where_a_part_begins_in_it(parts, monkeypatch):
    await start(parts, "print('first', flush=True);" + workers.SLOW)
    await until(lambda: "first" in parts.log_path("a").read_text())
    await parts.end("a", 0.0)
    part = await start(parts, "print('second', flush=True);" + workers.SLOW)
    await until(lambda: "second" in parts.log_path("a").read_text())
    assert "first" in parts.log_path("a").read_text()[: part.log_offset]
    assert "second" in parts.log_path("a").read_text()[part.log_offset :]
    await parts.end("a", 0.0)
    monkeypatch.setattr(module, "KEPT_LOG_BYTES", 1)
    part = await start(parts)
    assert part.log_offset == 0
    assert "second" in (parts.directory / "a.log.1").read_text()


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path):
    write_whole(tmp_path / "new" / "text", "old")
    write_whole(tmp_path / "new" / "text", "newer")
    assert [path.read_text() for path in (tmp_path / "new").iterdir()] == ["newer"]
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="cannot be written"):
        write_whole(tmp_path / "file" / "text", "x")


def test_a_lock_is_held_by_one(tmp_path):
    with only_one(tmp_path / "lock"), pytest.raises(Busy, match="wait for its end"), only_one(tmp_path / "lock"):
        pass
    with only_one(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_taken_while_somebody_listens_there(host):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
        other.bind((host, 0))
        port = other.getsockname()[1]
        other.listen()
        assert is_taken(host, port)
    assert not is_taken(host, port)
