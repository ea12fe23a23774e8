"""A mutant at a unix socket: the subject of a run of the conformance suite."""

import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from rayscaler import wire
from rayscaler.clock import SystemClock
from rayscaler.plugin.conformance.subject import How
from rayscaler.plugin.connection import Address
from rayscaler.plugin.service import add_to
from rayscaler.testing.fake_executor import FakeMachines
from tests.plugin.mutants.honest import DELAYS_S, Mutant


class Served:
    """A mutant at a unix socket, which can be started again over the same machines: the subject of a run."""

    can_restart = True
    is_started = False

    def __init__(self, kind: type[Mutant], socket: Path) -> None:
        self.kind = kind
        self.address = f"unix://{socket}"
        self.peer = kind.__name__
        self.machines = FakeMachines(SystemClock(), delays_s={**DELAYS_S, **kind.delays_s})
        self._connection = Address(self.address, max_message_bytes=32 << 20)
        self._lives = itertools.count()

    async def start(self) -> None:
        self._is_stopped = False
        self._service = self.kind(self.machines, next(self._lives))
        self._server = grpc.aio.server(
            interceptors=[wire.ErrorInterceptor()],
            options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", self.kind.request_bytes)],
        )
        add_to(self._server, self._service)
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        await servicer.set("plugin", self.kind.health)
        self._server.add_insecure_port(self.address.replace("unix://", "unix:"))
        await self._server.start()

    async def stop(self) -> None:
        """Stop, once: gRPC's server does not bear two who stop it at the same time."""
        if self._is_stopped:
            return
        self._is_stopped = True
        await self._server.stop(0)
        await self._service.close()

    async def channel(self) -> grpc.aio.Channel:
        return await self._connection.channel()

    async def restart(self, how: How) -> float:
        await self.stop()
        await self.start()
        await self._connection.close()
        self._connection = Address(self.address, max_message_bytes=32 << 20)
        return 0.0

    async def close(self) -> None:
        await self._connection.close()

    async def kill(self, cluster: str, instance_id: str, external_id: str) -> None:
        self.machines.lose(instance_id)


@contextlib.asynccontextmanager
async def served(kind: type[Mutant], socket: Path) -> AsyncIterator[Served]:
    """Serve a mutant."""
    made = Served(kind, socket)
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        await made.stop()
        await made.machines.close()
