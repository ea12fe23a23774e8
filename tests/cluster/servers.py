"""The parts of a Kubernetes as child processes: ports, tokens, files, start and end. Several may run at once on one machine.

All hold the reading end of one pipe as their standard input and end with it: when the process that started them is gone,
however it went, so are they. The API server writes its own certificate; users are told apart by bearer tokens.
"""

import asyncio
import contextlib
import http.client
import json
import os
import secrets
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from tests.cluster import binary

START_S = 120.0
"""For all parts to be up; 6 s on an idle machine of two cores."""
END_S = 10.0
"""For a part to end by itself."""
LOOPBACK = "127.0.0.1"
SERVICES = "10.96.0.0/16"
NODE = "real-0"
"""The one real node, of tests/e2e."""
USERS = {
    "admin": ("admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "manager": ("system:kube-controller-manager", ""),
    "nodes": ("system:simulated-kubelets", "system:masters"),
    "kubelet": (f"system:node:{NODE}", "system:nodes"),
    "proxy": ("system:kube-proxy", ""),
    "dns": ("system:dns", "system:masters"),
}
"""Who has a kubeconfig: user and group. The simulated kubelets are masters so that no flow control slows them."""
AUDIT_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [
        {"level": "None", "users": [user for user, _ in USERS.values() if user != "admin"] + ["system:apiserver"]},
        {"level": "None", "userGroups": ["system:serviceaccounts:kube-system"]},
        {"level": "None", "nonResourceURLs": ["/*"]},
        {"level": "Metadata"},
    ],
}
"""Who did what to which object, without the control plane's own work."""
SCHEDULER = {
    "apiVersion": "kubescheduler.config.k8s.io/v1",
    "kind": "KubeSchedulerConfiguration",
    "leaderElection": {"leaderElect": False},
    "profiles": [{"schedulerName": "default-scheduler", "plugins": {"filter": {"enabled": [{"name": "Simulation"}]}}}],
}


@dataclass
class Cluster:
    """A Kubernetes that runs: where it is, and how its administrator gets in."""

    directory: Path
    url: str
    token: str
    tied: int
    """The descriptor that every part ends with."""
    nodes: int
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def ca(self) -> Path:
        return self.directory / "certificates/apiserver.crt"

    @property
    def audit_log(self) -> Path:
        return self.directory / "audit.log"

    def kubeconfig(self, name: str, token: str, namespace: str = "default") -> Path:
        """Write a kubeconfig with a bearer token and return its path."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority": str(self.ca)}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": name, "context": {"cluster": "test", "user": name, "namespace": namespace}}],
            "current-context": name,
        }
        return _write(self.directory / f"{name}.kubeconfig", config)

    @contextlib.asynccontextmanager
    async def without_api_server(self) -> AsyncIterator[None]:
        """Kill the API server for the length of the block, then have it back as it was.

        Its clients here end with it, as those that elect a leader do where they cannot renew: they would look again only after half a minute.
        """
        gone = {name: self.parts.pop(name) for name in [*self.parts] if name != "etcd"}
        for process in gone.values():
            process.kill()
            await asyncio.to_thread(process.wait)
        try:
            yield
        finally:
            for name, process in gone.items():
                self.start(name, list(process.args))
                await asyncio.to_thread(self.wait, self.is_up, "the API server")
            await asyncio.to_thread(self.wait, self.is_ready, "the API server and all nodes")

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a part."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.parts[name] = subprocess.Popen(argv, stdin=self.tied, stdout=log, stderr=log, cwd=self.directory, start_new_session=True)
        (self.directory / f"{name}.pid").write_text(f"{self.parts[name].pid}\n")

    def wait(self, is_there: Callable[[], bool], what: str) -> None:
        """Wait until something is there, unless a part ends before."""
        deadline = time.monotonic() + START_S
        while not is_there():
            for name, process in self.parts.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended with {process.returncode}:\n{self._tail(name)}")
            if time.monotonic() > deadline:
                logs = "\n".join(f"{name}: {self._tail(name)}" for name in self.parts)
                raise TimeoutError(f"{what}: not there after {START_S:g} s\n{logs}")
            time.sleep(0.05)

    def end(self) -> None:
        """Wait for every part to end with the pipe; kill those that don't."""
        for name, process in self.parts.items():
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            (self.directory / f"{name}.pid").unlink()

    def is_up(self) -> bool:
        """Whether the API server is ready."""
        try:
            self._get("/readyz")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def is_ready(self) -> bool:
        """Whether the API server is ready and every node takes pods."""
        try:
            self._get("/readyz")
            nodes = self._get("/api/v1/nodes")["items"]
        except (OSError, http.client.HTTPException):
            return False
        return len(nodes) == self.nodes and not any(node["spec"].get("taints") for node in nodes)

    def _tail(self, name: str) -> str:
        return "\n".join((self.directory / f"{name}.log").read_text(errors="replace").splitlines()[-5:])

    def _get(self, path: str) -> dict:
        host, port = self.url.removeprefix("https://").split(":")
        context = ssl.create_default_context(cafile=self.ca)
        with contextlib.closing(http.client.HTTPSConnection(host, int(port), timeout=5.0, context=context)) as connection:
            connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            response = connection.getresponse()
            text = response.read()
        if response.status != 200:
            raise OSError(f"{path}: {response.status}")
        return json.loads(text) if text.startswith(b"{") else {}


