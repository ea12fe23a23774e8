"""What a service starts with when a definition's file is good, bad, unreadable or gone, and what is kept for the next start (CD-9)."""

import asyncio
import contextlib
import os

import pytest
from structlog.testing import capture_logs

from rayscaler.config.file import DefinitionFile
from rayscaler.errors import InvalidRequest
from rayscaler.reconciler.follow import follow
from rayscaler.reconciler.lastgood import opened, source
from rayscaler.server import answers
from rayscaler.settings import Timings
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.testing.memory_store import MemoryStore
from tests.config.test_file import text
from tests.reconciler.builders import config, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

BAD = text("a", idleTimeout="soon", maxWorkers=-3)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(text("a"))
    return path


@pytest.fixture
async def kept(path):
    """A memory of the path's text as it is at first."""
    made = MemoryStore()
    await made.keep_good(source(path), path.read_text())
    return made


@contextlib.asynccontextmanager
async def following(file: DefinitionFile, w: World, kept: MemoryStore):
    follower = asyncio.create_task(follow(file, w.reconciler, kept=kept, clock=LoopClock(), timings=Timings()))
    try:
        yield
    finally:
        follower.cancel()
        await asyncio.gather(follower, return_exceptions=True)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.write_text(BAD), ["spec.maxWorkers", "spec.idleTimeout"]),
        (lambda path: path.write_text("{" * 50), ["YAML"]),
        (lambda path: path.write_bytes(b"\xff\xfe"), ["cannot be read as text"]),
        (lambda path: path.write_text(text("a", name="Demo!")), ["metadata.name"]),
        (lambda path: path.unlink(), ["No such file"]),
        (lambda path: (path.unlink(), path.mkdir()), ["Is a directory"]),
    ],
    ids=["bad", "no YAML", "no text", "a name that is none", "missing", "directory"],
)
async def test_a_bad_file_starts_as_it_was_good_last_and_has_every_problem(path, kept, spoil, says):
    good = path.read_bytes()
    spoil(path)
    (file,) = await opened([path], kept)
    assert file.first.content == good
    assert len(file.problems) == len(says)
    for words in says:
        assert any(words in each and str(path) in each for each in file.problems), file.problems
    assert file.can_change


async def test_a_good_file_counts_whatever_was_before(path, kept):
    path.write_text(text("b", name="other"))
    (file,) = await opened([path], kept)
    assert (file.first.config.name, file.problems) == ("other", ())


async def test_where_nothing_was_ever_good_every_problem_of_every_file_is_told(path, tmp_path):
    path.write_text(BAD)
    other = tmp_path / "other.yaml"
    with pytest.raises(InvalidRequest) as refused:
        await opened([path, other], MemoryStore())
    told = list(map(str, refused.value.problems))
    assert len(told) == 3
    assert told[2] == f"{other}: cannot be read: No such file or directory"


async def test_a_bad_file_that_names_another_cluster_stands_for_that_one(path, kept):
    path.write_text(text("a", name="other", maxWorkers=-3))
    with pytest.raises(InvalidRequest, match=r"^\S+cluster\.yaml: spec\.maxWorkers: -3: [^;]*$"):
        await opened([path], kept)


async def test_what_this_version_takes_no_more_is_refused_with_both_texts_problems(path, kept):
    await kept.keep_good(source(path), text("a", upscalingSpeed="fast"))
    path.write_text(BAD)
    with pytest.raises(InvalidRequest) as refused:
        await opened([path], kept)
    told = list(map(str, refused.value.problems))
    assert len(told) == 3
    assert told[2].startswith(f"{path}, as it was good last: spec.upscalingSpeed: 'fast': must be")


async def test_a_memory_out_of_reach_is_told_beside_the_problems(path, kept):
    path.write_text(BAD)
    kept.is_down = True
    with pytest.raises(InvalidRequest) as refused:
        await opened([path], kept)
    assert "the record is out of reach" in str(refused.value.problems[-1])
    assert len(refused.value.problems) == 3


async def test_two_files_of_one_cluster_are_refused_though_one_is_bad_now(path, kept, tmp_path):
    twin = tmp_path / "twin.yaml"
    twin.write_text(path.read_text())
    path.write_text(BAD)
    with pytest.raises(InvalidRequest, match=r"metadata\.name: 'demo': two definitions have this name"):
        await opened([path, twin], kept)


def test_a_source_is_one_from_wherever_it_is_named_and_stays_when_a_link_gets_another_target(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert source(path.relative_to(tmp_path)) == source(path.parent / "x" / ".." / path.name) == str(path)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    assert source(link) == str(link)


async def test_k1_over_a_restart_with_a_bad_file_workers_stay_status_tells_and_a_mend_counts(path):
    kept = MemoryStore()
    (file,) = await opened([path], kept)
    async with world(file.first.config) as w:
        async with following(file, w, kept):
            w.ray.demands = tasks(2)
            await w.live(4)
            path.write_text(text("a", "b"))  # a good edit: this, and not the first text, is what was good last
            await w.live(2)
            path.write_text(BAD)
            await w.live(2)
        names = dict(w.instances)
        assert list(names.values()) == ["RUNNING"] * 2
        await w.kill()
    (file,) = await opened([path], kept)
    async with world(file.first.config, machines=w.machines, store=w.store, ray=w.ray) as again:
        again.epoch, again.sequence = 2, 0
        async with following(file, again, kept):
            await again.live(5)
            told = answers.cluster_status(again.reconciler.status())
            assert [each.name for each in told.node_types] == ["a", "b"]
            assert len(told.definition.problems) == 2
            assert [each for each in told.notices if "is not taken" in each and "stays in force" in each] == list(told.notices)
            assert (again.instances, again.commands) == (names, [])
            path.write_text(text("a", "c"))
            await again.live(2)
            told = again.reconciler.status()
            assert [each.name for each in told.node_types] == ["a", "c"]
            assert told.notices == ()
            assert again.instances == names
    assert await kept.last_good(source(path)) == text("a", "c")


async def test_mended_to_the_very_text_that_is_in_force_nothing_is_said_any_more(path, kept):
    path.write_text(BAD)
    (file,) = await opened([path], kept)
    async with world(config(name="demo")) as w, following(file, w, kept):
        await w.live(1)
        assert w.reconciler.status().definition.problems
        path.write_text(text("a"))
        await w.live(2)
        assert w.reconciler.status().definition.problems == ()


async def test_a_text_that_cannot_be_kept_is_told_once_and_kept_as_soon_as_it_can_be(path):
    kept = MemoryStore()
    kept.is_down = True
    (file,) = await opened([path], kept)
    with capture_logs() as logs:
        async with world(file.first.config) as w, following(file, w, kept):
            await w.live(5)
            assert [each["error"] for each in logs if each["event"] == "definition.unkept"] == ["the record is out of reach"]
            kept.is_down = False
            await w.live(1)
    assert await kept.last_good(source(path)) == path.read_text()


async def test_of_a_pipe_nothing_is_kept(path):
    kept = MemoryStore()
    file = DefinitionFile.read(path)
    path.unlink()
    os.mkfifo(path)
    async with world(file.first.config) as w, following(file, w, kept):
        await w.live(2)
    assert await kept.last_good(source(path)) is None
