"""Where a plugin is reached: the door that a PluginExecutor calls through, by an address, or by way of a host that has started it."""

import asyncio
import contextlib
from typing import Protocol

import grpc

from rayscaler.errors import Denied, Unavailable
from rayscaler.plugin.calls import CHANNEL_OPTIONS
from rayscaler.plugin.faults import State
from rayscaler.plugin.host import PluginHost
from rayscaler.settings import ExecutorTls

START_S = 5.0
"""A call waits so long for a plugin that is being started: most are up in a fraction of a second."""


class Connection(Protocol):
    """A way to a plugin. `peer` names it in texts for people."""

    peer: str

    async def channel(self) -> grpc.aio.Channel:
        """Return the channel to the plugin of now: another object for another process. Raises Unavailable while there is none."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class Address:
    """A plugin that others run, at unix:///PATH or, over TLS, dns:///HOST:PORT."""

    def __init__(self, address: str, *, max_message_bytes: int, tls: ExecutorTls | None = None) -> None:
        self.peer = f"plugin at {address}"
        self._address = address
        self._tls = tls or ExecutorTls()
        sizes = (("grpc.max_receive_message_length", max_message_bytes), ("grpc.max_send_message_length", max_message_bytes))
        self._options = (*CHANNEL_OPTIONS, *sizes)
        self._channel: grpc.aio.Channel | None = None

    async def channel(self) -> grpc.aio.Channel:
        """Return the one channel, which finds a plugin that was started again by itself."""
        if self._channel is None:
            if self._address.startswith("unix:"):
                self._channel = grpc.aio.insecure_channel(self._address, options=self._options)
            else:
                self._channel = grpc.aio.secure_channel(self._address, self._credentials(), options=self._options)
        return self._channel

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def _credentials(self) -> grpc.ChannelCredentials:
        """Read the files, as they are now; raises Denied where there is nobody to trust, for only an operator can change that."""
        if self._tls.ca is None:
            raise Denied(f"{self.peer}: RAYSCALER_EXECUTOR_CA is not set: an address is dialled over TLS only, or use a unix socket")
        try:
            roots = self._tls.ca.read_bytes()
            chain = None if self._tls.cert is None else self._tls.cert.read_bytes()
            key = None if self._tls.key is None else self._tls.key.read_bytes()
        except OSError as error:
            raise Unavailable(f"{self.peer}: {error.filename}: cannot be read: {error.strerror}") from error
        return grpc.ssl_channel_credentials(roots, key, chain)


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
