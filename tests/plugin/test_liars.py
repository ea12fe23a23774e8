"""Plugins that answer wrongly: nothing of a lie is taken, it has a name with the rule it breaks, and nobody else waits for it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from rayscaler.errors import BrokenPlugin, Unavailable
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.session import PluginTimings
from rayscaler.plugin.started import Started
from tests.plugin import go_plugin, liars
from tests.plugin.door import spec
from tests.plugin.liars import lying

pytestmark = pytest.mark.tier("protocol")


async def test_one_that_says_launched_and_lists_nothing_is_doubted_and_then_taken_at_its_word(short_path):
    async with lying(liars.Forgets(), short_path) as executor:
        assert await executor.launch(spec("a")) == "vm"
        for _ in range(5):
            with pytest.raises(BrokenPlugin, match="X11: it has begun a, and neither lists it nor says that it is gone"):
                await executor.list("c")
        assert await executor.list("c") == []  # as gone: it is launched anew, and a real end of it is no lie for ever


async def test_an_instance_that_nobody_asked_for_says_so(short_path):
    service = liars.Invents()
    async with lying(service, short_path) as executor:
        await executor.launch(spec("a"))
        assert [each.detail for each in await executor.list("c") if "X21" in each.detail] == []
        service.lies = True
        found = {each.instance_id: each.detail for each in await executor.list("c")}
    assert found["nobodys"].startswith("X21: nobody here has asked for it")
    assert "X21" not in found["a"]


@pytest.mark.parametrize(
    ("liar", "text"),
    [
        (liars.ChangesIds, "X9: a was '.*' and is '.*-other' now"),
        (liars.ListsTwice, "X22: lists a twice"),
        (liars.ListsTheGone, "X26: lists a, which it says is gone"),
        (liars.NoPhase, "X24: observation of 'a'"),
        (liars.UnknownPhase, "X24: observation of 'a'"),
        (liars.NoExternalId, "X24: observation of 'a'"),
        (liars.ForgesLines, "X24: observation of 'a'"),
        (liars.OtherReplica, "X55: a was host 0 of none, and is host 1 of r"),
        (liars.NoBookmark, "X23: the bookmark of a page is missing"),
        (liars.PagesInACircle, "X22: its pages have no end"),
    ],
)
async def test_a_list_that_lies_is_not_taken(short_path, liar, text):
    service = liar()
    async with lying(service, short_path) as executor:
        await executor.launch(spec("a"))
        assert [each.instance_id for each in await executor.list("c")] == ["a"]
        service.lies = True
        with pytest.raises(BrokenPlugin, match=text) as caught:
            await executor.list("c")
        assert str(caught.value).isprintable()
        service.lies = False
        assert [each.instance_id for each in await executor.list("c")] == ["a"]


async def test_a_list_without_an_end_ends_with_the_time_of_one_call(short_path):
    service = liars.PagesForEver()
    service.lies = True
    async with lying(service, short_path) as executor:
        with pytest.raises(Unavailable, match="its pages have no end within 1 s"):
            await executor.list("c")


@pytest.mark.parametrize(
    ("liar", "text"),
    [
        (liars.NoResult, "X5: no result of a"),
        (liars.AnothersResult, "X5: a result of 'anothers', which was not asked for"),
        (liars.EmptyResult, "X9|X5"),
        (liars.NoName, "X1: its name is ''"),
    ],
)
async def test_a_launch_whose_outcome_is_none_is_not_taken_for_one(short_path, liar, text):
    async with lying(liar(), short_path) as executor:
        with pytest.raises(BrokenPlugin, match=text):
            await executor.launch(spec("a"))


async def test_one_that_launches_the_same_twice_is_found_by_its_id(short_path):
    async with lying(liars.AnotherEachTime(), short_path) as executor:
        assert await executor.launch(spec("a")) == "vm-1"
        with pytest.raises(BrokenPlugin, match="X9: a was 'vm-1' and is 'vm-2' now"):
            await executor.launch(spec("a"))


async def test_bytes_that_are_no_message_are_refused_by_name(short_path):
    async with lying(liars.NoMessage(), short_path) as executor:
        with pytest.raises(BrokenPlugin, match="its answer to List is no message of executor/v1"):
            await executor.list("c")


async def test_an_answer_above_the_limit_is_refused_by_name(short_path):
    async with lying(liars.Large(), short_path) as executor:
        with pytest.raises(BrokenPlugin, match=r"message larger than max \(34603008 vs. 33554432\)"):
            await executor.list("c")


@pytest.mark.timeout(300)  # the first builds Go
async def test_an_answer_of_a_gibibyte_is_not_even_read(stage, monkeypatch):
    monkeypatch.setenv("FAKE_GIANT", "1")
    host, _ = await stage.begun(str(go_plugin.build()))
    executor = PluginExecutor(Started(host))
    await executor.launch(spec("a"))
    reset_peak()
    before = peak_bytes()
    with pytest.raises(BrokenPlugin, match=r"message larger than max \(1073741824 vs. 33554432\)"):
        await executor.list("c")
    assert peak_bytes() - before < 100 << 20
    assert await executor.launch(spec("a"))  # it is asked on
    await executor.close()


@pytest.mark.parametrize(
    ("liar", "error", "text"),
    [
        (liars.SilentWatch, Unavailable, "Watch has said nothing for 1 s"),
        (liars.WatchFallsSilent, Unavailable, "Watch has said nothing for 1 s"),
        (liars.WatchWithoutBookmark, BrokenPlugin, "X28: its watch began without a bookmark"),
        (liars.WatchEnds, Unavailable, "X34: its watch ended without an error"),
    ],
)
async def test_a_watch_that_tells_nothing_ends_with_a_name(short_path, liar, error, text):
    async with lying(liar(), short_path) as executor:
        with pytest.raises(error, match=text):
            async for _ in executor.watch("c"):
                pass


@pytest.mark.parametrize("call", ["launch", "list"])
async def test_a_call_without_an_answer_ends_with_its_deadline(short_path, call):
    async with lying(liars.NeverAnswers(), short_path) as executor:
        with pytest.raises(Unavailable, match=r"Deadline Exceeded|no end within 1 s"):
            await (executor.launch(spec("a", "held")) if call == "launch" else executor.list("held"))


async def test_a_plugin_that_never_answers_holds_up_its_own_cluster_alone(short_path):
    async with lying(liars.NeverAnswers(), short_path, PluginTimings()) as executor, held_up(executor) as held:
        for number in range(50):
            assert await executor.launch(spec(f"b-{number}", "other"))
            assert len(await executor.list("other")) == number + 1
        assert not any(each.done() for each in held)


async def test_another_plugins_cluster_is_not_delayed_by_one_that_never_answers(short_path):
    (short_path / "good").mkdir()
    (short_path / "bad").mkdir()
    async with (
        lying(liars.NeverAnswers(), short_path / "bad", PluginTimings()) as bad,
        lying(liars.Honest(), short_path / "good", PluginTimings()) as good,
        held_up(bad) as held,
    ):
        for number in range(50):
            assert await good.launch(spec(f"b-{number}"))
        assert not any(each.done() for each in held)


@contextlib.asynccontextmanager
async def held_up(executor: PluginExecutor) -> AsyncIterator[list[asyncio.Task]]:
    """Have many calls under way that nobody will answer."""
    calls = [executor.launch(spec(f"a-{number}", "held")) for number in range(200)] + [executor.list("held") for _ in range(200)]
    held = [asyncio.create_task(each) for each in calls]
    yield held
    for each in held:
        each.cancel()
    await asyncio.gather(*held, return_exceptions=True)


def reset_peak() -> None:
    """Have the kernel forget how much memory this process had at most."""
    with open("/proc/self/clear_refs", "w") as file:  # noqa: PTH123 - no path of a file
        file.write("5")


def peak_bytes() -> int:
    """Return how much memory it had at most since."""
    with open("/proc/self/status") as file:  # noqa: PTH123 - no path of a file
        line = next(each for each in file if each.startswith("VmHWM:"))
    return int(line.split()[1]) << 10
