"""One Watch that is being read: its messages in order, each with its time, and how it ended."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import grpc.aio

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin import convert
from rayscaler.tasks import News


class Reading:
    """Reads a call of Watch in a task of its own until it is closed."""

    def __init__(
        self, call: Any, remember: Callable[[pb.WatchResponse, float], None], refused: Callable[[grpc.aio.AioRpcError], Exception]
    ) -> None:
        self.began = time.monotonic()
        self.messages: list[pb.WatchResponse] = []
        """What was told, each change as if it had come in a message of its own."""
        self.times: list[float] = []
        self.error: Exception | None = None
        """Why it ended, where it ended with an error."""
        self.has_ended = False
        self._call = call
        self._remember = remember
        self._refused = refused
        self._news = News()
        self._task = asyncio.create_task(self._read(), name="conformance watch")

    async def first(self, within_s: float) -> pb.WatchResponse | None:
        """Wait for the first message; None if none came."""
        return await self.found(lambda _: True, within_s)

    async def found(self, claim: Callable[[pb.WatchResponse], bool], within_s: float, start: int = 0) -> pb.WatchResponse | None:
        """Wait for a message that the claim is true of, looking from `start` on; None if none came, or it ended."""
        ends = time.monotonic() + within_s
        while True:
            for message in self.messages[start:]:
                start += 1
                if claim(message):
                    return message
            if self.has_ended:
                return None
            try:
                async with asyncio.timeout(max(ends - time.monotonic(), 0.0)):
                    await self._news.wait()
            except TimeoutError:
                return None

    async def phase(self, instance_id: str, least: int, within_s: float) -> pb.Observation | None:
        """Wait until an instance is told in this phase or a later one."""
        message = await self.found(lambda told: told.observation.instance_id == instance_id and told.observation.phase >= least, within_s)
        return None if message is None else message.observation

    def phases(self, instance_id: str) -> list[int]:
        """Return the phases told of an instance, in order."""
        return [each.observation.phase for each in self.messages if each.observation.instance_id == instance_id]

    @property
    def bookmark(self) -> str:
        """The last one told."""
        return next((each.bookmark for each in reversed(self.messages) if each.bookmark), "")

    async def close(self) -> None:
        """Hang up."""
        self._call.cancel()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _read(self) -> None:
        try:
            while isinstance(message := await self._call.read(), pb.WatchResponse):
                for each in _apart(message):
                    self.messages.append(each)
                    self.times.append(time.monotonic())
                    self._remember(each, self.began)
                self._news.tell()
        except grpc.aio.AioRpcError as error:
            self.error = self._refused(error)
        self.has_ended = True
        self._news.tell()


def _apart(message: pb.WatchResponse) -> list[pb.WatchResponse]:
    """Return a message for each change; the bookmark is the last one's."""
    told = convert.changes(message)
    before = [pb.WatchResponse(observation=each) for each in told[:-1]]
    return [*before, pb.WatchResponse(observation=told[-1] if told else None, bookmark=message.bookmark)]
