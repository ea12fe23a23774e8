"""Events on Ray's log channel: drivers that are connected print them as the autoscaler's. Decides nothing."""

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.monitor.link import ClusterLine

PUBSUB = "/ray.rpc.ObservabilityPubSubService"

LOG_CHANNEL = 7
"""Ray's RAY_LOG_CHANNEL."""


async def publish(line: ClusterLine, batch: gcs_pb2.LogBatch) -> None:
    """Pass events to every connected driver."""
    request = gcs_pb2.GcsPublishRequest(pub_messages=[gcs_pb2.PubMessage(channel_type=LOG_CHANNEL, log_batch_message=batch)])
    await line.call(f"{PUBSUB}/GcsPublish", request, gcs_pb2.GcsPublishReply)
