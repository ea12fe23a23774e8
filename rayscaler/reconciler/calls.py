"""Executor calls of one cluster: each a task of its own with a deadline and a back-off, so that a hung one delays nothing (B4)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from functools import partial

import structlog

from rayscaler.errors import BrokenPlugin, Conflict, RayscalerError, Retry, Unavailable
from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.instance import InstanceObservation, InstanceStatus, Phase
from rayscaler.model.resources import Resources
from rayscaler.reconciler import begun
from rayscaler.reconciler.grouping import Grouping, Groups
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.worth import Worth
from rayscaler.settings import Timings

log = structlog.get_logger(__name__)

LAUNCH_TRIES = 3
"""Tries of a launch whose outcome is unknown, before it is cancelled and planned anew."""

Fact = Callable[[Memory, float], None]
"""What a call found out, to be folded into the memory by the cluster's own task."""
Resized = Callable[[str, Resources, RayscalerError | None, Memory, float], None]
"""Takes the answer to a resize: of which instance, to what, and why not."""


class Calls:
    """Runs launches, terminations and the list-and-watch of one cluster; tells outcomes by `tell`.

    A call's deadline runs from its turn at the executor. The wait for that is bounded by the instance's own deadline: a launch that is
    given up while it waits is never sent, and takes no turn from those that are to be.
    """

    def __init__(
        self, executor: Executor, cluster: str, *, timings: Timings, tasks: asyncio.TaskGroup, tell: Callable[[Fact], None]
    ) -> None:
        self._executor = executor
        self._cluster = cluster
        self._timings = timings
        self._tasks = tasks
        self._tell = tell
        self._grouping = Grouping(
            executor, cluster, timings=timings, tasks=tasks, deadline=self._deadline, told=lambda why: tell(partial(_ungrouped, why))
        )
        self._launching: set[str] = set()
        self._unsent: dict[str, asyncio.Task[None]] = {}
        """Launches that nobody has sent yet, not in an earlier life either."""
        self._ending: set[str] = set()
        self._unwanted: set[str] = set()
        self._listing = 0
        self._launched_in: dict[str, int] = {}

    def launch(self, spec: LaunchSpec, *, is_again: bool = False) -> None:
        """Begin to launch; `is_again` says that an earlier life may have launched it, by another spec even, and then it is taken as it is."""
        self._launching.add(spec.instance_id)
        self._launched_in[spec.instance_id] = self._listing
        task = self._tasks.create_task(self._launch(spec, is_again=is_again), name=f"launch {spec.instance_id}")
        if not is_again:
            self._unsent[spec.instance_id] = task

    def group(self, groups: Groups) -> None:
        """Begin to have just these groups; what is launched into one waits for them."""
        self._grouping.want(groups)

    def terminate(self, instance_id: str) -> None:
        """Begin to end an instance; a call for it that is under way goes on, one that launches it is not tried again, nor begun."""
        unsent = self._unsent.pop(instance_id, None)
        if unsent is not None:
            unsent.cancel()
            self._end_launch(instance_id)
            self._tell(partial(_seen, InstanceObservation(instance_id, "", "", Phase.GONE, "it was called off before it was sent")))
            return
        if instance_id in self._launching:
            self._unwanted.add(instance_id)
        if instance_id not in self._ending:
            self._ending.add(instance_id)
            self._tasks.create_task(self._terminate(instance_id), name=f"terminate {instance_id}")

    def resize(self, instance_id: str, resources: Resources, answered: Resized) -> None:
        """Begin to let an instance have another size; asked once: whoever asks knows for how long it is worth trying."""
        self._tasks.create_task(self._resize(instance_id, resources, answered), name=f"resize {instance_id}")

    async def _resize(self, instance_id: str, resources: Resources, answered: Resized) -> None:
        failure: RayscalerError | None = None
        try:
            async with self._executor.pace.turn(self._cluster), self._deadline("resize"):
                await self._executor.resize(self._cluster, instance_id, resources)
        except RayscalerError as error:
            log.warning("resize.failed", cluster=self._cluster, instance_id=instance_id, error=str(error))
            failure = error
        self._tell(partial(answered, instance_id, resources, failure))

    async def _launch(self, spec: LaunchSpec, *, is_again: bool) -> None:
        wait_s, asked_at = self._timings.executor_retry_s, asyncio.get_running_loop().time()
        try:
            await self._grouping.ready(spec.membership)
            for attempt in range(1, LAUNCH_TRIES + 1):
                try:
                    async with self._executor.pace.turn(self._cluster):
                        self._note_sent(spec.instance_id, asked_at)
                        if spec.instance_id in self._unwanted:  # it waited for so long
                            break
                        async with self._deadline("launch"):
                            external_id = await self._sent(spec, is_again=is_again)
                except RayscalerError as error:
                    log.warning("launch.failed", cluster=self._cluster, instance_id=spec.instance_id, attempt=attempt, error=str(error))
                    if error.retry is not Retry.BACKOFF:
                        self._tell(partial(_refused, spec.instance_id, error))
                        return
                    if attempt == LAUNCH_TRIES:
                        self._tell(partial(_without_outcome, spec.instance_id, error))
                        self._unwanted.add(spec.instance_id)
                else:
                    self._tell(partial(_launched, spec.instance_id, external_id))
                    break
                if spec.instance_id not in self._unwanted:
                    await asyncio.sleep(wait_s)
                    wait_s *= 2
                if spec.instance_id in self._unwanted:
                    break
            if spec.instance_id in self._unwanted:
                # It was made, or nobody knows; an end that was asked for earlier may have found nothing. Ending nothing is success.
                self.terminate(spec.instance_id)
        finally:
            self._end_launch(spec.instance_id)

    def _note_sent(self, instance_id: str, asked_at: float) -> None:
        """Note that a launch has its turn; for how long it waited for that matters where launches in a minute are limited."""
        if self._unsent.pop(instance_id, None) is not None and asyncio.get_running_loop().time() >= asked_at + begun.STEP_S:
            self._tell(partial(_sent_late, instance_id))

    def _end_launch(self, instance_id: str) -> None:
        """Note that its launch is over."""
        self._launching.discard(instance_id)
        self._unwanted.discard(instance_id)
        self._launched_in[instance_id] = self._listing

    async def _sent(self, spec: LaunchSpec, *, is_again: bool) -> str:
        try:
            return await self._executor.launch(spec)
        except Conflict:
            if not is_again:
                raise
            return ""  # the definition has changed since; what stands out there is told by the executor's observations

    async def _terminate(self, instance_id: str) -> None:
        wait_s = self._timings.executor_retry_s
        try:
            while True:
                try:
                    async with self._executor.pace.turn(self._cluster), self._deadline("terminate"):
                        await self._executor.terminate(self._cluster, instance_id)
                except RayscalerError as error:
                    log.warning("terminate.failed", cluster=self._cluster, instance_id=instance_id, error=str(error))
                else:
                    return
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, self._timings.executor_retry_max_s)
        finally:
            self._ending.discard(instance_id)

    async def follow(self) -> None:
        """List, watch, and list again, for ever; each error backs off and says so."""
        wait_s = self._timings.executor_retry_s
        while True:
            try:
                # The watch begins before the list, so that nothing falls between the two.
                watch = self._executor.watch(self._cluster)
                await self._list()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._timings.relist_s):
                        async for seen in watch:
                            self._tell(partial(_seen, seen))
                            wait_s = self._timings.executor_retry_s
                        raise Unavailable("the executor's watch ended")
                wait_s = self._timings.executor_retry_s
            except RayscalerError as error:
                log.warning("executor.silent", cluster=self._cluster, error=str(error))
                self._tell(partial(_silent, error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, self._timings.executor_retry_max_s)

    async def _list(self) -> None:
        self._listing += 1
        async with self._deadline("list"):
            seen = await self._executor.list(self._cluster)
        self._tell(partial(self._listed, seen, self._listing))

    def _listed(self, seen: list[InstanceObservation], listing: int, memory: Memory, now: float) -> None:
        """Take a list. A launch that ran at any moment from its beginning until now may or may not be in it: absence says nothing."""
        unsure = self._launching.union(key for key, during in self._launched_in.items() if during >= listing)
        self._launched_in = {key: during for key, during in self._launched_in.items() if during >= listing}
        memory.take_list(seen, frozenset(unsure), now)
        _take_sizes(seen, memory)
        memory.sizes.keep(memory.instances)

    @contextlib.asynccontextmanager
    async def _deadline(self, what: str) -> AsyncIterator[None]:
        """Bound a call; a bug inside an executor is that executor's silence, never the end of this process."""
        try:
            async with asyncio.timeout(self._timings.executor_call_s):
                yield
        except TimeoutError as error:
            raise Unavailable(f"no answer to {what} within {self._timings.executor_call_s:g} s") from error
        except RayscalerError:
            raise
        except Exception as error:
            log.exception("executor.bug", cluster=self._cluster, call=what)
            raise Unavailable(f"{what} failed with {type(error).__name__}, a bug of the executor; the service's log has it") from error


def _sent_late(instance_id: str, memory: Memory, now: float) -> None:
    instance = memory.instances.get(instance_id)
    if instance is not None:
        found = begun.sent_late(memory.record.begun, memory.config, instance.node_type, instance.requested_at, now)
        memory.record = replace(memory.record, begun=found)


def _launched(instance_id: str, external_id: str, memory: Memory, now: float) -> None:
    memory.take_launched(instance_id, external_id, now)


def _seen(seen: InstanceObservation, memory: Memory, now: float) -> None:
    memory.take_observation(seen, now)
    _take_sizes([seen], memory)


def _ungrouped(why: str, memory: Memory, now: float) -> None:  # noqa: ARG001 - the form of a Fact
    memory.ungrouped = why
    for each in memory.live():
        if why and each.status is InstanceStatus.REQUESTED and each.membership is not None and each.membership.group:
            memory.instances[each.instance_id] = replace(each, detail=f"waits for its group: {why}")


def _take_sizes(seen: list[InstanceObservation], memory: Memory) -> None:
    if [each for each in seen if memory.sizes.take(each)]:
        memory.worth = Worth.DECIDING


def _refused(instance_id: str, error: RayscalerError, memory: Memory, now: float) -> None:
    memory.take_refused(instance_id, error, now)


def _without_outcome(instance_id: str, error: RayscalerError, memory: Memory, now: float) -> None:
    memory.take_without_outcome(instance_id, error, now)


def _silent(error: RayscalerError, memory: Memory, now: float) -> None:  # noqa: ARG001 - the form of a Fact
    memory.take_silence(f"{error.name}: {error}", is_broken=isinstance(error, BrokenPlugin))