@contextlib.contextmanager
def kept_ports(count: int) -> Iterator[list[int]]:
    """Keep ports for those who listen there later, and again after they were away: nobody else is given them meanwhile."""
    with contextlib.ExitStack() as stack:
        keepers = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in keepers:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so one may listen where another is bound and does not
            each.bind(("", 0))
        yield [each.getsockname()[1] for each in keepers]


@contextlib.contextmanager
def running(directory: Path, nodes: int = 20, *, address: str = LOOPBACK, services: str = SERVICES) -> Iterator[Cluster]:
    """Run a Kubernetes with simulated nodes in a directory of its own until the block ends.

    At another address than the loopback's, pods reach it, too, and it reaches kubelets.
    """
    program = str(binary.build())
    directory.mkdir(parents=True, exist_ok=True)
    tokens = {name: secrets.token_hex(16) for name in USERS}
    tied, hold = os.pipe()
    with kept_ports(3) as (port, *etcd):
        cluster = Cluster(directory, f"https://{address}:{port}", tokens["admin"], tied, nodes)
        try:
            for name, arguments in _control_plane(cluster, tokens, services, etcd).items():
                cluster.start(name, [program, name, *arguments])
            cluster.wait(cluster.ca.exists, "the API server's certificate")
            configs = {name: str(cluster.kubeconfig(name, token)) for name, token in tokens.items()}
            cluster.wait(cluster.is_up, "the API server")  # the controller manager ends if its rights are not there within ten seconds
            for name, arguments in _clients(cluster, configs).items():
                cluster.start(name, [program, name, *arguments])
            cluster.wait(cluster.is_ready, "the API server and all nodes")
            yield cluster
        finally:
            os.close(tied)
            os.close(hold)
            cluster.end()


def _control_plane(cluster: Cluster, tokens: dict[str, str], services: str, ports: Sequence[int]) -> dict[str, list[str]]:
    directory, (etcd, peer) = cluster.directory, (f"http://127.0.0.1:{each}" for each in ports)
    address, port = cluster.url.removeprefix("https://").split(":")
    reached = [f"--advertise-address={address}", "--kubelet-preferred-address-types=InternalIP"]
    users = "".join(f'{tokens[name]},{user},{name},"{group}"\n' for name, (user, group) in USERS.items())
    (directory / "tokens.csv").write_text(users)
    key = directory / "certificates/apiserver.key"  # signs service accounts' tokens too
    return {
        "etcd": [f"--data-dir={directory}/etcd", f"--client-url={etcd}", f"--peer-url={peer}"],
        "kube-apiserver": [
            f"--etcd-servers={etcd}",
            f"--bind-address={address}",
            f"--secure-port={port}",
            f"--cert-dir={key.parent}",
            f"--token-auth-file={directory}/tokens.csv",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            f"--service-cluster-ip-range={services}",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            "--delete-collection-workers=8",
            *(["--endpoint-reconciler-type=none"] if address == LOOPBACK else reached),  # there nothing reaches it but by its port
            f"--audit-policy-file={_write(directory / 'audit-policy.yaml', AUDIT_POLICY)}",
            f"--audit-log-path={cluster.audit_log}",
            "--audit-log-maxsize=100000",  # MB; it would go on in another file otherwise
        ],
    }


def _clients(cluster: Cluster, configs: dict[str, str]) -> dict[str, list[str]]:
    certificates = cluster.directory / "certificates"
    client = {"clientConnection": {"kubeconfig": configs["scheduler"], "qps": 1000, "burst": 1000}}
    return {
        "kube-scheduler": [f"--config={_write(cluster.directory / 'scheduler.yaml', SCHEDULER | client)}", "--secure-port=0"],
        "kube-controller-manager": [
            f"--kubeconfig={configs['manager']}",
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=1000",
            "--kube-api-burst=1000",
            "--use-service-account-credentials=true",
            f"--service-account-private-key-file={certificates}/apiserver.key",
            f"--root-ca-file={cluster.ca}",
            "--controllers=*,-node-ipam-controller,-node-route-controller,-service-lb-controller,-cloud-node-lifecycle-controller",
        ],
        **({"nodes": [f"--kubeconfig={configs['nodes']}", f"--count={cluster.nodes}"]} if cluster.nodes else {}),
    }


def _write(path: Path, document: dict) -> Path:
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    path.chmod(0o600)
    return path
