"""An issuer of pods' tokens with keys of its own, which stands in for the API server where it tells of itself."""

import asyncio
import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from rayscaler.errors import RayscalerError
from rayscaler.k8s import identity

ISSUER = "https://kubernetes.default.svc"


class Issuer:
    """Looks like the API server's client to `Identity`; `keys` are by name, those in `told` are published."""

    def __init__(self) -> None:
        self.name = ISSUER
        self.keys: dict[str, Any] = {}
        self.told: list[dict[str, Any]] = []
        self.reads = 0
        self.error: RayscalerError | None = None
        self.add("first")

    def add(self, name: str, *, curve: ec.EllipticCurve | None = None, is_told: bool = True) -> None:
        """Sign with another key from now on."""
        if curve is None:
            key, algorithm = rsa.generate_private_key(public_exponent=65537, key_size=2048), "RS256"
            public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
        else:
            key, algorithm = ec.generate_private_key(curve), {256: "ES256", 384: "ES384", 521: "ES512"}[curve.key_size]
            public = json.loads(ECAlgorithm.to_jwk(key.public_key()))
        self.keys[name] = (key, algorithm)
        if is_told:
            self.told.append({**public, "kid": name, "alg": algorithm, "use": "sig"})

    def token(self, now: float, *, uid: str = "uid-1", signed_by: str = "", without: str = "", headers: Any = None, **claims: Any) -> str:
        """Make a token as the API server does for a pod's projected volume."""
        name = signed_by or list(self.keys)[-1]
        key, algorithm = self.keys[name]
        said = {
            "aud": [identity.AUDIENCE],
            "iss": self.name,
            "sub": "system:serviceaccount:ns:rayscaler-head",
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + 3600,
            "kubernetes.io": {
                "namespace": "ns",
                "node": {"name": "n", "uid": "uid-n"},
                "pod": {"name": "demo-head-1", "uid": uid},
                "serviceaccount": {"name": "rayscaler-head", "uid": "uid-a"},
            },
        } | claims
        said.pop(without, None)
        return jwt.encode(said, key, algorithm, headers={"kid": name, **(headers or {})})

    async def read(self, path: str) -> bytes:
        """Answer as `Client.read` does."""
        self.reads += 1
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        answer = {identity.DISCOVERY: {"issuer": self.name, "jwks_uri": "https://elsewhere/jwks"}, identity.KEYS: {"keys": self.told}}[path]
        return json.dumps(answer).encode()
