"""Has the executor keep the groups of one cluster as they are wanted: before what is launched into them, and after each change of their sizes.

One call at a time, with a deadline, and again with a back-off for as long as it fails. Launches wait meanwhile, until their own deadlines: alone they
would be bound in part.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager

import structlog

from rayscaler.errors import RayscalerError
from rayscaler.executor.base import Executor
from rayscaler.model.scheduling import GangScheduler, Membership, WantedGroup
from rayscaler.settings import Timings

log = structlog.get_logger(__name__)

Groups = Mapping[GangScheduler, Sequence[WantedGroup]]


class Grouping:
    """`told` hears why the groups are not as they are wanted, "" once they are, at each change."""

    def __init__(
        self,
        executor: Executor,
        cluster: str,
        *,
        timings: Timings,
        tasks: asyncio.TaskGroup,
        deadline: Callable[[str], AbstractAsyncContextManager[None]],
        told: Callable[[str], None],
    ) -> None:
        self._executor = executor
        self._cluster = cluster
        self._timings = timings
        self._tasks = tasks
        self._deadline = deadline
        self._told = told
        self._wanted: Groups = {}
        self._done = asyncio.Event()
        self._done.set()
        self._trouble = ""
        self._changed = asyncio.Event()

    def want(self, groups: Groups) -> None:
        """Begin to have these groups and no others, unless that is what was wanted last."""
        # What is wanted of a scheduler no more is taken away from it, once.
        left: Groups = {scheduler: () for scheduler, its in self._wanted.items() if its or not self._done.is_set()}
        after = {**left, **groups}
        if after == self._wanted:
            return
        self._wanted = after
        self._changed.set()
        if self._done.is_set():
            self._done.clear()
            self._tasks.create_task(self._run(), name=f"groups of {self._cluster}")

    async def ready(self, membership: Membership | None) -> None:
        """Return once a member of a group may be launched: the groups are as they are wanted. What is a member of none need not wait."""
        if membership is not None and membership.group:
            await self._done.wait()

    async def _run(self) -> None:
        wait_s = self._timings.executor_retry_s
        while True:
            self._changed.clear()
            try:
                for scheduler, groups in self._wanted.items():
                    async with self._deadline("group"):
                        await self._executor.group(self._cluster, scheduler, groups)
            except RayscalerError as error:
                log.warning("groups.failed", cluster=self._cluster, error=str(error))
                self._tell(f"{error.name}: {error}")
                try:
                    async with asyncio.timeout(wait_s):
                        await self._changed.wait()
                except TimeoutError:
                    wait_s = min(wait_s * 2, self._timings.executor_retry_max_s)
                continue
            self._tell("")
            if not self._changed.is_set():
                self._done.set()
                return

    def _tell(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            self._told(trouble)
