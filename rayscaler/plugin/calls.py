"""The calls that a host makes besides those of the executor's own service: health, the plugin's output, and the end. go-plugin named them."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rayscaler.api.goplugin.v1 import goplugin_pb2
from rayscaler.plugin import handshake

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
"""Of every channel to a plugin."""
STDIO = "/plugin.GRPCStdio/StreamStdio"
STREAMS = {goplugin_pb2.CHANNEL_STDOUT: "stdout", goplugin_pb2.CHANNEL_STDERR: "stderr"}
PAUSE_S = 0.1
"""Between two looks at a new plugin's health."""


def open_channel(target: str, max_message_bytes: int) -> grpc.aio.Channel:
    """Open a channel to a plugin on this machine; an answer above the limit is refused, not read."""
    sizes = (("grpc.max_receive_message_length", max_message_bytes), ("grpc.max_send_message_length", max_message_bytes))
    return grpc.aio.insecure_channel(target, options=[*CHANNEL_OPTIONS, *sizes])


async def check_health(channel: grpc.aio.Channel, timeout_s: float, *, wait: bool = False) -> str:
    """Ask for health once, `wait`: as soon as there is a connection; return what is wrong, "" if nothing. Raises LookupError without a service."""
    stub = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service=handshake.HEALTH_SERVICE)
    try:
        answer = await stub.Check(request, timeout=timeout_s, wait_for_ready=wait)
    except grpc.aio.AioRpcError as error:
        if error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND):
            raise LookupError(error.details() or error.code().name) from error
        return f"{error.code().name}: {error.details()}"
    if answer.status == health_pb2.HealthCheckResponse.SERVING:
        return ""
    return f"it says {health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)}"


async def until_healthy(channel: grpc.aio.Channel, timeout_s: float) -> None:
    """Ask until a plugin is healthy, `timeout_s` each time."""
    while True:
        if not await check_health(channel, timeout_s, wait=True):
            return
        await asyncio.sleep(PAUSE_S)


async def shut_down(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """Ask a plugin to end; return whether it can be asked so. A connection that breaks is how go-plugin's own server says yes."""
    method = channel.unary_unary(
        handshake.SHUTDOWN, request_serializer=empty_pb2.Empty.SerializeToString, response_deserializer=empty_pb2.Empty.FromString
    )
    try:
        await method(empty_pb2.Empty(), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return True


async def stdio(channel: grpc.aio.Channel) -> AsyncIterator[tuple[str, bytes]]:
    """Yield what go-plugin's server was printed to, by stream; ends when the plugin does, at once if it has no such service."""
    method = channel.unary_stream(
        STDIO, request_serializer=empty_pb2.Empty.SerializeToString, response_deserializer=goplugin_pb2.StdioData.FromString
    )
    try:
        async for piece in method(empty_pb2.Empty()):
            yield STREAMS.get(piece.channel, "stdout"), piece.data
    except grpc.aio.AioRpcError:
        return
