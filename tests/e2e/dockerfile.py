"""deploy/Dockerfile built for real, by buildah: no daemon, no registry, nothing left behind but the archive asked for.

What it is built from has the names that the Dockerfile says, and is made of Debian's packages as the other images of the tests are.
"""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

from deploy import image, layers
from deploy.layers import Recipe
from tests.e2e import host

DOCKERFILE = image.ROOT / "deploy/Dockerfile"
TOOLS = {"": ("dash", "coreutils", "python3-pip", "gcc", "libc6-dev"), "-slim": ("dash", "coreutils")}
"""What Python's official images have besides Python, as far as the Dockerfile uses it, by how their names end."""
LINKS = {"bin/sh": "dash", "usr/local/bin/pip": "/usr/bin/pip3", "usr/local/bin/cc": "/usr/bin/gcc"}
LINKS |= {f"usr/local/bin/{name}": "/usr/bin/python3" for name in ("python", "python3")}
CERTIFICATES = Path("/etc/ssl/certs")
PIP_KEYS = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout")
BUILD_S = 600.0
"""For buildah to end; half a minute on two idle cores."""


def missing() -> str:
    """Return what the build lacks here, as a sentence, after installing what may be installed; empty if nothing."""
    return (
        ""
        if host.has("buildah", "buildah")
        else "the Dockerfile is built by buildah, and apt-get does not install it; try: apt-get install buildah"
    )


def bases() -> list[layers.Image]:
    """Return what the Dockerfile is built from."""
    return [layers.Image([f"localhost/{name}"], [image.base(), _python(name)], {"Cmd": ["python3"]}) for name in _named()]


def build(directory: Path, name: str) -> Path:
    """Build the image in an empty directory, and return it as an archive."""
    for number, each in enumerate(bases()):
        layers.archive(directory / f"base-{number}.tar", each)
        _buildah(directory, "pull", "--quiet", f"docker-archive:{directory}/base-{number}.tar")
    (directory / "pip.conf").write_text(_pip())
    mounts = {directory / "pip.conf": "/etc/pip.conf", CERTIFICATES: CERTIFICATES}
    volumes = [f"--volume={path}:{where}:ro" for path, where in mounts.items() if path.exists()]
    how = ["--pull-never", "--isolation", "chroot", "--network", "host", *volumes]
    _buildah(directory, "build", *how, "--file", DOCKERFILE, "--tag", name, image.ROOT)
    archive = directory / "built.tar"
    _buildah(directory, "push", "--quiet", name, f"docker-archive:{archive}:{name}")
    _buildah(directory, "rmi", "--all", "--force")  # unmounts what it has mounted, too
    return archive


def _named() -> list[str]:
    return re.findall(r"^FROM (\S+)", DOCKERFILE.read_text(), re.MULTILINE)


def _python(name: str) -> Recipe:
    kind = "-slim" if name.endswith("-slim") else ""

    def make(root: Path) -> None:
        layers.debian(root, TOOLS[kind], below=image.base().root)
        for link, target in LINKS.items():
            path = root / link
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            if not target.startswith("/") or (root / target[1:]).exists() or (image.base().root / target[1:]).exists():
                path.symlink_to(target)

    return Recipe(f"python{kind}", layers.key(image.base().key, Path(__file__).read_bytes(), name.encode()), make)


def _pip() -> str:
    """Return where pip finds packages here, as a file for the Python of the base: by whatever way this one was told."""
    said = layers.run([sys.executable, "-m", "pip", "config", "list"])
    known = {key.rpartition(".")[2]: value for key, _, value in (line.partition("=") for line in said.splitlines())}
    lines = [f"{key} = {ast.literal_eval(known[key])}" for key in PIP_KEYS if key in known]
    return "\n".join(["[global]", f"cert = {CERTIFICATES}/ca-certificates.crt", *lines, ""])


def _buildah(directory: Path, command: str, *arguments: object) -> None:
    argv = ["buildah", "--root", directory / "root", "--runroot", directory / "run", "--storage-driver", "overlay", command, *arguments]
    done = subprocess.run(
        list(map(str, argv)), env={**os.environ, "PATH": host.PATH}, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode:
        raise RuntimeError(f"buildah {command} failed with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
