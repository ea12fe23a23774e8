"""Processes of the plugin cases: python -m tests.bench.plugin_program api | fake SOCKET | kubernetes SOCKET PORT. Each prints a line once it serves.

`api` is a small API server, the others serve an executor behind the plugins' door: one without machines, one that makes pods there.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

from kubernetes.aio.client import Configuration

from rayscaler.clock import SystemClock
from rayscaler.executor.base import Executor
from rayscaler.k8s.client import Client
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.plugin.serve import PluginServer
from rayscaler.tasks import calm_collector
from rayscaler.testing.fake_executor import DELAYS_S, FakeExecutor, FakeMachines
from rayscaler.throttle import Unpaced
from tests.k8s.fake_api import FakeApi

CALL_S = 60.0
"""Of one call at the small API server, which answers a thousand at once one after the other."""


STILL_S = 3600.0
"""In the first phase: what is measured is launch calls, not what follows of those before."""


def still() -> FakeExecutor:
    """Make an executor without machines, whose instances stay as they were begun."""
    return FakeExecutor(FakeMachines(SystemClock(), delays_s=dict.fromkeys(DELAYS_S, STILL_S)))


@contextlib.asynccontextmanager
async def pods_of(port: int) -> AsyncIterator[KubernetesExecutor]:
    """Make an executor over the small API server, as fast as that is."""
    client = Client(Configuration(host=f"http://127.0.0.1:{port}"), call_s=CALL_S)
    executor = KubernetesExecutor(client, "ns", on_end=print, pace=Unpaced())
    try:
        yield executor
    finally:
        await executor.close()
        await client.close()


async def serve(executor: Executor, socket: str) -> None:
    """Serve an executor until this process is ended."""
    server = PluginServer(executor, name="bench.rayscaler.io")
    calm_collector()  # as who serves a plugin does
    await server.start(f"unix:{socket}")
    print("serves", flush=True)
    await server.stopped.wait()


async def main(what: str, *rest: str) -> None:
    """Run one of them."""
    if what == "api":
        api = FakeApi()
        await api.start()
        print(api.port, flush=True)
        await asyncio.Event().wait()
    elif what == "fake":
        await serve(still(), rest[0])
    else:
        async with pods_of(int(rest[1])) as executor:
            await serve(executor, rest[0])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
