"""The demo's witness: reads Ray's own node table with Ray's own client and prints it, one JSON line per reading.

It is no driver, so it keeps nothing busy. Usage: demo_witness.py ADDRESS
"""

import json
import sys
import time

from ray._raylet import GcsClient

PERIOD_S = 0.25
DEATHS = {0: "UNKNOWN", 1: "EXPECTED", 2: "UNEXPECTED", 3: "DRAINED_PREEMPTED", 4: "DRAINED_IDLE"}


def row(node):
    alive = node.state == 0
    return {
        "node": node.node_id.hex(),
        "instance": node.instance_id,
        "type": node.node_type_name,
        "head": node.is_head_node,
        "alive": alive,
        "death": None if alive else DEATHS.get(node.death_info.reason, "?"),
        "ended_ms": node.end_time_ms,
    }


def main(address):
    client = GcsClient(address=address)
    cluster_id = client.cluster_id.hex()
    while True:
        rows = [row(node) for node in client.get_all_node_info(timeout=5).values()]
        print(json.dumps({"at": time.time(), "cluster_id": cluster_id, "nodes": rows}), flush=True)
        time.sleep(PERIOD_S)


if __name__ == "__main__":
    main(sys.argv[1])
