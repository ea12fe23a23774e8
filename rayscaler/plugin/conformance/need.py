"""Small words that checks are written in."""

import contextlib
from collections.abc import AsyncIterator, Iterable

import grpc

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Breach
from rayscaler.plugin.conformance.lab import Lab, Refused


def need(rule: str, holds: bool, sentence: str) -> None:
    """Raise Breach unless it holds."""
    if not holds:
        raise Breach(rule, sentence)


@contextlib.asynccontextmanager
async def well(rule: str) -> AsyncIterator[None]:
    """Take a call that fails in here for a breach of the rule."""
    try:
        yield
    except Refused as refused:
        raise Breach(rule, str(refused)) from refused


@contextlib.asynccontextmanager
async def refused_with(rule: str, code: grpc.StatusCode, what: str) -> AsyncIterator[None]:
    """Demand that the call in here fails with this code."""
    try:
        yield
    except Refused as refused:
        need(rule, refused.code is code, f"{what} is refused with {refused.code.name}, not {code.name}: {refused.text[:200]}")
        return
    raise Breach(rule, f"{what} is not refused")


def reason_of(result: pb.LaunchResult | None) -> str:
    """Return why a launch failed; "" if it did not."""
    if result is None:
        return "no result"
    return (result.error.reason or "an error without a reason") if result.WhichOneof("outcome") == "error" else ""


async def listed_as(lab: Lab, rule: str, expected: dict[str, str], cluster: str | None = None) -> None:
    """Demand that exactly these are listed, with these external ids."""
    found = {key: each.external_id for key, each in (await lab.listed(cluster)).items()}
    need(rule, found == expected, f"List tells {found or 'nothing'}, Launch told {expected or 'nothing'}")


def told_as_launched(specs: Iterable[pb.LaunchSpec], told: Iterable[pb.Observation], where: str) -> None:
    """Demand that whatever is told of these is told as the host of the replica that it was launched as."""
    asked = {each.instance_id: each for each in specs}
    for seen in told:
        spec = asked.get(seen.instance_id)
        if spec is not None:
            was, now = (f"host {each.replica_host} of {each.replica_id or 'no replica'}" for each in (spec, seen))
            need("X55", was == now, f"{seen.instance_id} was launched as {was}, and {where} tells {now}")
