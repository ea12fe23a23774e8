"""The driver of `first-task`: python -m tests.bench.driver ADDRESS. Connects, then submits one task per line of standard input.

Prints JSON lines: {"ready": true} once Ray's own status shows that an autoscaler has spoken, then one line per task with the wall
times of its submission, of the first sight of its demand and of its node in the GCS, and of its start, taken inside the task.
"""

import json
import os
import sys
import threading
import time
from typing import Any

import ray
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import GetClusterStatusReply

POLL_S = 0.05
"""Between two looks at the GCS; each costs it about a millisecond."""


def main(address: str) -> None:
    """Serve until standard input ends."""
    ray.init(address=address, log_to_driver=False)
    gcs = GcsClient(address=address)
    while _status(gcs).autoscaling_state.autoscaler_state_version == 0:
        time.sleep(POLL_S)  # Ray tells nobody that its autoscaler has reported for the first time
    _print({"ready": True})
    for _ in sys.stdin:
        _print(_one(gcs))


def _one(gcs: Any) -> dict[str, Any]:
    seen: dict[str, float] = {}
    is_over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(gcs, seen, is_over))
    watcher.start()
    submitted_at = time.time()
    started_at, pid = ray.get(_task.remote())
    is_over.set()
    watcher.join()
    return {"submitted": submitted_at, **seen, "task": started_at, "pid": pid}


@ray.remote(num_cpus=1)
def _task() -> tuple[float, int]:
    return time.time(), os.getpid()


def _watch(gcs: Any, seen: dict[str, float], is_over: threading.Event) -> None:
    known = {node.node_id for node in _status(gcs).cluster_resource_state.node_states}
    while not is_over.wait(POLL_S):
        state = _status(gcs).cluster_resource_state
        if state.pending_resource_requests:
            seen.setdefault("demand_visible", time.time())
        if {node.node_id for node in state.node_states} - known:
            seen.setdefault("node_alive", time.time())


def _status(gcs: Any) -> Any:
    return GetClusterStatusReply.FromString(gcs.get_cluster_status())


def _print(line: dict[str, Any]) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
