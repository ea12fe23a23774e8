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
        async with pace:
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
    begun = []

    async def work():
        async with pace:
            begun.append(1)

    tasks = [asyncio.create_task(work()) for _ in range(8)]
    await asyncio.sleep(0.05)
    assert len(begun) == 5
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    async with asyncio.timeout(2.0), pace:
        assert len(begun) == 5, "who was cancelled gave its place back"
