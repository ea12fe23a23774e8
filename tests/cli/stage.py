"""Where `rayscaler up` is tried: its real service, monitor and supervisors, and a fake `ray`."""

import asyncio
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
MARK = "RAYSCALER_TEST_UP"
PARTS = ("service", "head", "monitor")
PATIENCE_S = 50.0


@dataclass
class Site:
    """A state directory, a definition, a Python with the fake `ray` beside it; everything started here inherits a mark."""

    base: Path
    port: int = field(default_factory=free_port)
    listen: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    state: str = "state"
    name: str = "mine"
    spec: dict[str, Any] = field(default_factory=dict)
    head: dict[str, Any] = field(default_factory=dict)

    @property
    def mark(self) -> str:
        return f"{MARK}={self.base}"

    @property
    def parts(self) -> Path:
        return self.base / self.state / "up" / self.name

    def define(self) -> Path:
        """Write the definition."""
        head = {**self.head, "startParams": {"port": str(self.port), **self.head.get("startParams", {})}}
        document = {
            "apiVersion": "rayscaler.io/v1",
            "kind": "Cluster",
            "metadata": {"name": self.name},
            "spec": {"head": head, **self.spec},
        }
        path = self.base / "cluster.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def python(self) -> Path:
        """Return a Python that finds the fake `ray` beside it."""
        python = self.base / "bin/python"
        if not python.exists():
            python.parent.mkdir()
            python.symlink_to(Path(sys.executable).resolve())
            ray = python.with_name("ray")
            ray.write_text(f'#!/bin/sh\nexec {python} -m tests.cli.fake_ray "$@"\n')
            ray.chmod(0o755)
        return python

    async def begin(self, *args: str) -> asyncio.subprocess.Process:
        """Start a command of rayscaler."""
        packages = [path for path in sys.path if path.endswith("site-packages")]
        return await asyncio.create_subprocess_exec(
            self.python(),
            *("-m", "rayscaler", *args),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, MARK: str(self.base), "PYTHONPATH": os.pathsep.join([str(ROOT), *packages])},
            start_new_session=True,
        )

    async def run(self, *args: str) -> tuple[int, str, str]:
        """Run a command of rayscaler to its end; return its exit code and what it printed."""
        async with asyncio.timeout(PATIENCE_S):
            process = await self.begin(*args)
            out, err = await process.communicate()
        return process.returncode, out.decode(), err.decode()

    async def up(self, *flags: str) -> tuple[int, str, str]:
        """Run `rayscaler up`."""
        return await self.run("up", "-f", str(self.define()), "--listen", self.listen, "--state-dir", str(self.base / self.state), *flags)

    async def is_up(self) -> dict[str, dict[str, Any]]:
        """Run `rayscaler up` and return its parts."""
        code, out, err = await self.up("--json")
        assert code == 0, err
        return json.loads(out)["parts"]

    async def down(self, *flags: str) -> tuple[int, str, str]:
        """Run `rayscaler down`."""
        return await self.run("down", "--state-dir", str(self.base / self.state), *flags)

    def log(self, part: str) -> str:
        return (self.parts / f"{part}.log").read_text()
