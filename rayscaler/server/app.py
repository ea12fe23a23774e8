"""The grpc.aio server: services, interceptors, health, reflection."""

from collections.abc import Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rayscaler.api.head.v1 import head_pb2, head_pb2_grpc
from rayscaler.errors import Unavailable
from rayscaler.model.credentials import Certificate
from rayscaler.reconciler.registry import Registry
from rayscaler.server.auth import Authenticate, AuthInterceptor, server_credentials
from rayscaler.server.head import HeadService
from rayscaler.wire import ErrorInterceptor

HEAD_SERVICE = head_pb2.DESCRIPTOR.services_by_name["HeadService"].full_name


class Server:
    """Serves the registry's clusters at one address: over TLS with `credentials`, to known callers alone with `authenticate`.

    While `leads` says no, it takes no reports.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        listen: str,
        max_message_bytes: int,
        leads: Callable[[], bool] = lambda: True,
        credentials: Callable[[], Certificate] | None = None,
        authenticate: Authenticate | None = None,
    ) -> None:
        """`credentials` returns the certificate of the moment, from any thread: one that was renewed is shown without a restart."""
        self._listen = listen
        self._credentials = credentials
        self._health = health.aio.HealthServicer()
        self._server: Any = grpc.aio.server(
            # What the inner one refuses, the outer one translates.
            interceptors=[ErrorInterceptor(), *([] if authenticate is None else [AuthInterceptor(authenticate)])],
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                # Two services on one port would each get half of the reports.
                ("grpc.so_reuseport", 0),
            ],
        )
        head_pb2_grpc.add_HeadServiceServicer_to_server(HeadService(registry, leads), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if authenticate is None:
            reflection.enable_server_reflection((HEAD_SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)

    async def start(self) -> int:
        """Listen; return the port (0 for a unix socket). Raises Unavailable when an address cannot be had."""
        credentials = None if self._credentials is None else server_credentials(self._credentials)
        port = _listen(self._server, self._listen, credentials)
        await self._server.start()
        for service in ("", HEAD_SERVICE):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return port

    async def stop(self, grace_s: float) -> None:
        """Refuse new calls, let those under way end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)


def _listen(server: Any, address: str, credentials: grpc.ServerCredentials | None) -> int:
    try:
        return int(server.add_insecure_port(address) if credentials is None else server.add_secure_port(address, credentials))
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {address}: {error}") from error
