"""A whole rayscaler on a real head, and what is seen of it from outside: Ray's own tables, /proc, a ledger that tasks write.

async with running_stack({"idleTimeout": "3s", "nodeTypes": [...]}) as stack:
    driver = await stack.start_driver("...")
    await stack.until(lambda: len(stack.alive()) == 2, "two nodes")

Service and monitor are real child processes, started as a user would. At the end everything is ended and looked for in /proc.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayscaler.local import startup
from rayscaler.local.head import HeadOptions
from rayscaler.processes import Identity, SystemProcesses, end
from tests.ports import free_port
from tests.ray.workers import Workers, marked
from tests.ray_tier import Driver, RayHead, running_head

CLUSTER = "whole"
SERVICE = ("-m", "rayscaler")
MARK = "RAYSCALER_WHOLE"
"""Stands in the environment of all that a stack starts, with the stack's own value."""
LOOK_S = 0.1
PATIENCE_S = 150.0
"""Nothing here takes so long, however loaded the machine is; what does never happens."""


@dataclass
class Node:
    """A worker node as Ray's own table showed it; wall seconds."""

    node_id: str
    instance_id: str
    node_type: str
    started_at: float
    is_alive: bool = True
    ended_at: float | None = None
    death: str | None = None
    activity: list[str] = field(default_factory=list)


