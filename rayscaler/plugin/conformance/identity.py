"""Checks of section 20, and of health: who a plugin is, and what it says that it can do."""

import grpc

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin import calls
from rayscaler.plugin.conformance.check import Check, Skipped
from rayscaler.plugin.conformance.lab import Lab, Refused
from rayscaler.plugin.conformance.need import need, well
from rayscaler.plugin.convert import VERSION
from rayscaler.plugin.session import NAME

UNKNOWN = b"\xfa\xff\x07\x0bnever heard"
"""A field of the number 16383 that no message of the protocol has."""
OPTIONAL = {
    pb.CAPABILITY_DRAIN_HINTS: ("HintDrain",),
    pb.CAPABILITY_RESIZE: ("Resize",),
    pb.CAPABILITY_OFFERS: ("GetOffers",),
    pb.CAPABILITY_SUSPEND: ("Suspend", "Resume"),
}
"""The methods of each capability."""


async def tells_who_it_is(lab: Lab) -> None:
    """GetInfo tells a name that a plugin can have, a version, and a protocol version; the same each time."""
    info = await lab.call("GetInfo", asked())
    need("X1", NAME.fullmatch(info.name) is not None, f"its name is {info.name[:80]!r}")
    need("X1", bool(info.version), "it tells no version")
    need("X1", info.protocol_version >= 1, f"its protocol version is {info.protocol_version}")
    again = await lab.call("GetInfo", asked())
    need("X1", again.name == info.name, f"its name was {info.name} and is {again.name}")


async def introduces_itself_in_time(lab: Lab) -> None:
    """GetInfo, GetCapabilities and Probe answer within 5 s, Probe with nothing changed."""
    within_s = lab.patience.introduce_s
    before = await lab.listed()
    for method, request in (("GetInfo", asked()), ("GetCapabilities", pb.GetCapabilitiesRequest()), ("Probe", pb.ProbeRequest())):
        async with well("X3"):
            await lab.call(method, request, within_s)
    need("X3", (await lab.listed()).keys() == before.keys(), "Probe has changed what is listed")


async def serves_no_more_than_it_names(lab: Lab) -> None:
    """Every method of a capability that is not named is answered with UNIMPLEMENTED."""
    named = (await capabilities(lab)).capabilities
    need("X2", pb.CAPABILITY_UNSPECIFIED not in named, "names the capability 0, which is none")
    for capability, methods in OPTIONAL.items():
        for method in methods if capability not in named else ():
            code = await _code(lab, method)
            name = pb.Capability.Name(capability)
            need(
                "X2", code is grpc.StatusCode.UNIMPLEMENTED, f"{method} of {name}, which it does not name, is answered with {_shown(code)}"
            )


async def serves_what_it_names(lab: Lab) -> None:
    """No method of a capability that is named is answered with UNIMPLEMENTED."""
    named = [each for each in (await capabilities(lab)).capabilities if each in OPTIONAL]
    if not named:
        raise Skipped("names no capability that has methods")
    for capability in named:
        for method in OPTIONAL[capability]:
            code = await _code(lab, method)
            need("X2", code is not grpc.StatusCode.UNIMPLEMENTED, f"names {pb.Capability.Name(capability)} and does not serve {method}")


async def ignores_unknown_fields(lab: Lab) -> None:
    """Requests with a field that nobody knows yet are answered as those without."""
    requests = {
        "GetInfo": asked(),
        "GetCapabilities": pb.GetCapabilitiesRequest(),
        "Probe": pb.ProbeRequest(),
        "List": pb.ListRequest(cluster=lab.cluster),
        "Terminate": pb.TerminateRequest(cluster=lab.cluster, instance_ids=[lab.new_id()]),
    }
    for method, request in requests.items():
        request.MergeFromString(UNKNOWN)
        async with well("X4"):
            await lab.call(method, request)


async def takes_callers_of_any_version(lab: Lab) -> None:
    """A caller of another protocol version, or with no version to tell, is answered like any other."""
    for version in (VERSION, VERSION + 1, 1 << 30):
        async with well("X53"):
            await lab.call("GetInfo", pb.GetInfoRequest(protocol_version=version))


async def says_that_it_is_well(lab: Lab) -> None:
    """grpc.health.v1 answers SERVING for the service `plugin`."""
    health = await calls.check_health(await lab.subject.channel(), lab.patience.introduce_s)
    if not health.is_served and not lab.subject.is_started:
        raise Skipped("serves no grpc.health.v1 for `plugin`, which one at an address only should")
    need("X43", not health.wrong, f"its health: {health.wrong}")


def asked() -> pb.GetInfoRequest:
    """Return the question who it is."""
    return pb.GetInfoRequest(rayscaler_version="conformance", protocol_version=VERSION)


async def capabilities(lab: Lab) -> pb.GetCapabilitiesResponse:
    """Return what it says that it can."""
    found: pb.GetCapabilitiesResponse = await lab.call("GetCapabilities", pb.GetCapabilitiesRequest())
    return found


async def _code(lab: Lab, method: str) -> grpc.StatusCode | None:
    """Call a method of a capability for an instance that is not there; return the code, None for success."""
    nobody = lab.new_id()
    requests = {
        "HintDrain": pb.HintDrainRequest(cluster=lab.cluster, instance_id=nobody),
        "Resize": pb.ResizeRequest(cluster=lab.cluster, instance_id=nobody, resources={"CPU": 10_000}),
        "GetOffers": pb.GetOffersRequest(cluster=lab.cluster, node_types=[lab.spec(nobody).node_type]),
        "Suspend": pb.SuspendRequest(cluster=lab.cluster, instance_id=nobody),
        "Resume": pb.ResumeRequest(cluster=lab.cluster, instance_id=nobody),
    }
    try:
        await lab.call(method, requests[method])
    except Refused as refused:
        return refused.code
    return None


def _shown(code: grpc.StatusCode | None) -> str:
    return "success" if code is None else code.name


CHECKS = (
    Check(tells_who_it_is, ("X1",)),
    Check(introduces_itself_in_time, ("X3",)),
    Check(serves_no_more_than_it_names, ("X2",)),
    Check(serves_what_it_names, ("X2",)),
    Check(ignores_unknown_fields, ("X4",)),
    Check(takes_callers_of_any_version, ("X53",)),
    Check(says_that_it_is_well, ("X43",)),
)
