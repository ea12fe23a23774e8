"""Owning tasks: eternal ones are guarded, processes are stopped by asking first."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


async def guard(name: str, work: Coroutine[Any, Any, None], on_end: Callable[[str], None]) -> None:
    """Run presumably eternal work; if it returns or raises, that is a bug: say so and call `on_end`, which ends the process."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        # Whatever it was, the task is gone: the log keeps the traceback, `on_end` the consequence.
        log.exception("task.failed", task=name)
    else:
        log.error("task.returned", task=name)
    on_end(name)


async def stop_gracefully(
    *, ask: Callable[[], None], wait: Callable[[], Awaitable[Any]], force: Callable[[], None], grace_s: float
) -> bool:
    """Ask something to end, wait `grace_s`, then force it and wait again; return whether asking was enough."""
    ask()
    try:
        async with asyncio.timeout(grace_s):
            await wait()
    except TimeoutError:
        force()
        await wait()
        return False
    return True
