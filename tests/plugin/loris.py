"""What stands before a plugin and hands on its answers a byte now and then, once told to: all of it good HTTP/2, none of it in time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

PAUSE_S = 0.05
"""Between two bytes: something always comes, and an answer takes many seconds."""


class Loris:
    """One socket before another; whoever dials it gets a connection of its own to the one behind."""

    def __init__(self, behind: Path) -> None:
        self.drips = False
        self.dripped = 0
        """How many bytes it has handed on so."""
        self._behind = behind
        self._tasks: set[asyncio.Task[None]] = set()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hand on what one caller asks, and what it is answered."""
        asked, answered = await asyncio.open_unix_connection(self._behind)
        for each in (self._hand_on(reader, answered), self._drip(asked, writer)):
            task = asyncio.create_task(each)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        """Let go of all connections."""
        for each in (tasks := list(self._tasks)):
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _hand_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError):
            while data := await reader.read(65536):
                while data:
                    count = 1 if self.drips else len(data)
                    writer.write(data[:count])
                    await writer.drain()
                    data = data[count:]
                    if self.drips:
                        self.dripped += 1
                        await asyncio.sleep(PAUSE_S)  # slow is what it is about


@contextlib.asynccontextmanager
async def before(behind: Path, at: Path) -> AsyncIterator[Loris]:
    """Stand before a plugin's socket."""
    loris = Loris(behind)
    server = await asyncio.start_unix_server(loris.take, at)
    try:
        yield loris
    finally:
        server.close()
        await loris.end()
