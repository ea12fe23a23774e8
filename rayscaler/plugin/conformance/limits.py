"""Checks of sections 25 and 26: what errors may not say, how much a call may hold, and how many there may be at once."""

import asyncio
import contextlib

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Check
from rayscaler.plugin.conformance.identity import capabilities
from rayscaler.plugin.conformance.lab import Lab, Refused
from rayscaler.plugin.conformance.need import need, well
from rayscaler.plugin.convert import MAX_BATCH

REQUEST_BYTES = 4 << 20
"""X39."""
FRAME_BYTES = 1 << 10
"""Left for what is around the padding."""
PADDING = b"\xf2\xff\x07"
"""Key of a text field of the number 16382, which no message has."""
WATCHES = 16
"""At once: more than the threads that gRPC's servers are often given."""
CALLS = 8


async def keeps_secrets(lab: Lab) -> None:
    """No value of a sensitive field stands in an error or in an observation's texts."""
    spec, other, bad = lab.spec(), pb.LaunchSpec(), pb.LaunchSpec()
    spec.node_type.env["CONFORMANCE"] = spec.ray_start.env["CONFORMANCE"] = secret(lab)
    other.CopyFrom(spec)
    other.node_type.env["CONFORMANCE"] = f"{secret(lab)}-other"
    bad.CopyFrom(spec)
    bad.instance_id = lab.new_id()
    bad.node_type.template = f"not JSON {secret(lab)}"
    bad.node_type.env[""] = secret(lab)
    texts = []
    for each in (spec, other, bad):
        try:
            texts += [str(found.error) for found in (await lab.launch(lab.request(each))).values()]
        except Refused as refused:
            texts.append(str(refused))
    for seen in (await lab.listed()).values():
        texts += [seen.detail, seen.error]
    shown = [text for text in texts if secret(lab) in text]
    need("X38", not shown, f"a value of an environment, or a template, is told to whoever reads: {' '.join(shown)[:300]}")


def secret(lab: Lab) -> str:
    """Return what nobody may tell."""
    return f"secret-of-{lab.token}"


async def takes_a_request_of_4_mib(lab: Lab) -> None:
    """A request may have 4 MiB."""
    request = pb.ListRequest(cluster=lab.cluster)
    size = REQUEST_BYTES - FRAME_BYTES
    request.MergeFromString(PADDING + _varint(size) + b"x" * size)
    async with well("X39"):
        await lab.call("List", request)


async def takes_a_full_batch(lab: Lab) -> None:
    """A call may be for as many instances as the plugin says, 1,000 where it says nothing."""
    limits = (await capabilities(lab)).limits
    need("X40", min(limits.batch, limits.per_second, limits.in_flight) >= 0, "a limit is negative")
    count = min(each or MAX_BATCH for each in (limits.batch, limits.in_flight, limits.per_second, MAX_BATCH))
    ids = [f"{lab.token}-none-{number}" for number in range(count)]
    async with well("X40"):
        answer = await lab.terminate(*ids)
    need("X40", len(answer.results) == count, f"a Terminate of {count} has {len(answer.results)} results")


async def takes_calls_at_the_same_time(lab: Lab) -> None:
    """Calls at the same time, also for one instance, are all answered."""
    spec = lab.spec()
    await lab.begin(spec)
    async with well("X42"):
        await asyncio.gather(
            *(lab.listed() for _ in range(CALLS)),
            *(lab.launch(lab.request(spec)) for _ in range(CALLS)),
            *(lab.terminate(f"{lab.token}-none") for _ in range(CALLS)),
        )


async def watches_hold_up_nobody(lab: Lab) -> None:
    """While many clusters are watched, calls of others are answered."""
    async with contextlib.AsyncExitStack() as stack:
        for number in range(WATCHES):
            await stack.enter_async_context(lab.watch(cluster=f"{lab.token}-w{number}"))
        async with well("X42"):
            await lab.call("List", pb.ListRequest(cluster=lab.cluster), lab.patience.introduce_s)


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


CHECKS = (
    Check(keeps_secrets, ("X38",), instances=2),
    Check(takes_a_request_of_4_mib, ("X39",)),
    Check(takes_a_full_batch, ("X39", "X40")),
    Check(takes_calls_at_the_same_time, ("X42",), instances=1),
    Check(watches_hold_up_nobody, ("X42",)),
)
