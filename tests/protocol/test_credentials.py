"""Any monitor where the service speaks TLS and asks for a token; both files are replaced while it runs."""

import asyncio
import contextlib
import time

import pytest

from rayscaler.k8s import authority
from rayscaler.k8s.authority import Lives, Papers
from rayscaler.model.credentials import Certificate
from tests.protocol.stage import staged

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]  # the first builds Go

CLIENT_HELLO = b"\x16\x03"
"""The first bytes of TLS."""


def papers(*names: str) -> Papers:
    return authority.founded(names or ("127.0.0.1",), time.time(), Lives())


def certificate(of: Papers) -> Certificate:
    return Certificate(of.certificate, of.key)


@contextlib.asynccontextmanager
async def secure(secure_monitor, directory):
    """A stage with TLS on which the monitor reports, and the papers of its service."""
    made = papers()
    (directory / "ca.crt").write_bytes(made.authorities)
    (directory / "token").write_text("token-1\n")
    async with staged(secure_monitor, directory, certificate=certificate(made)) as stage:
        await stage.report()
        yield stage, made


@pytest.mark.parametrize("names", [("127.0.0.1",), ("rayscaler.elsewhere.svc",)], ids=["another-authority", "another-name"])
async def test_h61_a_service_that_cannot_show_who_it_is_gets_no_report(secure_monitor, tmp_path, names):
    async with secure(secure_monitor, tmp_path) as (stage, own):
        stranger = papers(*names)
        if "elsewhere" in names[0]:
            (tmp_path / "ca.crt").write_bytes(own.authorities + stranger.authorities)
        await stage.service.stop()
        stage.service.certificate = certificate(stranger)
        seen, stage.service.handshakes = len(stage.service.tried), 0
        await stage.service.start()
        await stage.until(lambda: stage.service.handshakes >= 3, "that it tries")
        assert len(stage.service.tried) == seen
        await stage.service.stop()
        stage.service.certificate = certificate(own)
        await stage.service.start()
        await stage.report(what="a report to the service that it knows")


async def test_h61_another_authority_counts_from_the_next_connection_on(secure_monitor, tmp_path):
    async with secure(secure_monitor, tmp_path) as (stage, own):
        renewed = papers()
        (tmp_path / "ca.crt").write_bytes(renewed.authorities + own.authorities)
        await stage.service.stop()
        stage.service.certificate = certificate(renewed)
        await stage.service.start()
        await stage.report(what="a report to the renewed service")


async def test_h61_h62_there_is_no_way_back_to_plain_text(secure_monitor, tmp_path):
    async with secure(secure_monitor, tmp_path) as (stage, _):
        await stage.service.stop()
        openings: list[bytes] = []

        async def listen(reader, writer):
            openings.append(await reader.read(1 << 16))
            writer.close()

        host, port = stage.service.address.split(":")
        server = await asyncio.start_server(listen, host, int(port))
        await stage.until(lambda: len([each for each in openings if each]) >= 3, "that it tries")
        server.close()
        await server.wait_closed()
        for each in filter(None, openings):
            assert each.startswith(CLIENT_HELLO)
            assert b"token-1" not in each


async def test_h62_the_token_goes_with_every_report_as_the_file_has_it_and_nowhere_else(secure_monitor, tmp_path):
    async with secure(secure_monitor, tmp_path) as (stage, _):
        (tmp_path / "token").write_text("token-2\n")
        await stage.until(lambda: "Bearer token-2" in stage.service.authorizations, "the new token")
        seen = len(stage.service.authorizations)
        await stage.until(lambda: len(stage.service.authorizations) >= seen + 2)
        first = stage.service.authorizations.index("Bearer token-2")
        assert set(stage.service.authorizations[:first]) == {"Bearer token-1"}
        assert set(stage.service.authorizations[first:]) == {"Bearer token-2"}
        assert all(b"token-" not in request.SerializeToString() for _, _, request in stage.service.tried)
        assert "token-1" not in (tmp_path / "monitor.log").read_text()
