"""What the service has been told and what it must be told next. Pure: time and readings are handed in."""

from dataclasses import dataclass

from rayscaler.api.head.v1 import head_pb2
from rayscaler.monitor import convert
from rayscaler.monitor.gcs import GcsReading


@dataclass(frozen=True)
class Finding:
    """A reading made ready; `read_at` is monotonic seconds of the moment before it was read."""

    session: head_pb2.Session
    snapshot: head_pb2.Snapshot
    look: convert.Look
    ray_version: str
    is_v1_mode: bool
    read_at: float


def find(reading: GcsReading, read_at: float) -> Finding:
    """Make a reading ready."""
    snapshot = convert.snapshot(reading)
    session = head_pb2.Session(cluster_id=reading.cluster_id, session_name=reading.state.cluster_session_name)
    return Finding(session, snapshot, convert.look(snapshot, read_at), reading.ray_version, reading.is_v1_mode, read_at)


@dataclass(frozen=True)
class _Base:
    """The last snapshot that the service surely has."""

    sequence: int
    session: head_pb2.Session
    look: convert.Look


class Outbox:
    """Composes reports in order: the epoch is the monitor's start, the sequence grows with every attempt to send.

    Each names the cluster, the epoch, and the incarnation of the head beside which this monitor runs ("" is not known).
    """

    def __init__(self, cluster: str, epoch: int, incarnation: str = "") -> None:
        self._cluster = cluster
        self._epoch = epoch
        self._incarnation = incarnation
        self._sequence = 0
        self._base: _Base | None = None

    def is_news(self, finding: Finding) -> bool:
        """Whether the service does not have this already: it changed, or another session speaks, or nothing is known there."""
        base = self._base
        return base is None or base.session != finding.session or convert.is_change(base.look, finding.look)

    def compose(self, finding: Finding, now: float) -> head_pb2.ReportDemandRequest:
        """Make the next report: the whole snapshot if it is news, else a heartbeat on the last one."""
        request = self._next()
        request.session.CopyFrom(finding.session)
        request.ray_version = finding.ray_version
        request.v1_mode = finding.is_v1_mode
        request.age.CopyFrom(convert.duration(max(0.0, now - finding.read_at)))
        if self._base is None or self.is_news(finding):
            request.snapshot.CopyFrom(finding.snapshot)
        else:
            request.base_sequence = self._base.sequence
        return request

    def compose_error(self, gcs_error: str) -> head_pb2.ReportDemandRequest:
        """Make the report that the GCS cannot be read, and why."""
        request = self._next()
        request.gcs_error = gcs_error
        return request

    def delivered(self, request: head_pb2.ReportDemandRequest, finding: Finding | None) -> None:
        """Take it that the service has `request`, made of `finding`; only now may heartbeats build on it."""
        if finding is not None and request.HasField("snapshot"):
            self._base = _Base(request.sequence, finding.session, finding.look)

    def forget(self) -> None:
        """Send a whole snapshot next: the service has lost what it had, or may have."""
        self._base = None

    def _next(self) -> head_pb2.ReportDemandRequest:
        self._sequence += 1
        return head_pb2.ReportDemandRequest(
            cluster=self._cluster,
            monitor_epoch=self._epoch,
            sequence=self._sequence,
            head_incarnation=self._incarnation,
        )
