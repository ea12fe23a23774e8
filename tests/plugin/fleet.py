"""examples/plugin-go-ssh and its testbed: machines with a sshd each, in a network of their own. As a program this builds all that its tests run."""

import asyncio
import contextlib
import functools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from tests.cluster import binary

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "examples/plugin-go-ssh"
TESTBED = SOURCE / "testbed.sh"
HEAD = "10.77.0.1:6379"
"""Where the testbed's network has its head."""
UP_S = 60.0
"""For some machines to start, which takes a second."""
PYTHON = Path(sys.executable).resolve()
RAY = """#!/bin/sh
echo "Ray runtime started."
exec sleep 600
"""
"""What stands for Ray: it says that it is up, and runs. No test waits for its end."""
GCS = """
import socket, sys, threading
listener = socket.create_server(("10.77.0.1", 6379))
lines = []
def accept():
    while True:
        lines.append(listener.accept()[0])
        lines[-1].sendall(bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
threading.Thread(target=accept, daemon=True).start()
print("up", flush=True)
sys.stdin.read()
"""
"""The beginning of HTTP/2, which is all that a supervisor asks of a head that lives; it ends with its stdin."""


def missing() -> str:
    """Say why there can be no testbed here; "" if there can."""
    return "" if os.geteuid() == 0 else "needs root, for network namespaces with a sshd each"


@functools.cache
def build() -> Path:
    """Return the plugin, built; Go itself knows whether there is anything to do."""
    program = ROOT / "build/plugin-go-ssh"
    binary.run_go(SOURCE, "build", "-trimpath", "-o", str(program), ".")
    return program


class Fleet:
    """A running testbed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {**os.environ, "TESTBED": str(directory)}

    def plugin(self) -> list[str]:
        """Return the command of a plugin that reaches the machines."""
        return ["env", f"TESTBED={self.directory}", str(TESTBED), "in", str(build()), "-fleet", str(self.directory / "fleet.yaml")]

    def on(self, machine: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run something on a machine."""
        return subprocess.run([TESTBED, "on", machine, *command], env=self.env, check=False, capture_output=True, text=True)


@contextlib.asynccontextmanager
async def running(directory: Path, machines: int, *, workers: int) -> AsyncIterator[Fleet]:
    """Run machines whose Python has a stand-in for Ray beside it, and a head that is as much of one as a worker asks for."""
    tools, at = directory / "bin", directory / "testbed"
    for each in (tools, at):
        each.mkdir()
    (tools / "python3").symlink_to(PYTHON)
    (tools / "ray").write_text(RAY)
    (tools / "ray").chmod(0o755)
    env = {
        **os.environ,
        "FLEET_DIR": str(at),
        "FLEET_PYTHON": str(tools / "python3"),
        "FLEET_WORKERS": str(workers),
        "FLEET_GRACE": "3s",
        "FLEET_KEEP": str(tools),
    }
    process = await asyncio.create_subprocess_exec(
        TESTBED,
        "run",
        str(machines),
        *(sys.executable, "-c", GCS),
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(UP_S):
            said = await process.stdout.readline()
        assert said == b"up\n", said
        yield Fleet(at)
    finally:
        process.kill()  # and the kernel ends all that was in it
        await process.wait()


if __name__ == "__main__":
    print(build())
    binary.run_go(SOURCE, "vet", "./...")  # compiles the tests too
