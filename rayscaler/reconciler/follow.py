"""follow(): a definition's file is watched, and what becomes of it is told to its cluster. Decides nothing."""

import asyncio

import structlog

from rayscaler.clock import Clock
from rayscaler.config.file import DefinitionFile
from rayscaler.errors import InvalidRequest
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.settings import Timings

log = structlog.get_logger(__name__)


async def follow(file: DefinitionFile, reconciler: ClusterReconciler, *, clock: Clock, timings: Timings) -> None:
    """Look at the file for ever; a good edit is put in force, a bad one is told until it is mended."""
    if not file.can_change:
        log.warning("definition.not_followed", cluster=reconciler.name, path=str(file.path), why="it is no regular file")
        await asyncio.Event().wait()
    while True:
        await asyncio.sleep(timings.definition_look_s)
        try:
            found = file.look(clock.mono(), timings.definition_steady_s)
            if found is not None:
                reconciler.redefine(found.config, found.content_hash)
        except InvalidRequest as error:
            reconciler.refuse(tuple(map(str, error.problems)))
        except Exception as error:
            # A bug in reading one definition must not stop the service, and what is in force stays.
            log.exception("definition.failed", cluster=reconciler.name, path=str(file.path))
            reconciler.refuse((f"{file.path}: cannot be judged: {type(error).__name__}, a bug of rayscaler; the service's log has it",))
