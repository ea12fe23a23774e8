"""Events on Ray's log channel: drivers that are connected print them as the autoscaler's. Decides nothing."""

import json
from collections.abc import Sequence

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.monitor.link import ClusterLine

PUBSUB = "/ray.rpc.ObservabilityPubSubService"

LOG_CHANNEL = 7
"""Ray's RAY_LOG_CHANNEL."""

AUTOSCALER = "autoscaler"
"""The `pid` by which drivers know events, from whichever process they come."""

V1_MARK = ":event_summary:"
"""Before an event in v1 mode; in v2 mode it is JSON of Ray's Event."""


async def publish(line: ClusterLine, lines: Sequence[str], *, ip: str, is_v1: bool) -> None:
    """Let every connected driver print each of `lines`; `ip` is the node that they are said to come from."""
    batch = gcs_pb2.LogBatch(ip=ip, pid=AUTOSCALER, lines=[_event(each, is_v1=is_v1) for each in lines])
    request = gcs_pb2.GcsPublishRequest(pub_messages=[gcs_pb2.PubMessage(channel_type=LOG_CHANNEL, log_batch_message=batch)])
    await line.call(f"{PUBSUB}/GcsPublish", request, gcs_pb2.GcsPublishReply)


def _event(text: str, *, is_v1: bool) -> str:
    plain = " ".join(text.split())  # a line is one line, whatever a resource is called
    return V1_MARK + plain if is_v1 else json.dumps({"sourceType": "AUTOSCALER", "severity": "WARNING", "message": plain})
