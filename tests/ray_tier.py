"""Fixtures of the tier "ray": real heads, real workers, real drivers, each ended and looked for in /proc afterwards.

async def test_something(ray_head):
    await ray_head.add_worker("w1", Resources.of(CPU=2))
    assert await ray_head.driver("print(ray.cluster_resources()['CPU'])") == "2.0"
"""

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import pytest_asyncio

from rayscaler.executor.base import LaunchSpec
from rayscaler.local import command, startup
from rayscaler.local.head import HeadOptions, LocalHead
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.processes import Identity, SystemProcesses, end
from tests.ports import free_port

DRIVER_S = 180.0
"""A driver that takes longer hangs; generous for a loaded machine."""
WORKER_S = 120.0
"""As for a driver."""
QUICK_LOSS = (("RAY_health_check_initial_delay_ms", "500"), ("RAY_health_check_period_ms", "500"))
"""For tests of what follows once Ray has noticed that a node is lost: its five failed checks then take 3 s in place of 16 s."""
QUIET = (("include-log-monitor", "false"),)
"""Of every head here: no driver asks for its workers' logs, and who looks for them all the time takes a second to start."""

ITS_OWN_PRINT = """
import functools, os
print = functools.partial(print, file=os.fdopen(os.dup(1), "w"), flush=True)
os.dup2(2, 1)
"""
"""Ahead of a driver: Ray prints to a driver's stdout too, of nodes that died say, and a test would take that for the driver's answer."""


@dataclass
class Worker:
    """A plain worker node, started by hand."""

    instance_id: str
    identity: Identity
    log_path: Path


@dataclass
class RayHead:
    """A running head with 0 CPUs; `address` is the GCS's ip:port, `local_address` the same by 127.0.0.1."""

    address: str
    temp_dir: Path
    head: LocalHead
    identity: Identity
    processes: SystemProcesses = field(default_factory=SystemProcesses)
    started: list[Identity] = field(default_factory=list)
    starting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Two `ray start` at once in one session directory choose the same socket, and one dies of it."""

    @property
    def pid(self) -> int:
        """The head's pid, which is its session's number too."""
        return self.identity.pid

    @property
    def port(self) -> int:
        return int(self.address.rsplit(":", 1)[1])

    @property
    def local_address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def session(self) -> str:
        """Ray's session name."""
        return (self.temp_dir / "session_latest").resolve().name

    async def add_worker(self, instance_id: str, resources: Resources | None = None, node_type: NodeType | None = None) -> Worker:
        """Start a worker node as anybody would and wait until it is up."""
        node_type = node_type or NodeType("plain", resources if resources is not None else Resources.of(CPU=1))
        argv, env = command.ray_worker(LaunchSpec("plain", instance_id, node_type, self.address))
        log_path = self.temp_dir / f"{instance_id}.log"
        async with self.starting:
            identity = self.processes.spawn(argv, env=env, log_path=log_path)
            self.started.append(identity)
            how = await startup.follow(self.processes, identity, log_path, deadline_s=WORKER_S)
        assert how is startup.Startup.STARTED, f"{instance_id}: {how}: {startup.tail(log_path)}"
        return Worker(instance_id, identity, log_path)

    async def start_driver(self, code: str) -> "Driver":
        """Start a driver; `code` finds `ray` initialised."""
        number = len(self.started)
        driver = await Driver.start(self.address, code, self.temp_dir / f"driver{number}.log")
        self.started.append(driver.identity)
        return driver

    async def driver(self, code: str, timeout_s: float = DRIVER_S) -> str:
        """Run a driver to its end and return what it printed."""
        return await (await self.start_driver(code)).output(timeout_s)

    async def close(self) -> None:
        """End everything and look for it in /proc."""
        await asyncio.gather(*(end(self.processes, identity, 0.0) for identity in self.started))
        await self.head.stop(grace_s=0.0)
        sessions = [self.identity, *self.started]
        left = {identity.pid: members for identity in sessions if (members := self.processes.session_members(identity))}
        assert not left, f"sessions with processes left: {left}"
        assert not processes_naming(self.temp_dir), f"processes left: {processes_naming(self.temp_dir)}"


