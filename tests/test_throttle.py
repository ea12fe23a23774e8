"""A pace holds, and nobody overtakes."""

import asyncio

import pytest

from rayscaler.throttle import Throttle

pytestmark = pytest.mark.tier("unit")


async def test_only_so_many_are_in_flight_and_the_first_come_first():
    pace = Throttle(per_second=1000, in_flight=3)
    running, most, order = 0, 0, []

    async def work(number):
        nonlocal running, most
        async with pace.turn("c"):
            order.append(number)
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(work(number))
    assert (most, order) == (3, list(range(20)))


async def test_no_more_begin_in_a_second_than_allowed():
    pace = Throttle(per_second=5, in_flight=100)
    begun: list[float] = []
    loop = asyncio.get_running_loop()

    async def work():
        async with pace.turn("c"):
            begun.append(loop.time())

    tasks = [asyncio.create_task(work()) for _ in range(8)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    count = len(begun)
    assert len([at for at in begun if at < begun[0] + 1.0]) == 5
    async with asyncio.timeout(8.0), pace.turn("c"):
        assert len(begun) == count, "who was cancelled gave its place back"


async def test_who_wants_one_turn_waits_for_no_row_of_another():
    pace, order = Throttle(per_second=1000, in_flight=1), []

    async def work(of):
        async with pace.turn(of):
            order.append(of)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tasks:
        for of in ["many"] * 5 + ["one"] + ["other"] * 2:
            tasks.create_task(work(of))
    assert order == ["many", "many", "one", "other", "many", "other", "many", "many"]


async def test_who_is_cancelled_in_the_row_or_as_it_is_called_keeps_no_turn():
    pace = Throttle(per_second=1000, in_flight=1)
    holds = asyncio.Event()

    async def work():
        async with pace.turn("c"):
            await holds.wait()

    tasks = [asyncio.create_task(work()) for _ in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    holds.set()
    await asyncio.sleep(0)  # the first lets go, the third is called
    tasks[2].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(1.0), pace.turn("c"):
        assert [task.cancelled() for task in tasks] == [False, True, True]
