"""Layers of images and how they are packed, without a container engine: Debian's packages, Python's, files. Knows no rayscaler.

A layer is made once and kept in the user's cache by the hash of what it is made from; the same sources give the same bytes. No root is needed.
"""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

LEFT_OUT = ("dpkg", "tar", "perl*", "libperl*", "lib*-perl", "debconf", "usrmerge", "init-system-helpers", "media-types")
"""What only the scripts of packages need, and none is run here."""
NOT_TAKEN = ("./usr/share/doc/*/[!c]*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/lintian/*", "./usr/share/info/*")
"""Of a package's files; the licences stay."""
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
"""As every Debian has them by now."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""Machines by the names that images have for them."""
KEPT_S = 14 * 86400.0
"""A layer that nothing used for so long goes when another is made."""
EPOCH = 315532800
"""The time of every file, in seconds: 1980, which every format can tell."""
RUN_S = 600.0
"""For a program to end; the longest fetches some tens of MB."""


@dataclass(frozen=True)
class Recipe:
    """How a layer is made: `make` fills an empty root; `key` is all that it depends on."""

    name: str
    key: bytes
    make: Callable[[Path], None]
    owners: Mapping[str, int] = field(default_factory=dict)
    """Directories that, with all in them, belong to another than root."""

    @property
    def root(self) -> Path:
        """The directory that the layer was packed from."""
        return _made(self) / "root"

    @property
    def tar(self) -> Path:
        """The layer, named by the hash of its bytes."""
        return next(_made(self).glob("*.tar"))


def key(*parts: bytes) -> bytes:
    """Return the hash of all that a layer is made from, the way it is made among them."""
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in (Path(__file__).read_bytes(), *parts))).digest()


