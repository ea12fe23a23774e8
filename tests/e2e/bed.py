"""A Kubernetes with one real node as the process that asked for it sees it: start, reach, end. What it is made of is in keep.py.

All of it lives in namespaces of its own (network, processes, mounts), whose first process is keep.py: with that one the kernel ends whatever
is in them, pods too. keep.py ends with the pipe that its starter holds. A pair of interfaces joins its network with the machine's, so that
whoever started it reaches API server, pods and Services by their addresses, and both disappear together.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from deploy import layers
from tests.cluster import binary, servers
from tests.e2e import dockerfile, host, images

ROOT = Path(__file__).parents[2]
BEDS = 8
"""So many at once on one machine, each with addresses of its own."""
START_S = 300.0
"""For all parts to be up; 15 s on an idle machine of two cores, a minute longer the first time, when Ray's image is unpacked."""
END_S = 60.0
"""For everything to end."""


@dataclass(frozen=True)
class Place:
    """Where one of the beds lies: its files, addresses and names on the machine."""

    number: int

    @property
    def directory(self) -> Path:
        return home() / str(self.number)

    @property
    def socket(self) -> Path:
        """Where containerd listens; it can be asked from outside, too."""
        return self.directory / "containerd.sock"

    @property
    def group(self) -> str:
        """The control group of all pods."""
        return f"rayscaler-e2e-{self.number}"

    @property
    def interface(self) -> str:
        """The machine's end of the pair."""
        return f"rse2e{self.number}"

    @property
    def node(self) -> str:
        """The address of the bridge: of the node, the API server and the DNS server."""
        return f"10.{192 + self.number}.0.1"

    @property
    def outside(self) -> str:
        """The machine's own address in the pods' network."""
        return f"10.{192 + self.number}.255.254"

    @property
    def pods(self) -> str:
        return f"10.{192 + self.number}.0.0/16"

    @property
    def services(self) -> str:
        return f"10.{208 + self.number}.0.0/16"


@dataclass(frozen=True)
class Bed:
    """One that runs."""

    place: Place
    cluster: servers.Cluster

    def load(self, archive: Path) -> None:
        """Give the node an image; with `imagePullPolicy: IfNotPresent` pods run it by its name."""
        layers.run(["ctr", "--address", self.place.socket, "--namespace", "k8s.io", "images", "import", archive])


def home() -> Path:
    """Return where beds lie: beside the layers of images, as files of both are one by links."""
    return layers.cache().parent / "e2e"


def store() -> Path:
    """Return where containerd's files lie with all images that change seldom in them; each bed starts with a copy."""
    parts = [recipe.key for recipe in images.odd_ray()] + [
        binary.build("pause").read_bytes(),
        layers.run(["containerd", "--version"]).encode(),
    ]
    return home() / f"store-{hashlib.sha256(b''.join(parts)).hexdigest()[:16]}"


def prepare() -> None:
    """Build what takes long: programs, and the layers of images."""
    binary.build()
    binary.build("node")
    for recipe in images.odd_ray():
        _ = recipe.tar
    if not dockerfile.missing():
        for each in dockerfile.bases():
            _ = each.document


@contextlib.contextmanager
def running() -> Iterator[Bed]:
    """Run one until the block ends."""
    with _free() as (place, lock):
        _clean(place)
        place.directory.mkdir(parents=True)
        images.write_service(place.directory / "service.tar")
        if not store().exists():
            images.write_pause(place.directory / "pause.tar")
            images.write_ray(place.directory / "ray.tar")
        binary.build()
        binary.build("node")
        network = os.open("/proc/self/ns/net", os.O_RDONLY)
        with (place.directory / "keep.log").open("ab") as log:
            argv = [
                "unshare",
                "--net",
                "--pid",
                "--mount",
                "--fork",
                "--kill-child",
                "--mount-proc",
                sys.executable,
                "-m",
                "tests.e2e.keep",
            ]
            argv += [str(place.number), str(network), str(store())]
            keeper = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT, pass_fds=(lock.fileno(), network), start_new_session=True
            )
        os.close(network)
        try:
            yield _up(place, keeper)
        finally:
            assert keeper.stdin is not None
            keeper.stdin.close()
            try:
                keeper.wait(END_S)
            finally:
                keeper.kill()  # its end takes keep.py along, if that has not ended
                keeper.wait()
            _clean(place)


def _up(place: Place, keeper: subprocess.Popen[bytes]) -> Bed:
    ready = place.directory / "ready.json"
    deadline = time.monotonic() + START_S
    while not ready.exists():
        if keeper.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the node did not come up:\n{(place.directory / 'keep.log').read_text()[-4000:]}")
        time.sleep(0.05)
    known = json.loads(ready.read_text())
    return Bed(place, servers.Cluster(Path(known["directory"]), known["url"], known["token"], tied=-1, nodes=1))


@contextlib.contextmanager
def _free() -> Iterator[tuple[Place, IO[str]]]:
    """Yield a place that nobody uses; keep.py holds its lock, too, so it stays taken as long as anything runs there."""
    home().mkdir(parents=True, exist_ok=True)
    for number in range(BEDS):
        with (home() / f"{number}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield Place(number), lock
            return
    raise RuntimeError(f"{BEDS} real nodes run on this machine already")


def _clean(place: Place) -> None:
    """Remove what one that is gone has left: files, and control groups if it was killed."""
    host.remove_groups(place.group)
    shutil.rmtree(place.directory, ignore_errors=True)
