"""A monitor in a process of its own between a fake GCS and a service that keeps all it hears. Knows no monitor's language."""

import asyncio
import contextlib
import os
import shlex
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from rayscaler import errors
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.model.credentials import Certificate
from rayscaler.server.auth import server_credentials
from rayscaler.wire import ErrorInterceptor
from tests.monitor.doors import FakeService
from tests.protocol.wire import LIVE_JOB, WireGcs, serving_gcs

CLUSTER = "demo"
INCARNATION = "41-7"
SHORT_S = 0.1
"""Between two readings: the least that a monitor needs to take."""
WITHIN_S = 30.0
"""What a monitor must surely have done by then, its start and a loaded machine included."""

Claim = Callable[[pb.ReportDemandRequest], Any]


class HeadService(FakeService, head_pb2_grpc.HeadServiceServicer):
    """A HeadService on a socket; `tried` has every report with its time and its connection, refused ones too."""

    def __init__(self) -> None:
        super().__init__()
        self.interval_s = SHORT_S
        self.tried: list[tuple[float, str, pb.ReportDemandRequest]] = []
        self.on_answer: Callable[[pb.ReportDemandRequest, pb.ReportDemandResponse], None] = lambda request, response: None
        self.address = "127.0.0.1:0"
        self.certificate: Certificate | None = None
        """Plain text without one, which is looked at with each start."""
        self.handshakes = 0
        self.authorizations: list[str] = []
        """What each report brought as its credential."""
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen, at the same address each time."""
        sizes = [("grpc.max_receive_message_length", 64 << 20), ("grpc.so_reuseport", 0)]
        self._server = grpc.aio.server(interceptors=[ErrorInterceptor()], options=sizes)
        head_pb2_grpc.add_HeadServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._add_port(self._server)}"
        await self._server.start()

    def _add_port(self, server: grpc.aio.Server) -> int:
        if self.certificate is None:
            return server.add_insecure_port(self.address)
        shown = self.certificate

        def show() -> Certificate:
            self.handshakes += 1
            return shown

        return server.add_secure_port(self.address, server_credentials(show))

    async def stop(self) -> None:
        """Break every connection."""
        if self._server is not None:
            await self._server.stop(None)

    async def ReportDemand(self, request: pb.ReportDemandRequest, context: Any) -> pb.ReportDemandResponse:  # noqa: N802 - gRPC's
        self.tried.append((asyncio.get_running_loop().time(), context.peer(), request))
        self.authorizations.append(str(dict(context.invocation_metadata()).get("authorization", "")))
        response = await self.report(request)
        self.on_answer(request, response)
        return response


class Stage:
    """What a test plays on."""

    def __init__(self, gcs: WireGcs, service: HeadService) -> None:
        self.gcs = gcs
        self.service = service

    async def until(self, claim: Callable[[], Any], what: str = "") -> Any:
        """Wait until the claim holds; return its value."""
        deadline = asyncio.get_running_loop().time() + WITHIN_S
        while not (found := claim()):
            said = "\n".join(str(each)[:400] for each in self.service.reports[-2:])
            assert asyncio.get_running_loop().time() < deadline, f"never: {what or claim}; the last reports were\n{said}"
            await asyncio.sleep(0.01)
        return found

    async def report(self, claim: Claim = lambda request: True, what: str = "") -> pb.ReportDemandRequest:
        """Return the first report from now on of which the claim holds."""
        seen = len(self.service.reports)
        return await self.until(lambda: next((each for each in self.service.reports[seen:] if claim(each)), None), what)

    async def snapshot(self, claim: Callable[[pb.Snapshot], Any] = lambda snapshot: True, what: str = "") -> pb.ReportDemandRequest:
        """Return the first report from now on with a whole snapshot of which the claim holds."""
        return await self.report(lambda request: request.HasField("snapshot") and claim(request.snapshot), what or "a snapshot")

    async def reports(self, count: int = 3) -> list[pb.ReportDemandRequest]:
        """Return the next reports."""
        return [await self.report() for _ in range(count)]

    async def result_of(self, command: pb.Command) -> pb.CommandResult:
        """Hand out a command; return its result."""
        self.service.commands.append(command)
        request = await self.report(lambda request: any(each.command_id == command.command_id for each in request.results), "a result")
        return next(each for each in request.results if each.command_id == command.command_id)

    async def turns(self, count: int = 3) -> None:
        """Let the monitor read the GCS, and so act on what it heard before, so many times."""
        wanted = self.gcs.count("GetClusterResourceState") + count
        await self.until(lambda: self.gcs.count("GetClusterResourceState") >= wanted, f"{count} readings")

    async def reset(self) -> None:
        """Bring back what tests change, but for what the cluster has lived through."""
        gcs, service = self.gcs, self.service
        is_changed = gcs.refusals or gcs.delays_s or gcs.shown is not None or service.error or service.interval_s != SHORT_S
        gcs.refusals.clear()
        gcs.delays_s.clear()
        gcs.release()
        gcs.is_restless = True
        gcs.jobs, gcs.actors, gcs.groups, gcs.mode = [LIVE_JOB], {}, [], b"1"
        gcs.shown, service.state, service.config, service.error = None, None, None, None
        gcs.kv.clear()
        service.driver_notice = ""
        service.commands, service.acknowledges, service.interval_s = [], True, SHORT_S
        service.on_report, service.on_answer = lambda request: None, lambda request, response: None
        if is_changed:
            await self.snapshot()


@contextlib.asynccontextmanager
async def staged(
    template: str, directory: Path, env: Mapping[str, str] | None = None, token: str = "", certificate: Certificate | None = None
) -> AsyncIterator[Stage]:
    """Run the monitor of this command line between a GCS and a service; it sees no variable of ours but PATH.

    {ca} and {token} are the files `ca.crt` and `token` of the directory, its log there is `monitor.log`.
    """
    async with serving_gcs() as gcs:
        gcs.token = token
        service = HeadService()
        service.certificate = certificate
        await service.start()
        places = {"cluster": CLUSTER, "gcs": gcs.address, "service": service.address, "incarnation": INCARNATION}
        places |= {"ca": str(directory / "ca.crt"), "token": str(directory / "token")}
        argv = [word.format(**places) for word in shlex.split(template)]
        clean = {"PATH": os.environ["PATH"], "HOME": str(directory), "PYTHONWARNINGS": "ignore", **(env or {})}
        log = directory / "monitor.log"
        with log.open("ab") as sink:
            process = await asyncio.create_subprocess_exec(*argv, env=clean, stdout=sink, stderr=sink)
        try:
            yield Stage(gcs, service)
            assert process.returncode is None, log.read_text()[-2000:]
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await service.stop()


def superseded() -> errors.RayscalerError:
    """What a service answers to a monitor that another one has followed."""
    return errors.Superseded("a newer monitor reports")
