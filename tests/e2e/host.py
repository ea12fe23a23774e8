"""What a machine must have for a real node, and the control groups that the node takes: all of it Linux's, nothing of Kubernetes."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PROGRAMS = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
}
"""What is run, and the Debian package that has it."""
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
SHARES = {"cpu.shares": "16384", "cpu.weight": "1600"}
"""What the pods get of a busy machine: as much as 16 processes. Left alone, all pods together count as one process of whatever else runs."""
INSTALL_S = 600.0
"""For apt; half a minute with a quick mirror."""


def missing() -> str:
    """Return what a real node lacks here, as a sentence, after installing what may be installed; empty if nothing."""
    if os.geteuid() != 0:
        return "a real node needs root: containerd and the kubelet mount, and make namespaces and control groups"
    if packages := _lacking():
        if shutil.which("apt-get") is None:
            return f"a real node needs what Debian has in {', '.join(packages)}, and this machine has no apt-get to install it"
        if not (_installed(packages) or (_apt("update") and _installed(packages))):
            return f"a real node needs what Debian has in {', '.join(packages)}, and apt-get does not install it; try: apt-get install {' '.join(packages)}"
    if not Path("/sys/fs/cgroup").is_dir() or not any(hierarchies()):
        return "a real node needs control groups, and none are mounted under /sys/fs/cgroup"
    return ""


def has(program: str, package: str) -> bool:
    """Whether a program is there, after installing its package where that can be done."""
    if shutil.which(program, path=PATH) is None and os.geteuid() == 0 and shutil.which("apt-get") is not None:
        install = ("install", "--yes", "--no-install-recommends", package)
        _ = _apt(*install) or (_apt("update") and _apt(*install))
    return shutil.which(program, path=PATH) is not None


def hierarchies() -> Iterator[Path]:
    """Yield where control groups are mounted: once with version 2, once per controller with version 1."""
    for line in Path("/proc/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind in {"cgroup", "cgroup2"}:
            yield Path(where)


def make_groups(name: str) -> None:
    """Make a control group of every kind, fit for the kubelet to divide."""
    for hierarchy in hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        for needed in ("cpuset.cpus", "cpuset.mems"):  # version 1 lets nothing in before these are set
            if (hierarchy / needed).exists() and (group / needed).exists():
                (group / needed).write_text((hierarchy / needed).read_text())
        for name_of, part in SHARES.items():
            if (group / name_of).exists():
                (group / name_of).write_text(part)


def remove_groups(name: str) -> None:
    """Remove what is left of them once their processes are gone."""
    for hierarchy in hierarchies():
        for directory, _, _ in os.walk(hierarchy / name, topdown=False):
            Path(directory).rmdir()


def _lacking() -> list[str]:
    return sorted({package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None})


def _installed(packages: list[str]) -> bool:
    return _apt("install", "--yes", "--no-install-recommends", *packages) and not _lacking()


def _apt(*arguments: str) -> bool:
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    return not subprocess.run(["apt-get", "-qq", *arguments], env=env, stdout=subprocess.DEVNULL, timeout=INSTALL_S, check=False).returncode
