"""A monitor's stand-in, in a process of its own: python -m tests.bench.report_client TARGET SAMPLES SEED.

All clusters first get a report of the nodes alone, which ages until their use no longer counts as news; then each gets one that
also asks. Just before that the monotonic clock is read, which all processes of a machine share.
"""

import sys
import time

import grpc

from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.settings import Timings
from tests.bench.report_to_launch import cluster_name, workload
from tests.served import node_state, report

QUIET_S = Timings().usage_lag_s + 0.3
"""After the first reports: use that appeared lately may be the use of demand that is still shown, and counts as free."""
AFTER_S = 0.25
"""After a report that asks: its launches, and the cycle that follows them, are over by then."""


def main(target: str, samples: int, seed: int) -> None:
    """Send all reports."""
    made = workload(seed)
    nodes = [node_state(each) for each in made.nodes]
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(target, options=options) as channel:
        stub = head_pb2_grpc.HeadServiceStub(channel)
        for index in range(samples):
            stub.ReportDemand(report(cluster_name(index), 1, [], nodes), timeout=30)
        time.sleep(QUIET_S)  # the service's own rule of time must have passed
        for index in range(samples):
            asking = report(cluster_name(index), 2, made.demands, nodes)
            sent_at = time.monotonic()
            stub.ReportDemand(asking, timeout=30)
            print(sent_at, flush=True)
            time.sleep(AFTER_S)  # reports are measured one by one, not as a queue


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
