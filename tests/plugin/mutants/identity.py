"""What plugins say of themselves that they should not."""

# ruff: noqa: N802 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

import asyncio

from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_health.v1 import health_pb2

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import InvalidRequest
from tests.plugin.mutants.honest import Mutant, Row, row


class NoVersion(Mutant):
    async def GetInfo(self, request, context):
        return pb.GetInfoResponse(name="mutant.rayscaler.io", protocol_version=1)


class HangingProbe(Mutant):
    async def Probe(self, request, context):
        await asyncio.Event().wait()


class ServesUnnamed(Mutant):
    async def HintDrain(self, request, context):
        return pb.HintDrainResponse()


class NamesUnserved(Mutant):
    async def GetCapabilities(self, request, context):
        return pb.GetCapabilitiesResponse(capabilities=[pb.CAPABILITY_RESIZE, pb.CAPABILITY_SUSPEND])


class RefusesUnknownFields(Mutant):
    async def Probe(self, request, context):
        if len(UnknownFieldSet(request)):
            raise InvalidRequest("request: has a field that nobody knows")
        return await super().Probe(request, context)


class NeedsItsOwnVersion(Mutant):
    async def GetInfo(self, request, context):
        if request.protocol_version != 1:
            raise InvalidRequest("protocol_version: must be 1")
        return await super().GetInfo(request, context)


class Unwell(Mutant):
    health = health_pb2.HealthCheckResponse.NOT_SERVING


class AnotherNameEachLife(Mutant):
    async def GetInfo(self, request, context):
        return pb.GetInfoResponse(name=f"mutant-{self.life}.rayscaler.io", version="1", protocol_version=1)


ROWS: tuple[Row, ...] = (
    row(NoVersion, "tells-who-it-is"),
    row(HangingProbe, "introduces-itself-in-time", "ignores-unknown-fields", why="both call Probe"),
    row(ServesUnnamed, "serves-no-more-than-it-names"),
    row(NamesUnserved, "serves-what-it-names"),
    row(RefusesUnknownFields, "ignores-unknown-fields"),
    row(NeedsItsOwnVersion, "takes-callers-of-any-version"),
    row(Unwell, "says-that-it-is-well"),
    row(AnotherNameEachLife, "instances-live-on"),
)
