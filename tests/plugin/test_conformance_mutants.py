"""The conformance suite notices what is wrong with a plugin, and names no other rule: it is tested by plugins that are each wrong in one thing."""

import asyncio
import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin import service
from rayscaler.plugin.conformance import suite
from rayscaler.plugin.conformance.check import Outcome, Patience, Result, Want
from rayscaler.plugin.conformance.lab import Lab
from tests.plugin import mutants
from tests.plugin.mutants import ROWS, Mutant, Row, ending, launching, watching
from tests.plugin.stage import until

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

PATIENCE = Patience(call_s=4.0, end_s=3.0, settle_s=0.5, prompt_s=1.5, introduce_s=2.0, first_s=1.0, change_s=1.0, beat_s=1.0, died_s=2.0)
AT_ONCE = 10
"""Mutants that are tested at the same time: they mostly wait."""
SLOWEST = (launching.LaunchWaits, watching.LateAtFirst, ending.EndsAtTheSecondCall, ending.TerminateWaits)
"""They begin: each takes as long as five others, and nobody would be beside one that came last."""


@dataclass
class Run:
    """What came of the checks of one mutant, and what was left of it in the end."""

    results: list[Result]
    most_alive: int
    left: list[tuple[str, str]]


async def gone(subject: mutants.Served) -> None:
    """Wait until what was told to end has ended, also where the mutant does not list it."""
    with contextlib.suppress(TimeoutError):
        await until(lambda: not subject.machines.machines, 2 * mutants.SLOW_S)


async def examined(kind: type[Mutant], gate: asyncio.Semaphore) -> Run:
    """Make all checks of one mutant."""
    directory = Path(tempfile.mkdtemp(prefix="m-"))
    async with gate, mutants.served(kind, directory / "s") as subject:
        lab = Lab(subject, f"t-{kind.__name__.lower()}", NodeType("small", Resources.of(CPU=1)), patience=PATIENCE, kill=subject.kill)
        results = await suite.run(lab, suite.CHECKS, lambda check, result: None)
        await gone(subject)
        left = list(subject.machines.machines)
    shutil.rmtree(directory)
    return Run(results, lab.most_alive, left)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runs() -> dict[str, Run]:
    """All runs by mutant, the honest one among them; and the table of what caught which."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "BEAT_S", 0.2)
        gate = asyncio.Semaphore(AT_ONCE)
        kinds = sorted([Mutant, *(each.mutant for each in ROWS)], key=lambda kind: kind not in SLOWEST)
        found = await asyncio.gather(*(examined(each, gate) for each in kinds))
    made = {kind.__name__: run for kind, run in zip(kinds, found, strict=True)}
    for name, run in made.items():
        caught = [f"{each.check.name} ({each.rule or 'call'})" for each in run.results if each.outcome is Outcome.FAILED]
        print(f"{name:24}", ", ".join(caught) or "-", f"{sum(each.took_s for each in run.results):.1f} s", "left" if run.left else "")
    return made


def failed(results: list[Result]) -> dict[str, str]:
    return {each.check.name: f"{each.rule}: {each.detail}" for each in results if each.outcome is Outcome.FAILED}


async def test_the_honest_one_passes_and_only_what_needs_a_command_or_a_network_is_skipped(runs):
    assert failed(runs["Mutant"].results) == {}
    skipped = {
        each.check.want for each in runs["Mutant"].results if each.outcome is Outcome.SKIPPED and each.check.name != "serves-what-it-names"
    }
    assert skipped == {Want.STARTED, Want.ADDRESS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.mutant.__name__)
async def test_a_mutant_is_caught_by_the_checks_that_should_and_by_no_other(row: Row, runs):
    found = failed(runs[row.mutant.__name__].results)
    assert set(found) == row.caught, found
    assert row.caught, "a mutant that nobody catches"
    assert len(row.caught) == 1 or row.why, "more than one check catches it, and nobody says why"


async def test_no_mutant_has_more_alive_than_the_budget_and_nothing_is_left_of_any(runs):
    assert {name: run.most_alive for name, run in runs.items() if run.most_alive > Lab.max_instances} == {}
    assert {name: run.left for name, run in runs.items() if run.left} == {}


async def test_every_check_that_can_be_made_here_has_a_mutant_that_it_catches():
    made = {each.name for each in suite.CHECKS if each.want not in (Want.STARTED, Want.ADDRESS)}
    assert made - {name for row in ROWS for name in row.caught} == set()
