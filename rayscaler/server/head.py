"""HeadService: each method converts, asks the registry, converts."""

from collections.abc import Callable
from typing import Any

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.errors import NotLeader
from rayscaler.reconciler.registry import Registry
from rayscaler.server import answers, convert, explanations


class HeadService(head_pb2_grpc.HeadServiceServicer):
    """What a Ray head's monitor, and the command line, call."""

    def __init__(self, registry: Registry, leads: Callable[[], bool]) -> None:
        self._registry = registry
        self._leads = leads

    async def ReportDemand(self, request: pb.ReportDemandRequest, context: Any) -> pb.ReportDemandResponse:  # noqa: N802, ARG002 - gRPC's
        """Take a report, answer with what is due; on a standby raise NotLeader, for what it would do with one is not its to do."""
        if not self._leads():
            raise NotLeader("this replica of the service does not lead; a fresh connection may reach the one that does")
        report = convert.demand_report(request)
        return answers.report_answer(self._registry.get(report.cluster).submit(report), is_v1_mode=report.is_v1_mode)

    async def GetStatus(self, request: pb.GetStatusRequest, context: Any) -> pb.GetStatusResponse:  # noqa: N802, ARG002 - gRPC's
        """Tell status."""
        clusters = [self._registry.get(request.cluster)] if request.cluster else self._registry.all()
        return pb.GetStatusResponse(clusters=[answers.cluster_status(each.status()) for each in clusters])

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:  # noqa: N802, ARG002 - gRPC's
        """Tell why."""
        clusters = [self._registry.get(request.cluster)] if request.cluster else self._registry.all()
        return pb.ExplainResponse(clusters=[explanations.cluster_explanation(each.explanation()) for each in clusters])
