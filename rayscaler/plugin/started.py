"""A plugin that a host starts, as a PluginExecutor reaches it."""

import asyncio
import contextlib

import grpc

from rayscaler.plugin.faults import State
from rayscaler.plugin.host import PluginHost

START_S = 5.0
"""A call waits so long for a plugin that is being started: most are up in a fraction of a second."""


class Started:
    """A plugin that a host starts; whoever owns the host ends it."""

    def __init__(self, host: PluginHost) -> None:
        self.peer = f"plugin {host.name}"
        self._host = host

    async def channel(self) -> grpc.aio.Channel:
        """Return the channel to the plugin as it was started last; waits a little for one that is just being started."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while (now := self._host.status).state is State.STARTING or (now.state is State.STOPPED and not now.starts):
                    await self._host.changed()
        return await self._host.channel()

    async def close(self) -> None:
        """Leave it to the host."""
