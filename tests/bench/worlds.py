"""The two sides of `first-task` and `head-loss`, each with a real head: rayscaler with its local executor, and Ray's own fake multi-node.

Both heads get the same flags. Everything started carries a mark of its own in its environment, by which it is ended. Never
`ray stop` nor ray.cluster_utils.AutoscalingCluster: they end every Ray of the machine.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rayscaler import rejoin
from rayscaler.cli.up.definition import ANEW
from rayscaler.local import startup
from rayscaler.local.command import ray_executable
from rayscaler.local.head import HeadOptions, free_client_port, head_argv, head_env
from rayscaler.processes import SystemProcesses

MARK = "RAYSCALER_BENCH"
START_S = 60.0
"""A head, or a service, that is not up by then never will be."""
WORKER = {"CPU": 1, "object_store_memory": 80_000_000}
"""The one kind of worker, for both sides."""
FAKE_HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""Under this id the fake provider knows its head (fake_multi_node.node_provider.FAKE_HEAD_NODE_ID)."""


class World:
    """A folder, a mark, and what was started under it."""

    def __init__(self) -> None:
        self.base = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
        self.mark = f"{MARK}={self.base.name}"
        self.port = free_client_port()
        self.address = ""
        self.head_pid = 0
        self._processes = SystemProcesses()

    def spawn(self, name: str, argv: Sequence[str], env: Mapping[str, str] | None = None) -> int:
        """Start a process with a log of its own, the leader of a session of its own."""
        marked = {**(os.environ if env is None else env), MARK: self.base.name, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONUNBUFFERED": "1"}
        return self._processes.spawn(argv, env=marked, log_path=self.log(name), mark=self.mark).pid

    def log(self, name: str) -> Path:
        """Return where a process's output goes."""
        return self.base / f"{name}.log"

    def until_said(self, name: str, text: str) -> str:
        """Wait until a process has printed `text`; return the line."""
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            said = startup.text(self.log(name))
            found = next((line for line in said.splitlines(keepends=True) if text in line and line.endswith("\n")), None)
            if found is not None:
                return found
            time.sleep(0.02)  # a log file tells nobody when it grows
        raise RuntimeError(f"no {text!r} from the {name} in {START_S:g} s:\n{startup.tail(self.log(name))}")

    def start_head(self, options: HeadOptions, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Start a head and wait until it is up."""
        self.head_pid = self.spawn("head", argv, {**head_env(options, os.environ), **env})
        said = self.until_said("head", "Local node IP: ")
        self.address = f"{said.split('Local node IP: ', 1)[1].strip()}:{self.port}"
        self.until_said("head", startup.STARTED_LINE.decode())

    def head_argv(self) -> list[str]:
        """Return the head's command line, as rayscaler's own heads have it."""
        return head_argv(ray_executable(), HeadOptions(), port=self.port, temp_dir=self.base / "ray", client_port=free_client_port())

    def head_pids(self) -> set[int]:
        """Return what runs in the head's session but its keeper, if it has one, and what stands for other machines: the workers there."""
        leader = self.head_pid
        members = {pid for pid in marked(self.mark) if stat(pid)[3:4] == [str(leader)]}
        autoscalers = {pid for pid in members if "monitor.py" in command_line(pid)}
        level, others = autoscalers, set[int]()
        while level := {pid for pid in members if any(stat(pid)[1:2] == [str(parent)] for parent in level)}:
            others |= level
        is_kept = rejoin.__file__ in command_line(leader)
        return members - others - ({leader} if is_kept else set())

    def close(self) -> None:
        """End all that carries the mark, and remove the folder."""
        while pids := marked(self.mark):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)  # the killed need a moment to go; most are no children of ours, so nothing can be awaited
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG) != (0, 0):
                    pass
        shutil.rmtree(self.base, ignore_errors=True)


