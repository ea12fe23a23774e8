"""Webhook: what is to be told waits here, and is posted until it is taken, or given up. Nobody waits for it, and what waits is bounded."""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Unavailable
from rayscaler.model.trouble import Announcement
from rayscaler.settings import Timings
from rayscaler.webhook.message import Message, message

log = structlog.get_logger(__name__)

MOST = 1000
"""Messages that wait; of more, the oldest is given up."""
TRIES = 12
"""Of one message: with the usual waits 6 to 9 minutes, and a minute more where nobody answers."""
LATE_S = 0.001
"""A rest is at least so long: timers may come a clock's resolution early, and would come again and again where time stands still meanwhile."""

Done = Callable[[str], None]
"""Told "" once a message is taken, or why it never will be."""
_Key = tuple[str, str]
"""Cluster and node type: what is told of one follows in order."""


@dataclass
class _Waiting:
    """A message that is not taken yet; `due_at` is the monotonic clock's."""

    message: Message
    done: Done
    due_at: float
    tries: int = 0


class Webhook:
    """Tells one receiver; `post` raises Unavailable where it did not take what it was given, and has no time limit of its own."""

    def __init__(self, post: Callable[[bytes], Awaitable[None]], *, namespace: str, clock: Clock, timings: Timings) -> None:
        self._post = post
        self._namespace = namespace
        self._clock = clock
        self._timings = timings
        self._waiting: dict[_Key, _Waiting] = {}  # oldest first
        self._wake = asyncio.Event()
        self._is_calm = asyncio.Event()

    def tell(self, announced: Announcement, done: Done) -> None:
        """Take a change; `done` is called once. While an earlier one of the same node type waits it is left aside: tell it again after that."""
        key = (announced.cluster, announced.trouble.node_type)
        if key in self._waiting:
            return
        while len(self._waiting) >= MOST:
            self._give_up(next(iter(self._waiting)), f"more than {MOST} messages wait")
        made = message(announced, self._namespace, self._clock.now())
        self._waiting[key] = _Waiting(made, done, self._clock.mono())
        self._is_calm.clear()
        self._wake.set()

    def forget(self, cluster: str) -> None:
        """Drop what waits of a cluster."""
        self._waiting = {key: each for key, each in self._waiting.items() if key[0] != cluster}

    async def run(self) -> NoReturn:
        """Post for ever, one after the other."""
        while True:
            now = self._clock.mono()
            key = min(self._waiting, key=lambda each: self._waiting[each].due_at, default=None)
            if key is not None and self._waiting[key].due_at <= now:
                await self._try(key, self._waiting[key])
            else:
                self._is_calm.set()
                await self._rest(None if key is None else self._waiting[key].due_at - now)

    async def settle(self, within_s: float) -> None:
        """Wait for what is due now, but not for long: what is not told by then, another life tells."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._is_calm.wait()

    async def _rest(self, for_s: float | None) -> None:
        """Wait until something is due, or new."""
        self._wake.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if for_s is None else max(for_s, LATE_S)):
                await self._wake.wait()

    async def _try(self, key: _Key, due: _Waiting) -> None:
        """Post once; whatever comes of it, nobody else is to feel it."""
        due.tries += 1
        error = await self._refusal(due.message)
        if self._waiting.get(key) is not due:
            return  # given up meanwhile
        if not error:
            del self._waiting[key]
            due.done("")
        elif due.tries >= TRIES:
            self._give_up(key, f"{due.tries} tries, the last: {error}")
        else:
            timings = self._timings
            wait_s = min(timings.webhook_retry_s * 2.0 ** (due.tries - 1), timings.webhook_retry_max_s)
            due.due_at = self._clock.mono() + wait_s * random.uniform(1.0, 1.5)  # noqa: S311 - so that not all come back at once
            if due.tries == 1:
                log.warning("webhook.failed", of=due.message.of, id=due.message.id, error=error)

    async def _refusal(self, told: Message) -> str:
        """Post; return why it was not taken, "" if it was."""
        limit_s = self._timings.webhook_call_s
        try:
            async with asyncio.timeout(limit_s):
                await self._post(told.body)
        except TimeoutError:
            return f"no answer within {limit_s:g} s"
        except Unavailable as error:
            return str(error)
        except Exception as error:
            # A bug in posting must not end the service, for whom this is no part of its work.
            log.exception("webhook.broken", of=told.of, id=told.id)
            return type(error).__name__
        return ""

    def _give_up(self, key: _Key, why: str) -> None:
        lost = self._waiting.pop(key)
        log.warning("webhook.given_up", of=lost.message.of, id=lost.message.id, why=why)
        lost.done(f"{lost.message.of}: {why}")
