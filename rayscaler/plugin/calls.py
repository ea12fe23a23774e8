"""The calls that a host makes besides those of the executor's own service: health, the plugin's output, and the end. go-plugin named them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from rayscaler.api.goplugin.v1 import goplugin_pb2
from rayscaler.plugin import handshake
from rayscaler.plugin.output import readable

HEALTH = "/grpc.health.v1.Health/Check"
NAMES = {number: name for name, number in health_pb2.HealthCheckResponse.ServingStatus.items()}
STDIO = "/plugin.GRPCStdio/StreamStdio"
STREAMS = {goplugin_pb2.CHANNEL_STDOUT: "stdout", goplugin_pb2.CHANNEL_STDERR: "stderr"}
SHOWN_CHARS = 200
"""Of what a plugin says with an error."""
PAUSE_S = 0.1
"""Between two looks at a new plugin's health."""


@dataclass(frozen=True)
class Health:
    """What a plugin says of itself: what is wrong, "" if nothing, and whether there is a service that can tell."""

    wrong: str = ""
    is_served: bool = True


async def check_health(channel: grpc.aio.Channel, timeout_s: float, *, wait: bool = False) -> Health:
    """Ask for health once, `wait`: as soon as there is a connection."""
    request = health_pb2.HealthCheckRequest(service=handshake.HEALTH_SERVICE)
    method: Any = channel.unary_unary(HEALTH)  # bytes in, bytes out: gRPC has no error for an answer that cannot be parsed
    try:
        told: bytes = await method(request.SerializeToString(), timeout=timeout_s, wait_for_ready=wait)
        status = health_pb2.HealthCheckResponse.FromString(told).status
    except grpc.aio.AioRpcError as error:
        is_served = error.code() not in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
        return Health(f"{error.code().name}: {readable((error.details() or '').encode())[:SHOWN_CHARS]}", is_served=is_served)
    except DecodeError:
        return Health("its answer is no message of grpc.health.v1")
    if status == health_pb2.HealthCheckResponse.SERVING:
        return Health()
    return Health(f"it says {NAMES.get(status, status)}")


async def until_healthy(channel: grpc.aio.Channel, timeout_s: float) -> Health:
    """Ask until a plugin is healthy, or is seen to have no service that could say so; `timeout_s` each time."""
    while True:
        health = await check_health(channel, timeout_s, wait=True)
        if not health.wrong or not health.is_served:
            return health
        await asyncio.sleep(PAUSE_S)


async def shut_down(channel: grpc.aio.Channel, timeout_s: float) -> bool:
    """Ask a plugin to end; return whether it can be asked so. A connection that breaks is how go-plugin's own server says yes."""
    method: Any = channel.unary_unary(handshake.SHUTDOWN)
    try:
        await method(b"", timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    return True


async def stdio(channel: grpc.aio.Channel) -> AsyncIterator[tuple[str, bytes]]:
    """Yield what go-plugin's server was printed to, by stream; ends when the plugin does, at once if it has no such service."""
    method: Any = channel.unary_stream(STDIO)
    try:
        async for told in method(b""):
            piece = goplugin_pb2.StdioData.FromString(told)
            yield STREAMS.get(piece.channel, "stdout"), piece.data
    except (grpc.aio.AioRpcError, DecodeError):
        return
