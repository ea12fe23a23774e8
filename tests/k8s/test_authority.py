"""Certificates of our own: what they are for, when they are renewed, and what is refused."""

import ipaddress
from dataclasses import replace
from datetime import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rayscaler.errors import InvalidRequest
from rayscaler.k8s import authority
from rayscaler.k8s.authority import DAY_S, Due, Lives

pytestmark = pytest.mark.tier("unit")

NOW = 1_800_000_000.0
LIVES = Lives()
NAMES = authority.names("ml")
YEAR_S = 365 * DAY_S


def founded(at=NOW, names=NAMES):
    return authority.founded(names, at, LIVES)


def due(papers, at, names=NAMES):
    return authority.due(papers, names, at, LIVES)


def first(pem):
    return x509.load_pem_x509_certificates(pem)[0]


def test_the_certificate_is_for_every_name_of_both_services_and_for_the_machine_itself():
    server = first(founded().certificate)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        *("rayscaler", "rayscaler.ml", "rayscaler.ml.svc", "rayscaler.ml.svc.cluster.local"),
        *("rayscaler-leader", "rayscaler-leader.ml", "rayscaler-leader.ml.svc", "rayscaler-leader.ml.svc.cluster.local"),
        "localhost",
    }
    assert names.get_values_for_type(x509.IPAddress) == [ipaddress.ip_address("127.0.0.1")]
    assert server.not_valid_after_utc.timestamp() == NOW + YEAR_S
    assert server.not_valid_before_utc.timestamp() < NOW


def test_a_certificate_cannot_sign_another():
    papers = founded()
    for pem, is_authority in ((papers.certificate, False), (papers.authorities, True)):
        extensions = first(pem).extensions
        assert extensions.get_extension_for_class(x509.BasicConstraints).value.ca is is_authority
        assert extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign is is_authority


def test_papers_do_not_show_their_keys():
    assert "PRIVATE" not in repr(founded())


@pytest.mark.parametrize(
    ("at", "what"),
    [(0, Due.NOTHING), (0.66 * YEAR_S, Due.NOTHING), (0.67 * YEAR_S, Due.SERVER), (2 * YEAR_S, Due.SERVER), (6.7 * YEAR_S, Due.AUTHORITY)],
)
def test_each_is_renewed_when_a_third_of_its_life_is_left(at, what):
    assert due(founded(), NOW + at) is what


def test_another_name_is_another_certificate_of_the_same_authority():
    papers, more = founded(), (*NAMES, "rayscaler.example.org")
    assert due(papers, NOW, more) is Due.SERVER
    renewed = authority.renewed(papers, Due.SERVER, more, NOW, LIVES)
    assert due(renewed, NOW, more) is Due.NOTHING
    assert renewed.authorities == papers.authorities
    assert renewed.key != papers.key


def test_a_new_authority_is_told_beside_the_old_one_and_signs_once_it_is_known():
    at = NOW + 6.7 * YEAR_S
    papers = authority.renewed(founded(), Due.SERVER, NAMES, at - 0.67 * YEAR_S, LIVES)
    both = authority.renewed(papers, due(papers, at), NAMES, at, LIVES)
    assert both.certificate == papers.certificate
    new, old = x509.load_pem_x509_certificates(both.authorities)
    assert old == first(papers.authorities)
    assert due(both, at) is Due.NOTHING  # though a third of the server's certificate is left
    assert due(both, at + LIVES.spread_s) is Due.SERVER
    last = authority.renewed(both, Due.SERVER, NAMES, at + LIVES.spread_s, LIVES)
    first(last.certificate).verify_directly_issued_by(new)
    assert due(last, at + LIVES.spread_s) is Due.NOTHING


def test_an_authority_that_has_expired_is_told_no_longer_and_an_expired_certificate_does_not_wait():
    papers = founded()
    at = NOW + 11 * YEAR_S
    new = authority.renewed(papers, due(papers, at), NAMES, at, LIVES)
    assert len(x509.load_pem_x509_certificates(new.authorities)) == 1


def test_an_expired_certificate_does_not_wait_until_the_new_authority_is_known():
    at = NOW + 6.7 * YEAR_S
    papers = founded()
    assert due(authority.renewed(papers, Due.AUTHORITY, NAMES, at, LIVES), at) is Due.SERVER


def test_what_somebody_else_renews_is_left_alone():
    papers = replace(founded(), authority_key=b"")
    assert due(papers, NOW + 0.9 * YEAR_S, ("another",)) is Due.NOTHING


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"certificate": b""}, "tls.crt: is no certificate"),
        ({"certificate": b"x"}, "tls.crt: is no certificate"),
        ({"key": b"x"}, "tls.key: is no private key"),
        ({"key": RSA}, "tls.key: is not the key of tls.crt"),
        ({"authorities": b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"}, "ca.crt: is no certificate"),
        ({"authority_key": b"x"}, "ca.key: is no private key"),
        ({"authority_key": RSA}, "ca.key: is not the key of the first certificate"),
        ({"authorities": "other", "authority_key": "other"}, "tls.crt: none of the authorities"),
    ],
)
def test_papers_that_do_not_fit_together_are_named(change, words):
    other = founded()
    change = {name: getattr(other, name) if value == "other" else value for name, value in change.items()}
    with pytest.raises(InvalidRequest, match=words):
        due(replace(founded(), **change), NOW)


def test_it_says_until_when():
    assert datetime.fromisoformat(authority.ends_at(founded())).timestamp() == NOW + YEAR_S
