"""What a report has of a reading: the GCS's own messages, thinned of what no one needs, and what tells a change. Pure; knows no channel."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.raynames import is_synthetic
from rayscaler.monitor.gcs import GcsReading

IDLE_TOLERANCE_S = 1.0
"""How much later an idle time may seem to have begun before it counts as begun anew: clocks of two machines and rounding."""


def snapshot(reading: GcsReading) -> head_pb2.Snapshot:
    """Turn a reading into what the service takes; what gcs.proto does not know goes nowhere, since a job's row can hold secrets."""
    groups = sorted(reading.orphaned_gangs)
    result = head_pb2.Snapshot(
        state=reading.state,
        ended=[row for row in reading.ended.values() if row.node_id],
        draining=[
            gcs_pb2.DrainingNode(node_id=bytes.fromhex(key), draining_deadline_timestamp_ms=ms) for key, ms in reading.draining.items()
        ],
        jobs=reading.jobs,
        groups=[gcs_pb2.PlacementGroupTableData(placement_group_id=bytes.fromhex(each), creator_actor_dead=True) for each in groups],
        live_detached_actors=reading.live_detached_actors,
    )
    result.DiscardUnknownFields()
    for row in result.state.node_states:
        for resources in (row.total_resources, row.available_resources):
            for name in [each for each in resources if is_synthetic(each)]:  # many; the service drops them, here their bytes are spared
                del resources[name]
        if row.status in (gcs_pb2.NODE_STATUS_IDLE, gcs_pb2.NODE_STATUS_DEAD):
            row.ClearField("node_activity")  # old texts, which the service does not read
    for gang in result.state.pending_gang_resource_requests:
        if gang.bundle_selectors:
            gang.ClearField("requests")  # the same again
            del gang.bundle_selectors[1:]
        for request in (gang.bundle_selectors[0].resource_requests if gang.bundle_selectors else gang.requests)[1:]:
            request.ClearField("placement_constraints")  # those of the first
    return result


@dataclass(frozen=True)
class Look:
    """What of a snapshot tells a change: its content without what differs on every read, and since when nodes are idle."""

    content: bytes
    idle_since: Mapping[bytes, float]


def look(taken: head_pb2.Snapshot, read_at: float) -> Look:
    """Return what tells whether another snapshot is a change; `read_at` is in seconds of any one clock."""
    still = head_pb2.Snapshot()
    still.CopyFrom(taken)
    still.state.cluster_resource_state_version = 0
    idle_since = {}
    for node in still.state.node_states:
        if node.status == gcs_pb2.NODE_STATUS_IDLE:
            idle_since[node.node_id] = read_at - node.idle_duration_ms / 1000
        node.idle_duration_ms = 0
    state = still.state
    # The order of rows is that of the GCS's hash maps.
    rows: list[Iterable[Message]] = [
        state.node_states,
        state.pending_resource_requests,
        state.pending_gang_resource_requests,
        still.ended,
        still.draining,
        still.jobs,
    ]
    content = hashlib.blake2b()
    for each in rows:
        content.update(b"\0".join(_sorted(each)) + b"\1")
    for name in ("node_states", "pending_resource_requests", "pending_gang_resource_requests"):
        state.ClearField(name)
    for name in ("ended", "draining", "jobs"):
        still.ClearField(name)
    content.update(still.SerializeToString(deterministic=True))
    return Look(content.digest(), idle_since)


def _sorted(rows: Iterable[Message]) -> list[bytes]:
    return sorted(row.SerializeToString(deterministic=True) for row in rows)


def is_change(old: Look, new: Look) -> bool:
    """Whether something changed but for the GCS's counter and the running on of idle times.

    An idle time that began anew is a change: something ran on that node in between.
    """
    return old.content != new.content or any(
        since > old.idle_since[node_id] + IDLE_TOLERANCE_S for node_id, since in new.idle_since.items()
    )


def seconds(value: Duration) -> float:
    """Return a Duration's seconds."""
    return value.seconds + value.nanos / 1e9


def duration(value_s: float) -> Duration:
    """Make a Duration of seconds."""
    whole, nanos = divmod(round(value_s * 1e9), 10**9)
    return Duration(seconds=whole, nanos=nanos)
