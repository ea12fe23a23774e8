"""The service's image without a container engine and without an image registry: `make image`.

The base is Python from the Debian packages of the machine that builds (their files alone: no shell, no package manager), on it the locked
packages, on those rayscaler; elsewhere deploy/Dockerfile makes the same. `docker load`, `podman load` and `ctr images import` take the archive.
"""

import argparse
from pathlib import Path

from deploy import layers
from deploy.layers import Recipe

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "deploy/requirements.lock"
PYTHON = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
"""The interpreter with its library, and what compiled packages are linked with."""
USER = 65532
"""Nobody in particular; elsewhere, too, the number of "nonroot"."""
PLACE = "app"
"""Where rayscaler and its packages lie in the image, as in the Dockerfile."""


def base() -> Recipe:
    """Return the layer of Python."""

    def make(root: Path) -> None:
        layers.debian(root, PYTHON)
        (root / "tmp").mkdir()
        (root / "tmp").chmod(0o1777)
        layers.write(root / "etc/passwd", f"root:x:0:0::/root:/bin/sh\nrayscaler:x:{USER}:{USER}::/tmp:/bin/sh\n")
        layers.write(root / "etc/group", f"root:x:0:\nrayscaler:x:{USER}:\n")
        layers.compile_all(root, "usr/lib", below=root)

    release = Path("/etc/debian_version")
    return Recipe("base", layers.key(Path(__file__).read_bytes(), release.read_bytes() if release.exists() else b""), make)


def packages() -> Recipe:
    """Return the layer of the locked packages that rayscaler needs."""

    def make(root: Path) -> None:
        layers.install(LOCK, root / PLACE, below=base().root)
        layers.compile_all(root, PLACE, below=base().root)

    return Recipe("packages", layers.key(base().key, LOCK.read_bytes()), make)


def program() -> Recipe:
    """Return the layer of rayscaler itself."""
    files = {
        path: f"{PLACE}/{path.relative_to(ROOT)}"
        for path in sorted((ROOT / "rayscaler").rglob("*"))
        if path.suffix in {".py", ".typed", ".c", ".so"}
    }
    files |= {path: f"{PLACE}/rayscaler/_examples/{path.name}" for path in sorted((ROOT / "examples").glob("demo*"))}

    def make(root: Path) -> None:
        for path, where in files.items():
            layers.write(root / where, path.read_bytes())
        layers.write(root / "usr/local/bin/rayscaler", "#!/usr/bin/python3\nfrom rayscaler.__main__ import main\n\nmain()\n", mode=0o755)
        layers.compile_all(root, PLACE, below=base().root)

    parts = (part for path, where in files.items() for part in (where.encode(), path.read_bytes()))
    return Recipe("program", layers.key(base().key, *parts), make)


def build(out: Path, *names: str) -> None:
    """Write the service's image, by all these names."""
    config = {"Entrypoint": ["rayscaler"], "Cmd": ["serve"], "User": f"{USER}:{USER}", "WorkingDir": "/"}
    environment = {"PYTHONPATH": f"/{PLACE}", "HOME": "/tmp"}
    layers.archive(out, layers.Image(names, [base(), packages(), program()], config, environment))


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="Build the service's image.")
    parser.add_argument("--name", required=True, help="what the image is called: rayscaler:1.2.3")
    parser.add_argument("--out", required=True, type=Path, help="the archive to write")
    arguments = parser.parse_args()
    build(arguments.out, arguments.name)
    print(f"{arguments.out}: {arguments.name}, {arguments.out.stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
