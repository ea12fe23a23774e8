"""The first process of a bed's namespaces and its child, which brings up network, control plane, containerd and node, and ends all with its standard input.

`keep.py NUMBER NETWORK STORE`: the bed's number, a descriptor of the machine's own network, where images are kept between beds.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from deploy import layers
from tests.cluster import binary, servers
from tests.e2e import host, images
from tests.e2e.bed import Place

BRIDGE = "pods"
PRIVATE = ("/run", "/var/log", "/var/lib/kubelet", "/var/lib/cni")
"""Where containerd and the kubelet leave things whatever they are told."""
CONTAINERD_S = 30.0
"""For containerd to listen, or to end; a second mostly."""
END_S = 20.0
"""For killed processes to be gone."""
RUN_S = 300.0
"""For a command to end; the longest unpacks Ray's image."""


def main() -> None:
    """Collect whatever loses its parent in the namespace, as its first process must, until the child that keeps the bed has ended."""
    child = os.fork()
    if not child:
        keep(Place(int(sys.argv[1])), int(sys.argv[2]), Path(sys.argv[3]))
        return
    ended, status = 0, 0
    while ended != child:
        ended, status = os.wait()
    sys.exit(os.waitstatus_to_exitcode(status))


def keep(place: Place, network: int, store: Path) -> None:
    """Keep a bed until the standard input ends."""
    os.environ["PATH"] = host.PATH
    made = [path for path in map(Path, PRIVATE) if not path.exists()]
    try:
        for path in map(Path, PRIVATE):
            path.mkdir(parents=True, exist_ok=True)
            _run("mount", "-t", "tmpfs", "tmpfs", str(path))
        host.make_groups(place.group)
        _connect(place, network)
        _fill(place, store)
        with _cluster(place) as cluster:
            ready = {"directory": str(cluster.directory), "url": cluster.url, "token": cluster.token}
            part = place.directory / "ready.part"
            part.write_text(json.dumps(ready))
            part.rename(part.with_name("ready.json"))
            sys.stdin.buffer.read()
    finally:
        _end_all()
        host.remove_groups(place.group)
        for path in made:
            _run("umount", "--lazy", str(path))
            path.rmdir()


@contextlib.contextmanager
def _cluster(place: Place) -> Iterator[servers.Cluster]:
    with servers.running(place.directory / "control", nodes=0, address=place.node, services=place.services) as cluster:
        try:
            cluster.start("containerd", ["containerd", "--config", str(_containerd(place, place.directory / "containerd"))])
            cluster.wait(lambda: _listens(place), "containerd")
            _import(place, "service.tar")
            program = str(binary.build("node"))
            for name, arguments in _node(place, cluster).items():
                cluster.start(name, [program, name, *arguments])
            cluster.nodes = 1
            cluster.wait(cluster.is_ready, "the node")
            yield cluster
        finally:
            _end_all()  # containerd and what it started do not end with the pipe


def _connect(place: Place, network: int) -> None:
    """Make the pods' bridge and the way to it from the machine's network."""
    ip = ["ip", "-batch", "-"]
    inside = f"""
        link set lo up
        link add {BRIDGE} type bridge
        addr add {place.node}/16 dev {BRIDGE}
        link set {BRIDGE} up
        route add {place.services} dev {BRIDGE}
    """  # the route lets a packet to a Service out at all, before it is turned to a pod
    outside = f"""
        link add {place.interface} type veth peer name uplink netns {os.getpid()}
        addr add {place.outside}/16 dev {place.interface}
        link set {place.interface} up
        route add {place.services} via {place.node}
    """
    _run(*ip, text=inside)
    _run("nsenter", f"--net=/proc/self/fd/{network}", *ip, text=outside, pass_fds=(network,))
    os.close(network)
    _run(*ip, text=f"link set uplink master {BRIDGE}\nlink set uplink up\n")
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _fill(place: Place, store: Path) -> None:
    """Give containerd its files, with the images in them. Its layers never change, so they are shared by links."""
    if not store.exists():
        part = place.directory / "store"
        containerd = subprocess.Popen(["containerd", "--config", str(_containerd(place, part))])
        deadline = time.monotonic() + CONTAINERD_S
        while not _listens(place):
            if time.monotonic() > deadline:
                raise TimeoutError("containerd does not listen")
            time.sleep(0.05)
        for archive in ("pause.tar", "ray.tar"):
            _import(place, archive)
        containerd.terminate()
        containerd.wait(CONTAINERD_S)
        _forget_old(store)
        with contextlib.suppress(OSError):  # another bed was quicker
            part.rename(store)
    os.utime(store)
    copy = place.directory / "containerd"
    _run("cp", "--archive", "--link", str(store), str(copy))
    for database in store.rglob("*.db"):
        own = copy / database.relative_to(store)
        own.unlink()
        shutil.copy2(database, own)


