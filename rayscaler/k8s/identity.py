"""Who calls: checks the tokens that Kubernetes makes for pods, offline, against the keys of whoever issues them.

A token counts when it was made for this service (audience) and for a pod of this namespace. Whether that pod is the head that
counts is not decided here: a token outlives its pod until it expires.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import jwt
import msgspec
import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Denied, RayscalerError, Unauthenticated, Unavailable
from rayscaler.k8s.client import Client
from rayscaler.model.credentials import Caller

log = structlog.get_logger(__name__)

AUDIENCE = "rayscaler"
ALGORITHMS = ("RS256", "ES256", "ES384", "ES512")
"""All that Kubernetes signs with; none by a secret that is shared, and not `none`."""
LEEWAY_S = 30.0
"""Clocks differ."""
DISCOVERY, KEYS = ".well-known/openid-configuration", "openid/v1/jwks"
"""Paths at the API server: it tells the keys itself also where the issuer is somebody else's address."""


@dataclass(frozen=True)
class Pauses:
    """Seconds between two readings of the keys."""

    old_s: float = 3600.0
    """So old may the keys become: one that was withdrawn counts no longer."""
    least_s: float = 10.0
    """Between two that a token with an unknown key asked for; doubles up to most_s while they bring nothing new: anybody can make such tokens."""
    most_s: float = 300.0
    retry_s: float = 0.5
    """After a failure; doubles up to retry_most_s."""
    retry_most_s: float = 30.0


@dataclass(frozen=True)
class _Issuer:
    """Who issues tokens, and its keys by their names."""

    name: str
    keys: Mapping[str, jwt.PyJWK]


class Identity:
    """Tells callers of one namespace by their tokens."""

    def __init__(self, client: Client, namespace: str, *, clock: Clock, pauses: Pauses | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._pauses = pauses or Pauses()
        self._issuer: _Issuer | None = None
        self._problem = "the keys of the issuer are being read"
        self._wanted = asyncio.Event()
        self._may_ask = True

    def authenticate(self, token: str) -> Caller:
        """Return the pod that a token is of.

        Raises Unauthenticated for a token that is not valid, Denied for a valid one of another namespace, Unavailable while nobody can tell.
        """
        if self._issuer is None:
            raise Unavailable(f"tokens cannot be checked: {self._problem}")
        claims = self._verified(token, self._issuer)
        now = self._clock.now()
        if not claims.exp + LEEWAY_S > now:
            raise Unauthenticated(f"the token expired {now - claims.exp:.0f} s ago; kubelet renews it in its file: read that again")
        if not claims.nbf - LEEWAY_S <= now:
            raise Unauthenticated(
                f"the token is valid in {claims.nbf - now:.0f} s only: the clocks of the API server and the service differ"
            )
        return self._caller(claims)

    async def run(self) -> NoReturn:
        """Read the keys, and read them again when a token names one that is not known, for ever."""
        failures, least_s = 0, self._pauses.least_s
        while True:
            try:
                found = await self._read()
            except RayscalerError as error:
                failures += 1
                self._problem = str(error)
                log.warning("identity.no_keys", error=error.name, detail=self._problem)
                await asyncio.sleep(min(self._pauses.retry_s * 2.0 ** min(failures - 1, 16), self._pauses.retry_most_s))
                continue
            is_new = self._issuer is None or (found.name, set(found.keys)) != (self._issuer.name, set(self._issuer.keys))
            failures, least_s = 0, self._pauses.least_s if is_new else min(least_s * 2, self._pauses.most_s)
            self._issuer, self._may_ask = found, False
            await asyncio.sleep(least_s)
            self._may_ask = True
            await self._until_wanted()

    async def _until_wanted(self) -> None:
        self._wanted.clear()
        try:
            async with asyncio.timeout(self._pauses.old_s):
                await self._wanted.wait()
        except TimeoutError:
            pass

    async def _read(self) -> _Issuer:
        try:
            discovery, keys = await self._client.read(DISCOVERY), await self._client.read(KEYS)
        except Denied as error:
            raise Denied(f"{error}; bind the ClusterRole system:service-account-issuer-discovery to the service's account") from error
        try:
            return _Issuer(msgspec.json.decode(discovery, type=_Discovery).issuer, _usable(msgspec.json.decode(keys, type=_Keys).keys))
        except msgspec.DecodeError as error:
            raise Unavailable(f"the API server's {DISCOVERY} or {KEYS} is not what it must be: {error}") from error

    def _verified(self, token: str, issuer: _Issuer) -> "_Claims":
        try:
            name = jwt.get_unverified_header(token).get("kid")
            key = issuer.keys.get(str(name))
            if key is None:
                raise self._stranger("is signed with a key that the API server does not know")
            # Times are checked by our own clock.
            options: Any = {"require": ["exp", "iss", "aud"], "verify_exp": False, "verify_nbf": False, "verify_iat": False}
            claims = jwt.decode(token, key, algorithms=[key.algorithm_name], audience=AUDIENCE, issuer=issuer.name, options=options)
            return msgspec.convert(claims, _Claims)
        except jwt.InvalidAudienceError as error:
            raise Unauthenticated(f"the token is not for the audience {AUDIENCE!r}; give the monitor's volume that audience") from error
        except jwt.InvalidIssuerError as error:
            raise self._stranger("has another issuer than the API server names") from error
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError, RecursionError) as error:  # the last two: garbage
            raise Unauthenticated(f"the token is not valid: {error}") from error

    def _stranger(self, what: str) -> RayscalerError:
        """Return the refusal of a token whose issuer or key is not known, and have the keys read again unless they were just now."""
        if not self._may_ask:
            return Unauthenticated(f"the token {what}")
        self._wanted.set()
        return Unavailable(f"the token {what}; the keys are being read again")

    def _caller(self, claims: "_Claims") -> Caller:
        said = claims.kubernetes
        if said.namespace != self._namespace:
            raise Denied(f"the token is of namespace {said.namespace!r}, and this service serves {self._namespace!r} alone")
        if not said.pod.uid:
            raise Unauthenticated("the token is not bound to a pod; use the one of a projected volume")
        return Caller(said.namespace, said.pod.name, said.pod.uid)


class _Discovery(msgspec.Struct):
    issuer: str


class _Keys(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Pod(msgspec.Struct):
    name: str = ""
    uid: str = ""


class _Kubernetes(msgspec.Struct):
    namespace: str = ""
    pod: _Pod = msgspec.field(default_factory=_Pod)


class _Claims(msgspec.Struct):
    exp: float
    nbf: float = 0.0
    kubernetes: _Kubernetes = msgspec.field(name="kubernetes.io", default_factory=_Kubernetes)


def _usable(keys: list[dict[str, Any]]) -> dict[str, jwt.PyJWK]:
    """Return the keys that tokens may be signed with, by name; others, as of a kind not known here, are passed over."""
    found: dict[str, jwt.PyJWK] = {}
    for each in keys:
        try:
            key = jwt.PyJWK(each)
        except jwt.PyJWTError:
            continue
        if key.key_id and key.algorithm_name in ALGORITHMS and key.public_key_use in (None, "sig"):
            found[key.key_id] = key
    return found
