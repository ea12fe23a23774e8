"""The processes of a demo: service, head, monitor, witness, job; and their end, whatever happens."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from rayscaler.cli.demo.evidence import marked_pids
from rayscaler.cli.up.definition import Definition, incarnation
from rayscaler.errors import NotFound, Unavailable
from rayscaler.local import startup
from rayscaler.local.executor import terminate_all
from rayscaler.local.head import free_client_port
from rayscaler.local.parts import Parts
from rayscaler.processes import Identity, SystemProcesses, end
from rayscaler.settings import ServiceSettings

KEPT = "kept.json"
"""File in the demo's folder that says who was left running."""
STOP_GRACE_S = 5.0
"""Each process gets this long to end by itself."""
HEAD_S = 60.0
"""A head that is not up by then never will be: 3 s on a quiet machine."""
HEAD = "head"
JOBS = ("job", "job-again")
"""The job's two submissions."""


@dataclass
class World:
    """Everything that the demo starts. `base` is a short new folder of its own; `mark` is in every process's environment."""

    base: Path
    definition: Path
    examples: Path
    mark: str
    started: dict[str, Identity] = field(default_factory=dict)
    gcs: str = ""
    service: str = ""

    def __post_init__(self) -> None:
        self._processes = SystemProcesses()
        self._env = {**os.environ, "RAYSCALER_DEMO": self.mark, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
        self._gcs_port = free_client_port()
        self._service_port = free_client_port()

    @property
    def run_dir(self) -> Path:
        """Where the service records its workers."""
        return ServiceSettings(state_dir=self.base / "state").run_dir

    async def start_service(self) -> int:
        """Start `rayscaler serve` on the definition with this demo's ports and folder in it; return its pid."""
        document = yaml.safe_load(self.definition.read_text())
        params = document["spec"].setdefault("head", {}).setdefault("startParams", {})
        params.update({"port": str(self._gcs_port), "temp-dir": str(self.base / "ray")})
        effective = self.base / "cluster.yaml"
        effective.write_text(yaml.safe_dump(document))
        self.service = f"127.0.0.1:{self._service_port}"
        self._effective = Definition.read(effective)
        state = str(self.base / "state")
        pid = self._start("service", "-m", "rayscaler", "serve", "-f", str(effective), "--listen", self.service, "--state-dir", state)
        await self._until_listening("service", self._service_port)
        return pid

    async def start_head(self) -> None:
        """Start a real Ray head and what keeps it alive, both as `rayscaler up` does."""
        definition, parts = self._effective, Parts(self._processes, self.base)
        command = definition.head_command(free_client_port())
        self.started[HEAD] = await parts.start(HEAD, command, env=definition.head_environ(self._env), facts={})
        self.gcs = definition.gcs
        try:
            async with asyncio.timeout(HEAD_S):
                while not startup.has_started(parts.log_path(HEAD)):
                    answer = await parts.ask(HEAD)
                    if answer is not None and answer.starts > 1:
                        raise Unavailable(f"the head ended at its start:\n{self.tail(HEAD)}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise Unavailable(f"the head was not up after {HEAD_S:g} s:\n{self.tail(HEAD)}") from None

    def kill_head(self) -> int:
        """Kill with -9 everything that runs in the head's session but what keeps it alive; return how many processes that were."""
        keeper, killed = self.started[HEAD], 0
        for pid in self._processes.session_members(keeper):
            with contextlib.suppress(Unavailable):
                killed += pid != keeper.pid and self._processes.signal_leader(self._processes.identify(pid), signal.SIGKILL)
        return killed

    def start_monitor(self, cluster: str) -> int:
        """Start `rayscaler monitor` beside the head; return its pid."""
        where = ("--gcs", self.gcs, "--service", self.service, "--incarnation", incarnation(self.started[HEAD]))
        return self._start("monitor", "-m", "rayscaler", "monitor", "--cluster", cluster, *where)

    def start_witness(self) -> int:
        """Start the reader of Ray's own node table; return its pid."""
        return self._start("witness", str(self.examples / "demo_witness.py"), self.gcs)

    def start_job(self, name: str, seed: int) -> int:
        """Submit the Ray job under a name of its own; return its pid."""
        return self._start(name, str(self.examples / "demo_job.py"), self.gcs, str(seed))

    async def give_up(self, name: str) -> None:
        """End a job that does not notice that its head is gone, as its user would."""
        await end(self._processes, self.started[name], 0.0)

    def is_alive(self, name: str) -> bool:
        """Whether a process of ours runs."""
        return self._processes.is_alive(self.started[name])

    def tail(self, name: str, lines: int = 15) -> str:
        """Return the end of a process's output, for a diagnosis."""
        with contextlib.suppress(OSError):
            return "\n".join((self.base / f"{name}.log").read_text(errors="replace").splitlines()[-lines:])
        return ""

    async def lines(self, name: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the JSON lines that a process prints, as they come, until it has ended."""
        path = self.base / f"{name}.log"
        with path.open(encoding="utf-8", errors="replace") as log:
            rest = ""
            while True:
                is_over = not self.is_alive(name)
                rest += log.read()
                *whole, rest = rest.split("\n")
                for line in whole:
                    if line.startswith("{"):
                        yield json.loads(line)
                if is_over:
                    return
                await asyncio.sleep(0.05)

    def _start(self, name: str, *args: str) -> int:
        identity = self._processes.spawn([sys.executable, *args], env=self._env, log_path=self.base / f"{name}.log")
        self.started[name] = identity
        return identity.pid

    async def _until_listening(self, name: str, port: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if not self.is_alive(name):
                raise Unavailable(f"the {name} ended at its start:\n{self.tail(name)}")
            await asyncio.sleep(0.05)

    async def end(self) -> list[int]:
        """End everything, workers included; return the pids of what would not go, which should be none."""
        for name in (*JOBS, "monitor", "witness", "service"):
            await self._end(name)
        await terminate_all(self._processes, self.run_dir, STOP_GRACE_S)
        await self._end(HEAD)
        shutil.rmtree(self.base, ignore_errors=True)
        return marked_pids(self.mark)

    async def _end(self, name: str) -> None:
        if name in self.started:
            await end(self._processes, self.started[name], STOP_GRACE_S)

    def keep(self) -> None:
        """Note who runs, so that `kept` can end it later."""
        started = {name: asdict(identity) for name, identity in self.started.items()}
        (self.base / KEPT).write_text(json.dumps({"mark": self.mark, "started": started}))

    @classmethod
    def kept(cls, base: Path) -> Self:
        """Return the world that an earlier demo left running in `base`; raises NotFound if none did."""
        try:
            noted = json.loads((base / KEPT).read_text())
        except OSError as error:
            raise NotFound(f"{base} is not the folder of a demo that --keep left running: {error.strerror}") from error
        started = {name: Identity(**identity) for name, identity in noted["started"].items()}
        return cls(base=base, definition=base, examples=base, mark=noted["mark"], started=started)
