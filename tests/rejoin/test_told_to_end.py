"""A worker is told to end while its head goes: what can still be drained is, and nobody waits for the drain of what cannot (30 s in Ray)."""

import asyncio
import signal

import pytest

from rayscaler import rejoin
from tests.rejoin import standin
from tests.rejoin.supervised import Supervised, soon

pytestmark = pytest.mark.tier("protocol")

TRIES_S = 1.0
"""In which a lost head is tried again several times."""


@pytest.fixture
async def ending(tmp_path, gcs, ray):
    """Start a worker whose raylet has a process of that title, and tell it to end, which its `ray start` does only once drained."""
    made = []

    async def started(title: str) -> Supervised:
        worker = Supervised(tmp_path, "worker", ray.argv, {**ray.env, "STAND_IN_RAY": "drains", "STAND_IN_WORK": title}, gcs=gcs.address)
        made.append(worker)
        await worker.until("running")
        await soon(lambda: any(each.startswith(title) for each in worker.names()))
        worker.tell(signal.SIGTERM)
        await worker.until("ending")
        return worker

    yield started
    for each in made:
        await each.close()


async def drained(worker: Supervised, ray: standin.Ray) -> None:
    """Let the drain end, as far as which the worker must still be there."""
    assert worker.pid_of("raylet")
    ray.drained()
    assert await worker.ended() == rejoin.ENDED
    assert ray.starts == 1


async def test_an_idle_one_ends_at_once_when_its_head_has_gone(ending, gcs):
    worker = await ending("ray::IDLE")
    gcs.close()
    assert await worker.ended() == rejoin.ENDED
    assert worker.names() == []


async def test_a_busy_one_has_its_grace_also_without_its_head(ending, gcs, ray):
    worker = await ending("ray::task")
    gcs.close()
    await asyncio.sleep(TRIES_S)
    await drained(worker, ray)


async def test_a_connection_that_breaks_off_ends_no_drain(ending, gcs, ray):
    worker = await ending("ray::IDLE")
    for number in range(3):
        gcs.drop()
        await soon(lambda number=number: gcs.heard.count(standin.SETTINGS_ACK) == number + 2)
    await drained(worker, ray)


async def test_a_busy_one_whose_head_comes_back_is_drained_by_it(ending, gcs, ray):
    worker = await ending("ray::task")
    gcs.close()
    gcs.open()
    await soon(lambda: gcs.accepted >= 2)
    await asyncio.sleep(TRIES_S)  # the child that asks for the id has answered
    await drained(worker, ray)


async def test_one_whose_head_has_given_place_to_another_ends_at_once(ending, gcs, ray):
    worker = await ending("ray::task")
    gcs.close()
    ray.name("bb22")
    gcs.open()
    assert await worker.ended() == rejoin.ENDED
    assert ray.starts == 1
