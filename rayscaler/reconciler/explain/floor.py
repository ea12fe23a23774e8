"""Who keeps the floor of request_resources(), and until when, in words."""

from rayscaler.model.nodetype import NEVER
from rayscaler.reconciler import floor
from rayscaler.reconciler.explain.scene import Scene
from rayscaler.reconciler.state import seen_at

NAMED = 3
"""Jobs named in one sentence; the rest is a number."""


def keeper(scene: Scene) -> tuple[str, float | None]:
    """Return who keeps it, and until when (wall seconds) where that is known."""
    memory, owners = scene.memory, scene.memory.floor_owners
    limit_s = memory.config.floor_after_driver_s
    if memory.floor_until is not None:
        return "its cluster has ended", memory.floor_until
    if limit_s == NEVER:
        return "it stays until it is taken back", None
    if owners.unowned_s is not None:
        return "every job that lived when it was asked for has ended", seen_at(memory, scene.state.now) + limit_s - owners.unowned_s
    asking = sorted((owners.jobs or frozenset()) & scene.snapshot.live_job_ids)
    if asking:
        more = f" and {len(asking) - NAMED} more" if len(asking) > NAMED else ""
        return f"kept while job {', '.join(asking[:NAMED])}{more} lives", None
    return f"kept while a {'job' if scene.snapshot.live_jobs else 'detached actor'} lives", None


def over(scene: Scene) -> str:
    """Return why one that has ended and that Ray still shows counts no more."""
    return f"every job that lived when this was asked for has ended; {floor.afterlife(scene.memory.replay)}"
