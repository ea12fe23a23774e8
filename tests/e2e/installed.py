"""rayscaler as its users have it on the real node: installed from the chart, with clients in pods of the same namespace.

What a test judges by: pods at the API server, Ray's own tables, read in a pod of its image, and what tasks answer.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import yaml

from tests.chart import deployer, manifests, tools
from tests.chart.deployer import Deployer, administrator
from tests.cluster.api import JSON, ApiError
from tests.cluster.namespaces import Namespace, condition
from tests.cluster.product import LABEL, Seen
from tests.e2e import images, pods

EXAMPLE = tools.ROOT / "examples/kubernetes/cluster.yaml"
IMAGE = ("--set", f"image.repository={images.SERVICE.partition(':')[0]},image.tag={images.SERVICE.partition(':')[2]}")
POD_SECURITY: JSON = {"runAsNonRoot": True, "runAsUser": images.RAY_USER, "seccompProfile": {"type": "RuntimeDefault"}}
SECURITY: JSON = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
READ_ONLY: JSON = {**SECURITY, "readOnlyRootFilesystem": True}
"""Of heads and workers: Ray writes in /tmp and /dev/shm alone, and rayscaler mounts both."""
MONITOR = "rayscaler-monitor"
KEPT = {"configmaps rayscaler-ca", "secrets rayscaler-tls", "leases.coordination.k8s.io rayscaler"}
"""What stays, as the notes of the chart say."""
SWEPT_S = 180.0
"""For Kubernetes' garbage collector and the kubelet to end what the definition owned: some seconds, and once above a minute on a busy machine."""
CONNECT = """
while True:
    try:
        ray.init("ray://demo-head:10001")
        break
    except ConnectionError:
        time.sleep(0.2)  # the head is not there yet, and tells nobody when it is
"""
"""Of a driver: connect as soon as there is a head."""
SAID_S = 120.0
"""For a client to say what is waited for."""
NODES = """
import json, ray._raylet
nodes = ray._raylet.GcsClient(address="127.0.0.1:6379").get_all_node_info().values()
print(json.dumps([{"name": n.instance_id, "is_alive": not n.state, "joined": n.start_time_ms / 1000, "is_head": n.is_head_node,
    "id": n.node_id.hex(), "type": n.node_type_name, "labels": dict(n.labels)} for n in nodes]))
"""


def example(**spec: object) -> str:
    """Return the example of the manual with the tests' image of Ray put in, and these fields of its spec."""
    manifest = yaml.safe_load(EXAMPLE.read_text().replace("rayproject/ray:2.60.0", images.RAY))
    document = yaml.safe_load(manifest["data"]["cluster.yaml"])
    document["spec"] |= spec
    manifest["data"]["cluster.yaml"] = yaml.safe_dump(document)
    return yaml.safe_dump(manifest)


def template(image: str = images.RAY, user: int = images.RAY_USER) -> JSON:
    """Return a pod of Ray that is small for a scheduler."""
    resources = {"requests": {"cpu": "100m", "memory": "512Mi"}}
    container = {"name": "ray", "image": image, "securityContext": READ_ONLY, "resources": resources}
    return {"spec": {"securityContext": {**POD_SECURITY, "runAsUser": user}, "containers": [container]}}


