"""Who may call the service, over real TLS with keys made for the test (design 2b.11): SPEC H63 and H64."""

import asyncio
import contextlib
from typing import NamedTuple

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.clock import SystemClock
from rayscaler.k8s import authority
from rayscaler.k8s.authority import Due, Lives
from rayscaler.k8s.identity import Identity, Pauses
from rayscaler.model.credentials import Certificate
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import HEAD_SERVICE, Server
from tests.k8s.tokens import Issuer
from tests.server.sockets import details, failure, report

pytestmark = pytest.mark.tier("protocol")

CLOCK = SystemClock()
NAMES = authority.names("ns")


class Shown:
    """The certificate that a server shows; another one may be put in its place."""

    def __init__(self) -> None:
        self.papers = authority.founded(NAMES, CLOCK.now(), Lives())
        self.take(self.papers)

    def take(self, papers: authority.Papers) -> None:
        self.papers = papers
        self.certificate = Certificate(papers.certificate, papers.key)


class Door(NamedTuple):
    """A server that asks for tokens, who makes them, what it shows."""

    port: int
    issuer: Issuer
    shown: Shown


@pytest.fixture
async def door():
    issuer, shown = Issuer(), Shown()
    identity = Identity(issuer, "ns", clock=CLOCK, pauses=Pauses(least_s=0.01))
    keys = asyncio.create_task(identity.run())
    await asyncio.sleep(0)
    server = Server(
        Registry([]),
        listen="127.0.0.1:0",
        max_message_bytes=1 << 20,
        credentials=lambda: shown.certificate,
        authenticate=identity.authenticate,
    )
    yield Door(await server.start(), issuer, shown)
    await server.stop(0)
    keys.cancel()
    await asyncio.gather(keys, return_exceptions=True)


