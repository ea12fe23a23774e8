"""A service for the monitor to talk to: answers as told, remembers every report, can be away or refuse."""

import asyncio
from collections.abc import Callable

from rayscaler.api.head.v1 import head_pb2
from rayscaler.monitor.convert import duration


class FakeService:
    """A transport whose other end is this object. It acknowledges every result unless told otherwise."""

    def __init__(self) -> None:
        self.reports: list[head_pb2.ReportDemandRequest] = []
        self.times: list[float] = []
        self.commands: list[head_pb2.Command] = []
        """Repeated in every answer until their results have arrived."""
        self.acknowledges = True
        self.interval_s = 0.5
        self.state: head_pb2.AutoscalingState | None = None
        self.error: Exception | None = None
        """Raised instead of an answer while set."""
        self.on_report: Callable[[head_pb2.ReportDemandRequest], None] = lambda request: None
        self._snapshot_of: int | None = None

    async def report(self, request: head_pb2.ReportDemandRequest) -> head_pb2.ReportDemandResponse:
        self.times.append(asyncio.get_running_loop().time())
        if self.error is not None:
            raise self.error
        self.reports.append(request)
        self.on_report(request)
        if request.HasField("snapshot"):
            self._snapshot_of = request.sequence
        results = [each.command_id for each in request.results]
        if self.acknowledges:
            self.commands = [each for each in self.commands if each.command_id not in results]
        response = head_pb2.ReportDemandResponse(
            commands=self.commands,
            acknowledged=results if self.acknowledges else (),
            next_interval=duration(self.interval_s),
            want_snapshot=not request.gcs_error and not request.HasField("snapshot") and request.base_sequence != self._snapshot_of,
        )
        if self.state is not None and self.state.version > request.reported_state_version and not request.gcs_error:
            response.autoscaling_state.CopyFrom(self.state)
        return response

    async def close(self) -> None:
        pass

    def forget(self) -> None:
        """Lose what was reported, as a service that was restarted."""
        self._snapshot_of = None

    @property
    def snapshots(self) -> list[head_pb2.ReportDemandRequest]:
        return [each for each in self.reports if each.HasField("snapshot")]

    @property
    def heartbeats(self) -> list[head_pb2.ReportDemandRequest]:
        return [each for each in self.reports if not each.HasField("snapshot") and not each.gcs_error]

    @property
    def last(self) -> head_pb2.ReportDemandRequest:
        return self.reports[-1]


def idle_drain(command_id: str, ray_node_id: str) -> head_pb2.Command:
    """A command to drain a node if it is idle."""
    drain = head_pb2.DrainNode(ray_node_id=ray_node_id, reason=head_pb2.DRAIN_REASON_IDLE, detail="idle for 60 s")
    return head_pb2.Command(command_id=command_id, drain_node=drain)
