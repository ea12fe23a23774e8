"""The product in a namespace of the test cluster: the real service as a process, real pods, the real monitor; only Ray is a fake behind it.

A Ray node joins when its pod runs, and is lost when the pod goes. What a test judges by are pods, the audit log and the fake Ray's tables.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import yaml

from rayscaler.clock import SystemClock
from rayscaler.config import native
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.monitor.main import Monitor
from rayscaler.monitor.service import GrpcTransport
from rayscaler.testing.fake_gcs import UNEXPECTED, FakeGcs
from tests.cluster.api import JSON
from tests.cluster.namespaces import Account, Namespace

LABEL = "rayscaler.io/cluster"
WORKERS = "rayscaler.io/cluster={},rayscaler.io/role=worker"
HEADS = "rayscaler.io/cluster={},rayscaler.io/role=head"
UP_S = 60.0
"""For a service to listen, and for a head's pod to run; some seconds unless the machine is busy."""
STOP_S = 15.0


def rules() -> list[JSON]:
    """Return the rights that the service has in its namespace, as it is installed."""
    documents = yaml.safe_load_all((Path(__file__).parents[2] / "deploy/rayscaler.yaml").read_text())
    role: JSON = next(each for each in documents if each["kind"] == "Role")
    return list(role["rules"])


def document(name: str, *types: JSON, head: JSON | None = None, **spec: object) -> JSON:
    """Return a definition; each type, and the head, has a small template unless it brings one."""
    template = {"spec": {"containers": [{"name": "ray", "image": "ray:test", "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}]}}
    return {
        "apiVersion": "rayscaler.io/v1",
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {
            **spec,
            "executor": "k8s",
            "head": {"template": template, **(head or {})},
            "nodeTypes": [{"template": template, **each} for each in types],
        },
    }


@dataclass
class Service:
    """One replica, as a process."""

    process: asyncio.subprocess.Process
    address: str
    log: Path

    @classmethod
    async def start(cls, namespace: Namespace, account: Account, log: Path, env: Mapping[str, str] | None = None) -> Self:
        """Start one and wait until it listens."""
        argv = ["-m", "rayscaler", "-n", namespace.name, "serve", "--listen", "127.0.0.1:0", "--json"]
        environ = {**os.environ, "KUBECONFIG": str(account.kubeconfig), **(env or {})}
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(sys.executable, *argv, env=environ, stdout=asyncio.subprocess.PIPE, stderr=out)
        try:
            async with asyncio.timeout(UP_S):
                line = await process.stdout.readline()
            return cls(process, json.loads(line)["service"], log)
        except (TimeoutError, ValueError):
            process.kill()
            await process.wait()
            raise RuntimeError(f"the service did not come up; its log is {log}") from None

    async def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        """Ask it to end; return its exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        async with asyncio.timeout(STOP_S):
            return await self.process.wait()


@dataclass
class Ray:
    """One cluster's Ray, whose nodes are the pods that run; its head is the pod that the service made."""

    gcs: FakeGcs
    config: ClusterConfig
    head_uid: str
    joined: dict[str, str] = field(default_factory=dict)
    """Ray's node by the name of its pod."""

    def take(self, kind: str, pod: JSON) -> None:
        """A pod has changed."""
        name, phase = pod["metadata"]["name"], pod["status"].get("phase")
        node_type = self.config.node_type(pod["metadata"]["labels"]["rayscaler.io/node-type"])
        is_ready = any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
        if kind == "DELETED" or phase in ("Failed", "Succeeded"):
            node = self.gcs.nodes.get(self.joined.pop(name, ""))
            if node is not None and node.death is None:
                self.gcs.die(node.ray_node_id, UNEXPECTED, "its pod is gone")
        elif is_ready and name not in self.joined and node_type is not None:
            instance_id = pod["metadata"]["annotations"]["rayscaler.io/instance-id"]
            self.joined[name] = self.gcs.join(instance_id, node_type.name, node_type.resources, node_type.node_labels())


class Seen:
    """The pods of clusters in a namespace, as the API server shows them."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    async def pods(self, selector: str) -> list[JSON]:
        """Return pods that are not ending."""
        found = await self.namespace.api.get(self.namespace.path("pods"), labelSelector=selector)
        return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]

    async def workers(self, cluster: str) -> list[JSON]:
        """Return a cluster's workers."""
        return await self.pods(WORKERS.format(cluster))

    async def counted(self, cluster: str, count: int, within_s: float = UP_S) -> list[JSON]:
        """Wait until there are so many workers, and return them."""
        found: list[JSON] = []
        try:
            async with asyncio.timeout(within_s):
                while len(found := await self.workers(cluster)) != count:  # noqa: ASYNC110  # see below
                    await asyncio.sleep(0.1)  # the witness looks by itself, not by what the service is told
        except TimeoutError:
            raise TimeoutError(f"{cluster} has {len(found)} workers after {within_s:g} s, not {count}") from None
        return found

    async def head(self, cluster: str) -> JSON:
        """Wait for the cluster's head to be ready, and return its pod."""
        async with asyncio.timeout(UP_S):
            while True:
                for pod in await self.pods(HEADS.format(cluster)):
                    if any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ())):
                        return pod
                await asyncio.sleep(0.1)  # likewise


class Site(Seen):
    """A namespace with services, definitions and fake Rays."""

    def __init__(self, namespace: Namespace, account: Account, directory: Path) -> None:
        super().__init__(namespace)
        self.account = account
        self._directory = directory
        self.services: list[Service] = []

    async def serve(self, **env: str) -> Service:
        """Start another replica."""
        made = await Service.start(self.namespace, self.account, self._directory / f"service-{len(self.services)}.log", env)
        self.services.append(made)
        return made

    async def define(self, document: JSON, **metadata: object) -> None:
        """Create the ConfigMap of a definition."""
        name = document["metadata"]["name"]
        body = {"metadata": {"name": name, "labels": {LABEL: name}, **metadata}, "data": {"cluster.yaml": yaml.safe_dump(document)}}
        await self.namespace.api.create(self.namespace.path("configmaps"), body)

    @contextlib.asynccontextmanager
    async def ray(self, document: JSON, address: str) -> AsyncIterator[Ray]:
        """Run a Ray in the cluster's head, with a monitor that reports to the service there."""
        config = native.cluster(document, executor=native.KUBERNETES)
        uid = (await self.head(config.name))["metadata"]["uid"]
        ray, transport = Ray(FakeGcs(SystemClock()), config, uid), GrpcTransport(address)
        monitor = Monitor(ray.gcs, transport, SystemClock(), cluster=config.name, incarnation=uid)
        tasks = [asyncio.create_task(monitor.run()), asyncio.create_task(self._follow(ray))]
        try:
            yield ray
            assert not [each for each in tasks if each.done()], [each.exception() for each in tasks if each.done()]
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await transport.close()

    async def _follow(self, ray: Ray) -> None:
        events = self.namespace.api.follow(self.namespace.path("pods"), labelSelector=WORKERS.format(ray.config.name))
        async with contextlib.aclosing(events):
            async for kind, pod in events:
                ray.take(kind, pod)


@contextlib.asynccontextmanager
async def site(namespace: Namespace, directory: Path) -> AsyncIterator[Site]:
    """A site in a namespace; its services end with the block."""
    made = Site(namespace, await namespace.account(rules=rules()), directory)
    await namespace.api.create(namespace.path("serviceaccounts"), {"metadata": {"name": "rayscaler-head"}})  # as the chart does
    try:
        yield made
    finally:
        for each in made.services:
            if each.process.returncode is None:
                await each.kill()
