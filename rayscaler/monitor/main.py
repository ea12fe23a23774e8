"""The monitor's loop: read the GCS, report, carry out what the answer says. Owns when; the doors know how.

Nothing is decided here. Everything that lives longer than one turn is what the service has not acknowledged yet.
"""

import asyncio
import os
from dataclasses import dataclass

import structlog

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.clock import Clock, SystemClock
from rayscaler.monitor import convert, credentials
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.commands import Commands, Outcome
from rayscaler.monitor.gcs import Gcs, GrpcGcs
from rayscaler.monitor.outbox import Finding, Outbox, find
from rayscaler.monitor.service import GrpcTransport, Transport
from rayscaler.monitor.telling import Told
from rayscaler.settings import MonitorSettings

log = structlog.get_logger(__name__)

V1_MODE = (
    "this head runs in Ray's v1 mode, so request_resources() and `ray status` do not reach rayscaler; "
    "start the head with RAY_enable_autoscaler_v2=1 in its environment"
)
"""For people: what does not work, and what to do."""


@dataclass(frozen=True)
class Timings:
    """Durations of the monitor, in seconds."""

    first_interval_s: float = 0.5
    """Between readings until the service has said how often."""
    min_interval_s: float = 0.1
    """The service cannot ask for more often: a state call costs the GCS some milliseconds."""
    max_interval_s: float = 60.0
    """The service cannot ask for less often: it must not lose sight for a slip."""
    heartbeat_s: float = 2.0
    """An unchanged snapshot is confirmed this often."""
    gcs_error_s: float = 1.0
    """That the GCS cannot be read is said this often."""
    read_s: float = 15.0
    """Deadline of one reading: up to five calls of 5 s at worst, of which the first already tells a dead GCS."""
    report_s: float = 10.0
    """Deadline of one report."""
    command_s: float = 10.0
    """Deadline of one command."""
    retry_min_s: float = 0.2
    """First wait after a failure; doubles up to retry_max_s."""
    retry_max_s: float = 1.0
    """Longest wait after a failure of the service that may pass by itself."""
    gcs_retry_max_s: float = 0.3
    """Longest wait while the GCS is away: it is beside us, and everything waits for a new head's first report."""
    refused_s: float = 30.0
    """Wait after a refusal that only somebody else can lift, such as a newer monitor's having taken over."""


HEARTBEAT_READINGS = 4
"""An unchanged snapshot is confirmed at least with every fourth reading: what passes with time at the service passes with what was seen."""