@dataclass(frozen=True)
class Image:
    """Layers, the lowest first, and what is run in them."""

    names: Sequence[str]
    recipes: Sequence[Recipe]
    config: Mapping[str, object]
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def document(self) -> bytes:
        """The image's config: two with the same one are the same image."""
        environment = {"PATH": "/usr/local/bin:/usr/bin:/usr/sbin", **self.environment}
        whole = {
            "architecture": ARCHITECTURES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {**self.config, "Env": [f"{name}={value}" for name, value in environment.items()]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{recipe.tar.stem}" for recipe in self.recipes]},
            "history": [{"created_by": recipe.name} for recipe in self.recipes],  # without it buildah builds nothing upon it layer by layer
        }
        return json.dumps(whole, sort_keys=True).encode()


def archive(out: Path, *images: Image) -> None:
    """Write images in the form of `docker save`; a layer that several have is there once."""
    manifest, members, tars = list[object](), dict[str, bytes](), dict[str, Path]()
    for each in images:
        named = f"{hashlib.sha256(each.document).hexdigest()}.json"
        own = [recipe.tar for recipe in each.recipes]
        manifest.append({"Config": named, "RepoTags": list(each.names), "Layers": [tar.name for tar in own]})
        members[named] = each.document
        tars |= {tar.name: tar for tar in own}
    out.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as packed:
        for member, content in (("manifest.json", json.dumps(manifest).encode()), *members.items()):
            info = tarfile.TarInfo(member)
            info.size, info.mtime = len(content), EPOCH
            packed.addfile(info, io.BytesIO(content))
        for name, tar in tars.items():
            packed.add(tar, name, filter=_plain({}))


def debian(root: Path, names: Sequence[str], below: Path | None = None) -> None:
    """Put the files of Debian packages and of all that they need into a root, without those of the root below; their scripts are not run."""
    for link, target in LINKS.items():
        (root / target).mkdir(parents=True, exist_ok=True)
        (root / link).symlink_to(target)
    known = {path.name for path in (below / "var/lib/dpkg/status.d").iterdir()} if below else set()
    with tempfile.TemporaryDirectory() as cache:
        for path in _fetched(names, Path(cache)):
            package = path.name.partition("_")[0]
            if package not in known and not any(fnmatch(package, pattern) for pattern in LEFT_OUT):
                _unpack(path, root)
                write(root / "var/lib/dpkg/status.d" / package, run(["dpkg-deb", "--field", path]))  # where scanners look


def install(lock: Path, where: Path, below: Path) -> None:
    """Put the packages of a lock file into a directory, for the Python of the root below, which need not be this machine's own."""
    argv = [Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--target", where, "--no-deps", "--require-hashes"]
    version = _interpreter(below).name.removeprefix("python")
    target = ["--python-version", version, "--python-platform", f"{platform.machine()}-manylinux_2_36", "--only-binary", ":all:"]
    run([*argv, *target, "--link-mode", "copy", "-r", lock])
    (where / ".lock").unlink(missing_ok=True)
    shutil.rmtree(where / "bin", ignore_errors=True)  # of no use: they name this machine's Python


def compile_all(root: Path, where: str, below: Path) -> None:
    """Compile what lies in a directory of a root with the Python of the root below, so that no container has to at every start."""
    loader = next((below / "usr").glob("lib*/ld-linux*.so.*"))
    libraries = ":".join(str(path) for path in (below / "usr/lib").glob("*-linux-gnu"))
    argv = [loader, "--library-path", libraries, _interpreter(below), "-m", "compileall", "-qq", "--invalidation-mode", "unchecked-hash"]
    # It must not compile what it runs itself in its usual way, by the time of a file, which no file keeps.
    env = {"PYTHONHOME": str(below / "usr"), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    # Packages carry files that no Python of today compiles; they are said to have failed, and do no harm.
    run([*argv, "-s", root, "-p", "/", root / where], env=env, may_fail=True)


def write(path: Path, content: str | bytes, mode: int = 0o644) -> None:
    """Write a file and the directories above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)


def run(argv: Sequence[object], *, env: Mapping[str, str] | None = None, may_fail: bool = False) -> str:
    """Run a program and return what it printed; its complaints are in the error."""
    words = [str(word) for word in argv]
    done = subprocess.run(words, env=env, timeout=RUN_S, check=False, capture_output=True, text=True)
    if done.returncode and not may_fail:
        raise RuntimeError(f"{' '.join(words[:3])}… failed with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def cache() -> Path:
    """Return where all that is made here is kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rayscaler/layers"


def _made(recipe: Recipe) -> Path:
    place = cache() / f"{recipe.name}-{recipe.key.hex()[:16]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cache() / f"{recipe.name}.lock"):
        if not place.exists():
            _forget_old(recipe.name)
            with tempfile.TemporaryDirectory(dir=cache(), prefix="part-") as made:
                part = Path(made, "layer")
                root = part / "root"
                root.mkdir(parents=True)
                recipe.make(root)
                _pack(root, part / "tar", recipe.owners)
                with (part / "tar").open("rb") as packed:
                    digest = hashlib.file_digest(packed, "sha256").hexdigest()
                (part / "tar").rename(part / f"{digest}.tar")
                part.rename(place)
        os.utime(place)
    return place


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time, however many checkouts ask
        yield


def _forget_old(name: str) -> None:
    for place in cache().glob(f"{name}-*"):
        if place.stat().st_mtime < time.time() - KEPT_S:
            shutil.rmtree(place)


def _fetched(names: Sequence[str], cache: Path) -> list[Path]:
    (cache / "status").touch()  # as if nothing were installed
    (cache / "archives/partial").mkdir(parents=True)
    options = {"Dir::State::status": cache / "status", "Dir::Cache": cache, "Debug::NoLocking": "1", "APT::Sandbox::User": "root"}
    try:
        _apt(options, "install", *names)
    except RuntimeError:  # this machine has no lists of packages, or old ones: they are fetched for this alone
        (cache / "lists/partial").mkdir(parents=True)
        options["Dir::State::lists"] = cache / "lists"
        _apt(options, "update")
        _apt(options, "install", *names)
    return sorted((cache / "archives").glob("*.deb"))


def _apt(options: Mapping[str, object], *arguments: str) -> None:
    argv = ["apt-get", "-qq", "--yes", "--no-install-recommends", "--download-only"]
    run([*argv, *(f"-o{name}={value}" for name, value in options.items()), *arguments])


def _unpack(package: Path, root: Path) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as files:
        argv = ["tar", "-x", "-C", root, "--keep-directory-symlink", "--no-same-owner", *(f"--exclude={each}" for each in NOT_TAKEN)]
        subprocess.run(argv, stdin=files.stdout, timeout=RUN_S, check=True)
    if files.returncode:
        raise RuntimeError(f"{package.name} cannot be unpacked")


def _interpreter(root: Path) -> Path:
    return root / "usr/bin" / (root / "usr/bin/python3").readlink()


def _pack(root: Path, out: Path, owners: Mapping[str, int]) -> None:
    with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as packed:
        for path in sorted(root.rglob("*")):
            packed.add(path, str(path.relative_to(root)), recursive=False, filter=_plain(owners))


def _plain(owners: Mapping[str, int]) -> Callable[[tarfile.TarInfo], tarfile.TarInfo]:
    """Return what takes from a member all that another machine or another day would have otherwise."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        owner = next((owners[each] for each in owners if info.name == each or info.name.startswith(f"{each}/")), 0)
        info.uid = info.gid = owner
        info.uname = info.gname = ""
        info.mtime = EPOCH
        return info

    return plain
