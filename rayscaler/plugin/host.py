"""A plugin that rayscaler starts, watches, starts again and stops. Knows when; how one start goes is child.py's.

Whoever calls it asks for the channel each time: another start has another one. While there is none, that raises Unavailable with the reason.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import grpc.aio
import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Unavailable
from rayscaler.plugin import calls, child
from rayscaler.plugin.child import Child
from rayscaler.plugin.faults import Failure, Fault, HostStatus, State
from rayscaler.plugin.output import Intake
from rayscaler.plugin.place import Place
from rayscaler.processes import SystemProcesses
from rayscaler.settings import Timings
from rayscaler.tasks import News

log = structlog.get_logger(__name__)

NOTHING = {"pid": None, "retry_at": None}
"""What a status says only while it is so."""
MISSES = 3
"""Health checks failed in a row that end a plugin: one may fall into a pause of its collector."""


class PluginHost:
    """One plugin by its command; `name` is a file's name, and what people call it.

    `run` is a task of the app's. Once that has been cancelled, `stop` ends the plugin, or `leave` leaves it to the next host of this name
    in `directory`, which takes it over; so does one that comes after a crash.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        directory: Path,
        *,
        processes: SystemProcesses,
        timings: Timings,
        clock: Clock,
        max_message_bytes: int,
    ) -> None:
        self.name = name
        self._argv = tuple(argv)
        self._place = Place(directory, name)
        self._processes = processes
        self._timings = timings
        self._clock = clock
        self._max_message_bytes = max_message_bytes
        self._intake = Intake(name, clock)
        self._child: Child | None = None
        self._status = HostStatus()
        self._news = News()

    @property
    def status(self) -> HostStatus:
        """How the plugin stands."""
        return self._status

    async def channel(self) -> grpc.aio.Channel:
        """Return the channel for the next call, another one after each start; raises Unavailable, which names the status, while there is none."""
        if self._status.state is State.SERVING and self._child is not None and self._child.channel is not None:
            return self._child.channel
        wait_s = max((self._status.retry_at or 0.0) - self._clock.now(), 0.0)
        raise Unavailable(self._status.text(self.name) + (f"; it is started again in {wait_s:.0f} s" if self._status.retry_at else ""))

    async def changed(self) -> HostStatus:
        """Wait for the next change of the status and return it."""
        await self._news.wait()
        return self._status

    async def run(self) -> None:
        """Have the plugin running, until cancelled."""
        failures = 0
        while True:
            served_at: float | None = None
            try:
                running = await self._begun()
                served_at = self._clock.mono()
                await self._served_out(running)
            except (Failure, OSError) as error:
                is_steady = served_at is not None and self._clock.mono() - served_at >= self._timings.plugin_steady_s
                failures = 1 if is_steady else failures + 1
                await self._rest(error if isinstance(error, Failure) else Failure(Fault.HOST, f"this machine fails it: {error}"), failures)

    async def stop(self) -> None:
        """End the plugin, also one that an earlier process left running; nothing of it is left. Twice is fine."""
        self._say(State.STOPPING)
        if self._child is None:
            self._child = await self._adopted()
        await self._end()
        self._say(State.STOPPED)

    async def leave(self) -> None:
        """Let go of the plugin, which lives on."""
        if self._child is not None:
            await self._child.let_go()
            self._child = None
        self._say(State.STOPPED)

    async def _begun(self) -> Child:
        """Take the plugin over or start it, and wait until it serves; raises Failure."""
        self._say(State.STARTING)
        await self._end()
        self._child = await self._adopted()
        if self._child is not None:
            try:
                return await self._ready(self._child)
            except Failure as failure:
                log.warning("plugin.not_adopted", plugin=self.name, fault=failure.fault, detail=failure.detail)
                await self._end()
        self._child = await child.start(self._place, self._argv, processes=self._processes, intake=self._intake)
        return await self._ready(self._child)

    async def _adopted(self) -> Child | None:
        grace_s = self._timings.plugin_grace_s
        return await child.adopt(self._place, self._argv, processes=self._processes, intake=self._intake, grace_s=grace_s)

    async def _ready(self, new: Child) -> Child:
        began = self._clock.mono()
        still = asyncio.create_task(self._say_still(began), name=f"wait for plugin {self.name}")
        try:
            await new.until_serving(self._max_message_bytes, within_s=self._timings.plugin_start_s, health_s=self._health_deadline_s)
        finally:
            still.cancel()
        self._say(State.SERVING, pid=new.identity.pid, starts=self._status.starts + 1, fault=None, detail="", printed="")
        log.info("plugin.serving", plugin=self.name, pid=new.identity.pid, after_s=round(self._clock.mono() - began, 3))
        return new

    async def _served_out(self, running: Child) -> NoReturn:
        """Raise Failure once the plugin has ended or does not answer any more."""
        raise running.failure(Fault.UNHEALTHY, await running.unless_ended(self._unwell(running)))

    async def _unwell(self, running: Child) -> str:
        """Ask for its health until it was missed MISSES times in a row; return what is wrong."""
        misses, wrong = 0, ""
        while misses < MISSES and running.channel is not None:
            await asyncio.sleep(self._timings.plugin_health_s)
            wrong = (await calls.check_health(running.channel, self._health_deadline_s)).wrong
            misses = misses + 1 if wrong else 0
            if wrong:
                log.warning("plugin.health_missed", plugin=self.name, misses=misses, detail=wrong)
        return f"its health was missed {misses} times in a row, the last time with: {wrong}"

    async def _rest(self, failure: Failure, failures: int) -> None:
        """End what there still is of the plugin, and wait before the next start."""
        first_s, most_s = self._timings.plugin_retry_s, self._timings.plugin_retry_max_s
        by_chance = random.uniform(1.0, 1.5)  # noqa: S311 - so that not all come back at once
        wait_s = min(first_s * 2.0 ** min(failures - 1, 16) * by_chance, most_s)
        log.warning(
            "plugin.failed", plugin=self.name, fault=failure.fault, detail=failure.detail, printed=failure.printed, wait_s=round(wait_s, 1)
        )
        told = {"fault": failure.fault, "detail": failure.detail, "printed": failure.printed}
        self._say(State.WAITING, retry_at=self._clock.now() + wait_s, **told)
        try:
            await self._end()
        except OSError as error:
            log.warning("plugin.end_failed", plugin=self.name, detail=str(error))  # and tried again before the next start
        await asyncio.sleep(wait_s)

    async def _end(self) -> None:
        if self._child is not None:
            if not await self._child.end(self._timings.plugin_grace_s):
                log.warning("plugin.forced", plugin=self.name, pid=self._child.identity.pid, grace_s=self._timings.plugin_grace_s)
            self._child = None

    async def _say_still(self, began: float) -> None:
        while True:
            await asyncio.sleep(self._timings.plugin_still_s)
            log.info("plugin.awaited", plugin=self.name, for_s=round(self._clock.mono() - began, 1), printed=self._intake.tail())

    def _say(self, state: State, **told: Any) -> None:
        """Take the new status, and tell those who wait for one."""
        self._status = replace(self._status, state=state, **{**NOTHING, **told})
        self._news.tell()

    @property
    def _health_deadline_s(self) -> float:
        return self._timings.plugin_health_s / 2