@dataclass
class Driver:
    """A Python driver in a child process."""

    process: asyncio.subprocess.Process
    identity: Identity
    log_path: Path

    @classmethod
    async def start(cls, address: str, code: str, log_path: Path) -> "Driver":
        """Start `code` after ray.init(address); what it prints is read here, what Ray prints there goes to a log, as its stderr does."""
        prelude = f"{ITS_OWN_PRINT}\nimport ray\nray.init(address={address!r}, log_to_driver=False)\n"
        with log_path.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-u",
                "-c",
                prelude + code,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**command.inherited(os.environ), "RAY_USAGE_STATS_ENABLED": "0"},
                start_new_session=True,
            )
        return cls(process, SystemProcesses().identify(process.pid), log_path)

    async def line(self, timeout_s: float = DRIVER_S) -> str:
        """Wait for the next line that it prints; empty at its end."""
        assert self.process.stdout is not None
        async with asyncio.timeout(timeout_s):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def output(self, timeout_s: float = DRIVER_S) -> str:
        """Wait for its end and return what else it printed; fail with its log if it failed."""
        try:
            async with asyncio.timeout(timeout_s):
                out, _ = await self.process.communicate()
        except TimeoutError:
            pytest.fail(f"driver still running after {timeout_s:g} s: {startup.tail(self.log_path)}")
        assert self.process.returncode == 0, f"driver failed with {self.process.returncode}: {startup.tail(self.log_path)}"
        return out.decode().strip()

    async def close(self) -> None:
        """End it, whatever it does."""
        await end(SystemProcesses(), self.identity, 0.0)


@contextlib.asynccontextmanager
async def running_head(options: HeadOptions | None = None) -> AsyncIterator[RayHead]:
    """Run a head with 0 CPUs, or as `options` say, on a free port and in a short directory of its own."""
    temp_dir = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    try:
        processes = SystemProcesses()
        given = options or HeadOptions()
        told = replace(given, start_params=(*QUIET, ("ray-client-server-port", str(free_port())), *given.start_params))
        head = LocalHead(processes, temp_dir=temp_dir, port=free_port(), log_path=temp_dir / "head.log", options=told)
        where = await head.start()
        identity = head.identity
        assert identity is not None
        running = RayHead(where.address, temp_dir, head, identity, processes)
        try:
            yield running
        finally:
            await running.close()
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)


async def driver(address: str, code: str, timeout_s: float = DRIVER_S) -> str:
    """Run Python code against a cluster, `ray` initialised, and return what it printed."""
    with tempfile.TemporaryDirectory(prefix="rs-") as directory:
        started = await Driver.start(address, code, Path(directory) / "driver.log")
        try:
            return await started.output(timeout_s)
        finally:
            await started.close()


def processes_naming(temp_dir: Path) -> dict[int, str]:
    """Return the processes of /proc whose command line names a directory."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if str(temp_dir) in line and int(entry.name) != os.getpid():
                    found[int(entry.name)] = line
    return found


@pytest.fixture
async def ray_head() -> AsyncIterator[RayHead]:
    """A fresh head with 0 CPUs."""
    async with running_head() as head:
        yield head


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_head() -> AsyncIterator[RayHead]:
    """One head with 0 CPUs for all tests of a module that ask for it: they need no more than its address, and leave nothing behind."""
    async with running_head() as head:
        yield head


@pytest.fixture
async def ray_heads() -> AsyncIterator[Callable[..., Awaitable[RayHead]]]:
    """A maker of heads, for tests that need several or special ones."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(options: HeadOptions | None = None) -> RayHead:
            return await stack.enter_async_context(running_head(options))

        yield make
