"""The end of a cluster whose definition was deleted: everything that its executor has of it is ended, until it has nothing more. Knows no executor."""

import asyncio
import random
from collections.abc import Callable

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import RayscalerError
from rayscaler.executor.base import Executor
from rayscaler.model.instance import Phase
from rayscaler.settings import Timings

log = structlog.get_logger(__name__)


async def clear(cluster: str, executor: Executor, told: Callable[[str], None], *, timings: Timings, clock: Clock) -> None:
    """End every instance of a cluster that nobody launches into any more, however often that fails; return once there is none.

    A launch may be under way at the beginning, so an empty list counts only when it was asked for later than such a call can last.
    `told` hears what is waited for.
    """
    settled_at, pause_s, before = clock.mono() + timings.executor_call_s, timings.executor_retry_s, -1
    last = ""
    while True:
        asked_at, left = clock.mono(), -1
        try:
            left = await _ended(cluster, executor, timings)
        except Exception as error:
            # A bug of an executor must neither end the service nor leave the definition undeletable: it is told, and tried again.
            is_bug = not isinstance(error, RayscalerError | TimeoutError)
            why = f"{type(error).__name__}, a bug; the log has it" if is_bug else str(error)
            why = f"its instances cannot be ended yet: {why or f'no answer within {timings.executor_call_s:g} s'}"
            if why != last:
                log.warning("clearing.failed", cluster=cluster, error=str(error), exc_info=is_bug)
        else:
            if not left and asked_at >= settled_at:
                log.info("clearing.done", cluster=cluster)
                return
            why = "its instances are ended first"
            log.info("clearing.waits", cluster=cluster, left=left)
        last = why
        told(why)
        pause_s = timings.executor_retry_s if left != before else min(2 * pause_s, timings.executor_retry_max_s)
        before = left
        await asyncio.sleep(pause_s * random.uniform(1.0, 1.5))  # noqa: S311 - so that not all come back at once


async def _ended(cluster: str, executor: Executor, timings: Timings) -> int:
    """Ask for the end of each that is not ending yet, as fast as the executor bears it; return how many there were, all told.

    Raises the first failure once all were asked.
    """
    async with asyncio.timeout(timings.executor_call_s):
        there = await executor.list(cluster)

    async def one(instance_id: str) -> None:
        async with executor.pace.turn(cluster), asyncio.timeout(timings.executor_call_s):
            await executor.terminate(cluster, instance_id)

    asked = (one(each.instance_id) for each in there if each.phase is not Phase.ENDING)
    failed = [each for each in await asyncio.gather(*asked, return_exceptions=True) if isinstance(each, Exception)]
    if failed:
        raise failed[0]
    return len(there)
