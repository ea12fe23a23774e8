"""Programs in Go that tests run, each built once and kept in the user's cache by the hash of its sources: here those of controlplane/.

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
from collections.abc import Sequence
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
    package = "." if name == "controlplane" else f"./{name}"
    return kept(name, SOURCE, [package], f"-X k8s.io/component-base/version.gitVersion={KUBERNETES}") / name


def kept(name: str, source: Path, packages: Sequence[str], flags: str = "", *, beside: Path | None = None) -> Path:
    """Return the folder with the programs of a Go module, each called as its package is, building them unless they are there.

    `beside` is another module of ours, which go.mod replaces by its path.
    """
    own = [path for each in packages if each.startswith(".") for path in sorted((source / each).glob("*.go"))]
    others = [] if beside is None else sorted(beside.rglob("*.go"))
    sources = [*own, source / "go.mod", source / "go.sum", *others]
    texts = [each.relative_to(beside if each in others else source).as_posix().encode() + b"\0" + each.read_bytes() for each in sources]
    digest = hashlib.blake2b(b"\0".join([flags.encode(), *texts, *(each.encode() for each in packages)]), digest_size=8).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayscaler" / name
    folder = cache / digest
    if folder.exists():  # whoever builds another one need not be waited for
        os.utime(folder)
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one build at a time, however many checkouts ask
        if not folder.exists():
            _forget_old(cache)
            part = cache / f"{digest}.part"
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            print(f"building {name} for the tests, once: some minutes", file=sys.stderr, flush=True)
            run_go(source, "build", "-trimpath", "-ldflags", f"-s -w {flags}", "-o", f"{part}/", *packages)
            part.rename(folder)
        os.utime(folder)
    return folder


def unformatted(source: Path = SOURCE) -> str:
    """Return the sources that gofmt would change."""
    gofmt = Path(run_go(source, "env", "GOROOT").strip()) / "bin/gofmt"  # not every Go has it on the path
    return subprocess.run([gofmt, "-l", "."], cwd=source, check=True, capture_output=True, text=True).stdout


def _forget_old(cache: Path) -> None:
    for entry in cache.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir() and entry.stat().st_mtime < time.time() - KEPT_S:
                shutil.rmtree(entry)


def run_go(source: Path, *arguments: str) -> str:
    """Return what `go` prints in a module's folder; raises RuntimeError with what it complains of."""
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
    done = subprocess.run([program, *arguments], cwd=source, env=env, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"go {arguments[0]} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    for each in sys.argv[1:] or ["controlplane"]:
        print(build(each))
