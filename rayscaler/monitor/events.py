"""Events on Ray's log channel: drivers that are connected print them as the autoscaler's. Decides nothing."""

from collections.abc import Sequence

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.monitor.link import ClusterLine

PUBSUB = "/ray.rpc.ObservabilityPubSubService"

LOG_CHANNEL = 7
"""Ray's RAY_LOG_CHANNEL."""

AUTOSCALER = "autoscaler"
"""The `pid` by which drivers know events, from whichever process they come."""


async def publish(line: ClusterLine, lines: Sequence[str], *, ip: str) -> None:
    """Pass these events to every connected driver; `ip` is the node that they are said to come from."""
    batch = gcs_pb2.LogBatch(ip=ip, pid=AUTOSCALER, lines=lines)
    request = gcs_pb2.GcsPublishRequest(pub_messages=[gcs_pb2.PubMessage(channel_type=LOG_CHANNEL, log_batch_message=batch)])
    await line.call(f"{PUBSUB}/GcsPublish", request, gcs_pb2.GcsPublishReply)
