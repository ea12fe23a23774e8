"""Stand-ins for `ray start`: small real processes that print its line, behave badly, or crash.

Where one sleeps for 600 s it stands for a worker that runs: no test waits for that, each ends the process.
"""

import os
import sys
from pathlib import Path

from rayscaler.executor.base import LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.rejoin import standin

GCS = standin.Gcs()
"""The head of all stand-in workers of a test run: a port that answers."""
GCS.open()

GOOD = """
import time
print("Ray runtime started.", flush=True)
time.sleep(600)
"""
SLOW = """
import time
time.sleep(600)
"""
CRASHING = """
import sys
print("the port is taken", flush=True)
sys.exit(3)
"""
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"],
                         process_group=0)
print("Ray runtime started.", child.pid, flush=True)
time.sleep(600)
"""
"""Ignores SIGTERM, with a child in a process group of its own, as Ray's workers have."""
LEAVING = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0)
print("Ray runtime started.", child.pid, flush=True)
time.sleep(0.2)
os._exit(7)
"""
"""Dies and leaves a child behind."""


def running(code: str):
    """Return a command builder for such a worker."""

    def build(spec: LaunchSpec) -> tuple[list[str], dict[str, str]]:
        return [sys.executable, "-S", "-c", code], {**os.environ, **standin.ASKED, "RAY_CLOUD_INSTANCE_ID": spec.instance_id}

    return build


def spec(instance_id: str, cluster: str = "c", cpus: float = 1) -> LaunchSpec:
    return LaunchSpec(cluster, instance_id, NodeType("small", Resources.of(CPU=cpus)), GCS.address)


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
