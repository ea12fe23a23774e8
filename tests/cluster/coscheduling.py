"""A real gang scheduler beside Kubernetes' own: coscheduling of sigs.k8s.io/scheduler-plugins, a part of controlplane/, and PodGroups.

Its PodGroup is the published one, from the Go module. Volcano's is cut down here to what is published of the fields that are used: what the
object has beside those, the API server drops.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from http import HTTPStatus
from pathlib import Path

import yaml

from tests.cluster import binary
from tests.cluster.api import JSON, Api, ApiError
from tests.cluster.namespaces import Namespace
from tests.cluster.product import awaited
from tests.cluster.servers import Cluster

MODULE = "sigs.k8s.io/scheduler-plugins"
SCHEDULER = "scheduler-plugins-scheduler"
COSCHEDULING, VOLCANO = "scheduling.x-k8s.io/v1alpha1", "scheduling.volcano.sh/v1beta1"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
LABEL = "scheduling.x-k8s.io/pod-group"
LOOK_S = 0.3
RBAC = "/apis/rbac.authorization.k8s.io/v1"
RULES = [
    {"apiGroups": [group.split("/")[0]], "resources": ["podgroups"], "verbs": ["create", "delete", "get", "list", "patch"]}
    for group in (COSCHEDULING, VOLCANO)
]
"""What the chart gives with gangScheduling.scheduler, of either."""
CONFIG: JSON = {
    "apiVersion": "kubescheduler.config.k8s.io/v1",
    "kind": "KubeSchedulerConfiguration",
    "leaderElection": {"leaderElect": False},
    "profiles": [
        {
            "schedulerName": SCHEDULER,
            "plugins": {
                "multiPoint": {"enabled": [{"name": "Coscheduling"}]},
                "queueSort": {"enabled": [{"name": "Coscheduling"}], "disabled": [{"name": "*"}]},
                "filter": {"enabled": [{"name": "Simulation"}]},
            },
            "pluginConfig": [{"name": "Coscheduling", "args": {"permitWaitingTimeSeconds": 4, "podGroupBackoffSeconds": 0}}],
        }
    ],
}


def coscheduling_crd() -> JSON:
    """Return the published definition of scheduler-plugins' PodGroup."""
    version = binary.run_go(binary.SOURCE, "list", "-m", "-f", "{{.Version}}", MODULE).strip()
    folder = json.loads(binary.run_go(binary.SOURCE, "mod", "download", "-json", f"{MODULE}@{version}"))["Dir"]
    return dict(yaml.safe_load((Path(folder) / "config/crd/bases/scheduling.x-k8s.io_podgroups.yaml").read_text()))


def volcano_crd() -> JSON:
    """Return the definition of Volcano's PodGroup, of its spec minMember and queue."""
    group, version = VOLCANO.split("/")
    spec = {"type": "object", "properties": {"minMember": {"type": "integer", "format": "int32"}, "queue": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec, "status": {"type": "object"}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"podgroups.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": "PodGroup", "listKind": "PodGroupList", "plural": "podgroups", "singular": "podgroup"},
            "scope": "Namespaced",
            "versions": [
                {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}}}
            ],
        },
    }


async def define(api: Api, crd: JSON) -> None:
    """Have a kind of object; return once the API server has it."""
    await made(api, CRDS, crd)
    spec = crd["spec"]
    path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}"

    async def is_there() -> bool:
        try:
            await api.get(path)
        except (ApiError, ValueError):  # of a group that it does not know the API server says so in plain text
            return False
        return True

    await awaited(is_there)


async def undefine(api: Api, crd: JSON) -> None:
    """Have no such objects; return once the API server does not know them."""
    group, names = crd["spec"]["group"], crd["spec"]["names"]
    with contextlib.suppress(ApiError):  # it was not there
        await api.delete(f"{CRDS}/{crd['metadata']['name']}")

    async def is_gone() -> bool:
        try:
            await api.get(f"/apis/{group}/{crd['spec']['versions'][0]['name']}/{names['plural']}")
        except (ApiError, ValueError):
            return True
        return False

    await awaited(is_gone)


async def made(api: Api, path: str, body: JSON) -> None:
    """Create what may be there."""
    try:
        await api.create(path, body)
    except ApiError as error:
        if error.status != HTTPStatus.CONFLICT:
            raise


async def start(cluster: Cluster, api: Api) -> None:
    """Have the gang scheduler, until the cluster ends."""
    await define(api, coscheduling_crd())
    meta = {"metadata": {"name": "gang-scheduler"}}
    rule = {"apiGroups": [COSCHEDULING.split("/", maxsplit=1)[0]], "resources": ["podgroups"], "verbs": ["get", "list", "watch"]}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "gang-scheduler"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:kube-scheduler"}
    await made(api, f"{RBAC}/clusterroles", meta | {"rules": [rule]})
    await made(api, f"{RBAC}/clusterrolebindings", meta | {"roleRef": role, "subjects": [user]})
    if "gang-scheduler" in cluster.parts:
        return
    client = {"clientConnection": {"kubeconfig": str(cluster.directory / "scheduler.kubeconfig"), "qps": 1000, "burst": 1000}}
    path = cluster.directory / "gang-scheduler.yaml"
    path.write_text(yaml.safe_dump(CONFIG | client))
    cluster.start("gang-scheduler", [str(binary.build()), "kube-scheduler", f"--config={path}", "--secure-port=0"])


async def sizes(namespace: Namespace, group: str = COSCHEDULING) -> dict[str, int]:
    """Return how many each PodGroup wants."""
    found = await namespace.api.get(namespace.path("podgroups", group))
    return {each["metadata"]["name"]: each["spec"]["minMember"] for each in found["items"]}


@contextlib.asynccontextmanager
async def controlled(namespace: Namespace) -> AsyncIterator[None]:
    """Keep the status of each PodGroup, as the controller that belongs to the scheduler does: what failed with its group is tried again at each change."""
    path = namespace.path("podgroups", COSCHEDULING)

    async def keep() -> None:
        told: dict[str, str] = {}
        while True:
            pods = (await namespace.api.get(namespace.path("pods"), labelSelector=LABEL))["items"]
            for name, size in (await sizes(namespace)).items():
                its = [each["spec"].get("nodeName") for each in pods if each["metadata"]["labels"][LABEL] == name]
                phase = "Scheduled" if sum(map(bool, its)) >= size else "Scheduling" if len(its) >= size else "Pending"
                if told.get(name) != f"{phase} {size}":
                    told[name] = f"{phase} {size}"
                    with contextlib.suppress(ApiError):  # it has gone
                        await namespace.api.patch(f"{path}/{name}/status", {"status": {"phase": phase}})
            await asyncio.sleep(LOOK_S)

    task = asyncio.create_task(keep())
    try:
        yield
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def seat(api: Api, name: str, count: int) -> None:
    """Give each of so many nodes one of a resource that nobody else asks for, and the others none."""
    key = name.replace("/", "~1")
    for index, node in enumerate(sorted((await api.get("/api/v1/nodes"))["items"], key=lambda each: each["metadata"]["name"])):
        amount = str(int(index < count))
        patch = [{"op": "add", "path": f"/status/{part}/{key}", "value": amount} for part in ("capacity", "allocatable")]
        await api.patch(f"/api/v1/nodes/{node['metadata']['name']}/status", patch, "application/json-patch+json")
