"""The command lines and environments of `ray start` on this machine: pure but for finding the executable. Runs nothing."""

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from rayscaler.errors import Unavailable
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec

HEAD = raystart.HEAD
"""Instance id and node type of a head."""

Builder = Callable[[LaunchSpec], tuple[list[str], dict[str, str]]]
"""Makes a worker's argv and environment from its spec; raises InvalidRequest or Unavailable."""


def ray_worker(spec: LaunchSpec) -> tuple[list[str], dict[str, str]]:
    """Make argv and environment of a worker with the `ray` that belongs to this Python."""
    return worker_argv(spec, ray_executable()), worker_env(spec, os.environ)


def worker_argv(spec: LaunchSpec, ray: str) -> list[str]:
    """Return the command line of a worker; a start parameter of the node type wins over our own.

    The head's log monitor reads the logs of the whole machine; a second one would print every line twice at the driver.
    """
    flags = {"address": spec.head_address, **raystart.ANY_PORT, "include-log-monitor": "false", **raystart.node_flags(spec.node_type)}
    return [*raystart.ray_command(ray, spec.node_type.resources), "start", "--block", *raystart.spelled(flags)]


def worker_env(spec: LaunchSpec, base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a worker: `base` without what would change it, who it is, and the node type's own."""
    return {**inherited(base), **raystart.worker_env(spec)}


def inherited(base: Mapping[str, str]) -> dict[str, str]:
    """Return `base` without what would make a node another than the planned one."""
    return {name: value for name, value in base.items() if name not in raystart.NOT_INHERITED}


def ray_executable() -> str:
    """Find `ray` beside this Python, else on the PATH; raises Unavailable with what to install."""
    beside = Path(sys.executable).parent / "ray"
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("ray")
    if found is None:
        raise Unavailable(f"no `ray` beside {sys.executable} or on the PATH; install it with: pip install 'rayscaler[local]'")
    return found
