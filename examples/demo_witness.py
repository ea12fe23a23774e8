"""The demo's witness: reads Ray's own node table with Ray's own client and prints it, one JSON line per reading.

It is no driver, so it keeps nothing busy. When the head is lost it asks again until one answers. Usage: demo_witness.py ADDRESS
"""

import json
import sys
import time

from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply
from ray.exceptions import RayError

PERIOD_S = 0.25
DEATHS = {0: "UNKNOWN", 1: "EXPECTED", 2: "UNEXPECTED", 3: "DRAINED_PREEMPTED", 4: "DRAINED_IDLE"}


def row(node, busy):
    alive = node.state == 0
    return {
        "node": node.node_id.hex(),
        "instance": node.instance_id,
        "type": node.node_type_name,
        "head": node.is_head_node,
        "alive": alive,
        "busy": node.node_id in busy,
        "death": None if alive else DEATHS.get(node.death_info.reason, "?"),
        "ended_ms": node.end_time_ms,
    }


def busy_nodes(client):
    state = GetClusterStatusReply.FromString(client.get_cluster_status()).cluster_resource_state
    return {each.node_id for each in state.node_states if each.available_resources.get("CPU") != each.total_resources.get("CPU")}


def read(address):
    client = GcsClient(address=address)
    cluster_id = client.cluster_id.hex()
    while True:
        busy = busy_nodes(client)
        rows = [row(node, busy) for node in client.get_all_node_info(timeout=5).values()]
        print(json.dumps({"at": time.time(), "cluster_id": cluster_id, "nodes": rows}), flush=True)
        time.sleep(PERIOD_S)  # a witness looks at Ray's tables at its own pace; Ray tells nobody of a change


def main(address):
    while True:
        try:
            read(address)
        except RayError as error:
            print(f"no answer: {error}"[:200], flush=True)
            time.sleep(PERIOD_S)  # the head is away: try again at the same pace


if __name__ == "__main__":
    main(sys.argv[1])
