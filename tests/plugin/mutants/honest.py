"""What mutants are made of: an honest servicer over fake machines, and what says who has to notice a change of it."""

# ruff: noqa: N802, RUF012 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

from dataclasses import dataclass

from grpc_health.v1 import health_pb2

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.model.instance import Phase
from rayscaler.plugin.service import ExecutorService
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines

DELAYS_S = {Phase.UNSCHEDULED: 0.0, Phase.STARTING: 0.03, Phase.REGISTERING: 0.0, Phase.ENDING: 0.1}
SLOW_S = 1.8
"""Longer than the tests' `prompt_s`."""


class Mutant(ExecutorService):
    """Honest: what mutants are made of. `life` counts its restarts."""

    at_once = 1  # or a mutant could not change, or leave out, one change alone
    delays_s: dict[Phase, float] = {}
    request_bytes = 4 << 20
    health = health_pb2.HealthCheckResponse.SERVING

    def __init__(self, machines: FakeMachines, life: int) -> None:
        self.machines = machines
        self.life = life
        super().__init__(FakeExecutor(machines), name="mutant.rayscaler.io", version="1")

    def keys(self, cluster):
        return {key for owner, key in self.machines.machines if owner == cluster}


class Edited(Mutant):
    """One that changes what it tells of instances."""

    def edit(self, seen: pb.Observation, cluster: str) -> None:
        """Change an observation."""

    async def List(self, request, context):
        page = await super().List(request, context)
        for each in page.observations:
            self.edit(each, request.cluster)
        return page

    async def Watch(self, request, context):
        async for told in super().Watch(request, context):
            if told.HasField("observation"):
                self.edit(told.observation, request.cluster)
            yield told


class ToldOtherwise(Edited):
    """One that changes external ids too, the same way everywhere."""

    def external_id(self, cluster: str, instance_id: str) -> str:
        raise NotImplementedError

    def edit(self, seen, cluster):
        seen.external_id = self.external_id(cluster, seen.instance_id)

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for each in answer.results:
            if each.WhichOneof("outcome") == "external_id":
                each.external_id = self.external_id(request.cluster, each.instance_id)
        return answer


@dataclass(frozen=True)
class Row:
    """A mutant and every check that has to fail of it; `why` where that is more than one."""

    mutant: type[Mutant]
    caught: frozenset[str]
    why: str = ""


def row(mutant: type[Mutant], *caught: str, why: str = "") -> Row:
    return Row(mutant, frozenset(caught), why)
