"""One unary call over grpc.aio, with its deadline and its errors as ours. Knows neither the GCS nor the service."""

from collections.abc import Sequence
from typing import TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from rayscaler import errors, wire

R = TypeVar("R", bound=wire.Reply)

CHANNEL_OPTIONS = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),  # so long may one attempt take; refused ones end at once
    ("grpc.max_reconnect_backoff_ms", 200),  # gRPC's own is 2 minutes; ours must see at once that a head is back
    ("grpc.use_local_subchannel_pool", 1),  # a fresh channel really connects anew, to another endpoint if there is one
    ("grpc.enable_retries", 0),  # who calls decides about a second time
)


def open_channel(address: str, *, max_message_bytes: int, use_proxy: bool, roots: bytes = b"") -> grpc.aio.Channel:
    """Open a channel, over TLS where there are `roots` (PEM) to trust; gRPC's default of 4 MiB a message breaks on a few thousand nodes."""
    sizes = (("grpc.max_receive_message_length", max_message_bytes), ("grpc.max_send_message_length", max_message_bytes))
    options = [*CHANNEL_OPTIONS, *sizes, ("grpc.enable_http_proxy", int(use_proxy))]
    if roots:
        return grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(roots), options=options)
    return grpc.aio.insecure_channel(address, options=options)


async def call(
    channel: grpc.aio.Channel,
    path: str,
    request: Message,
    reply: type[R],
    *,
    timeout_s: float,
    metadata: Sequence[tuple[str, str]] = (),
) -> R:
    """Call `path` once; raises grpc.aio.AioRpcError, which `error_of` translates once the caller has looked at its text."""
    method = channel.unary_unary(path, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString)
    return await method(request, timeout=timeout_s, metadata=tuple(metadata))


def error_of(error: grpc.aio.AioRpcError, peer: str, advice: str = "") -> errors.RayscalerError:
    """Translate; `peer` is who was called and `advice` what to do, for the text."""
    text = f"{peer}: {error.details() or error.code().name}{advice}"
    return _ERRORS.get(error.code(), errors.RayscalerError)(text)


_ERRORS: dict[grpc.StatusCode, type[errors.RayscalerError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.Denied,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.InvalidRequest,  # here always a message above the limit, named in the text
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Superseded,
    grpc.StatusCode.ABORTED: errors.Busy,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
}
