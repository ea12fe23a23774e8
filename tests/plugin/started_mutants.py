"""Plugins in Python that a host starts, each wrong in one thing: python -m tests.plugin.started_mutants HOW. Each way is a function of its name."""

import asyncio
import os
import signal
import sys

import grpc

from rayscaler.plugin import handshake
from rayscaler.plugin.serve import PluginServer
from rayscaler.testing.fake_executor import FakeExecutor
from tests.plugin import fake_plugin


class Loud(FakeExecutor):
    """Prints what it is told."""

    async def launch(self, spec):
        print(f"launching {spec}", file=sys.stderr, flush=True)
        return await super().launch(spec)


def honest() -> None:
    """Be as a plugin should."""


def cookieless() -> None:
    """Greet whoever starts it."""
    os.environ[handshake.COOKIE_KEY] = handshake.COOKIE_VALUE


def stubborn() -> None:
    """Hear no SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    asyncio.SelectorEventLoop.add_signal_handler = lambda *_: None


def slow() -> None:
    """Take its time to end."""
    stop = PluginServer.stop

    async def slowly(self) -> None:
        await asyncio.sleep(6.0)  # more than 5 s
        await stop(self)

    PluginServer.stop = slowly


def unstoppable() -> None:
    """Serve no Shutdown."""

    async def refuse(request, context) -> None:
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)

    sys.modules[PluginServer.__module__]._shutdown = lambda stopped: refuse


def loud() -> type[FakeExecutor]:
    """Print what it is told."""
    return Loud


if __name__ == "__main__":
    fake_plugin.run(globals()[sys.argv[1]]() or FakeExecutor)
