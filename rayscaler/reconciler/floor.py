"""When a floor of request_resources() ends because nobody who may have asked for it lives any more (E2). Pure.

Ray keeps one constraint for ever and names nobody with it. Whoever asked was a driver that lived when it was first seen, or works for
one; so it ends some time after the last of those. Only seen time counts: after a break it goes on where it stood.
"""

from dataclasses import replace

from rayscaler.model.command import ReplayCommand
from rayscaler.model.demand import Constraint, Snapshot
from rayscaler.model.nodetype import NEVER
from rayscaler.model.state import FloorOwners

STEPS = 12
"""Of the time without owners a restart of the service forgets a twelfth at most: the record is not written more often."""


def is_same(one: Constraint | None, other: Constraint | None) -> bool:
    """Whether both ask for the same; a monitor may tell it in any order."""
    return one == other or (one is not None and other is not None and set(one.demands) == set(other.demands))


def follow(owners: FloorOwners, snapshot: Snapshot, seen_s: float, limit_s: float) -> FloorOwners:
    """Return the owners after a report that says how Ray stands, `seen_s` seconds after the one before, 0 after a break.

    Without names of jobs any job may have asked for it. What is over stays over until something else is asked for.
    """
    if owners.is_over:
        return owners
    is_named = len(snapshot.live_job_ids) == snapshot.live_jobs
    jobs = snapshot.live_job_ids if owners.jobs is None and is_named else owners.jobs
    is_driven = bool(snapshot.live_jobs) if jobs is None or not is_named else not jobs.isdisjoint(snapshot.live_job_ids)
    if is_driven or snapshot.live_detached_actors or limit_s == NEVER:
        return FloorOwners(jobs)
    unowned_s = 0.0 if owners.unowned_s is None else owners.unowned_s + seen_s
    return FloorOwners(jobs, unowned_s, is_over=unowned_s >= limit_s)


def ended(over: Constraint) -> str:
    """Return what of a floor that is over people are told."""
    asked = "; ".join(map(str, over.demands))
    return f"request_resources() asked for {asked}, and every job that lived then has ended"


def afterlife(replay: ReplayCommand | None) -> str:
    """Return what becomes of a floor that is over and that the GCS still shows; `replay` is what the monitor is asked for now."""
    is_asked = replay is not None and replay.replaces is not None
    doing = "the monitor is taking it back at Ray" if is_asked else "the monitor could not take it back at Ray"
    return f"{doing}; until that is done the same asked for anew is no change there"


def kept(owners: FloorOwners, limit_s: float) -> FloorOwners:
    """Return what of them is worth a write: the time without owners in whole steps."""
    step_s = limit_s / STEPS
    if not owners.unowned_s or step_s in (0.0, NEVER):
        return owners
    return replace(owners, unowned_s=owners.unowned_s // step_s * step_s)


def next_step(owners: FloorOwners, limit_s: float) -> float | None:
    """Return in how many seen seconds there is something new to write or to do; None while nobody has to be waited for."""
    if owners.unowned_s is None or owners.is_over or limit_s == NEVER:
        return None
    step_s = limit_s / STEPS
    rest_s = limit_s - owners.unowned_s
    return max(0.0, min(rest_s, step_s - owners.unowned_s % step_s) if step_s else rest_s)