def _forget_old(store: Path) -> None:
    """Remove stores that no bed has begun with for long."""
    for old in store.parent.glob("store-*"):
        if old.stat().st_mtime < time.time() - layers.KEPT_S:
            shutil.rmtree(old, ignore_errors=True)


def _import(place: Place, archive: str) -> None:
    path = place.directory / archive
    _run("ctr", "--address", str(place.socket), "--namespace", "k8s.io", "images", "import", str(path))
    path.unlink()


def _listens(place: Place) -> bool:
    argv = ["ctr", "--address", str(place.socket), "version"]
    return not subprocess.run(argv, capture_output=True, timeout=RUN_S, check=False).returncode


def _containerd(place: Place, root: Path) -> Path:
    network = {
        "cniVersion": "0.4.0",
        "name": BRIDGE,
        "plugins": [
            {
                "type": "bridge",
                "bridge": BRIDGE,
                "isGateway": True,
                "hairpinMode": True,
                "ipam": {
                    "type": "host-local",
                    "dataDir": "/run/cni-addresses",
                    "ranges": [[{"subnet": place.pods, "rangeStart": place.node.replace(".0.1", ".1.1"), "rangeEnd": place.node.replace(".0.1", ".99.254")}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }  # fmt: skip
    plugins = place.directory / "cni"
    plugins.mkdir(exist_ok=True)
    (plugins / "pods.conflist").write_text(json.dumps(network))
    # An oom_score_adj below one's own takes a right that root need not have; without the restriction no pod starts there.
    text = f"""
version = 2
root = "{root}"
state = "/run/containerd"
[debug]
  level = "warn"
[grpc]
  address = "{place.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  restrict_oom_score_adj = true
  sandbox_image = "{images.PAUSE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{plugins}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = false
"""
    path = place.directory / "containerd.toml"
    path.write_text(text)
    return path


def _node(place: Place, cluster: servers.Cluster) -> dict[str, list[str]]:
    directory = place.directory
    config = {name: str(cluster.directory / f"{name}.kubeconfig") for name in ("kubelet", "proxy", "dns")}
    (directory / "resolv.conf").write_text(f"nameserver {place.node}\n")
    kubelet = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": place.node,
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},  # only this machine reaches it
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.group}",
        "failCgroupV1": False,
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "containerRuntimeEndpoint": f"unix://{place.socket}",
        "resolvConf": str(directory / "resolv.conf"),
        "clusterDNS": [place.node],
        "clusterDomain": "cluster.local",
        "evictionHard": {"memory.available": "100Mi"},  # how full the disk is, is no affair of the pods
        "imageGCHighThresholdPercent": 100,  # likewise of the images, which come from nowhere again
        "podLogsDir": str(directory / "logs"),
        "volumePluginDir": str(directory / "plugins"),
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    }
    corefile = f"""
.:53 {{
  bind {place.node}
  errors
  kubernetes cluster.local in-addr.arpa {{
    kubeconfig {config["dns"]} dns
    pods insecure
    ttl 1
  }}
}}
"""
    (directory / "kubelet.yaml").write_text(yaml.safe_dump(kubelet))
    (directory / "Corefile").write_text(corefile)
    named = f"--hostname-override={servers.NODE}"
    return {
        "coredns": ["-conf", str(directory / "Corefile")],
        "kubelet": [f"--config={directory}/kubelet.yaml", f"--kubeconfig={config['kubelet']}", f"--root-dir={directory}/kubelet", named, f"--node-ip={place.node}"],
        # Pods share a bridge: without a masquerade, what they answer to a Service's client would go to it straight.
        "kube-proxy": [f"--kubeconfig={config['proxy']}", named, "--proxy-mode=nftables", "--masquerade-all", "--conntrack-max-per-core=0"],
    }  # fmt: skip


def _run(*argv: str, text: str = "", pass_fds: tuple[int, ...] = ()) -> None:
    done = subprocess.run(argv, input=text, text=True, pass_fds=pass_fds, timeout=RUN_S, check=False, capture_output=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)} failed with {done.returncode}: {done.stdout}{done.stderr}")


def _end_all() -> None:
    """Kill every other process of the namespace but the first and wait until all are gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGKILL)
    deadline = time.monotonic() + END_S
    while others := {int(each.name) for each in Path("/proc").glob("[0-9]*")} - {1, os.getpid()}:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        if time.monotonic() > deadline:
            raise TimeoutError(f"processes {sorted(others)} do not end")
        time.sleep(0.01)


if __name__ == "__main__":
    main()
