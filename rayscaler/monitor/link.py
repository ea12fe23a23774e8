"""The connection to Ray's GCS: token, cluster id, deadline and errors of every call. Knows no call and keeps no answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from rayscaler import errors, wire
from rayscaler.monitor import rpc
from rayscaler.monitor.auth import TokenSource

MAX_MESSAGE_BYTES = 512 << 20
"""Snapshots of some thousand nodes pass gRPC's default of 4 MiB."""

R = TypeVar("R", bound=wire.Reply)


class GcsLink:
    """The GCS at `address` (host:port). `breaks` counts how often it may have become another process, or another cluster."""

    def __init__(self, address: str, tokens: TokenSource, *, call_timeout_s: float) -> None:
        self._address = address
        self._tokens = tokens
        self._call_timeout_s = call_timeout_s
        self._token = tokens.read()
        self._channel: grpc.aio.Channel | None = None
        self.breaks = 0

    async def call(self, path: str, request: Message, reply: type[R], cluster_id: str = "") -> R:
        """Call once; a second time only when a token that was refused has been replaced meanwhile."""
        ids = [("ray_cluster_id", cluster_id)] if cluster_id else []
        try:
            return await self._call_once(path, request, reply, ids)
        except errors.Unauthenticated:
            refused, self._token = self._token, self._tokens.read()
            if self._token == refused:
                raise
            return await self._call_once(path, request, reply, ids)

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            await self._channel.close()
            self._channel = None

    async def _call_once(self, path: str, request: Message, reply: type[R], ids: Sequence[tuple[str, str]]) -> R:
        if self._channel is None:
            # Never through a proxy: the GCS is beside us.
            self._channel = rpc.open_channel(self._address, max_message_bytes=MAX_MESSAGE_BYTES, use_proxy=False)
        metadata = [("authorization", f"Bearer {self._token}"), *ids] if self._token else ids
        try:
            return await rpc.call(self._channel, path, request, reply, timeout_s=self._call_timeout_s, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self._translate(error) from error

    def _translate(self, error: grpc.aio.AioRpcError) -> errors.RayscalerError:
        text = error.details() or ""
        if error.code() is grpc.StatusCode.UNAUTHENTICATED and "WrongClusterID" in text:
            self.breaks += 1
            return errors.Superseded(f"a new Ray cluster has started at {self._address}")
        if error.code() is grpc.StatusCode.UNAUTHENTICATED and "InvalidAuthToken" in text:
            return errors.Unauthenticated(
                f"Ray's GCS at {self._address} refuses the authentication token ({self._tokens.describe()}): {text}"
            )
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            self.breaks += 1  # whatever answers next may be another cluster
        return rpc.error_of(error, f"Ray's GCS at {self._address}")


@dataclass(frozen=True)
class ClusterLine:
    """The link as long as one cluster is at its end: every call names that cluster's id, so that no other takes it."""

    link: GcsLink
    cluster_id: str
    breaks: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing has happened since that could have put another cluster there."""
        return self.breaks == self.link.breaks

    async def call(self, path: str, request: Message, reply: type[R]) -> R:
        """Call this cluster's GCS once."""
        return await self.link.call(path, request, reply, self.cluster_id)
