"""tasks: what runs apart goes on while our own loop is busy, and ends, fails and returns as if it were here."""

import asyncio
import threading

import pytest

from rayscaler.tasks import Apart

pytestmark = pytest.mark.tier("unit")


async def test_what_runs_apart_goes_on_while_our_own_loop_is_stuck():
    has_passed = threading.Event()

    async def renew() -> str:
        await asyncio.sleep(0.01)  # a turn of that loop, which ours gives none
        has_passed.set()
        return threading.current_thread().name

    async with Apart("lease") as apart:
        renewing = asyncio.create_task(apart.run(renew()))
        await asyncio.sleep(0)  # it has been handed over
        assert has_passed.wait(5.0), "our loop stands still here"
        assert await renewing == "lease"
    assert "lease" not in {each.name for each in threading.enumerate()}


async def test_what_it_raises_is_raised_here_and_whoever_is_cancelled_here_is_cancelled_there():
    begun, ended = threading.Event(), threading.Event()

    async def fail() -> None:
        raise ValueError("apart")

    async def for_ever() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Apart("lease") as apart:
        with pytest.raises(ValueError, match="apart"):
            await apart.run(fail())
        waiting = asyncio.create_task(apart.run(for_ever()))
        assert await asyncio.to_thread(begun.wait, 5.0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await asyncio.to_thread(ended.wait, 5.0)