class Installed(Seen):
    """A namespace in which rayscaler is installed."""

    up_s = 180.0

    def __init__(self, namespace: Namespace, deployer: Deployer, directory: Path) -> None:
        super().__init__(namespace)
        self.deployer = deployer
        self.before: set[str] = set()
        """What was in the namespace before the chart."""
        self._directory = directory

    async def apply(self, manifest: str) -> None:
        """`kubectl apply` a text."""
        path = self._directory / "applied.yaml"
        path.write_text(manifest)
        await self.deployer.kubectl("apply", "-f", path)

    async def define(self, name: str, **spec: object) -> None:
        """Make or change a cluster."""
        document = {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec}
        meta = {"name": name, "labels": {LABEL: name}}
        data = {"cluster.yaml": yaml.safe_dump(document)}
        await self.apply(yaml.safe_dump({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}))

    async def next_head(self, cluster: str, old: JSON, within_s: float = 180.0) -> JSON:
        """Wait until a head other than an old one is ready."""
        async with asyncio.timeout(within_s):
            while (found := await self.head(cluster))["metadata"]["uid"] == old["metadata"]["uid"]:  # noqa: ASYNC110  # see Seen.counted
                await asyncio.sleep(0.1)
        return found

    async def nodes(self, cluster: str) -> dict[str, JSON]:
        """Return the workers that Ray shows alive, by the names of their instances."""
        return {name: each for name, each in (await self.table(cluster)).items() if not each["is_head"]}

    async def table(self, cluster: str, *, has_dead: bool = False) -> dict[str, JSON]:
        """Return all nodes that Ray shows alive, by the names of their instances: asked in the head, of the GCS itself; the dead too, if asked."""
        head = await self.head(cluster)
        code, said = await pods.execute(self.namespace, head["metadata"]["name"], ["python3", "-c", NODES], container=ray_container(head))
        assert not code, said
        listed = json.loads(said.splitlines()[-1])
        return {each["name"]: each for each in listed if has_dead or each["is_alive"]}

    async def client(self, name: str, code: str, *arguments: str) -> "Client":
        """Start a pod that runs a program with Ray."""
        made = pods.pod(name, images.RAY, ["-u", "-c", code, *arguments], command=["python3"], securityContext=SECURITY)
        made["spec"]["securityContext"] = POD_SECURITY
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "50m", "memory": "128Mi"}}
        await self.namespace.api.create(self.namespace.path("pods"), made)
        return Client(self.namespace, name)

    async def in_head(self, cluster: str, code: str) -> str:
        """Run a program with Ray in the head's container and return what it printed last."""
        head = await self.head(cluster)
        status, said = await pods.execute(self.namespace, head["metadata"]["name"], ["python3", "-c", code], container=ray_container(head))
        assert not status, said
        return said.splitlines()[-1]


class Client:
    """A pod that prints lines of JSON, and maybe others between them."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self._namespace = namespace
        self.name = name

    async def lines(self) -> list[JSON]:
        """Return what it has said so far."""
        with contextlib.suppress(ApiError):  # not started yet
            text = await pods.log(self._namespace, self.name)
            return [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        return []

    async def said(self, is_it: Callable[[JSON], bool], within_s: float = SAID_S) -> JSON:
        """Wait for a line and return it."""
        try:
            async with asyncio.timeout(within_s):
                while True:
                    for line in await self.lines():
                        if is_it(line):
                            return line
                    await asyncio.sleep(0.2)  # a log that is followed ends with its connection; this one is read again
        except TimeoutError:
            text = await pods.log(self._namespace, self.name)
            raise TimeoutError(f"{self.name} has not said it after {within_s:g} s; it said {text[-3000:]}") from None


class Moments:
    """When pods were seen to become what they are, in wall time, by a watch of its own: timestamps of Kubernetes have whole seconds."""

    def __init__(self) -> None:
        self.of: dict[str, dict[str, float]] = {}
        self.ended: dict[str, dict[str, int]] = {}
        """Exit codes of containers, by the names of pods and their own, as the kubelet tells them last."""

    def take(self, kind: str, pod: JSON) -> None:
        """A pod has changed."""
        known, now = self.of.setdefault(pod["metadata"]["name"], {}), time.time()
        known.setdefault("created", now)
        if pod["spec"].get("nodeName"):
            known.setdefault("scheduled", now)
        if any("running" in each["state"] for each in pod["status"].get("containerStatuses", ())):
            known.setdefault("started", now)
        if condition(pod, "Ready").get("status") == "True":
            known.setdefault("ready", now)
        if "deletionTimestamp" in pod["metadata"]:
            known.setdefault("deleted", now)
        for each in (*pod["status"].get("initContainerStatuses", ()), *pod["status"].get("containerStatuses", ())):
            if end := each["state"].get("terminated"):
                self.ended.setdefault(pod["metadata"]["name"], {})[each["name"]] = end["exitCode"]
        if kind == "DELETED":
            known.setdefault("gone", now)

    async def until(self, name: str, moment: str, within_s: float) -> float:
        """Wait until that has happened to a pod."""
        try:
            async with asyncio.timeout(within_s):
                while moment not in self.of.get(name, {}):  # noqa: ASYNC110  # as often as a person would look
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise TimeoutError(f"{name} is not {moment} after {within_s:g} s: {self.of.get(name)}") from None
        return self.of[name][moment]


@contextlib.asynccontextmanager
async def moments(site: Seen, cluster: str) -> AsyncIterator[Moments]:
    """Note the moments of a cluster's heads and workers."""
    seen = Moments()

    async def follow() -> None:
        events = site.namespace.api.follow(site.namespace.path("pods"), labelSelector=f"{LABEL}={cluster}")
        async with contextlib.aclosing(events):
            async for kind, pod in events:
                seen.take(kind, pod)

    task = asyncio.create_task(follow())
    try:
        yield seen
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ray_container(pod: JSON) -> str:
    """Return the name of the container that Ray runs in."""
    return str(pod["spec"]["containers"][0]["name"])


