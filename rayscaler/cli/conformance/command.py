"""The command: flags become a lab, a lab becomes results, files and an exit code."""

import asyncio
import json
import os
import re
import secrets
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from rayscaler.cli.conformance import nodetype
from rayscaler.cli.conformance.view import View, rules
from rayscaler.cli.exits import Exit
from rayscaler.config import executors
from rayscaler.errors import InvalidRequest, Problem, Unavailable
from rayscaler.plugin.conformance import report, suite
from rayscaler.plugin.conformance.check import Check, Outcome, Patience, Result
from rayscaler.plugin.conformance.lab import Lab
from rayscaler.plugin.conformance.subject import AtAddress, Command, Subject
from rayscaler.plugin.conformance.unseen import UNSEEN
from rayscaler.settings import ServiceSettings

PREFIX = re.compile(r"[a-z]([a-z0-9-]{0,22}[a-z0-9])?")
"""Of names that any world can have: a cluster's, and what is made of it, are names in DNS on Kubernetes."""
FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
KILL_S = 60.0
"""A --kill command has so long."""


@click.command()
@click.option(
    "--address", default="", help="A plugin that runs: unix:///PATH, or dns:///HOST:PORT over TLS, with --ca and perhaps --cert and --key."
)
@click.option(
    "--ca", type=FILE, help="At dns:///: who vouches for the plugin (PEM), default RAYSCALER_EXECUTOR_CA; --cert and --key likewise."
)
@click.option("--cert", type=FILE, help="The certificate that is shown to it; then it must be one that answers nobody without.")
@click.option("--key", type=FILE, help="The key of --cert.")
@click.option("--exec", "command", default="", metavar="CMD", help="A plugin to start, and to kill and start again: its command line.")
@click.option(
    "--list", "is_list", is_flag=True, help="Print the checks with the rules of SPEC.md that they check, and the rules that none can."
)
@click.option("--only", multiple=True, metavar="NAME|RULE", help="Make only this check, or those of this rule; repeatable.")
@click.option("--node-type", "file", type=click.Path(path_type=Path), help="What to launch: a YAML file with a node type, or a definition.")
@click.option("--type", "type_name", default="", help="Name of the node type, where the file has several.")
@click.option("--head", default=Lab.head_address, show_default=True, metavar="HOST:PORT", help="The GCS that nodes are told to join.")
@click.option("--prefix", default="conformance", show_default=True, help="What names of clusters and instances of this run begin with.")
@click.option("--max-instances", default=Lab.max_instances, show_default=True, type=click.IntRange(0), help="Never more alive at once.")
@click.option(
    "--kill", default="", metavar="CMD", help="Shell command that ends an instance from outside: CLUSTER, INSTANCE_ID, EXTERNAL_ID."
)
@click.option("--call-timeout", default=Patience.call_s, show_default=True, type=click.FloatRange(1), help="Seconds that a call may take.")
@click.option(
    "--end-timeout", default=Patience.end_s, show_default=True, type=click.FloatRange(1), help="Seconds from Terminate until gone."
)
@click.option(
    "--prompt", default=Patience.prompt_s, show_default=True, type=click.FloatRange(0.1), help="Seconds in which a call begins something."
)
@click.option(
    "--settle", default=Patience.settle_s, show_default=True, type=click.FloatRange(0.1), help="Seconds to look at one on its way."
)
@click.option("--junit", type=click.Path(path_type=Path, dir_okay=False), help="Write JUnit's XML here.")
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON.")
def conformance(
    *, address: str, command: str, is_list: bool, only: tuple[str, ...], junit: Path | None, as_json: bool, **flags: Any
) -> None:
    """Check whether a plugin keeps every MUST of SPEC.md that can be seen from outside.

    Launches a few instances at a time under names of its own, and ends all of them, also after Ctrl-C.
    """
    checks = _chosen(only)
    if is_list:
        rules(checks, UNSEEN)
        return
    if bool(address) == bool(command):
        raise click.UsageError("give the plugin that is meant: its --address, or its command with --exec")
    argv = shlex.split(command)
    settings = ServiceSettings.from_env(tls={each: flags.pop(each) for each in ("ca", "cert", "key")})
    with tempfile.TemporaryDirectory(prefix="rayscaler-") as directory:
        subject = Command(argv, Path(directory), settings.max_message_bytes) if argv else _at(address, settings)
        lab = _lab(subject, address or {"exec": argv}, **flags)
        view = View(len(checks), on_stderr=as_json)
        results = asyncio.run(_run(lab, checks, view))
    left = sorted("/".join(each) for each in lab.alive)
    view.summary(results, left, lab.most_alive)
    if junit is not None:
        junit.write_bytes(report.junit(subject.peer, results))
    if as_json:
        click.echo(json.dumps(report.document(subject.peer, results, left)))
    if len(results) < len(checks):
        click.echo("interrupted: what was launched has been ended" if not left else "interrupted: not everything was ended", err=True)
        sys.exit(Exit.INTERRUPTED)
    sys.exit(Exit.FAILED if left or any(each.outcome is Outcome.FAILED for each in results) else Exit.DONE)


