"""What the monitor shows the service, and what it says when the two do not know each other."""

import time

import pytest

from rayscaler import errors
from rayscaler.api.head.v1 import head_pb2
from rayscaler.k8s import authority
from rayscaler.k8s.authority import Lives
from rayscaler.model.credentials import Certificate
from rayscaler.monitor import credentials
from rayscaler.monitor import main as monitor
from rayscaler.monitor.credentials import Credentials
from rayscaler.monitor.service import GrpcTransport
from rayscaler.settings import MonitorSettings
from tests.protocol.stage import HeadService

pytestmark = pytest.mark.tier("protocol")

REPORT = head_pb2.ReportDemandRequest(cluster="demo", monitor_epoch=1, sequence=1)
DAY_S = 86400.0


def papers(*names, at=0.0):
    return authority.founded(names or ("127.0.0.1",), time.time() + at, Lives(server_s=30 * DAY_S))


@pytest.fixture
async def reported(tmp_path):
    """Report once to a service with these papers, trusting this authority."""
    services = []

    async def report(served, trusted, token="token"):
        service = HeadService()
        services.append(service)
        service.certificate = None if served is None else Certificate(served.certificate, served.key)
        await service.start()
        shown = None
        if trusted is not None:
            (tmp_path / "ca.crt").write_bytes(trusted)
            (tmp_path / "token").write_text(token)
            shown = Credentials(tmp_path / "ca.crt", tmp_path / "token")
        transport = GrpcTransport(service.address, shown=shown, timeout_s=5.0)
        try:
            return await transport.report(REPORT), service
        finally:
            await transport.close()

    yield report
    for each in services:
        await each.stop()


async def test_a_report_goes_over_tls_with_the_token(reported):
    own = papers()
    answer, service = await reported(own, own.authorities)
    assert answer.HasField("next_interval")
    assert service.authorizations == ["Bearer token"]


CASES = {
    "another authority": (papers(), papers().authorities, "ca.crt does not vouch for the service's certificate: it must be the ca.crt of"),
    "expired": (own := papers(at=-31 * DAY_S), own.authorities, "has expired: its log says why it was not renewed"),
    "another name": (own := papers("rayscaler.ns.svc"), own.authorities, "is not for this address: dial it by the name of its Service"),
    "plain text there": (None, papers().authorities, "speaks plain text: turn its TLS on, or leave --ca and --token out"),
    "plain text here": (papers(), None, "a service that speaks TLS closes plain text: give --ca and --token"),
    "no certificate": (papers(), b"x", "ca.crt has no certificate; give it the ca.crt of the service's ConfigMap rayscaler-ca"),
    "garbage": (papers(), b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n", "ca.crt cannot be read as certificates"),
}


@pytest.mark.parametrize(("served", "trusted", "words"), CASES.values(), ids=CASES)
async def test_ends_that_do_not_know_each_other_are_told_what_to_do(reported, served, trusted, words):
    with pytest.raises(errors.Unavailable) as refused:
        await reported(served, trusted)
    assert words in str(refused.value)


@pytest.mark.parametrize("token", ["", " \n", "töken", "to\nken"])
async def test_what_is_no_token_is_not_sent(reported, token):
    own = papers()
    with pytest.raises(errors.Unavailable, match="token holds no token"):
        await reported(own, own.authorities, token)


async def test_files_that_are_not_there_yet_are_named(tmp_path):
    shown = Credentials(tmp_path / "ca.crt", tmp_path / "token")
    for look in (shown.roots, shown.metadata):
        with pytest.raises(errors.Unavailable, match="cannot be read: No such file"):
            look()


async def test_a_token_is_never_meant_for_plain_text(tmp_path):
    settings = MonitorSettings("demo", "127.0.0.1:1", "127.0.0.1:2", token=tmp_path / "token")
    with pytest.raises(errors.InvalidRequest, match="--token: is sent over TLS only; give --ca too"):
        await monitor.run(settings)
    assert credentials.of(MonitorSettings("demo", "127.0.0.1:1", "127.0.0.1:2")) is None
