"""Prints the snapshot that the service gets of the recorded GCS message."""

from pathlib import Path

from google.protobuf import text_format

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.monitor import convert
from rayscaler.monitor.gcs import GcsReading

HERE = Path(__file__).parent


def recorded() -> GcsReading:
    """Return the recorded message as a reading."""
    reply = text_format.Parse((HERE / "busy_gcs.txtpb").read_text(), gcs_pb2.GetClusterResourceStateReply())
    return GcsReading(cluster_id="ab" * 28, state=reply.cluster_resource_state, live_jobs=1)


def expected() -> head_pb2.Snapshot:
    """Return what must become of it."""
    return text_format.Parse((HERE / "busy_head.txtpb").read_text(), head_pb2.Snapshot())


if __name__ == "__main__":
    print(text_format.MessageToString(convert.snapshot(recorded())), end="")
