"""Who a token is of, and every way in which one is not good enough."""

import asyncio
import base64
import contextlib
import hmac
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from rayscaler.errors import Denied, Unauthenticated, Unavailable
from rayscaler.k8s.identity import LEEWAY_S, Identity, Pauses
from rayscaler.model.credentials import Caller
from rayscaler.testing.loop_clock import LoopClock
from tests.k8s.tokens import Issuer

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CLOCK = LoopClock()


@contextlib.asynccontextmanager
async def identity(issuer, namespace="ns"):
    """An Identity that has read the keys, and runs."""
    made = Identity(issuer, namespace, clock=CLOCK, pauses=Pauses())
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0.1)
    try:
        yield made
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def now():
    return CLOCK.now()


def pod(uid="uid-1", namespace="ns"):
    return {"kubernetes.io": {"namespace": namespace, "pod": {"name": "demo-head-1", "uid": uid}}}


def part(value) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("curve", [None, ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1()], ids=["RS256", "ES256", "ES384", "ES512"])
async def test_a_pods_token_is_that_pod_whatever_kubernetes_signs_with(curve):
    issuer = Issuer()
    issuer.add("second", curve=curve)
    async with identity(issuer) as it:
        assert it.authenticate(issuer.token(now())) == Caller("ns", "demo-head-1", "uid-1")
        assert it.authenticate(issuer.token(now(), signed_by="first", uid="uid-2")).uid == "uid-2"


@pytest.mark.parametrize(
    ("claims", "error", "words"),
    [
        ({"aud": ["https://kubernetes.default.svc"]}, Unauthenticated, "not for the audience 'rayscaler'"),
        ({"without": "aud"}, Unauthenticated, '"aud"'),
        ({"without": "exp"}, Unauthenticated, '"exp"'),
        ({"without": "iss"}, Unauthenticated, '"iss"'),
        ({"exp": "soon"}, Unauthenticated, "not valid"),
        ({"exp": float("nan")}, Unauthenticated, "expired"),
        ({"kubernetes.io": "x"}, Unauthenticated, "not valid"),
        ({"without": "kubernetes.io"}, Denied, "namespace ''"),
        (pod(namespace="other"), Denied, "of namespace 'other', and this service serves 'ns' alone"),
        (pod(uid=""), Unauthenticated, "not bound to a pod"),
    ],
)
async def test_a_token_that_was_not_made_for_this_is_refused_in_words(claims, error, words):
    issuer = Issuer()
    async with identity(issuer) as it:
        token = issuer.token(now(), **claims)
        with pytest.raises(error, match=words) as refused:
            it.authenticate(token)
        assert token not in str(refused.value)


async def test_a_token_counts_from_its_beginning_to_its_end_give_or_take_a_clock():
    issuer = Issuer()
    async with identity(issuer) as it:
        for least, most in ((now() + LEEWAY_S - 1, now() + 9), (now() - 9, now() - LEEWAY_S + 1)):
            assert it.authenticate(issuer.token(now(), nbf=least, exp=most))
        with pytest.raises(Unauthenticated, match=r"expired 3\d s ago; kubelet renews it"):
            it.authenticate(issuer.token(now(), exp=now() - LEEWAY_S - 1))
        with pytest.raises(Unauthenticated, match=r"valid in 3\d s only: the clocks"):
            it.authenticate(issuer.token(now(), nbf=now() + LEEWAY_S + 1))


async def test_nothing_but_the_issuers_own_signature_counts():
    issuer, forger = Issuer(), Issuer()
    async with identity(issuer) as it:
        good = issuer.token(now())
        head, body, _ = good.split(".")
        public = issuer.told[0]
        none = f"{part({'alg': 'none', 'typ': 'JWT', 'kid': 'first'})}.{body}."
        unsigned = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'first'})}.{body}"
        by_public_key = base64.urlsafe_b64encode(hmac.digest(json.dumps(public).encode(), unsigned.encode(), "sha256")).decode().rstrip("=")
        own = forger.token(now(), headers={"jwk": forger.told[0]})
        for forged in (none, f"{unsigned}.{by_public_key}", own, f"{head}.{body}.", f"{head}.{part({'sub': 'x'})}.{good.split('.')[2]}"):
            with pytest.raises(Unauthenticated, match="not valid"):
                it.authenticate(forged)


