"""The witness: reads Ray's own tables with Ray's own client, twice as often as a person could look. python -m tests.ray.witness ADDRESS

It is no driver, so it keeps nothing busy. Prints one JSON line per reading: every row of the node table, the dead ones too, and of the
live ones what Ray says keeps them from being idle.
"""

import json
import sys
import time
from typing import Any

from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply, NodeStatus

PERIOD_S = 0.25
DEATHS = {
    0: "UNSPECIFIED",
    1: "EXPECTED_TERMINATION",
    2: "UNEXPECTED_TERMINATION",
    3: "AUTOSCALER_DRAIN_PREEMPTED",
    4: "AUTOSCALER_DRAIN_IDLE",
}


def main(address: str) -> None:
    """Print readings until the end of the process, or of the GCS."""
    client = GcsClient(address=address)
    while True:
        reply = GetClusterStatusReply.FromString(client.get_cluster_status())
        state = reply.cluster_resource_state
        infeasible = len(reply.autoscaling_state.infeasible_resource_requests)
        # Ray leaves old texts standing on nodes that it calls idle.
        activity = {row.node_id.hex(): list(row.node_activity) for row in state.node_states if row.status != NodeStatus.IDLE}
        pending = sum(each.count for each in state.pending_resource_requests)
        rows = [_row(node, activity) for node in client.get_all_node_info(timeout=10).values() if not node.is_head_node]
        print(json.dumps({"at": time.time(), "pending": pending, "infeasible": infeasible, "nodes": rows}), flush=True)
        time.sleep(PERIOD_S)


def _row(node: Any, activity: dict[str, list[str]]) -> dict[str, Any]:
    is_alive = node.state == 0
    node_id = node.node_id.hex()
    return {
        "node_id": node_id,
        "instance_id": node.instance_id,
        "node_type": node.node_type_name,
        "is_alive": is_alive,
        "started_at": node.start_time_ms / 1000,
        "ended_at": None if is_alive else node.end_time_ms / 1000,
        "death": None if is_alive else DEATHS[node.death_info.reason],
        "activity": activity.get(node_id, []) if is_alive else [],
    }


if __name__ == "__main__":
    main(sys.argv[1])
