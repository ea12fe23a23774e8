"""The one HTTP call, to a server that is not ours: whom it trusts, what it shows, and that nothing but a success is one."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from rayscaler.__main__ import cli
from rayscaler.errors import InvalidRequest, Unavailable
from rayscaler.settings import WebhookSettings
from rayscaler.webhook import receiver
from rayscaler.webhook.receiver import Receiver
from tests.plugin.certificates import certificate, written
from tests.webhook.server import served

pytestmark = pytest.mark.tier("protocol")

SECRET = "s3cr3t-path"


@contextlib.asynccontextmanager
async def to(url: str, **fields) -> AsyncIterator[Receiver]:
    made = Receiver(WebhookSettings(url, **fields))
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture(autouse=True)
def _directly(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


async def test_a_post_brings_the_body_as_json_and_the_token_as_its_file_has_it_at_that_time(tmp_path):
    token = tmp_path / "token"
    token.write_text("one\n")
    async with served() as server, to(f"http://127.0.0.1:{server.port}/a?b=c", token=token) as ours:
        await ours.post(b'{"x": 1}')
        token.write_text("two")
        await ours.post(b'{"x": 2}')
        token.unlink()
        with pytest.raises(Unavailable, match=r"RAYSCALER_WEBHOOK_TOKEN_FILE: '.*token': cannot be read: No such file"):
            await ours.post(b"{}")
    (first, headers, body), (_, second, _) = server.requests
    assert (first, body) == ("POST /a?b=c HTTP/1.1", b'{"x": 1}')
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("rayscaler/")
    assert (headers["authorization"], second["authorization"]) == ("Bearer one", "Bearer two")


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "401 Unauthorized", "404 Not Found", "429 Slow", "500 Broken"])
async def test_any_other_answer_is_none_and_no_redirect_is_followed(status):
    async with served() as other, served() as server, to(f"http://127.0.0.1:{server.port}/{SECRET}") as ours:
        server.status = status
        server.more = f"Location: http://127.0.0.1:{other.port}/\r\nContent-Length: 0\r\n"
        with pytest.raises(Unavailable) as told:
            await ours.post(b"{}")
        assert (len(server.requests), other.requests) == (1, [])
    assert f"http://127.0.0.1:{server.port} answers {status[:3]}" in str(told.value)
    assert SECRET not in str(told.value)


async def test_an_answer_without_end_is_not_read():
    async with served() as server, to(f"http://127.0.0.1:{server.port}/") as ours, asyncio.timeout(10):
        server.status, server.more = "200 OK", "Content-Length: 1000000000000\r\n"
        await ours.post(b"{}")


async def test_what_is_no_http_and_what_is_not_there_is_told_without_the_secret_in_the_address():
    async with served() as server:
        server.status = "nonsense"
        url = f"http://127.0.0.1:{server.port}/{SECRET}"
        async with to(url) as ours:
            with pytest.raises(Unavailable) as told:
                await ours.post(b"{}")
            assert SECRET not in str(told.value)
    async with to(url) as ours:
        with pytest.raises(Unavailable) as told:
            await ours.post(b"{}")
        assert SECRET not in str(told.value)
        assert f"http://127.0.0.1:{server.port}: " in str(told.value)


async def test_over_tls_only_who_is_vouched_for_is_told(tmp_path):
    authority = certificate(["an authority"])
    ca, _ = written(tmp_path, "ca", authority)
    for name, host, is_trusted in (("right", "localhost", True), ("wrong", "elsewhere", False)):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*written(tmp_path, name, certificate([host], authority)))
        async with served(context) as server:
            for file in (ca, None):
                async with to(f"https://localhost:{server.port}/", ca=file) as ours:
                    if file is not None and is_trusted:
                        await ours.post(b"{}")
                    else:
                        with pytest.raises(Unavailable, match=r"certificate verify failed|CERTIFICATE_VERIFY_FAILED"):
                            await ours.post(b"{}")
            assert len(server.requests) == is_trusted


def test_an_image_without_authorities_of_its_own_trusts_those_of_certifi(monkeypatch):
    nothing = ssl.get_default_verify_paths()._replace(cafile=None, capath=None)
    monkeypatch.setattr(receiver.ssl, "get_default_verify_paths", lambda: nothing)
    assert len(receiver.trusted(None).get_ca_certs()) > 50


@pytest.mark.parametrize(
    ("content", "rule"),
    [(b"", "is no token: it must be one word"), (b"a b", "one word"), (b"a\r\nX: y", "one word"), (b"\xff", "other characters than ASCII")],
)
def test_a_file_that_has_no_token_is_refused_at_the_start(tmp_path, content, rule):
    (tmp_path / "token").write_bytes(content)
    with pytest.raises(InvalidRequest, match=f"RAYSCALER_WEBHOOK_TOKEN_FILE: '.*token': .*{rule}"):
        Receiver(WebhookSettings("http://x/", token=tmp_path / "token"))


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_has_no_authority_is_refused_at_the_start(tmp_path, content):
    if content is not None:
        (tmp_path / "ca").write_text(content)
    with pytest.raises(InvalidRequest, match=r"RAYSCALER_WEBHOOK_CA: '.*ca': cannot be used: "):
        Receiver(WebhookSettings("https://x/", ca=tmp_path / "ca"))


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"RAYSCALER_WEBHOOK_URL": "ftp://x/"}, "error: RAYSCALER_WEBHOOK_URL: 'ftp://x/': is no address to post to: give http://HOST"),
        (
            {"RAYSCALER_WEBHOOK_URL": "http://x/", "RAYSCALER_WEBHOOK_TOKEN_FILE": "/nowhere/token"},
            "error: RAYSCALER_WEBHOOK_TOKEN_FILE: '/nowhere/token': cannot be read: No such file or directory",
        ),
    ],
)
def test_serve_refuses_to_start_with_a_setting_that_cannot_be_used(tmp_path, env, said):
    definition = Path(__file__).parents[2] / "examples/demo.yaml"
    argv = ["serve", "-f", str(definition), "--state-dir", str(tmp_path), "--listen", "127.0.0.1:0"]
    done = CliRunner().invoke(cli, argv, env=env)
    problem = done.exception
    assert isinstance(problem, InvalidRequest)
    assert said.removeprefix("error: ") in [str(each)[: len(said) - 7] for each in problem.problems]
