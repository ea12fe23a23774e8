"""follow(): a definition's file is watched, what becomes of it is told to its cluster, and what is good in it is kept. Decides nothing."""

import asyncio

import structlog

from rayscaler.clock import Clock
from rayscaler.config.file import Definition, DefinitionFile
from rayscaler.errors import InvalidRequest, Unavailable
from rayscaler.reconciler import lastgood
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.settings import Timings
from rayscaler.store.base import Definitions

log = structlog.get_logger(__name__)


async def follow(file: DefinitionFile, reconciler: ClusterReconciler, *, kept: Definitions, clock: Clock, timings: Timings) -> None:
    """Look at the file for ever; a good edit is put in force and kept, a bad one is told until it is mended."""
    reconciler.advise(file.first.warnings)
    if not file.can_change:
        log.warning("definition.not_followed", cluster=reconciler.name, path=str(file.path), why="it is no regular file")
        await asyncio.Event().wait()
    if file.problems:
        reconciler.refuse(file.problems)
    unkept, told = None if file.problems else file.first, None
    while True:
        unkept = _look(file, reconciler, clock=clock, timings=timings) or unkept
        if unkept is not None:
            error = await _keep(file, unkept, kept)
            if error and told is not unkept:
                log.warning("definition.unkept", cluster=reconciler.name, error=error)
            unkept, told = (unkept, unkept) if error else (None, None)
        await asyncio.sleep(timings.definition_look_s)


def _look(file: DefinitionFile, reconciler: ClusterReconciler, *, clock: Clock, timings: Timings) -> Definition | None:
    """Return what has come into force with this look, None if nothing has."""
    try:
        found = file.look(clock.mono(), timings.definition_steady_s)
        if found is not None:
            reconciler.redefine(found.config, found.content_hash)
            reconciler.advise(found.warnings)
    except InvalidRequest as error:
        reconciler.refuse(tuple(map(str, error.problems)))
    except Exception as error:
        # A bug in reading one definition must not stop the service, and what is in force stays.
        log.exception("definition.failed", cluster=reconciler.name, path=str(file.path))
        reconciler.refuse((f"{file.path}: cannot be judged: {type(error).__name__}, a bug of rayscaler; the service's log has it",))
    else:
        return found
    return None


async def _keep(file: DefinitionFile, good: Definition, kept: Definitions) -> str:
    """Keep what is in force for the next start; return why that failed, "" if it did not."""
    try:
        await kept.keep_good(lastgood.source(file.path), good.content.decode())
    except Unavailable as error:
        return str(error)
    return ""
