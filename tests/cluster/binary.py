"""The programs of tests/cluster/controlplane, each built once and kept in the user's cache by the hash of its sources.

As a program it builds those it is told, or the control plane, and prints the paths. Every checkout with the same sources finds the same programs.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

SOURCE = Path(__file__).parent / "controlplane"
KUBERNETES = "v1.34.4"
"""What its parts say they are; go.mod pins the same."""
KEPT_S = 14 * 86400.0
"""A program that no test used for so long goes when another is built; each has 120 MB."""
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
"""With the environment's own Go first, which `make` puts there where the machine has none."""


def build(name: str = "controlplane") -> Path:
    """Return a program, built unless it is there: 4 to 10 minutes for the first with Go's own cache cold, seconds with it warm.

    The control plane is the module's root; the others ("node", "pause") are directories in it and take from Go's cache what they share with it.
    """
    package = SOURCE if name == "controlplane" else SOURCE / name
    sources = [*sorted(package.glob("*.go")), SOURCE / "go.mod", SOURCE / "go.sum"]
    digest = hashlib.blake2b(b"\0".join(each.name.encode() + b"\0" + each.read_bytes() for each in sources), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayscaler" / name
    program = cache / digest / name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time, however many checkouts ask
        if not program.exists():
            _forget_old(cache)
            program.parent.mkdir(exist_ok=True)
            part = program.with_suffix(".part")
            print(f"building {name} of the tests' Kubernetes, once: some minutes", file=sys.stderr, flush=True)
            stamp = f"-s -w -X k8s.io/component-base/version.gitVersion={KUBERNETES}"
            _go("build", "-trimpath", "-ldflags", stamp, "-o", str(part), f"./{package.relative_to(SOURCE)}")
            part.rename(program)
        os.utime(program.parent)
    return program


def unformatted() -> str:
    """Return the sources that gofmt would change."""
    gofmt = Path(_go("env", "GOROOT").strip()) / "bin/gofmt"  # not every Go has it on the path
    return subprocess.run([gofmt, "-l", "."], cwd=SOURCE, check=True, capture_output=True, text=True).stdout


def _forget_old(cache: Path) -> None:
    for entry in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir() and entry.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(entry)


def _go(*arguments: str) -> str:
    # The Go that is there is taken whatever its version is, rather than another one fetched; flags of the user's own could change what is built.
    env = {
        **os.environ,
        "PATH": PATH,
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=readonly -buildvcs=false",
        "CGO_ENABLED": "0",
        "GOWORK": "off",
    }
    program = shutil.which("go", path=PATH)
    if program is None:
        raise FileNotFoundError("go is not there: `make` installs Go where it is missing")
    done = subprocess.run([program, *arguments], cwd=SOURCE, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"go {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    for each in sys.argv[1:] or ["controlplane"]:
        print(build(each))
