"""The product in a namespace of the test cluster: the real service as a process, real pods, the real monitor; only Ray is a fake behind it.

A Ray node joins when its pod runs, and is lost when the pod goes. What a test judges by are pods, the audit log and the fake Ray's tables.
"""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

from rayscaler.clock import SystemClock
from rayscaler.config import native
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.monitor.main import Monitor
from rayscaler.monitor.service import GrpcTransport, Transport
from rayscaler.testing.fake_gcs import UNEXPECTED, FakeGcs
from tests.cluster.api import JSON, ApiError
from tests.cluster.cage import Cage
from tests.cluster.namespaces import Account, Namespace, condition
from tests.cluster.servers import kept_ports

LABEL = "rayscaler.io/cluster"
WORKERS = "rayscaler.io/cluster={},rayscaler.io/role=worker"
HEADS = "rayscaler.io/cluster={},rayscaler.io/role=head"
UP_S = 60.0
"""For a service to listen, and for a head's pod to run; some seconds unless the machine is busy."""
STOP_S = 45.0
"""For a service to end; two seconds unless the machine is busy."""
UNCEASING = frozenset({"leases", "selfsubjectrulesreviews"})
"""What a service asks the API server for at all times: the Lease every 3 s, its own rights once a minute."""
AGAIN_S = 0.2
"""Between two tries to reach an API server that is away, and two looks at what tells nobody."""


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


async def until(is_so: Callable[[], bool], within_s: float = UP_S, what: Callable[[], object] = lambda: "") -> None:
    """Look until something is so; raises TimeoutError with what is there instead."""
    try:
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110  # what is looked at is in memory or a file, and tells nobody
                await asyncio.sleep(AGAIN_S)
    except TimeoutError:
        raise TimeoutError(f"not so after {within_s:g} s: {what()}") from None


async def quiet(look: Callable[[], object], for_s: float, within_s: float = 2 * UP_S) -> None:
    """Wait until what is looked at has stayed the same for so long."""
    clock = asyncio.get_running_loop().time
    seen, since = look(), clock()
    async with asyncio.timeout(within_s):
        while clock() - since < for_s:
            await asyncio.sleep(AGAIN_S)
            if (now := look()) != seen:
                seen, since = now, clock()


def is_ready(pod: JSON) -> bool:
    """Whether a pod is said to be ready."""
    return condition(pod, "Ready").get("status") == "True"


async def awaited(look: Callable[[], Awaitable[Any]], within_s: float = UP_S) -> Any:
    """Look until something is there, and return it: the witness looks by itself, not by what the service is told."""
    async with asyncio.timeout(within_s):
        while not (seen := await look()):  # noqa: ASYNC110  # see above
            await asyncio.sleep(AGAIN_S)
        return seen


@dataclass
class Service:
    """One replica, as a process."""

    process: asyncio.subprocess.Process
    address: str
    log: Path

    @classmethod
    async def start(cls, namespace: Namespace, kubeconfig: Path, log: Path, env: Mapping[str, str], cage: Cage | None = None) -> Self:
        """Start one and wait until it listens: where RAYSCALER_LISTEN says, else at any port; within a cage, if one is given."""
        argv = [sys.executable, "-m", "rayscaler", "-n", namespace.name, "serve", "--json"]
        environ = {**os.environ, "KUBECONFIG": str(kubeconfig), "RAYSCALER_LISTEN": "127.0.0.1:0", **env}
        if cage is not None:
            argv, environ = cage.inside(argv), environ | cage.environ
        with log.open("ab") as out:
            process = await asyncio.create_subprocess_exec(*argv, env=environ, stdout=asyncio.subprocess.PIPE, stderr=out)
        try:
            async with asyncio.timeout(UP_S):
                line = await process.stdout.readline()
            return cls(process, json.loads(line)["service"], log)
        except (TimeoutError, ValueError):
            process.kill()
            await process.wait()
            raise RuntimeError(f"the service did not come up; its log is {log}") from None

    def told(self, event: str) -> list[str]:
        """Return the lines of its log that tell of an event."""
        return [each for each in self.log.read_text().splitlines() if f" event={event} " in each]

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
    seen: set[str] = field(default_factory=set)
    """Every pod that there ever was, by name."""
    unnamed: set[str] = field(default_factory=set)
    """Pods that somebody deleted although their nodes had not been drained."""
    away: dict[str, JSON] | None = None
    """While this is no None, pods that could join are kept here, by name: their supervisors are on the way to a new head."""

    def let_join(self, count: int) -> None:
        """Let some of those that are on the way arrive; with the last of them, whoever comes later joins at once."""
        waiting = self.away or {}
        come, self.away = list(waiting)[:count], None
        for name in come:
            self.take("MODIFIED", waiting.pop(name))
        self.away = waiting or None

    def take(self, kind: str, pod: JSON) -> None:
        """A pod has changed."""
        name, phase = pod["metadata"]["name"], pod["status"].get("phase")
        self.seen.add(name)
        if "deletionTimestamp" in pod["metadata"] and name in self.joined:
            drained = {each.node_id.hex() for each in self.gcs.drains}
            self.unnamed |= {name} if self.joined[name] not in drained else set()
        node_type = self.config.node_type(pod["metadata"]["labels"]["rayscaler.io/node-type"])
        if kind == "DELETED" or phase in ("Failed", "Succeeded"):
            node = self.gcs.nodes.get(self.joined.pop(name, ""))
            if node is not None and node.death is None:
                self.gcs.die(node.ray_node_id, UNEXPECTED, "its pod is gone")
        elif is_ready(pod) and name not in self.joined and node_type is not None:
            if self.away is not None:
                self.away[name] = pod
                return
            instance_id = pod["metadata"]["annotations"]["rayscaler.io/instance-id"]
            self.joined[name] = self.gcs.join(instance_id, node_type.name, node_type.resources, node_type.node_labels())