class Monitor:
    """One monitor of one cluster. `run` never returns; cancel it to stop."""

    def __init__(
        self, gcs: Gcs, transport: Transport, clock: Clock, *, cluster: str, incarnation: str = "", timings: Timings | None = None
    ) -> None:
        self._gcs = gcs
        self._transport = transport
        self._clock = clock
        self._timings = timings or Timings()
        self._outbox = Outbox(cluster, int(clock.now() * 1000), incarnation)
        self._commands = Commands(self._carry_out, timeout_s=self._timings.command_s)
        self._interval_s = self._timings.first_interval_s
        self._sent_at = float("-inf")
        self._must_send = True
        self._service_failures = 0
        self._gcs_failures = 0
        self._gcs_error = ""
        self._gcs_life = 0
        self._state = Told("the autoscaling state", 0, timeout_s=self._timings.command_s)
        self._config = Told("the cluster's config", "", timeout_s=self._timings.command_s)
        self._notice = Told[str | None]("the notice for drivers", None, timeout_s=self._timings.command_s)
        self._is_v1_logged = False
        self._driver_notice = ""
        self._cluster_id = ""
        self._known_nodes: frozenset[str] = frozenset()

    async def run(self) -> None:
        """Read, report, rest, for ever."""
        try:
            while True:
                await self._rest(await self._turn())
        finally:
            await self._commands.stop()
            for told in (self._state, self._config, self._notice):
                await told.stop()

    async def _turn(self) -> float:
        """Read once, report if there is a reason to; return how long to rest."""
        finding = await self._read()
        if not self._is_due(finding):
            return self._pause_s(finding)
        self._commands.news.clear()
        request = self._outbox.compose_error(self._gcs_error) if finding is None else self._outbox.compose(finding, self._clock.mono())
        request.results.extend(self._commands.results())
        request.reported_state_version = self._state.last
        request.reported_config_hash = self._config.last
        self._must_send = True  # until it has surely arrived
        self._sent_at = self._clock.mono()
        try:
            async with asyncio.timeout(self._timings.report_s):
                response = await self._transport.report(request)
        except TimeoutError:
            return self._failed(errors.Unavailable(f"no answer within {self._timings.report_s:g} s"))
        except errors.RayscalerError as error:
            return self._failed(error)
        self._must_send = False
        self._service_failures = 0
        self._outbox.delivered(request, finding)
        return self._take(response, finding)

    async def _read(self) -> Finding | None:
        """Read the GCS, or note why that failed."""
        read_at = self._clock.mono()
        try:
            async with asyncio.timeout(self._timings.read_s):
                reading = await self._gcs.read()
        except TimeoutError:
            self._unreadable(f"Ray's GCS did not answer within {self._timings.read_s:g} s")
            return None
        except errors.RayscalerError as error:
            self._unreadable(str(error))
            return None
        if self._gcs_error:
            log.info("monitor.gcs_readable")
        self._gcs_error = ""
        self._gcs_failures = 0
        if reading.gcs_life != self._gcs_life:
            self._gcs_life = reading.gcs_life
            for told in (self._state, self._config, self._notice):
                told.forget()
            self._is_v1_logged, self._driver_notice = False, ""
        self._tell_mode(is_v1=reading.is_v1_mode)
        finding = find(reading, read_at)
        self._known_nodes = frozenset(node.node_id.hex() for node in finding.snapshot.state.node_states)
        return finding

    def _unreadable(self, text: str) -> None:
        if not self._gcs_error:
            self._must_send = True
        if text != self._gcs_error:
            log.warning("monitor.gcs_unreadable", detail=text)
        self._gcs_error = text
        self._gcs_failures += 1

    def _is_due(self, finding: Finding | None) -> bool:
        since_s = self._clock.mono() - self._sent_at
        if self._must_send or self._commands.news.is_set():
            return True
        if finding is None:
            return since_s >= self._timings.gcs_error_s
        heartbeat_s = min(self._timings.heartbeat_s, HEARTBEAT_READINGS * self._interval_s)
        return since_s >= heartbeat_s or self._outbox.is_news(finding)

    def _take(self, response: head_pb2.ReportDemandResponse, finding: Finding | None) -> float:
        """Do what the answer says; return how long to rest."""
        if finding is not None:
            self._cluster_id = finding.session.cluster_id
            self._driver_notice = response.driver_notice  # told with the next reading
            self._tell(response)
        self._commands.acknowledge(response.acknowledged)
        self._commands.start(response.commands, self._cluster_id)
        if response.HasField("next_interval"):
            asked_s = convert.seconds(response.next_interval)
            self._interval_s = min(max(asked_s, self._timings.min_interval_s), self._timings.max_interval_s)
        if response.want_snapshot:
            self._outbox.forget()
            return self._timings.min_interval_s
        return self._pause_s(finding)

    def _pause_s(self, finding: Finding | None) -> float:
        return self._interval_s if finding is not None else self._backoff_s(self._gcs_failures, self._timings.gcs_retry_max_s)

    def _backoff_s(self, failures: int, most_s: float) -> float:
        return min(self._timings.retry_min_s * 2.0 ** min(failures - 1, 16), most_s)

    def _failed(self, error: errors.RayscalerError) -> float:
        """Note that the service did not take the report; return how long to rest. Nothing is lost: all of it is sent again, and whole."""
        self._service_failures += 1
        self._outbox.forget()  # who answers next may know nothing
        is_final = (
            not isinstance(error, errors.NotFound) and error.retry is not errors.Retry.BACKOFF and type(error) is not errors.RayscalerError
        )
        if is_final or self._service_failures == 1:
            log.warning("monitor.report_failed", error=error.name, detail=str(error))
        return self._timings.refused_s if is_final else self._backoff_s(self._service_failures, self._timings.retry_max_s)

    async def _rest(self, delay_s: float) -> None:
        """Sleep; a command's result wakes, but not out of a back-off from the service."""
        if self._service_failures:
            await asyncio.sleep(delay_s)
            return
        try:
            async with asyncio.timeout(delay_s):
                await self._commands.news.wait()
        except TimeoutError:
            pass

    async def _carry_out(self, command: head_pb2.Command, cluster_id: str) -> Outcome:
        """Carry out one command; errors of ours become its failure."""
        kind = command.WhichOneof("kind")
        if kind == "drain_node":
            accepted, detail = await self._drain(command.drain_node)
        elif kind == "replay_constraint":
            accepted, detail = await self._replay(command.replay_constraint, cluster_id)
        elif kind == "resize_node":
            accepted, detail = await self._resize(command.resize_node)
        elif kind == "tell_drivers":
            await self._gcs.tell_drivers(command.tell_drivers)
            accepted, detail = True, ""
        else:
            raise errors.Unsupported("this monitor does not know that kind of command")
        return head_pb2.OUTCOME_DONE if accepted else head_pb2.OUTCOME_REJECTED, detail

    async def _replay(self, replay: head_pb2.ReplayConstraint, cluster_id: str) -> tuple[bool, str]:
        replaces = replay.replaces if replay.HasField("replaces") else None
        return await self._gcs.replay_constraint(replay.constraint, cluster_id, replaces)

    async def _drain(self, drain: gcs_pb2.DrainNodeRequest) -> tuple[bool, str]:
        if drain.node_id.hex() not in self._known_nodes:
            # Ray would accept it and do nothing.
            raise errors.NotFound("Ray has no such node in its present session")
        return await self._gcs.drain(drain)

    async def _resize(self, resize: gcs_pb2.ResizeRayletResourceInstancesRequest) -> tuple[bool, str]:
        if resize.node_id.hex() not in self._known_nodes:
            raise errors.NotFound("Ray has no such node in its present session")
        try:
            await self._gcs.resize(resize)
        except errors.Unsupported as error:
            return False, f"this Ray cannot be told that a node has grown: {error}"  # so that nobody need wonder whether it was
        return True, ""

    def _tell(self, response: head_pb2.ReportDemandResponse) -> None:
        """Pass on to the GCS what the service wants told and the GCS has not taken yet."""
        state, config = response.autoscaling_state, response.cluster_config
        if state.autoscaler_state_version > self._state.last:
            self._state.tell(state.autoscaler_state_version, lambda: self._gcs.report_state(state))
        if response.HasField("cluster_config") and config.hash != self._config.last:
            self._config.tell(config.hash, lambda: self._gcs.report_config(config.config))

    def _tell_mode(self, *, is_v1: bool) -> None:
        """Say once in each life of the GCS that the head runs in v1 mode; and to every driver that connects, also what the service says."""
        if is_v1 and not self._is_v1_logged:
            log.warning("monitor.v1_mode", detail=V1_MODE)
        self._is_v1_logged = is_v1
        text = ". ".join(filter(None, (V1_MODE if is_v1 else "", self._driver_notice)))
        if self._notice.last != text:
            self._notice.tell(text, lambda: self._gcs.set_notice(text))


async def run(settings: MonitorSettings) -> None:
    """Run the monitor of one cluster until cancelled; raises InvalidRequest for settings that do not go together."""
    shown = credentials.of(settings)
    clock = SystemClock()
    gcs = GrpcGcs(settings.gcs, clock, TokenSource(os.environ))
    transport = GrpcTransport(settings.service, shown=shown)
    try:
        await Monitor(gcs, transport, clock, cluster=settings.cluster, incarnation=settings.incarnation).run()
    finally:
        await transport.close()
        await gcs.close()
