"""The executors that definitions name, each made once: the local one, and plugins at addresses or by their commands."""

import hashlib
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from rayscaler.clock import Clock
from rayscaler.config import executors
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.executor.base import Executor
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.host import PluginHost
from rayscaler.plugin.session import PluginTimings
from rayscaler.plugin.started import Started
from rayscaler.processes import SystemProcesses
from rayscaler.settings import ServiceSettings


class Executors:
    """Makes executors; clusters with the same plugin share it. `own` runs what a plugin needs for as long as the service lives."""

    def __init__(
        self, settings: ServiceSettings, *, local: Executor, own: Callable[[str, Coroutine[Any, Any, None]], object], clock: Clock
    ) -> None:
        self._settings = settings
        self._local = local
        self._own = own
        self._clock = clock
        self._plugins: dict[tuple[str, tuple[str, ...]], PluginExecutor] = {}
        self._hosts: list[PluginHost] = []

    def of(self, config: ClusterConfig) -> Executor:
        """Return the executor of a definition."""
        if not executors.is_plugin(config.executor):
            return self._local
        key = (config.executor, config.command)
        if key not in self._plugins:
            self._plugins[key] = (
                self._started(config.command)
                if config.command
                else by_address(config.executor, self._settings, self._clock, path="spec.executor")
            )
        return self._plugins[key]

    async def close(self) -> None:
        """Let go of all plugins, and end those that were started here; their instances live on."""
        for each in self._plugins.values():
            await each.close()
        for host in self._hosts:
            await host.stop()

    def _started(self, command: tuple[str, ...]) -> PluginExecutor:
        settings = self._settings
        host = PluginHost(
            plugin_name(command),
            command,
            settings.plugin_dir,
            processes=SystemProcesses(),
            timings=settings.timings,
            clock=self._clock,
            max_message_bytes=settings.max_message_bytes,
        )
        self._hosts.append(host)
        self._own(f"plugin {host.name}", host.run())
        return PluginExecutor(Started(host), timings=_timings(settings), clock=self._clock)


def by_address(
    address: str, settings: ServiceSettings, clock: Clock, *, path: str, may_write: Callable[[], None] = lambda: None
) -> PluginExecutor:
    """Return the executor at an address; raises InvalidRequest for what is none, which was given in `path`. `may_write` as PluginExecutor takes it."""
    if not executors.is_address(address):
        raise InvalidRequest(Problem(path, repr(address), executors.ADDRESS_RULE))
    connection = Address(address, max_message_bytes=settings.max_message_bytes, tls=settings.executor_tls)
    return PluginExecutor(connection, timings=_timings(settings), clock=clock, may_write=may_write)


def _timings(settings: ServiceSettings) -> PluginTimings:
    return PluginTimings.within(settings.timings.executor_call_s)


def plugin_name(command: tuple[str, ...]) -> str:
    """Return what a plugin is called by people and on disk: its program, and what tells it from another with the same."""
    digest = hashlib.sha256("\0".join(command).encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{re.sub('[^A-Za-z0-9_-]', '-', Path(command[0]).name)[:40]}-{digest}"
