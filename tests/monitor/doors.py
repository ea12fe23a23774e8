"""A service for the monitor to talk to: answers as told, remembers every report, can be away or refuse."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.demand import Bundle, Constraint, Demand, Snapshot
from rayscaler.model.resources import Resources
from rayscaler.monitor.convert import duration
from rayscaler.monitor.main import Monitor
from rayscaler.rules import Rules
from rayscaler.server import told
from rayscaler.server.snapshot import snapshot
from rayscaler.testing.fake_gcs import FakeGcs
from rayscaler.testing.loop_clock import LoopClock


class FakeService:
    """A transport whose other end is this object. It acknowledges every result unless told otherwise."""

    def __init__(self) -> None:
        self.reports: list[head_pb2.ReportDemandRequest] = []
        self.times: list[float] = []
        self.commands: list[head_pb2.Command] = []
        """Repeated in every answer until their results have arrived."""
        self.acknowledges = True
        self.interval_s = 0.5
        self.state: gcs_pb2.AutoscalingState | None = None
        self.config: head_pb2.ClusterConfig | None = None
        self.driver_notice = ""
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
            driver_notice=self.driver_notice,
            want_snapshot=not request.gcs_error and not request.HasField("snapshot") and request.base_sequence != self._snapshot_of,
        )
        if self.state is not None and self.state.autoscaler_state_version > request.reported_state_version and not request.gcs_error:
            response.autoscaling_state.CopyFrom(self.state)
        if self.config is not None and self.config.hash != request.reported_config_hash and not request.gcs_error:
            response.cluster_config.CopyFrom(self.config)
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


def drain_of(
    ray_node_id: str, reason: gcs_pb2.DrainNodeReason, detail: str = "", deadline_at: float | None = None
) -> gcs_pb2.DrainNodeRequest:
    """A drain of the node, by its id in hex."""
    deadline_ms = int((deadline_at or 0) * 1000)
    node_id = bytes.fromhex(ray_node_id)
    return gcs_pb2.DrainNodeRequest(node_id=node_id, reason=reason, reason_message=detail, deadline_timestamp_ms=deadline_ms)


def idle_drain(command_id: str, ray_node_id: str) -> head_pb2.Command:
    """A command to drain a node if it is idle."""
    drain = drain_of(ray_node_id, gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, "idle for 60 s")
    return head_pb2.Command(command_id=command_id, drain_node=drain)


def replay(command_id: str, *bundles: Resources) -> head_pb2.Command:
    """A command to ask again for a constraint."""
    return head_pb2.Command(command_id=command_id, replay_constraint=head_pb2.ReplayConstraint(constraint=_constraint(bundles)))


def take_back(command_id: str, *bundles: Resources) -> head_pb2.Command:
    """A command to ask for nothing in place of a constraint."""
    made = head_pb2.ReplayConstraint(constraint=gcs_pb2.ClusterResourceConstraint(), replaces=_constraint(bundles))
    return head_pb2.Command(command_id=command_id, replay_constraint=made)


def _constraint(bundles: Sequence[Resources]) -> gcs_pb2.ClusterResourceConstraint:
    return told.constraint(Constraint(tuple(Demand(Bundle(each), count) for each, count in Counter(bundles).items())))


def read(taken: head_pb2.Snapshot) -> Snapshot:
    """What the service makes of a snapshot."""
    rules = Rules()
    made = snapshot(rules, taken)
    assert rules.problems == []
    return made


class ManualClock:
    """A clock that stands still until told otherwise."""

    def __init__(self) -> None:
        self._now_s = 1000.0

    def now(self) -> float:
        return self._now_s

    def mono(self) -> float:
        return self._now_s

    def pass_s(self, seconds: float) -> None:
        """Let time pass."""
        self._now_s += seconds


class World:
    """A fake cluster, a fake service, and the monitor between them."""

    def __init__(self, monitor: Monitor, gcs: FakeGcs, service: FakeService) -> None:
        self.monitor = monitor
        self.gcs = gcs
        self.service = service


@contextlib.asynccontextmanager
async def running(gcs: FakeGcs, service: FakeService) -> AsyncIterator[World]:
    monitor = Monitor(gcs, service, LoopClock(), cluster="demo", incarnation="41-7")
    task = asyncio.create_task(monitor.run())
    try:
        yield World(monitor, gcs, service)
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
