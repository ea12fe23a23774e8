"""A Ray head on this machine, as its user would start it: `ray start --head --block --no-monitor`. Decides nothing about workers."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from rayscaler.errors import Unavailable
from rayscaler.executor import raystart
from rayscaler.local import startup
from rayscaler.local.command import inherited, ray_executable
from rayscaler.local.startup import Startup
from rayscaler.model.resources import Resources
from rayscaler.processes import Identity, Processes, end

log = structlog.get_logger(__name__)

START_S = 60.0
"""Deadline of a head's start: 2 s alone, more on a busy machine."""
WORKER_PORTS = range(10002, 20000)
"""Ray refuses a client server inside its default range of worker ports."""
PORT_TRIES = 100
"""More than enough: at most one free port in five lies in WORKER_PORTS."""


@dataclass(frozen=True)
class HeadAddress:
    """Where a head's GCS listens (ip:port), and the head's pid, which is its session's number too."""

    address: str
    pid: int


@dataclass(frozen=True)
class HeadOptions:
    """What a head is started with: no resources and no dashboard unless said; `start_params` win over our own flags."""

    resources: Resources = field(default_factory=Resources)
    start_params: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()


class LocalHead:
    """One head: started, stopped, nothing left. `port` is the GCS's, `temp_dir` must be short (unix sockets lie in it)."""

    def __init__(self, processes: Processes, *, temp_dir: Path, port: int, log_path: Path, options: HeadOptions | None = None) -> None:
        self._processes = processes
        self._temp_dir = temp_dir
        self._port = port
        self._log_path = log_path
        self._options = options or HeadOptions()
        self._identity: Identity | None = None

    @property
    def identity(self) -> Identity | None:
        """The running head's process; None before the start and after the stop."""
        return self._identity

    async def start(self) -> HeadAddress:
        """Start the head and wait until Ray says it is up; raises Unavailable with the end of its log otherwise.

        When this raises or is cancelled, nothing of the head is left.
        """
        offset = startup.size(self._log_path)
        # A killed head leaves this file, and with it `ray start` takes the raylets that wait for the new head for a running one.
        (self._temp_dir / "ray_current_cluster").unlink(missing_ok=True)
        argv = head_argv(ray_executable(), self._options, port=self._port, temp_dir=self._temp_dir, client_port=free_client_port())
        identity = self._processes.spawn(argv, env=head_env(self._options, os.environ), log_path=self._log_path)
        self._identity = identity
        try:
            await self._await_start(identity, offset)
        except BaseException:
            await self.stop(grace_s=0.0)
            raise
        address = f"{_node_ip(self._log_path, offset)}:{self._port}"
        log.info("head.started", pid=identity.pid, address=address)
        return HeadAddress(address, identity.pid)

    async def _await_start(self, identity: Identity, offset: int) -> None:
        how = await startup.follow(self._processes, identity, self._log_path, deadline_s=START_S, offset=offset)
        if how is not Startup.STARTED:
            raise Unavailable(f"the head {_WHY[how]}; the end of {self._log_path}:\n{startup.tail(self._log_path, offset)}")

    async def wait(self) -> int | None:
        """Wait for the head's end; return its exit code."""
        return None if self._identity is None else await self._processes.wait(self._identity)

    async def stop(self, grace_s: float) -> None:
        """End the head and everything in its session; twice is fine."""
        if self._identity is not None:
            await end(self._processes, self._identity, grace_s)
            self._identity = None


_WHY = {Startup.EXITED: "ended while it started", Startup.OVERDUE: f"was not up after {START_S:g} s"}


def head_argv(ray: str, options: HeadOptions, *, port: int, temp_dir: Path, client_port: int) -> list[str]:
    """Return the command line of a head; a start parameter of the definition wins over our own."""
    own = {
        "port": str(port),
        "temp-dir": str(temp_dir),
        "include-dashboard": "false",
        "ray-client-server-port": str(client_port),
        **raystart.ANY_PORT,
    }
    return raystart.head_command(ray, options.resources, own, options.start_params)


def head_env(options: HeadOptions, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a head: `base` without what would change it, what makes a head ours, and the definition's own."""
    return {**inherited(base), **raystart.HEAD_ENV, **dict(options.env), **raystart.head_identity(raystart.HEAD)}


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def free_client_port() -> int:
    """Return a free port for Ray's client server, outside the range that Ray refuses."""
    for _ in range(PORT_TRIES):
        port = free_port()
        if port not in WORKER_PORTS:
            return port
    raise Unavailable(f"no free port outside {WORKER_PORTS.start} to {WORKER_PORTS.stop - 1}; end something or widen the ephemeral range")


def _node_ip(log_path: Path, offset: int) -> str:
    """Read the address that the head gave itself from its log: its nodes register under it."""
    marker = "Local node IP: "
    for line in startup.text(log_path, offset).splitlines():
        if marker in line:
            return line.split(marker, 1)[1].strip()
    return "127.0.0.1"
