"""Prints what the service makes of the recorded GCS message: python -m tests.server.golden.busy > tests/server/golden/busy.txt."""

import json
from dataclasses import asdict
from pathlib import Path

from google.protobuf import text_format

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.demand import Snapshot
from rayscaler.rules import Rules
from rayscaler.server.snapshot import snapshot

HERE = Path(__file__).parent


def recorded() -> head_pb2.Snapshot:
    """Return the recorded message as it comes in a report."""
    reply = text_format.Parse((HERE / "busy_gcs.txtpb").read_text(), gcs_pb2.GetClusterResourceStateReply())
    return head_pb2.Snapshot(state=reply.cluster_resource_state, jobs=[gcs_pb2.JobTableData(job_id=b"job1")])


def shown(made: Snapshot) -> str:
    """Return a snapshot as text, a line for each thing in it, with exact amounts."""
    found = (*made.nodes, *made.demands, *made.gangs, *([] if made.constraint is None else [made.constraint]))
    lines = (f"{type(each).__name__} {json.dumps(asdict(each), default=dict)}" for each in found)
    return "\n".join((*lines, f"{made.live_jobs} {made.live_detached_actors} {made.gcs_version}")) + "\n"


if __name__ == "__main__":
    print(shown(snapshot(Rules(), recorded())), end="")
