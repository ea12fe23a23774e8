"""The conformance suite at an address over TLS: it gets in with its certificate, and says of a plugin that answers others too that it does."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayscaler.clock import SystemClock
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin.conformance import address, identity, suite
from rayscaler.plugin.conformance.check import Outcome, Patience, Result
from rayscaler.plugin.conformance.lab import Lab
from rayscaler.plugin.conformance.subject import AtAddress
from rayscaler.plugin.serve import PluginServer, _credentials
from rayscaler.settings import PluginSettings, TlsFiles
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.plugin import go_plugin
from tests.plugin.certificates import certificate, written
from tests.plugin.door import MAX_MESSAGE_BYTES
from tests.plugin.fake_plugin import QUICK_S
from tests.plugin.judged import OF_A_START, failures, skipped, told

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300)]  # the first builds Go

PLAIN, STRANGERS = "plain-text-has-no-answer", "strangers-have-no-answer"


@dataclass(frozen=True)
class Papers:
    """Of one authority: what a plugin shows, and what a caller does."""

    plugin: TlsFiles
    caller: TlsFiles


@pytest.fixture
def papers(tmp_path) -> Papers:
    authority = certificate(["authority"])
    ca, _ = written(tmp_path, "ca", authority)
    own, callers = (TlsFiles(ca, *written(tmp_path, each, certificate([each], authority))) for each in ("localhost", "caller"))
    return Papers(own, callers)


@contextlib.asynccontextmanager
async def served(tls: TlsFiles) -> AsyncIterator[str]:
    """Serve fake machines as a plugin in Python does; return the address."""
    machines = FakeMachines(SystemClock(), delays_s=QUICK_S)
    server = PluginServer(FakeExecutor(machines), name="tls.rayscaler.io")
    try:
        yield f"dns:///localhost:{await server.start('127.0.0.1:0', _credentials(PluginSettings(tls=tls)))}"
    finally:
        await server.stop()
        await machines.close()


@contextlib.asynccontextmanager
async def served_to_anybody(tls: TlsFiles) -> AsyncIterator[str]:
    """Serve the plugin in Go, which takes any certificate."""
    env = {**os.environ, "FAKE_CERT": str(tls.cert), "FAKE_KEY": str(tls.key)}
    made = await asyncio.create_subprocess_exec(go_plugin.build(), stdout=asyncio.subprocess.PIPE, env=env)
    try:
        yield f"dns:///localhost:{int(await made.stdout.readline())}"
    finally:
        made.terminate()
        await made.wait()


async def judged(target: str, tls: TlsFiles) -> dict[str, Result]:
    """Make the checks of an address, and one that any plugin passes that is reached."""
    subject = AtAddress(target, max_message_bytes=MAX_MESSAGE_BYTES, tls=tls)
    lab = Lab(subject, "tls", NodeType("small", Resources.of(CPU=1)), patience=Patience(introduce_s=3.0))
    try:
        results = await suite.run(lab, [*address.CHECKS, identity.CHECKS[0]], lambda check, result: None)
    finally:
        await subject.close()
    return {each.check.name: each for each in results}


def broken(results: dict[str, Result]) -> dict[str, tuple[str, str]]:
    return {name: (each.rule, each.detail) for name, each in results.items() if each.outcome is Outcome.FAILED}


async def test_whoever_lets_in_callers_with_a_certificate_alone_passes_every_check(papers):
    given = [flag for each in ("ca", "cert", "key") for flag in (f"--{each}", str(getattr(papers.caller, each)))]
    async with served(papers.plugin) as target:
        code, document = await told("--end-timeout", "20", "--settle", "1", "--address", target, *given)
    assert (failures(document), code, document["left"]) == ({}, 0, [])
    assert skipped(document) == {*OF_A_START, "a-death-is-told"}


async def test_a_caller_that_shows_no_certificate_is_told_that_the_plugin_should_ask_for_one(papers):
    async with served(TlsFiles(None, papers.plugin.cert, papers.plugin.key)) as target:
        results = await judged(target, TlsFiles(papers.caller.ca))
    assert broken(results) == {}
    assert results[STRANGERS].outcome is Outcome.SKIPPED
    assert results[STRANGERS].detail == address.UNSHOWN


async def test_a_plugin_that_serves_in_the_clear_is_caught_and_asked_nothing_more(papers):
    async with served(TlsFiles()) as target:
        results = await judged(target, papers.caller)
    assert broken(results) == {PLAIN: ("X50", "plain text is answered")}
    assert {each.detail for each in results.values() if each.outcome is Outcome.SKIPPED} == {"it does not answer any more"}


async def test_a_plugin_that_asks_for_no_certificate_is_caught(papers):
    async with served(TlsFiles(None, papers.plugin.cert, papers.plugin.key)) as target:
        assert broken(await judged(target, papers.caller)) == {STRANGERS: ("X50", "a caller without a certificate is answered")}


async def test_a_plugin_that_takes_any_certificate_is_caught(papers):
    async with served_to_anybody(papers.plugin) as target:
        (found,) = broken(await judged(target, papers.caller)).items()
    assert found[0] == STRANGERS
    assert found[1] == ("X50", "a caller is answered whose certificate, in the name of the one it was given, nobody vouches for")


async def test_a_certificate_that_is_none_is_named(papers, tmp_path: Path):
    wrong = tmp_path / "wrong.crt"
    wrong.write_text("no certificate")
    async with served(papers.plugin) as target:
        found = broken(await judged(target, TlsFiles(papers.caller.ca, wrong, papers.caller.key)))
    assert found[STRANGERS] == ("", f"{wrong}: is no certificate in PEM")