def _at(address: str, settings: ServiceSettings) -> Subject:
    if not executors.is_address(address):
        raise InvalidRequest(Problem("--address", repr(address), executors.ADDRESS_RULE))
    return AtAddress(address, max_message_bytes=settings.max_message_bytes, tls=settings.executor_tls)


def _lab(subject: Subject, executor: object, **flags: Any) -> Lab:
    prefix, kill = flags["prefix"], flags["kill"]
    if PREFIX.fullmatch(prefix) is None:
        raise InvalidRequest(f"--prefix: {prefix!r}: must be lower-case letters, digits and '-', at most 24, a letter first")
    return Lab(
        subject=subject,
        token=f"{prefix}-{secrets.token_hex(3)}",
        node_type=nodetype.chosen(flags["file"], flags["type_name"], executor),
        head_address=flags["head"],
        max_instances=flags["max_instances"],
        patience=Patience(call_s=flags["call_timeout"], end_s=flags["end_timeout"], prompt_s=flags["prompt"], settle_s=flags["settle"]),
        kill=partial(_kill, kill) if kill else None,
    )


async def _run(lab: Lab, checks: Sequence[Check], view: View) -> list[Result]:
    """Make the checks; SIGTERM and Ctrl-C stop that, and what was begun is ended all the same. Fewer results than checks say so."""
    results: list[Result] = []

    def tell(check: Check, result: Result | None) -> None:
        view.tell(check, result)
        if result is not None:
            results.append(result)

    running = asyncio.create_task(suite.run(lab, checks, tell), name="conformance")
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        await asyncio.wait({running})
    finally:
        view.close()
        await lab.subject.close()
    if not running.cancelled():
        running.result()
    return results


def _chosen(only: Sequence[str]) -> list[Check]:
    """Return the checks that are meant; raises InvalidRequest for what is no check and no rule."""
    known = {each.name for each in suite.CHECKS} | {rule for each in suite.CHECKS for rule in each.rules}
    strangers = [each for each in only if each not in known]
    if strangers:
        raise InvalidRequest(
            *(f"--only: {each!r}: {UNSEEN.get(each, 'is no check and no rule; --list prints them')}" for each in strangers)
        )
    return [each for each in suite.CHECKS if not only or {each.name, *each.rules} & set(only)]


async def _kill(command: str, cluster: str, instance_id: str, external_id: str) -> None:
    env = {**os.environ, "CLUSTER": cluster, "INSTANCE_ID": instance_id, "EXTERNAL_ID": external_id}
    made = await asyncio.create_subprocess_shell(command, stdin=asyncio.subprocess.DEVNULL, stdout=sys.stderr, env=env)
    try:
        async with asyncio.timeout(KILL_S):
            code = await made.wait()
    except TimeoutError:
        made.kill()
        await made.wait()
        raise
    if code:
        raise Unavailable(f"--kill {command!r} exited with code {code}")
