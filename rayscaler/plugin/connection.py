"""Where a plugin is reached: the door that a PluginExecutor calls through, and the plain one, an address. Starts no process."""

from typing import Protocol

import grpc

from rayscaler.errors import Denied, Unavailable
from rayscaler.settings import TlsFiles

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),  # gRPC's own is 2 minutes; a sidecar that is back should be seen at once
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # who calls decides about a second time
    ("grpc.enable_http_proxy", 0),
    # Servers that are set as gRPC delivers them hang up on whoever pings more often than every 5 minutes. A silent watch is found by its beat.
    ("grpc.keepalive_time_ms", 310_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)


def open_channel(target: str, max_message_bytes: int, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    """Open a channel to a plugin, in plain text without credentials; an answer above the limit is refused, not read."""
    sizes = (("grpc.max_receive_message_length", max_message_bytes), ("grpc.max_send_message_length", max_message_bytes))
    options = (*CHANNEL_OPTIONS, *sizes)
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, credentials, options=options)


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

    def __init__(self, address: str, *, max_message_bytes: int, tls: TlsFiles | None = None) -> None:
        self.peer = f"plugin at {address}"
        self._address = address
        self._tls = tls or TlsFiles()
        self._max_message_bytes = max_message_bytes
        self._channel: grpc.aio.Channel | None = None

    async def channel(self) -> grpc.aio.Channel:
        """Return the one channel, which finds a plugin that was started again by itself."""
        if self._channel is None:
            self._channel = open_channel(self._address, self._max_message_bytes, self.credentials())
        return self._channel

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read the files, as they are now; None for a socket. Raises Denied where there is nobody to trust, for only an operator can change that."""
        if self._address.startswith("unix:"):
            return None
        if self._tls.ca is None:
            raise Denied(f"{self.peer}: RAYSCALER_EXECUTOR_CA is not set: an address is dialled over TLS only, or use a unix socket")
        try:
            roots, chain, key = self._tls.read()
        except OSError as error:
            raise Unavailable(f"{self.peer}: {error.filename}: cannot be read: {error.strerror}") from error
        return grpc.ssl_channel_credentials(roots, key, chain)
