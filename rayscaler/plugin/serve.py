"""For plugin authors: an executor becomes a process that serves it, as a sidecar at an address or as the child of a host.

    from rayscaler.plugin import serve
    serve(MyExecutor(), name="my-executor.example.com", version="1.0")

The host's half of the handshake is in `host.py`. Nothing but the handshake's line goes to stdout.
"""

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rayscaler import __version__, wire
from rayscaler.errors import InvalidRequest, RayscalerError, Unavailable
from rayscaler.executor.base import Executor
from rayscaler.plugin import handshake
from rayscaler.plugin.service import SERVICE, ExecutorService, Limits, add_to
from rayscaler.settings import PluginSettings
from rayscaler.tasks import calm_collector

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 32 << 20
"""Of a request; a host sends 4 MiB at most (X39)."""
STOP_GRACE_S = 1.0
"""Calls under way at the end get this long; a host waits 5 s, then kills."""
LOOPBACK = ("127.0.0.1:", "localhost:", "[::1]:", "unix:")
"""Where plain text is nobody else's to read."""


class PluginServer:
    """Serves an executor: its own service, health, reflection, and the end that a host asks for."""

    def __init__(self, executor: Executor, *, name: str, version: str = __version__, limits: Limits | None = None) -> None:
        self.stopped = asyncio.Event()
        """Set when a host asked for the end."""
        self._executor = executor
        self._service = ExecutorService(executor, name=name, version=version, limits=limits)
        self._health = health.aio.HealthServicer()
        self._server = grpc.aio.server(
            interceptors=[wire.ErrorInterceptor()],
            options=[
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
            ],
        )
        add_to(self._server, self._service)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        controller, method = handshake.SHUTDOWN.strip("/").split("/")
        stop: Any = grpc.unary_unary_rpc_method_handler(_shutdown(self.stopped))
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(controller, {method: stop}),))

    async def start(self, address: str, credentials: grpc.ServerCredentials | None = None) -> int:
        """Listen; return the port (0 for a unix socket). Raises Unavailable when the address cannot be had, InvalidRequest where it would be plain text for all."""
        if credentials is None and not address.startswith(LOOPBACK):
            raise InvalidRequest(
                f"{address}: is served over TLS only: set RAYSCALER_PLUGIN_CERT and RAYSCALER_PLUGIN_KEY, or listen at a unix socket"
            )
        try:
            port = self._server.add_insecure_port(address) if credentials is None else self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise Unavailable(f"cannot listen at {address}: {error}") from error
        await self._server.start()
        for service in ("", handshake.HEALTH_SERVICE, SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self) -> None:
        """Refuse new calls, let those under way end, let go of the executor; its instances live on."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(STOP_GRACE_S)
        await self._service.close()
        await self._executor.close()


def _shutdown(stopped: asyncio.Event) -> Callable[[bytes, Any], Awaitable[bytes]]:
    """Return the method that a host ends a plugin by. It must not know the server that has it: gRPC's can be collected only while its loop runs."""

    async def shutdown(request: bytes, context: Any) -> bytes:  # noqa: ARG001 - gRPC's form
        stopped.set()
        return b""

    return shutdown


def serve(
    executor: Executor, *, name: str, version: str, limits: Limits | None = None, address: str = "", env: Mapping[str, str] | None = None
) -> None:
    """Serve an executor until told to stop; ends the process with its exit code.

    Started by a host, at a socket of its own; else at `address` or RAYSCALER_PLUGIN_LISTEN: unix:///PATH, or HOST:PORT over TLS.
    """
    logs_to_stderr()
    try:
        settings = PluginSettings.from_env(env, listen=address, given_as="address")
    except RayscalerError as error:
        sys.exit(f"error: {error}")
    if not settings.is_child and not settings.listen:
        sys.exit(
            f"{name} is a plugin of rayscaler: name it in a definition's spec.executor.exec, or set RAYSCALER_PLUGIN_LISTEN to serve it at an address"
        )

    async def run() -> None:  # gRPC's server belongs to the loop that it is made in
        await serve_until_stopped(PluginServer(executor, name=name, version=version, limits=limits), settings)

    try:
        asyncio.run(run())
    except RayscalerError as error:
        sys.exit(f"error: {error}")


def logs_to_stderr() -> None:
    """Keep stdout for the handshake: it is where structlog writes unless told otherwise."""
    if not structlog.is_configured():
        structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))


async def serve_until_stopped(server: PluginServer, settings: PluginSettings) -> None:
    """Serve until a host or a signal says stop; then let go of the executor."""
    calm_collector()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, server.stopped.set)
    # A child shares its host's terminal: Ctrl-C there is the host's to act on.
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if settings.is_child else server.stopped.set)
    with _place(settings) as address:
        try:
            await server.start(address, _credentials(settings))
            log.info("plugin.serves", address=address)
            if settings.is_child:
                print(handshake.line("unix", address.removeprefix("unix:")), flush=True)  # noqa: T201 - the handshake
            await server.stopped.wait()
        finally:
            await server.stop()


@contextlib.contextmanager
def _place(settings: PluginSettings) -> Iterator[str]:
    """Return where to listen: a host's child in a directory that is its own and nobody else's."""
    if not settings.is_child:
        yield settings.listen
        return
    with tempfile.TemporaryDirectory(prefix="rayscaler-plugin-", dir=settings.socket_dir) as made:  # 0700
        yield f"unix:{Path(made) / 'executor.sock'}"


def _credentials(settings: PluginSettings) -> grpc.ServerCredentials | None:
    if settings.is_child:
        return None
    try:
        ca, cert, key = settings.tls.read()
    except OSError as error:
        raise InvalidRequest(f"{error.filename}: cannot be read: {error.strerror}") from error
    if cert is None or key is None:
        return None
    return grpc.ssl_server_credentials([(key, cert)], root_certificates=ca, require_client_auth=ca is not None)