@contextlib.asynccontextmanager
async def channel(door, roots=None, name="127.0.0.1"):
    credentials = grpc.ssl_channel_credentials(door.shown.papers.authorities if roots is None else roots)
    async with grpc.aio.secure_channel(f"{name}:{door.port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)]) as made:
        yield made


async def refused(door, *metadata, method="ReportDemand", request=None):
    """Call and be refused; return code, reason, rule of retry and words."""
    request = request or {"ReportDemand": report(head_incarnation="uid-1", snapshot=pb.Snapshot())}.get(
        method, pb.GetStatusRequest(cluster="x")
    )
    async with channel(door) as made:
        error = await failure(getattr(head_pb2_grpc.HeadServiceStub(made), method)(request, metadata=metadata))
    info, _ = details(error)
    return error.code().name, info.reason, dict(info.metadata)["retry"], error.details()


def bearer(token):
    return ("authorization", f"Bearer {token}")


# the service's own part


async def test_h63_the_head_is_known_by_its_pods_token_and_then_served(door):
    token = door.issuer.token(CLOCK.now())
    for method in ("ReportDemand", "GetStatus"):
        code, reason, _, words = await refused(door, bearer(token), method=method)
        assert (code, reason) == ("NOT_FOUND", "NOT_FOUND"), words  # what it says to a known caller: this server has no cluster


@pytest.mark.parametrize("method", ["ReportDemand", "GetStatus", "Explain"])
async def test_h63_no_method_is_open_to_a_caller_without_a_token(door, method):
    request = pb.ExplainRequest() if method == "Explain" else None
    token = door.issuer.token(CLOCK.now())
    for metadata in ((), (("authorization", token),), (("authorization", f"Basic {token}"),), (("x-authorization", f"Bearer {token}"),)):
        code, reason, retry, words = await refused(door, *metadata, method=method, request=request)
        assert (code, reason, retry) == ("UNAUTHENTICATED", "UNAUTHENTICATED", "long")
        assert "start the monitor with --ca and --token" in words


@pytest.mark.parametrize(
    ("claims", "code", "words"),
    [
        ({"aud": ["another"]}, "UNAUTHENTICATED", "audience 'rayscaler'"),
        ({"exp": 1000}, "UNAUTHENTICATED", "expired"),
        ({"nbf": 1 << 40}, "UNAUTHENTICATED", "valid in"),
        ({"kubernetes.io": {"namespace": "other", "pod": {"name": "p", "uid": "uid-1"}}}, "PERMISSION_DENIED", "namespace 'other'"),
        ({"kubernetes.io": {"namespace": "ns"}}, "UNAUTHENTICATED", "not bound to a pod"),
    ],
    ids=["audience", "expired", "early", "namespace", "unbound"],
)
async def test_h63_a_token_that_is_not_good_enough_is_refused_and_it_is_said_why(door, claims, code, words):
    token = door.issuer.token(CLOCK.now(), **claims)
    found = await refused(door, bearer(token))
    assert found[0] == code
    assert words in found[3]
    assert token not in found[3]


async def test_h63_nobody_can_make_a_token_but_the_issuer(door):
    good = door.issuer.token(CLOCK.now())
    none = f"eyJhbGciOiJub25lIiwia2lkIjoiZmlyc3QifQ.{good.split('.')[1]}."
    for forged in (none, Issuer().token(CLOCK.now()), "x", "a.b.c"):
        assert (await refused(door, bearer(forged)))[0] == "UNAUTHENTICATED"


async def test_h63_keys_that_the_issuer_changed_are_learnt_while_it_runs(door):
    await asyncio.sleep(0.05)  # the pause between two readings, which a stranger's token cannot shorten
    door.issuer.add("second")
    token = bearer(door.issuer.token(CLOCK.now()))
    code, _, retry, _ = await refused(door, token)
    assert (code, retry) == ("UNAVAILABLE", "backoff")
    assert (await refused(door, token))[0] == "NOT_FOUND"


async def test_h64_a_pod_speaks_for_itself_only(door):
    """The one that design 2b.11 asks for: the credential's pod is the head's incarnation."""
    token = door.issuer.token(CLOCK.now(), uid="uid-2")
    for incarnation in ("uid-1", ""):
        request = report(head_incarnation=incarnation, snapshot=pb.Snapshot())
        code, reason, retry, words = await refused(door, bearer(token), request=request)
        assert (code, reason, retry) == ("PERMISSION_DENIED", "DENIED", "long")
        assert "demo-head-1 with uid 'uid-2'" in words


async def test_h63_a_message_is_not_even_parsed_before_its_sender_is_known(door):
    async with channel(door) as made:
        call = made.unary_unary(f"/{HEAD_SERVICE}/ReportDemand", response_deserializer=pb.ReportDemandResponse.FromString)
        assert (await failure(call(b"\xff\xff\xff"))).code() is grpc.StatusCode.UNAUTHENTICATED
        known = await failure(call(b"\xff\xff\xff", metadata=[bearer(door.issuer.token(CLOCK.now()))]))
        assert known.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_h63_health_is_open_and_reflection_is_not_served(door):
    async with channel(door) as made:
        answer = await health_pb2_grpc.HealthStub(made).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(made)
        asked = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asked.read()
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


# TLS


async def health(door, **changes):
    async with channel(door, **changes) as made:
        return await health_pb2_grpc.HealthStub(made).Check(health_pb2.HealthCheckRequest())


async def test_the_certificate_is_known_by_its_authority_and_its_name_and_nothing_else(door):
    assert await health(door)
    assert await health(door, name="localhost")
    other = authority.founded(NAMES, CLOCK.now(), Lives())
    assert "CERTIFICATE_VERIFY_FAILED" in (await failure(health(door, roots=other.authorities))).details()
    door.shown.take(authority.founded(("rayscaler.ns.svc",), CLOCK.now(), Lives()))
    assert "Hostname Verification" in (await failure(health(door))).details()


async def test_plain_text_is_not_spoken_where_tls_is(door):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as made:
        error = await failure(health_pb2_grpc.HealthStub(made).Check(health_pb2.HealthCheckRequest()))
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_renewed_certificate_is_shown_without_a_restart_and_calls_under_way_go_on(door):
    old = door.shown.papers
    async with channel(door) as kept:
        stub = health_pb2_grpc.HealthStub(kept)
        await stub.Check(health_pb2.HealthCheckRequest())
        door.shown.take(authority.renewed(old, Due.SERVER, NAMES, CLOCK.now(), Lives()))
        assert await health(door)  # the same authority
        door.shown.take(authority.founded(NAMES, CLOCK.now(), Lives()))
        assert await health(door)  # another one, so surely another certificate
        assert "CERTIFICATE_VERIFY_FAILED" in (await failure(health(door, roots=old.authorities))).details()
        assert await health(door, roots=old.authorities + door.shown.papers.authorities)
        assert await stub.Check(health_pb2.HealthCheckRequest())
