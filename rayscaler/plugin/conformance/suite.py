"""All checks in order, and how a run goes: one after another, each with an end, and in the end nothing is left."""

import asyncio
import time
from collections.abc import Callable, Iterable

from rayscaler.errors import RayscalerError
from rayscaler.plugin.conformance import address, ending, identity, launching, limits, listing, lives, told, watching
from rayscaler.plugin.conformance.check import Breach, Check, Outcome, Result, Skipped, Want
from rayscaler.plugin.conformance.lab import Lab, Refused

CHECKS: tuple[Check, ...] = (
    lives.GREETING,
    *address.CHECKS,
    *identity.CHECKS,
    *launching.CHECKS,
    *ending.CHECKS,
    *listing.CHECKS,
    *watching.CHECKS,
    *limits.CHECKS,
    *told.CHECKS,
    *lives.CHECKS,
)
MOST_CALLS = 20
"""Calls one after another that the slowest check makes, about."""


async def run(lab: Lab, checks: Iterable[Check], tell: Callable[[Check, Result | None], None]) -> list[Result]:
    """Make checks, telling each before and after; whatever ends this, everything that was begun is ended first."""
    results: list[Result] = []
    is_silent = False
    try:
        for each in checks:
            tell(each, None)
            result = Result(each, Outcome.SKIPPED, detail="it does not answer any more") if is_silent else await _one(lab, each)
            results.append(result)
            tell(each, result)
            is_silent = is_silent or (result.outcome is Outcome.FAILED and (each is lives.GREETING or not await lab.answers()))
            if not is_silent:
                await lab.sweep()
    finally:
        await lab.sweep()
    return results


async def _one(lab: Lab, check: Check) -> Result:
    began = time.monotonic()
    deadline_s = MOST_CALLS * lab.patience.call_s + 4 * lab.patience.end_s
    rule, detail, outcome = "", "", Outcome.FAILED
    if reason := _missing(lab, check):
        return Result(check, Outcome.SKIPPED, detail=reason)
    try:
        async with asyncio.timeout(deadline_s):
            await check.run(lab)
        outcome = Outcome.PASSED
    except Skipped as skipped:
        outcome, detail = Outcome.SKIPPED, str(skipped)
    except Breach as breach:
        rule, detail = breach.rule, str(breach)
    except (Refused, RayscalerError) as error:
        detail = str(error)
    except TimeoutError:
        detail = f"it had no end within {deadline_s:g} s"
    return Result(check, outcome, time.monotonic() - began, rule, detail)


def _missing(lab: Lab, check: Check) -> str:
    """Return why a check cannot be made here, "" if it can."""
    if check.instances > lab.max_instances:
        return f"needs {check.instances} instances at once, --max-instances is {lab.max_instances}"
    has = {
        Want.NOTHING: True,
        Want.STARTED: lab.subject.is_started,
        Want.RESTART: lab.subject.can_restart,
        Want.ADDRESS: lab.subject.address.startswith("dns:"),
        Want.KILL: lab.kill is not None,
    }
    return "" if has[check.want] else check.want.value
