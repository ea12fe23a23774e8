"""`make cluster-up` and `make cluster-down`: a Kubernetes to play with, under build/cluster, kept by a process of its own."""

import asyncio
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rayscaler.processes import Identity, SystemProcesses, end
from tests.cluster import binary, servers

DIRECTORY = Path(__file__).parents[2] / "build/cluster"
KEEPER = DIRECTORY.with_name("cluster-keeper.json")
LOG = DIRECTORY.with_name("cluster-keeper.log")
READY = DIRECTORY / "ready"
END_S = 30.0
"""For the keeper to end all parts."""


def up() -> None:
    """Start one unless it runs, and say how to use it."""
    processes = SystemProcesses()
    keeper = _keeper()
    if keeper is None or not processes.is_alive(keeper):
        binary.build()
        shutil.rmtree(DIRECTORY, ignore_errors=True)
        DIRECTORY.mkdir(parents=True)
        LOG.unlink(missing_ok=True)
        keeper = processes.spawn([sys.executable, "-m", "tests.cluster", "keep"], env=os.environ, log_path=LOG)
        KEEPER.write_text(json.dumps(asdict(keeper)))
    while not READY.exists():
        if not processes.is_alive(keeper):
            sys.exit(f"the cluster did not come up:\n{LOG.read_text()}")
        time.sleep(0.05)
    print(f"export KUBECONFIG={DIRECTORY / 'admin.kubeconfig'}")


def down() -> None:
    """End it and remove what it kept."""
    keeper = _keeper()
    if keeper is not None:
        asyncio.run(end(SystemProcesses(), keeper, END_S))
        KEEPER.unlink()
    shutil.rmtree(DIRECTORY, ignore_errors=True)


def keep() -> None:
    """Hold it until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with servers.running(DIRECTORY):
        READY.touch()
        signal.pause()


def _keeper() -> Identity | None:
    return Identity(**json.loads(KEEPER.read_text())) if KEEPER.exists() else None


if __name__ == "__main__":
    {"up": up, "down": down, "keep": keep}[sys.argv[1]]()
