"""`make e2e-up` and `make e2e-down`: a Kubernetes with a real node to play with, kept by a process of its own."""

import asyncio
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from rayscaler.processes import Identity, SystemProcesses, end
from tests.e2e import bed, host, images

KEEPER = Path(__file__).parents[2] / "build/e2e-keeper.json"
LOG = KEEPER.with_suffix(".log")
READY = KEEPER.with_name("e2e-ready.json")


def prepare() -> None:
    """Build and install what takes long; what is missing for it is said, here and by the tests."""
    if lack := host.missing():
        print(f"the tests on a real node cannot run here: {lack}", file=sys.stderr)
    else:
        bed.prepare()


def up() -> None:
    """Start one unless it runs, and say how to use it."""
    if lack := host.missing():
        sys.exit(lack)
    bed.prepare()
    processes = SystemProcesses()
    keeper = _keeper()
    if keeper is None or not processes.is_alive(keeper):
        READY.unlink(missing_ok=True)
        LOG.unlink(missing_ok=True)
        KEEPER.parent.mkdir(exist_ok=True)
        keeper = processes.spawn([sys.executable, "-m", "tests.e2e", "keep"], env=os.environ, log_path=LOG)
        KEEPER.write_text(json.dumps(asdict(keeper)))
    while not READY.exists():
        if not processes.is_alive(keeper):
            sys.exit(f"the node did not come up:\n{LOG.read_text()}")
        time.sleep(0.05)
    known = json.loads(READY.read_text())
    print(
        f"export KUBECONFIG={known['kubeconfig']}\n# images: {images.RAY} {images.SERVICE}\n# Services: {known['services']}, from here too"
    )


def down() -> None:
    """End it; nothing of it stays."""
    keeper = _keeper()
    if keeper is not None:
        asyncio.run(end(SystemProcesses(), keeper, bed.END_S))
        KEEPER.unlink()
    READY.unlink(missing_ok=True)


def keep() -> None:
    """Hold it until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with bed.running() as running:
        part = READY.with_suffix(".part")
        part.write_text(json.dumps({"kubeconfig": str(running.cluster.directory / "admin.kubeconfig"), "services": running.place.services}))
        part.rename(READY)
        signal.pause()


def _keeper() -> Identity | None:
    return Identity(**json.loads(KEEPER.read_text())) if KEEPER.exists() else None


if __name__ == "__main__":
    {"prepare": prepare, "up": up, "down": down, "keep": keep}[sys.argv[1]]()
