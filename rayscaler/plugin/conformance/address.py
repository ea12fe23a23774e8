"""Checks of a plugin at a dns:/// address: whom it answers. They come before all others, which speak to it as one who may."""

from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rayscaler.errors import InvalidRequest
from rayscaler.plugin import calls
from rayscaler.plugin.conformance.check import Check, Skipped, Want
from rayscaler.plugin.conformance.lab import Lab
from rayscaler.plugin.conformance.need import need
from rayscaler.plugin.conformance.subject import AtAddress
from rayscaler.plugin.connection import open_channel

REFUSED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
"""What a call comes to that reached nobody; any other code is somebody's answer."""
UNSHOWN = "the caller shows no certificate: give --cert and --key. A plugin at an address should ask for one"
"""Why a check of a plugin that may answer everybody who knows its authority is skipped."""
ANSWER_BYTES = 1 << 20
VALID = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
"""Of a certificate that nobody should take for another reason."""


async def plain_text_has_no_answer(lab: Lab) -> None:
    """At a dns:/// address nobody is answered without TLS."""
    need("X50", not await _is_answered(lab, None), "plain text is answered")


async def strangers_have_no_answer(lab: Lab) -> None:
    """Where callers show a certificate, nobody is answered without one, or with one that nobody vouches for."""
    if not isinstance(lab.subject, AtAddress) or lab.subject.tls.cert is None:
        raise Skipped(UNSHOWN)
    ca, cert, _ = lab.subject.tls.read()
    need("X50", not await _is_answered(lab, grpc.ssl_channel_credentials(ca)), "a caller without a certificate is answered")
    try:
        forged, key = _forged(cert or b"")
    except ValueError as error:
        raise InvalidRequest(f"{lab.subject.tls.cert}: is no certificate in PEM") from error
    is_fooled = await _is_answered(lab, grpc.ssl_channel_credentials(ca, key, forged))
    need("X50", not is_fooled, "a caller is answered whose certificate, in the name of the one it was given, nobody vouches for")


async def _is_answered(lab: Lab, credentials: grpc.ChannelCredentials | None) -> bool:
    async with open_channel(lab.subject.address, ANSWER_BYTES, credentials) as channel:
        method: Any = channel.unary_unary(calls.HEALTH)
        try:
            await method(b"", timeout=lab.patience.introduce_s)
        except grpc.aio.AioRpcError as error:
            return error.code() not in REFUSED
    return True


def _forged(cert: bytes) -> tuple[bytes, bytes]:
    """Return a certificate with the name of another that vouches for itself, and its key; raises ValueError where the other is none."""
    name, key = x509.load_pem_x509_certificate(cert).subject, ec.generate_private_key(ec.SECP256R1())
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(VALID[0])
        .not_valid_after(VALID[1])
        .sign(key, SHA256())
    )
    return made.public_bytes(Encoding.PEM), key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CHECKS = (
    Check(plain_text_has_no_answer, ("X50",), want=Want.ADDRESS),
    Check(strangers_have_no_answer, ("X50",), want=Want.ADDRESS),
)
