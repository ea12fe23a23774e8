"""A receiver that fails, hangs or is gone: what waits is tried again ever more seldom, is bounded, is given up in the end, and is told of."""

import asyncio
import contextlib
import json

import pytest
from structlog.testing import capture_logs

from rayscaler.errors import Unavailable
from rayscaler.model.trouble import TroubleState
from rayscaler.settings import Timings
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.webhook.delivery import MOST, TRIES, Webhook
from tests.webhook.builders import announced, checked

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


class Receiver:
    """Notes when each post came, and takes it unless it is told to fail or to hang."""

    def __init__(self) -> None:
        self.came: list[tuple[float, dict]] = []
        self.fails: list[Exception | float] = []
        """What comes of the next posts: an error, or so many seconds without an answer."""
        self.always: Exception | float | None = None
        self.done: list[str] = []

    async def post(self, body: bytes) -> None:
        self.came.append((asyncio.get_running_loop().time(), checked(body)))
        comes_of_it = self.fails.pop(0) if self.fails else self.always
        if isinstance(comes_of_it, Exception):
            raise comes_of_it
        await asyncio.sleep(comes_of_it or 0.0)

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.came]


@contextlib.asynccontextmanager
async def webhook():
    receiver = Receiver()
    made = Webhook(receiver.post, namespace="ml", clock=LoopClock(), timings=Timings())
    task = asyncio.create_task(made.run())
    try:
        yield receiver, made
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_h4_what_is_taken_is_posted_once_and_what_is_told_again_meanwhile_is_left_aside():
    async with webhook() as (receiver, made):
        for _ in range(5):
            made.tell(announced(), receiver.done.append)
        made.tell(announced(state=TroubleState.ENDED), receiver.done.append)  # has to wait for its turn
        await asyncio.sleep(1000)
        assert ([each["state"] for _, each in receiver.came], receiver.done) == (["begun"], [""])
        made.tell(announced(state=TroubleState.ENDED), receiver.done.append)
        await asyncio.sleep(1)
    assert ([each["state"] for _, each in receiver.came], receiver.done) == (["begun", "ended"], ["", ""])


@pytest.mark.parametrize(
    "failure", [Unavailable("answers 500"), RuntimeError("a bug"), 1000.0], ids=["refused", "a bug of ours", "no answer"]
)
async def test_what_is_not_taken_is_tried_again_ever_more_seldom_as_the_same_and_no_other_waits_for_it(failure):
    async with webhook() as (receiver, made):
        receiver.fails = [failure] * 4
        made.tell(announced(), receiver.done.append)
        await asyncio.sleep(6)  # the first has failed
        made.tell(announced("other"), receiver.done.append)
        receiver.fails.insert(0, 0.0)
        await asyncio.sleep(100)
    bodies = [each for _, each in receiver.came if each["cluster"] == "demo"]
    assert bodies == [bodies[0]] * 5, "the same to the letter"
    assert receiver.done == ["", ""]
    ends = [at + (5.0 if failure == 1000.0 else 0.0) for at, each in receiver.came if each["cluster"] == "demo"]
    begins = [at for at, each in receiver.came if each["cluster"] == "demo"]
    for number, (end, begin) in enumerate(zip(ends, begins[1:], strict=False)):
        assert 2.0**number <= begin - end <= 1.5 * 2.0**number + 5.0, "the other may be under way"


async def test_a_receiver_that_is_gone_for_good_is_given_up_in_the_end_and_the_next_change_is_tried_anew():
    async with webhook() as (receiver, made):
        receiver.always = Unavailable("nobody there")
        with capture_logs() as logs:
            made.tell(announced(), receiver.done.append)
            await asyncio.sleep(3600)
        assert len(receiver.came) == TRIES
        assert receiver.done == [f"gpu of demo, begun: {TRIES} tries, the last: nobody there"]
        assert [each["event"] for each in logs] == ["webhook.failed", "webhook.given_up"], "not a line for each try"
        gaps = [after - before for before, after in zip(receiver.times, receiver.times[1:], strict=False)]
        assert max(gaps) <= 90
        assert 300 <= receiver.times[-1] - receiver.times[0] <= 600
        receiver.always = None
        made.tell(announced(state=TroubleState.CHANGED, changes=1), receiver.done.append)
        await asyncio.sleep(1)
    assert receiver.done[1:] == [""]


async def test_what_waits_is_bounded_and_the_oldest_goes_and_is_told():
    async with webhook() as (receiver, made):
        receiver.always = 1000.0
        lost: list[str] = []
        with capture_logs() as logs:
            for index in range(MOST + 3):
                made.tell(announced(f"c{index}"), lost.append)
                await asyncio.sleep(0)
        assert lost == [f"gpu of c{index}, begun: more than {MOST} messages wait" for index in range(3)]
        assert [each["event"] for each in logs] == ["webhook.given_up"] * 3
        receiver.always = None
        await asyncio.sleep(10)
        assert {each["cluster"] for _, each in receiver.came} == {"c0", *(f"c{index}" for index in range(3, MOST + 3))}
        assert lost[3:] == [""] * MOST


async def test_of_a_cluster_that_is_no_more_only_its_end_is_told():
    async with webhook() as (receiver, made):
        receiver.always = Unavailable("away")
        made.tell(announced(), receiver.done.append)
        await asyncio.sleep(10)
        receiver.always = None
        made.forget("demo")
        made.tell(announced(state=TroubleState.ENDED), receiver.done.append)
        await asyncio.sleep(100)
    assert (receiver.came[-1][1]["state"], receiver.done) == ("ended", [""])


@pytest.mark.parametrize(("answers_in_s", "waits_s"), [(0.3, 0.3), (1000.0, 1.0)], ids=["soon", "never"])
async def test_at_the_stop_a_post_under_way_gets_a_moment_and_what_is_put_off_none(answers_in_s, waits_s):
    async with webhook() as (receiver, made):
        await asyncio.sleep(0.1)
        receiver.fails = [Unavailable("away")]
        made.tell(announced(), receiver.done.append)
        await asyncio.sleep(0.5)
        loop = asyncio.get_running_loop()
        began_at = loop.time()
        await made.settle(1.0)
        assert loop.time() == began_at
        receiver.always = answers_in_s
        made.tell(announced("other"), receiver.done.append)
        await made.settle(1.0)
        assert loop.time() - began_at == pytest.approx(waits_s, abs=0.01)


@pytest.mark.timeout(10)
async def test_what_is_due_a_moment_after_the_clock_has_ticked_is_waited_for(monkeypatch):
    """By less than the clock resolves: there a timer comes early."""
    monkeypatch.setattr("rayscaler.webhook.delivery.random.uniform", lambda *_: 1.0 + 5e-10)
    async with webhook() as (receiver, made):
        receiver.fails = [Unavailable("away")]
        made.tell(announced(), receiver.done.append)
        await asyncio.sleep(10)
    assert receiver.done == [""]


async def test_the_body_is_json_in_utf_8():
    async with webhook() as (receiver, made):
        made.tell(announced(detail="kein Platz für „gpu“"), receiver.done.append)
        await asyncio.sleep(1)
    assert json.dumps(receiver.came[0][1], ensure_ascii=False).count("„gpu“") == 1