@contextlib.asynccontextmanager
async def install(namespace: Namespace, directory: Path, *arguments: str) -> AsyncIterator[Installed]:
    """Install the chart with helm."""
    async with _site(namespace, directory) as site:
        await site.deployer.install(*IMAGE, *arguments)
        yield site


@contextlib.asynccontextmanager
async def applied(namespace: Namespace, directory: Path) -> AsyncIterator[Installed]:
    """Install without helm: the one file of the README, as it is."""
    async with _site(namespace, directory) as site:
        await site.deployer.kubectl("apply", "-f", manifests.MANIFESTS)
        await site.deployer.kubectl("rollout", "status", "deployment/rayscaler", f"--timeout={deployer.INSTALL_S}s")
        yield site


@contextlib.asynccontextmanager
async def _site(namespace: Namespace, directory: Path) -> AsyncIterator[Installed]:
    """Have an administrator of the namespace alone; what fails then tells what service and monitors said."""
    site = Installed(namespace, await administrator(namespace, directory), directory)
    site.before = await remaining(site)
    try:
        yield site
    except Exception as error:
        error.add_note(await _said(site))
        raise


async def taken_away(site: Installed, *, is_service_needed: bool = False) -> None:
    """Uninstall, delete the definition, which goes without the service unless that `is_service_needed`, and find nothing but what the notes say."""
    await site.namespace.api.delete(site.namespace.path("pods/client"))
    if is_service_needed:
        await site.deployer.kubectl("delete", "configmap", "demo")
    await site.deployer.helm("uninstall", "any-name", "--wait")
    if not is_service_needed:
        await site.deployer.kubectl("delete", "configmap", "demo")
    left, kept = set[str](), site.before | KEPT
    try:
        async with asyncio.timeout(SWEPT_S):
            while (left := await remaining(site)) != kept:  # noqa: ASYNC110  # no one watch covers all kinds
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise TimeoutError(f"left over: {left - kept}; missing: {kept - left}") from None


async def remaining(site: Installed) -> set[str]:
    """Return what is in the namespace, of every kind that the API server has but Events, which go by themselves."""
    api = site.namespace.api
    groups = [each["preferredVersion"]["groupVersion"] for each in (await api.get("/apis"))["groups"]]
    found: set[str] = set()
    for group in ("", *groups):
        for kind in (await api.get(f"/apis/{group}" if group else "/api/v1"))["resources"]:
            if kind["namespaced"] and "list" in kind["verbs"] and kind["name"] != "events":
                listed = (await api.get(site.namespace.path(kind["name"], group)))["items"]
                name = ".".join(filter(None, (kind["name"], group.rpartition("/")[0])))
                found |= {f"{name} {each['metadata']['name']}" for each in listed}
    return found - {"configmaps kube-root-ca.crt"}  # Kubernetes' own, which comes a moment after the namespace


async def _said(site: Installed) -> str:
    containers = {"app.kubernetes.io/component=service": "rayscaler", "rayscaler.io/role=head": MONITOR}
    texts = []
    for selector, container in containers.items():
        for pod in await site.pods(selector):
            name = pod["metadata"]["name"]
            with contextlib.suppress(ApiError):
                texts.append(f"{name}:\n{await pods.log(site.namespace, name, container=container)}")
    return "\n".join(texts)[-20000:]
