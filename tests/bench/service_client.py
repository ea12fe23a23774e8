"""Monitors' stand-in of the case `plan-service`, in a process of its own: python -m tests.bench.service_client TARGET PODS CASE FOR_S.

Every EVERY_S another of the small clusters asks for one node more; in the midst of that the big one asks for all of its pods, once. The last
line of standard output is JSON: when each report was sent, by cluster (the monotonic clock, which all processes of a machine share), what in
the end had no place, and what the service says of the big one's cost.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from typing import Any

import grpc.aio

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from tests.bench.plan_cases import CASES
from tests.bench.plan_service import BIG, OTHERS, whole_nodes
from tests.served import report

EVERY_S = 0.025
BEFORE_S = 1.0
"""Of reports by small clusters, before the big one's."""
AFTER_S = 1.0
CALL_S = 30.0


class Reports:
    """Sends them, and notes when."""

    def __init__(self, stub: head_pb2_grpc.HeadServiceStub) -> None:
        self._stub = stub
        self.sent: defaultdict[str, list[float]] = defaultdict(list)

    async def send(self, asking: pb.ReportDemandRequest) -> None:
        """Send one report."""
        self.sent[asking.cluster].append(time.monotonic())
        await self._stub.ReportDemand(asking, timeout=CALL_S)

    async def ask_for_more(self, until: float) -> None:
        """Let the small clusters ask, one after the other, each for one node more every time; none waits for another's answer."""
        asked = 0
        async with asyncio.TaskGroup() as group:
            while (begun := time.monotonic()) < until:
                cluster, count = OTHERS[asked % len(OTHERS)], asked // len(OTHERS) + 1
                group.create_task(self.send(report(cluster, 1 + count, [whole_nodes(count)])))
                asked += 1
                await asyncio.sleep(max(0.0, begun + EVERY_S - time.monotonic()))


async def main(target: str, pods: int, case: str, for_s: float) -> dict[str, Any]:
    """Send all reports, and say what was seen."""
    asking = report(BIG, 2, CASES[case].state(0, pods).demands)
    async with grpc.aio.insecure_channel(target) as channel:
        stub = head_pb2_grpc.HeadServiceStub(channel)
        reports = Reports(stub)
        for cluster in (BIG, *OTHERS):
            await stub.ReportDemand(report(cluster, 1, []), timeout=CALL_S)
        small = asyncio.create_task(reports.ask_for_more(time.monotonic() + BEFORE_S + for_s))
        await asyncio.sleep(BEFORE_S)
        await reports.send(asking)
        await small
        await asyncio.sleep(AFTER_S)  # a report's answer does not wait for its launches
        status = await stub.GetStatus(pb.GetStatusRequest(cluster=BIG), timeout=CALL_S)
        explanation = await stub.Explain(pb.ExplainRequest(cluster=BIG), timeout=CALL_S)
    mix = explanation.clusters[0].mix
    pending = sum(each.count for each in status.clusters[0].pending)
    return {"sent": reports.sent, "pending": pending, "outcome": mix.improvement, "steps": mix.steps}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])))))