@contextlib.contextmanager
def ours(worker: Mapping[str, int] = WORKER, *, is_kept: bool = False) -> Iterator[World]:
    """Run head, service and monitor, as a user would start them; a kept head runs again at once when it ends, as under `rayscaler up`."""
    world = World()
    try:
        argv = world.head_argv()
        keeper = [sys.executable, "-I", "-S", rejoin.__file__, "keep", "--", *_anew(world, argv)]
        world.start_head(HeadOptions(), keeper if is_kept else argv, {})
        definition = world.base / "cluster.yaml"
        definition.write_text(yaml.safe_dump(_definition(world.port, worker)))
        listen, state = f"127.0.0.1:{free_client_port()}", str(world.base / "state")
        cli = [sys.executable, "-m", "rayscaler"]
        world.spawn("service", [*cli, "serve", "-f", str(definition), "--listen", listen, "--state-dir", state])
        world.until_said("service", "rayscaler listens at")
        world.spawn("monitor", [*cli, "monitor", "--cluster", "bench", "--gcs", world.address, "--service", listen])
        yield world
    finally:
        world.close()


@contextlib.contextmanager
def anchor(worker: Mapping[str, int] = WORKER) -> Iterator[World]:
    """Run a head with Ray's autoscaler v2 and its fake multi-node provider, at their defaults."""
    from ray.util import get_node_ip_address

    world = World()
    try:
        config = world.base / "autoscaling.json"
        config.write_text(json.dumps(_autoscaling_config(f"{get_node_ip_address()}:{world.port}", worker)))
        start_anchor_head(world)
        yield world
    finally:
        world.close()


def start_anchor_head(world: World) -> None:
    """Start the anchor's head, or start it again."""
    argv = [each for each in world.head_argv() if each != "--no-monitor"]
    ids = {"RAY_FAKE_CLUSTER": "1", "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_ID, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_ID}
    world.start_head(HeadOptions(), _anew(world, [*argv, f"--autoscaling-config={world.base / 'autoscaling.json'}"]), ids)


def _anew(world: World, argv: Sequence[str]) -> list[str]:
    """Return a head's command as it can be run again after a kill."""
    return ["/bin/sh", "-c", ANEW, str(world.base / "ray" / "ray_current_cluster"), *argv]


def _definition(port: int, worker: Mapping[str, int]) -> dict[str, Any]:
    node_type = {"name": "worker", "maxWorkers": 2, "resources": dict(worker)}
    head = {"resources": {"CPU": 0}, "startParams": {"port": str(port)}}
    spec = {"maxWorkers": 2, "executor": "local", "head": head, "nodeTypes": [node_type]}
    return {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "bench"}, "spec": spec}


def _autoscaling_config(gcs_address: str, resources: Mapping[str, int]) -> dict[str, Any]:
    """Return what ray.cluster_utils.AutoscalingCluster(autoscaler_v2=True) would write, but for two things.

    The provider is named by its class: its short name needs a file of defaults that Ray's wheels leave out. And it is told the
    GCS's address, which it takes for port 6379 otherwise.
    """
    worker = {"resources": dict(resources), "node_config": {}, "min_workers": 0, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": FAKE_HEAD_ID,
        "gcs_address": gcs_address,
    }
    unused = ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands", "cluster_synced_files")
    return {
        **{name: [] for name in unused},
        "cluster_name": "fake_multinode",
        "max_workers": 2,
        "provider": provider,
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "idle_timeout_minutes": 5,
    }


def marked(mark: str) -> list[int]:
    """Return the processes that run with `mark` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def command_line(pid: int) -> str:
    """Return a process's command line; empty if it is gone."""
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return ""


def started_at(pid: int) -> float:
    """Return the wall time at which a process started, to the kernel's clock tick (10 ms)."""
    boot_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot_at + int(stat(pid)[19]) / os.sysconf("SC_CLK_TCK")


def stat(pid: int) -> list[str]:
    """Return a process's state, parent, group, session and so on; nothing if it is gone."""
    with contextlib.suppress(OSError):
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return []
