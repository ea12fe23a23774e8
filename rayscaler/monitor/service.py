"""The one door to the rayscaler service. Owns the channel and its renewal; knows nothing of what is reported."""

from typing import Protocol

import grpc
import grpc.aio

from rayscaler import errors
from rayscaler.api.head.v1 import head_pb2
from rayscaler.monitor import credentials, rpc

REPORT_DEMAND = "/rayscaler.api.head.v1.HeadService/ReportDemand"

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""gRPC's own limit: how much the service takes, it says itself."""
TOO_LARGE = "; the service takes as much as its setting RAYSCALER_MAX_MESSAGE_BYTES says: raise that"


class Transport(Protocol):
    """The door. Errors are those of `rayscaler.errors`; every call has a deadline."""

    async def report(self, request: head_pb2.ReportDemandRequest) -> head_pb2.ReportDemandResponse:
        """Deliver one report and bring its answer."""
        ...

    async def close(self) -> None:
        """Let go of the connection."""
        ...


class GrpcTransport:
    """The service at `address`, such as `dns:///rayscaler-leader:6380` or `unix:/run/rayscaler.sock`.

    After a failure the channel is made anew: one that lives on stays pinned to its endpoint, which may no longer lead, and to its authority.
    """

    def __init__(self, address: str, *, shown: credentials.Credentials | None = None, timeout_s: float = 5.0) -> None:
        """Take the credentials to show; None is plain text."""
        self._address = address
        self._shown = shown
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None

    async def report(self, request: head_pb2.ReportDemandRequest) -> head_pb2.ReportDemandResponse:
        """Deliver one report and bring its answer."""
        roots, metadata = (b"", []) if self._shown is None else (self._shown.roots(), self._shown.metadata())
        if self._channel is None:
            self._channel = rpc.open_channel(self._address, max_message_bytes=MAX_MESSAGE_BYTES, use_proxy=True, roots=roots)
        try:
            return await rpc.call(
                self._channel, REPORT_DEMAND, request, head_pb2.ReportDemandResponse, timeout_s=self._timeout_s, metadata=metadata
            )
        except grpc.aio.AioRpcError as error:
            is_too_large = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            advice = TOO_LARGE if is_too_large else credentials.advice(error.details() or "", self._shown)
            translated = rpc.error_of(error, f"rayscaler at {self._address}", advice)
            if translated.retry is errors.Retry.BACKOFF:
                await self.close()
            raise translated from error

    async def close(self) -> None:
        """Close the channel."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            await channel.close()