@pytest.mark.parametrize(
    "garbage",
    [
        "",
        ".",
        "..",
        "x",
        "a.b.c",
        "\udcff",
        "é.é.é",
        "." * 9000,
        f"{part('x')}.{part('x')}.x",
        f"{base64.b64encode(b'[' * 6000).decode()}.x.y",
    ],
)
async def test_garbage_is_no_token(garbage):
    async with identity(Issuer()) as it:
        with pytest.raises(Unauthenticated, match="not valid"):
            it.authenticate(garbage)


async def test_a_new_key_is_learnt_with_the_first_token_that_it_signed():
    issuer = Issuer()
    async with identity(issuer) as it:
        await asyncio.sleep(60)
        assert issuer.reads == 2
        issuer.add("second")
        with pytest.raises(Unavailable, match="being read again"):
            it.authenticate(issuer.token(now()))
        await asyncio.sleep(0.1)
        assert it.authenticate(issuer.token(now())).uid == "uid-1"


async def test_another_issuer_is_learnt_likewise():
    issuer = Issuer()
    async with identity(issuer) as it:
        await asyncio.sleep(60)
        issuer.name = "https://moved"
        with pytest.raises(Unavailable, match="another issuer"):
            it.authenticate(issuer.token(now()))
        await asyncio.sleep(0.1)
        assert it.authenticate(issuer.token(now())).uid == "uid-1"


async def test_strangers_cannot_have_the_keys_read_all_the_time():
    issuer, forger = Issuer(), Issuer()
    forger.add("forged")
    async with identity(issuer) as it:
        own, forged, before = issuer.token(now(), exp=now() + 1e4), forger.token(now()), issuer.reads
        for _ in range(720):
            with contextlib.suppress(Unauthenticated, Unavailable):
                it.authenticate(forged)
            await asyncio.sleep(5)
            assert it.authenticate(own)
        assert 2 * 10 <= issuer.reads - before <= 2 * 18


async def test_a_key_that_was_withdrawn_counts_no_longer_within_the_hour():
    issuer = Issuer()
    issuer.add("second")
    async with identity(issuer) as it:
        token = issuer.token(now(), exp=now() + 1e6)
        assert it.authenticate(token)
        issuer.told.pop()
        await asyncio.sleep(3700)
        with pytest.raises(Unavailable, match="does not know"):
            it.authenticate(token)


async def test_while_the_keys_cannot_be_read_nobody_is_let_in_and_it_is_said_why():
    issuer = Issuer()
    issuer.error = Denied("get /openid/v1/jwks: forbidden")
    async with identity(issuer) as it:
        with pytest.raises(Unavailable, match="forbidden; bind the ClusterRole system:service-account-issuer-discovery"):
            it.authenticate(issuer.token(now()))
        issuer.error = None
        await asyncio.sleep(30)
        assert it.authenticate(issuer.token(now())).uid == "uid-1"
        issuer.error = Unavailable("the API server is away")
        await asyncio.sleep(7200)
        assert it.authenticate(issuer.token(now())).uid == "uid-1"


async def test_keys_that_are_no_keys_for_this_are_passed_over():
    issuer = Issuer()
    secret = base64.urlsafe_b64encode(b"k" * 32).decode()
    issuer.told += [{"kty": "oct", "kid": "shared", "k": secret, "alg": "HS256"}, {"kty": "new", "kid": "x"}, {"kid": "y"}, {}]
    async with identity(issuer) as it:
        assert it.authenticate(issuer.token(now()))
        with pytest.raises(Unauthenticated, match="does not know"):
            it.authenticate(
                jwt.encode({"exp": now() + 9, "iss": issuer.name, "aud": "rayscaler"}, "k" * 32, "HS256", headers={"kid": "shared"})
            )