class Stack:
    """A head, a service, a monitor, a witness; and what was seen."""

    def __init__(self, base: Path, head: RayHead) -> None:
        self.base = base
        self.head = head
        self.mark = f"{MARK}={base.name}"
        self.ledger = Ledger(base / "ledger")
        self.nodes: dict[str, Node] = {}
        self.workers = Workers(self.mark)
        self.pending = self.infeasible = 0
        self.readings = 0
        self._offset, self._rest = 0, ""
        self.service = ""
        self._machine = SystemProcesses()
        self.env = {**os.environ, MARK: base.name, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
        self._started: dict[str, Identity] = {}
        self._args: dict[str, tuple[str, ...]] = {}
        self._drivers: list[Driver] = []
        self._watching: asyncio.Task[None] | None = None

    async def start(self, spec: Mapping[str, Any], service: Sequence[str] = SERVICE) -> None:
        """Start service, monitor and witness for a definition; its head is the one that runs."""
        self._watching = asyncio.create_task(self._watch(), name="watch")
        head = {"resources": {"CPU": 0}, "startParams": {"port": str(self.head.port)}}
        document = {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": CLUSTER}, "spec": {"head": head, **spec}}
        definition = self.base / "cluster.yaml"
        definition.write_text(yaml.safe_dump(document))
        self.service = f"127.0.0.1:{free_port()}"
        state = str(self.base / "state")
        self._spawn("witness", "-m", "tests.ray.witness", self.head.address)  # the slowest to start: it imports Ray
        self._spawn("service", *service, "serve", "-f", str(definition), "--listen", self.service, "--state-dir", state)
        await self.until(lambda: "rayscaler listens at" in self.log("service"), "the service listens")
        self._spawn("monitor", "-m", "rayscaler", "monitor", "--cluster", CLUSTER, "--gcs", self.head.address, "--service", self.service)
        await self.until(lambda: self.readings > 0, "Ray's table was read")

    def _spawn(self, name: str, *args: str) -> None:
        self._args[name] = args
        self._started[name] = self._machine.spawn([sys.executable, *args], env=self.env, log_path=self.base / f"{name}.log", mark=self.mark)

    async def kill(self, name: str) -> None:
        """End the service or the monitor with -9."""
        await end(self._machine, self._started.pop(name), 0.0)

    async def start_again(self, name: str) -> None:
        """Start a part that was killed, as it was started first; a service listens when this returns."""
        lives = self.log(name).count("rayscaler listens at")
        self._spawn(name, *self._args[name])
        if name == "service":
            await self.until(lambda: self.log(name).count("rayscaler listens at") > lives, "the service listens again")

    def pause(self, name: str, *, is_paused: bool) -> None:
        """Stop a part where it stands, or let it go on."""
        assert self._machine.signal_leader(self._started[name], signal.SIGSTOP if is_paused else signal.SIGCONT)

    def log(self, name: str) -> str:
        """Return what a process of the stack has printed."""
        return startup.text(self.base / f"{name}.log")

    async def start_driver(self, code: str) -> Driver:
        """Start a driver; `code` finds `ray`, and the ledger's `note(kind, index)` for its tasks."""
        log_path = self.base / f"driver{len(self._drivers)}.log"
        driver = await Driver.start(self.head.address, self.ledger.prelude + code, log_path)
        self._drivers.append(driver)
        return driver

    async def driver(self, code: str, patience_s: float = PATIENCE_S) -> str:
        """Run a driver to its end and return what it printed."""
        return await (await self.start_driver(code)).output(patience_s)

    async def line(self, driver: Driver, patience_s: float = PATIENCE_S) -> str:
        """Return the next line that a driver prints; one that has ended, or prints nothing, fails with what was seen."""
        try:
            line = await driver.line(patience_s)
        except TimeoutError:
            pytest.fail(f"the driver prints nothing in {patience_s:g} s:\n{self.told()}")
        if not line and driver.process.stdout.at_eof():
            pytest.fail(f"the driver ended:\n{startup.tail(driver.log_path)}\n{self.told()}")
        return line

    async def until(self, is_so: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
        """Wait until something is so; a stack whose parts have died, or that takes too long, fails with what was seen last."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            if self._watching is not None and self._watching.done():
                self._watching.result()
            for name, identity in self._started.items():
                if not self._machine.is_alive(identity):
                    pytest.fail(f"the {name} ended while waiting for: {what}\n{startup.tail(self.base / f'{name}.log')}")
            if time.monotonic() > deadline:
                pytest.fail(f"not seen in {patience_s:g} s: {what}\n{self.told()}")
            await asyncio.sleep(LOOK_S)

    async def _watch(self) -> None:
        """Look at Ray's table and at /proc for ever."""
        while True:
            self.workers.look()
            self._read_witness()
            await asyncio.sleep(LOOK_S)

    def _read_witness(self) -> None:
        """Take what the witness has written since the last time."""
        path = self.base / "witness.log"
        if path.exists():
            with path.open() as log:
                log.seek(self._offset)
                self._rest += log.read()
                self._offset = log.tell()
            *lines, self._rest = self._rest.split("\n")
            for line in lines:
                if line.startswith("{"):
                    self._take_reading(json.loads(line))

    def _take_reading(self, reading: dict[str, Any]) -> None:
        self.readings += 1
        self.pending, self.infeasible = reading["pending"], reading["infeasible"]
        for row in reading["nodes"]:
            self.nodes[row["node_id"]] = Node(**row)

    def alive(self, node_type: str | None = None) -> list[Node]:
        """Return the worker nodes that live in Ray's table."""
        return [each for each in self.nodes.values() if each.is_alive and node_type in (None, each.node_type)]

    def launched(self) -> set[str]:
        """Return every instance of which anything was ever seen: in /proc, in Ray's table, in the service's log of what it decided."""
        spawned = {line.split("instance_id=")[1].split()[0] for line in self.log("service").splitlines() if "event=worker.spawned" in line}
        return {each.instance_id for each in self.nodes.values()} | set(self.workers.seen) | spawned

    def all_gone(self) -> bool:
        """Whether no worker node lives and no worker's process runs."""
        return not self.alive() and not self.workers.alive()

    def assert_drained_before_their_end(self) -> None:
        """Every node that ended did so by an idle drain that Ray took: an end of its process before that gives another death.

        The one exception: a launch that the service ended as needed by nothing while its node was just joining, and that ran nothing.
        Ray drains such a node by itself when its process is told to end.
        """
        for node in self.nodes.values():
            if not node.is_alive and not self._was_called_off(node):
                assert node.death == "AUTOSCALER_DRAIN_IDLE", f"{node}\n{self.told()}"

    def _was_called_off(self, node: Node) -> bool:
        is_unneeded = f"{node.instance_id} (UNNEEDED)" in self.log("service")
        return is_unneeded and not any(node.node_id == where for _, _, where, _ in self.ledger.lines())

    async def status(self) -> dict[str, Any]:
        """Return what `rayscaler status --json` says of the cluster."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "rayscaler", "status", "--json", "--service", self.service, "--cluster", CLUSTER),
            stdout=asyncio.subprocess.PIPE,
            env=self.env,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        (cluster,) = json.loads(out)["clusters"]
        return cluster

    async def until_status(self, is_so: Callable[[dict[str, Any]], Any], what: str, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until the status says something; return it."""
        deadline = time.monotonic() + patience_s
        while not is_so(said := await self.status()):
            if time.monotonic() > deadline:
                pytest.fail(f"status does not say in {patience_s:g} s: {what}\n{json.dumps(said, indent=1)}")
            await asyncio.sleep(LOOK_S)
        return said

    def told(self) -> str:
        """Return what was seen and said, for a diagnosis."""
        nodes = "\n".join(map(str, self.nodes.values()))
        tails = "\n".join(f"--- {name}\n{startup.tail(self.base / f'{name}.log')}" for name in self._started if name != "witness")
        return f"{nodes}\n{tails}"

    async def close(self) -> None:
        """End everything and look for it in /proc: by session, and by the mark that every process inherits."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
        # The service goes before the drivers, so that it does not answer to their end.
        everything = [*self._started.values(), *(each.identity for each in self._drivers)]
        await asyncio.gather(*(end(self._machine, each, 5.0) for each in self._started.values()))
        await asyncio.gather(*(end(self._machine, each.identity, 0.0) for each in self._drivers))
        self.workers.look()
        workers = [each.identity for each in self.workers.seen.values()]
        await asyncio.gather(*(end(self._machine, each, 0.0) for each in workers))
        left = {each.pid: members for each in everything + workers if (members := self._machine.session_members(each))}
        assert not left, f"sessions with processes left: {left}"


class Ledger:
    """A file that tasks append to: what began, what ended, where."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.prelude = f"""
import os, sys, threading, time
def note(kind, index):
    line = f"{{kind}} {{index}} {{ray.get_runtime_context().get_node_id()}} {{time.time()}}\\n"
    fd = os.open({str(path)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, line.encode())
    os.close(fd)
"""

    def lines(self) -> list[tuple[str, int, str, float]]:
        """Return (kind, index, node id, wall second) of each line."""
        text = self._path.read_text() if self._path.exists() else ""
        rows = [line.split() for line in text.splitlines()]
        return [(kind, int(index), node, float(at)) for kind, index, node, at in rows]

    def counts(self, kind: str) -> Counter[int]:
        """Return how often each index was noted under a kind."""
        return Counter(index for each, index, _, _ in self.lines() if each == kind)

    def nodes(self, kind: str) -> set[str]:
        """Return the nodes that noted anything under a kind."""
        return {node for each, _, node, _ in self.lines() if each == kind}


@contextlib.asynccontextmanager
async def running_stack(
    spec: Mapping[str, Any], service: Sequence[str] = SERVICE, *, env: Sequence[tuple[str, str]] = ()
) -> AsyncIterator[Stack]:
    """Run rayscaler with a definition's `spec` against a fresh head of 0 CPUs, with more of an environment if need be.

    `service` are the arguments of Python that make the service's command line.
    """
    base = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    try:
        async with running_head(HeadOptions(env=((MARK, base.name), *env))) as head:
            stack = Stack(base, head)
            try:
                await stack.start(spec, service)
                yield stack
            finally:
                await stack.close()
        assert not marked(stack.mark), f"processes left: {marked(stack.mark)}"
    finally:
        shutil.rmtree(base, ignore_errors=True)
