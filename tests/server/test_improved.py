"""A report over a socket ends in the cheaper mix: `rayscaler serve`, its process that improves plans, and an executor that counts."""

import asyncio

import grpc.aio
import pytest

from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.served import NotingExecutor, report, serving

pytestmark = pytest.mark.tier("protocol")

BUDGET_S = 8.0
"""Far more than it takes: a busy machine must not make this another test."""
TEN = NodeType("ten", Resources.of(CPU=10), cost=1.0)
FREE = NodeType("ten", Resources.of(CPU=10))
WAITING = (Demand(Bundle(Resources.of(CPU=4)), 10), Demand(Bundle(Resources.of(CPU=3)), 20))


async def test_launches_on_demand_wait_for_a_cheaper_mix_and_where_nothing_has_a_cost_for_nothing(tmp_path):
    executor = NotingExecutor()
    configs = ClusterConfig("priced", (TEN,)), ClusterConfig("free", (FREE,))
    waiting = {"RAYSCALER_PLAN_BUDGET_S": str(BUDGET_S)}
    async with serving(tmp_path, executor, configs, waiting) as service, grpc.aio.insecure_channel(service.address) as channel:
        for cluster in ("priced", "free"):
            await head_pb2_grpc.HeadServiceStub(channel).ReportDemand(report(cluster, 1, WAITING), timeout=10)
        async with asyncio.timeout(BUDGET_S + 20):
            await executor.launches_of("priced", count=10)
            await executor.launches_of("free", count=12)
        await asyncio.sleep(0.5)  # for what would be one too many
    # 4 + 3 + 3 fill a node; first fit puts two 4s on one, and three 3s on another.
    assert {each: executor.counted(each).total() for each in ("priced", "free")} == {"priced": 10, "free": 12}