class Seen:
    """The pods of clusters in a namespace, as the API server shows them."""

    up_s = UP_S
    """For pods to be there, and to be ready."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    async def pods(self, selector: str) -> list[JSON]:
        """Return pods that are not ending."""
        found = await self.namespace.api.get(self.namespace.path("pods"), labelSelector=selector)
        return [each for each in found["items"] if "deletionTimestamp" not in each["metadata"]]

    async def workers(self, cluster: str) -> list[JSON]:
        """Return a cluster's workers."""
        return await self.pods(WORKERS.format(cluster))

    async def counted(self, cluster: str, count: int, within_s: float = 0.0) -> list[JSON]:
        """Wait until there are so many workers, and return them."""
        found: list[JSON] = []
        within_s = within_s or self.up_s
        try:
            async with asyncio.timeout(within_s):
                while len(found := await self.workers(cluster)) != count:  # noqa: ASYNC110  # see below
                    await asyncio.sleep(0.1)  # the witness looks by itself, not by what the service is told
        except TimeoutError:
            raise TimeoutError(f"{cluster} has {len(found)} workers after {within_s:g} s, not {count}") from None
        return found

    async def head(self, cluster: str) -> JSON:
        """Wait for the cluster's head to be ready, and return its pod."""

        async def ready() -> list[JSON]:
            return [each for each in await self.pods(HEADS.format(cluster)) if is_ready(each)]

        return (await awaited(ready, self.up_s))[0]


