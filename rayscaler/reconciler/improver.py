"""The door to the process that improves plans: one for all clusters, started at the first need, replaced when it ends, gone with the service."""

import asyncio
import contextlib
import os
import pickle
import socket
import sys
from dataclasses import dataclass

import structlog

from rayscaler.errors import RayscalerError, Unavailable
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.processes import Identity, SystemProcesses, end
from rayscaler.reconciler.improving import HANG_S, HANG_STEPS_PER_S, LENGTH

log = structlog.get_logger(__name__)

FIRST_REST_S = 0.5
"""After its first end by itself; doubles up to LONGEST_REST_S, and is forgotten with an answer."""
LONGEST_REST_S = 60.0


@dataclass(frozen=True)
class _Question:
    state: ClusterState
    steps: int
    answer: asyncio.Future[Plan]


class ImproverProcess:
    """Asks one question after another, in the order they came; those whose asker has gone are passed over. No thread, no lock: one task."""

    def __init__(self, argv: tuple[str, ...] = (sys.executable, "-m", "rayscaler.reconciler.improving"), hang_s: float = HANG_S) -> None:
        self._argv = argv
        self._hang_s = hang_s
        self._processes = SystemProcesses()
        self._questions: asyncio.Queue[_Question | None] = asyncio.Queue()
        self._identity: Identity | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._rest_s = FIRST_REST_S
        self._not_before = 0.0
        self._is_prepared = False

    @property
    def pid(self) -> int | None:
        """The process that runs, if one does."""
        return None if self._identity is None else self._identity.pid

    def prepare(self) -> None:
        """Have the process started, so that the first question need not wait for that."""
        if not self._is_prepared:
            self._is_prepared = True
            self._questions.put_nowait(None)

    async def improve(self, state: ClusterState, steps: int) -> Plan:
        """Return `plan(state, steps)` once it is this question's turn; raises Unavailable."""
        question = _Question(state, steps, asyncio.get_running_loop().create_future())
        self._questions.put_nowait(question)
        return await question.answer

    async def run(self) -> None:
        """Answer for ever."""
        try:
            while True:
                question = await self._questions.get()
                if question is None:
                    await self._begin()
                elif not question.answer.done():
                    await self._serve(question)
        finally:
            await self._stop()

    async def _begin(self) -> None:
        try:
            if self._streams is None:
                await self._start()
        except (OSError, RayscalerError) as error:
            log.warning("improver.unstarted", error=repr(error))  # the first question tries again

    async def _serve(self, question: _Question) -> None:
        try:
            found = await self._ask(question)
        except Unavailable as error:
            if not question.answer.done():
                question.answer.set_exception(error)
            return
        if not question.answer.done():
            question.answer.set_result(found)

    async def _ask(self, question: _Question) -> Plan:
        loop = asyncio.get_running_loop()
        if loop.time() < self._not_before:
            raise Unavailable("the process that improves plans has ended, and is started again later")
        try:
            async with asyncio.timeout(self._hang_s + question.steps / HANG_STEPS_PER_S):
                told = await self._exchange(pickle.dumps((question.state, question.steps), pickle.HIGHEST_PROTOCOL))
        except (TimeoutError, OSError, EOFError, pickle.UnpicklingError, RayscalerError) as error:
            self._not_before = loop.time() + self._rest_s
            log.warning("improver.ended", pid=self.pid, error=repr(error), again_in_s=self._rest_s)
            self._rest_s = min(self._rest_s * 2, LONGEST_REST_S)
            await self._stop()
            raise Unavailable(f"the process that improves plans has ended: {error!r}") from error
        self._rest_s = FIRST_REST_S
        if isinstance(told, Plan):
            return told
        log.error("improver.failed", cluster=question.state.config.name, error=str(told))
        raise Unavailable("the plan could not be improved")

    async def _exchange(self, asked: bytes) -> object:
        reader, writer = self._streams or await self._start()
        writer.write(LENGTH.pack(len(asked)) + asked)
        await writer.drain()
        (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
        told: object = pickle.loads(await reader.readexactly(length))  # noqa: S301 - from a process of ours, over a socket that nobody else has
        return told

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours, theirs = socket.socketpair()
        with theirs:
            self._identity = self._processes.spawn_beside(self._argv, env=os.environ, socket=theirs.fileno())
        self._streams = await asyncio.open_unix_connection(sock=ours)
        log.info("improver.started", pid=self.pid)
        return self._streams

    async def _stop(self) -> None:
        """End the process, and collect it."""
        streams, self._streams = self._streams, None
        identity, self._identity = self._identity, None
        if streams is not None:
            streams[1].close()
            with contextlib.suppress(OSError):
                await streams[1].wait_closed()
        if identity is not None:
            await end(self._processes, identity, 0.0)
