"""The service with an executor that answers nothing while a file exists. python -m tests.ray.gated_service serve -f ... with GATE set.

The rest is the real one: the calls wait, as they would for an executor that hangs, and then go through.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from rayscaler import __main__
from rayscaler.app import local
from rayscaler.executor.base import LaunchSpec
from rayscaler.local.executor import LocalExecutor
from rayscaler.model.instance import InstanceObservation

GATE = "RAYSCALER_TEST_GATE"
LOOK_S = 0.1


def _is_shut() -> bool:
    return Path(os.environ[GATE]).exists()


class Gated(LocalExecutor):
    """The local executor behind a gate."""

    async def _opened(self) -> None:
        while _is_shut():  # noqa: ASYNC110 - the gate is another process's file
            await asyncio.sleep(LOOK_S)

    async def launch(self, spec: LaunchSpec) -> str:
        await self._opened()
        return await super().launch(spec)

    async def terminate(self, cluster: str, instance_id: str) -> None:
        await self._opened()
        await super().terminate(cluster, instance_id)

    async def list(self, cluster: str) -> list[InstanceObservation]:
        await self._opened()
        return await super().list(cluster)

    async def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        await self._opened()
        async for seen in super().watch(cluster):
            await self._opened()
            yield seen


if __name__ == "__main__":
    local.LocalExecutor = Gated  # type: ignore[misc]
    __main__.main()
