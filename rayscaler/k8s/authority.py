"""The service's own certificate authority, as PEM: made, judged, renewed. Pure but for chance; the time is handed in."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rayscaler.errors import InvalidRequest

SERVICES = ("rayscaler", "rayscaler-leader")
"""Names of the Services in front of the replicas."""
MACHINE = ("localhost", "127.0.0.1")
"""Names by which a replica reaches itself, and a port-forward it."""
DAY_S = 86400.0


@dataclass(frozen=True)
class Lives:
    """How long certificates live, in seconds; each is renewed when a third is left."""

    authority_s: float = 3650 * DAY_S
    server_s: float = 365 * DAY_S
    spread_s: float = DAY_S
    """Until everybody knows a new authority: kubelets need a minute or two, monitors look with their next connection."""
    backdate_s: float = 300.0
    """A certificate is valid from so long before it was made: clocks differ."""


@dataclass(frozen=True)
class Papers:
    """What the Secret keeps, PEM all: the certificate (and chain), its key, the authorities (newest first), the newest one's key."""

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    authority_key: bytes = field(repr=False, default=b"")
    """Empty where somebody else renews the certificate."""


class Due(Enum):
    """What has to be renewed."""

    NOTHING = "nothing"
    AUTHORITY = "authority"
    SERVER = "server certificate"


def names(namespace: str) -> tuple[str, ...]:
    """Return every name by which the service is dialled."""
    return (*(f"{each}{rest}" for each in SERVICES for rest in ("", *(f".{namespace}{zone}" for zone in _ZONES))), *MACHINE)


_ZONES = ("", ".svc", ".svc.cluster.local")


def founded(names: Sequence[str], now: float, lives: Lives) -> Papers:
    """Make an authority and a certificate of it."""
    key, authority = _authority(now, lives)
    return _issued(Papers(b"", b"", _pem(authority), _key_pem(key)), names, now, lives)


def renewed(papers: Papers, due: Due, names: Sequence[str], now: float, lives: Lives) -> Papers:
    """Renew what is due. A new authority stands beside those still valid, and signs nothing before it is known (`lives.spread_s`)."""
    if due is Due.AUTHORITY:
        key, authority = _authority(now, lives)
        still = b"".join(_pem(each) for each in _certificates(papers.authorities, "ca.crt") if each.not_valid_after_utc > _moment(now))
        return Papers(papers.certificate, papers.key, _pem(authority) + still, _key_pem(key))
    return _issued(papers, names, now, lives) if due is Due.SERVER else papers


def due(papers: Papers, names: Sequence[str], now: float, lives: Lives) -> Due:
    """Say what has to be renewed, one thing at a time; raises InvalidRequest for papers that do not fit together."""
    server = _certificates(papers.certificate, "tls.crt")[0]
    if _key(papers.key, "tls.key").public_key() != server.public_key():
        raise InvalidRequest("tls.key: is not the key of tls.crt")
    authorities = _certificates(papers.authorities, "ca.crt")
    if not papers.authority_key:
        return Due.NOTHING
    newest = authorities[0]
    if _key(papers.authority_key, "ca.key").public_key() != newest.public_key():
        raise InvalidRequest("ca.key: is not the key of the first certificate in ca.crt")
    if not any(_is_of(server, each) for each in authorities):
        raise InvalidRequest("tls.crt: none of the authorities in ca.crt has issued it")
    if _is_late(newest, now):
        return Due.AUTHORITY
    is_known = _is_of(server, newest) or now >= newest.not_valid_before_utc.timestamp() + lives.backdate_s + lives.spread_s
    is_wanted = _is_late(server, now) or set(_names(server)) != set(names)
    return Due.SERVER if is_wanted and (is_known or server.not_valid_after_utc <= _moment(now)) else Due.NOTHING


def ends_at(papers: Papers) -> str:
    """Return until when the certificate is valid, for people."""
    return _certificates(papers.certificate, "tls.crt")[0].not_valid_after_utc.isoformat()


def _authority(now: float, lives: Lives) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: two authorities of one name in a bundle confuse those that look for the issuer by name.
    name = _name(f"rayscaler {_moment(now):%Y-%m-%d} {x509.random_serial_number() % 2**32:08x}")
    usage = _usage(digital_signature=False, key_cert_sign=True, crl_sign=True)
    builder = _builder(name, key, now, lives.authority_s, lives).issuer_name(name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).add_extension(usage, critical=True)
    return key, builder.sign(key, SHA256())


def _issued(papers: Papers, names: Sequence[str], now: float, lives: Lives) -> Papers:
    """Issue a server certificate by the newest authority."""
    authority, authority_key = _certificates(papers.authorities, "ca.crt")[0], _key(papers.authority_key, "ca.key")
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise InvalidRequest("ca.key: is no key of an elliptic curve")
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(SERVICES[0]), key, now, lives.server_s, lives).issuer_name(authority.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(digital_signature=True, key_cert_sign=False, crl_sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
    builder = builder.add_extension(x509.SubjectAlternativeName([_general(each) for each in names]), critical=False)
    return Papers(_pem(builder.sign(authority_key, SHA256())), _key_pem(key), papers.authorities, papers.authority_key)


def _builder(name: x509.Name, key: ec.EllipticCurvePrivateKey, now: float, life_s: float, lives: Lives) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now - lives.backdate_s))
        .not_valid_after(_moment(now + life_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _usage(*, digital_signature: bool, key_cert_sign: bool, crl_sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _names(certificate: x509.Certificate) -> list[str]:
    """Return the names that a certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(each.value) for each in found]


def _is_of(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _is_late(certificate: x509.Certificate, now: float) -> bool:
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return certificate.not_valid_after_utc - _moment(now) < life / 3


def _moment(now: float) -> datetime:
    return datetime.fromtimestamp(now, UTC)


def _certificates(pem: bytes, where: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise InvalidRequest(f"{where}: is no certificate in PEM") from error


def _key(pem: bytes, where: str) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest(f"{where}: is no private key in PEM without a password") from error


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