class Site(Seen):
    """A namespace with services, definitions and fake Rays."""

    def __init__(self, namespace: Namespace, account: Account, directory: Path) -> None:
        super().__init__(namespace)
        self.account = account
        self._directory = directory
        self.services: list[Service] = []
        self.ports = contextlib.ExitStack()
        """Where they listen is kept for them: one may come back there."""

    async def serve(self, *, by: str = "", cage: Cage | None = None, **env: str) -> Service:
        """Start another replica; it reaches the API server by another URL if one is given, and has what the cage gives it."""
        number = len(self.services)
        kubeconfig = self.account.kubeconfig
        if "RAYSCALER_LISTEN" not in env:
            (port,) = self.ports.enter_context(kept_ports(1))
            env["RAYSCALER_LISTEN"] = f"127.0.0.1:{port}"
        if by:
            kubeconfig = kubeconfig.with_suffix(f".{number}")
            kubeconfig.write_text(self.account.kubeconfig.read_text().replace(self.namespace.cluster.url, by))
        made = await Service.start(self.namespace, kubeconfig, self._directory / f"service-{number}.log", env, cage)
        self.services.append(made)
        return made

    @contextlib.asynccontextmanager
    async def kept_up(self, *, by: str = "") -> AsyncIterator[Service]:
        """Have one replica that is started anew at the same address whenever it has ended, as a kubelet has it; yields its first life."""
        first = await self.serve(by=by, RAYSCALER_POD_NAME="rayscaler-0")

        async def keep() -> None:
            last = first
            while True:
                await last.process.wait()
                last = await self.serve(by=by, RAYSCALER_LISTEN=first.address, RAYSCALER_POD_NAME="rayscaler-0")

        keeping = asyncio.create_task(keep())
        try:
            yield first
            assert not keeping.done(), keeping.exception()
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    async def status(self, *options: str) -> str:
        """Return what `rayscaler status` says to somebody with the service's own rights."""
        argv = [sys.executable, "-m", "rayscaler", "-n", self.namespace.name, "status", *options]
        environ = {**os.environ, "KUBECONFIG": str(self.account.kubeconfig), "COLUMNS": "200"}
        process = await asyncio.create_subprocess_exec(*argv, env=environ, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode()

    def deeds(self, verb: str, resource: str = "pods") -> list[JSON]:
        """Return what the services did with success, oldest first, as the API server has it on record."""
        events = self.namespace.audit(self.account.user, resource)
        return [each for each in events if each["verb"] == verb and each["responseStatus"]["code"] < 300]

    async def has_deleted(self, cluster: str, names: set[str]) -> None:
        """Wait until just these are on record as deleted: a pod is seen to end before that is written."""
        await until(lambda: self.deleted(cluster) == names, what=lambda: (self.deleted(cluster), names))

    def created(self, cluster: str) -> list[str]:
        """Return the names of the workers that were created, each as often as it was."""
        names = [each["objectRef"]["name"] for each in self.deeds("create")]
        return [each for each in names if each.startswith(f"{cluster}-") and not each.startswith(f"{cluster}-head-")]

    def deleted(self, cluster: str) -> set[str]:
        """Return the names of the workers that anybody but Kubernetes itself deleted, the test included."""
        events = [each for each in self.namespace.audit(resource="pods") if each["verb"] in ("delete", "deletecollection")]
        names = {each["objectRef"].get("name", "*") for each in events}
        return {each for each in names if not each.startswith(f"{cluster}-head-")}

    async def define(self, document: JSON, **metadata: object) -> None:
        """Create the ConfigMap of a definition."""
        name = document["metadata"]["name"]
        body = {"metadata": {"name": name, "labels": {LABEL: name}, **metadata}, "data": {"cluster.yaml": yaml.safe_dump(document)}}
        await self.namespace.api.create(self.namespace.path("configmaps"), body)

    @contextlib.asynccontextmanager
    async def ray(self, document: JSON, address: str, *, are_away: bool = False, transport: Transport | None = None) -> AsyncIterator[Ray]:
        """Run a Ray in the cluster's head, with a monitor that reports to the service there; `are_away` as in Ray."""
        config = native.cluster(document, executor=native.KUBERNETES)
        uid = (await self.head(config.name))["metadata"]["uid"]
        gcs = FakeGcs(SystemClock(), first_id=int(uid.replace("-", "")[:12], 16) << 32)  # another head's pod is another cluster
        ray = Ray(gcs, config, uid, away={} if are_away else None)
        transport = transport or GrpcTransport(address)
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
        """Let pods be nodes, for ever, and over every end of the API server."""
        while True:
            with contextlib.suppress(aiohttp.ClientError, ApiError):
                pods = {each["metadata"]["name"]: each for each in await self._all_workers(ray.config.name)}
                for name in set(ray.joined) - set(pods):
                    ray.take("DELETED", _gone(name, ray.config.node_types[0].name))
                events = self.namespace.api.follow(self.namespace.path("pods"), labelSelector=WORKERS.format(ray.config.name))
                async with contextlib.aclosing(events):
                    async for kind, pod in events:
                        ray.take(kind, pod)
            await asyncio.sleep(AGAIN_S)

    async def _all_workers(self, cluster: str) -> list[JSON]:
        found = await self.namespace.api.get(self.namespace.path("pods"), labelSelector=WORKERS.format(cluster))
        return list(found["items"])


def _gone(name: str, node_type: str) -> JSON:
    """Return as much of a pod as there is to know of one that went while nobody looked."""
    return {"metadata": {"name": name, "labels": {"rayscaler.io/node-type": node_type}}, "status": {}}


@contextlib.asynccontextmanager
async def site(namespace: Namespace, directory: Path, may: Sequence[JSON] | None = None) -> AsyncIterator[Site]:
    """A site in a namespace, whose services may do what the chart gives by default, or this; they end with the block."""
    made = Site(namespace, await namespace.account(rules=may or rules()), directory)
    await namespace.api.create(namespace.path("serviceaccounts"), {"metadata": {"name": "rayscaler-head"}})  # as the chart does
    with made.ports:
        try:
            yield made
        finally:
            for each in made.services:
                if each.process.returncode is None:
                    await each.kill()
