"""Namespaces for tests: each with pods of chosen behaviour, and accounts whose rights end at its border."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.cluster.api import JSON, WAIT_S, Api, ApiError
from tests.cluster.servers import Cluster

BEHAVIOUR = "sim.rayscaler.io/"
"""Prefix of the annotations of controlplane/behaviour.go."""
REGISTERED = BEHAVIOUR + "Registered"
"""The condition of a pod whose node a fake head may see; only with `registers_after`."""
REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
POD_RIGHTS = ({"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "delete", "get", "list", "patch", "watch"]},)
RESTRICTED: JSON = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the strictest of Kubernetes' pod security standards asks of a container, and more."""
AUDITED_S = 30.0
"""From an answer to its line in the log; a moment, unless the machine is busy."""
LOOK_S = 0.05
"""Between two looks at what tells nobody when it changes."""
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Account:
    """A ServiceAccount: its name as the API server knows it, and two ways in."""

    user: str
    token: str
    kubeconfig: Path


@dataclass(frozen=True)
class Namespace:
    """A namespace, seen by the administrator."""

    name: str
    cluster: Cluster
    api: Api
    recorded_from: int = 0
    """Where the API server's record of it begins: in a long run what stands before is much."""

    def path(self, resource: str, group: str = "") -> str:
        """Return the path of a collection: "pods", or "roles" of group "rbac.authorization.k8s.io/v1"."""
        return f"/{f'apis/{group}' if group else 'api/v1'}/namespaces/{self.name}/{resource}"

    async def account(self, name: str = "rayscaler", rules: Sequence[JSON] = POD_RIGHTS) -> Account:
        """Make a ServiceAccount with a Role of these rules in this namespace and nowhere else; return once the authorizer knows of it."""
        rbac = "rbac.authorization.k8s.io/v1"
        meta = {"metadata": {"name": name}}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        subject = {"kind": "ServiceAccount", "name": name, "namespace": self.name}
        await self.api.create(self.path("serviceaccounts"), meta)
        await self.api.create(self.path("roles", rbac), meta | {"rules": list(rules)})
        await self.api.create(self.path("rolebindings", rbac), meta | {"roleRef": role, "subjects": [subject]})
        answer = await self.api.create(self.path(f"serviceaccounts/{name}/token"), {"spec": {"expirationSeconds": 7200}})
        token = answer["status"]["token"]
        user = f"system:serviceaccount:{self.name}:{name}"
        if rules:
            await self.authorized(user, rules[0])
        return Account(user, token, self.cluster.kubeconfig(f"{self.name}-{name}", token, self.name))

    async def authorized(self, user: str, rule: JSON, *, is_allowed: bool = True) -> None:
        """Wait until the authorizer, which hears of Roles a moment after they are stored, lets a user do the first thing of a rule, or does not."""
        what = {key: rule[plural][0] for key, plural in (("verb", "verbs"), ("group", "apiGroups"), ("resource", "resources"))}
        what |= {"namespace": self.name, "name": (rule.get("resourceNames") or [""])[0]}
        review = {"spec": {"user": user, "resourceAttributes": what}}
        async with asyncio.timeout(WAIT_S):
            while (await self.api.create(REVIEWS, review))["status"]["allowed"] != is_allowed:  # noqa: ASYNC110  # it is told when asked
                await asyncio.sleep(LOOK_S)

    async def restrict(self) -> None:
        """Take restricted pods only from now on; return once admission, which hears of the label a moment later, does so."""
        labels = {"pod-security.kubernetes.io/enforce": "restricted"}
        await self.api.patch(f"/api/v1/namespaces/{self.name}", {"metadata": {"labels": labels}})
        async with asyncio.timeout(WAIT_S):
            while True:
                try:
                    await self.api.create(self.path("pods") + "?dryRun=All", pod("unrestricted"))
                except ApiError as error:
                    if "violates PodSecurity" in str(error):
                        return
                    raise
                await asyncio.sleep(LOOK_S)

    async def quota(self, name: str, **hard: str) -> None:
        """Set a quota; return once its controller has counted what is there: until then admission refuses whatever it limits."""
        made = {"metadata": {"name": name}, "spec": {"hard": hard}}
        await self.api.create(self.path("resourcequotas"), made)
        await self.api.wait(self.path("resourcequotas"), name, lambda it: it is not None and it.get("status", {}).get("hard") == hard)

    async def settled(self, name: str, phase: str, timeout_s: float = WAIT_S) -> JSON:
        """Wait until a pod is in a phase and, if that is Running, ready."""

        def is_settled(it: JSON | None) -> bool:
            return it is not None and it["status"].get("phase") == phase and _is_settled(it)

        done = await self.api.wait(self.path("pods"), name, is_settled, timeout_s)
        assert done is not None
        return done

    def audit(self, user: str = "", resource: str = "") -> list[JSON]:
        """Return the API server's record, oldest first, of what was done here and what this namespace's accounts did anywhere.

        Only a user's deeds, or those on a resource ("pods"), if asked. A watch counts once, from its start on.
        """
        with self.cluster.audit_log.open("rb") as record:
            record.seek(self.recorded_from)
            whole, _, _ = record.read().decode(errors="replace").rpartition("\n")
        events: dict[str, JSON] = {}
        for line in whole.splitlines():
            if f'"namespace":"{self.name}"' in line or f":{self.name}:" in line:
                event = json.loads(line)
                if user in {"", event["user"]["username"]} and resource in {"", event["objectRef"]["resource"]}:
                    events[event["auditID"]] = event
        return list(events.values())

    async def audited(self, user: str, at_least: int, resource: str = "") -> list[JSON]:
        """Wait until so many deeds are on record, a moment after their answers, and return them."""
        async with asyncio.timeout(AUDITED_S):
            while len(events := self.audit(user, resource)) < at_least:  # noqa: ASYNC110  # a file tells nobody
                await asyncio.sleep(LOOK_S)
        return events


async def fresh(cluster: Cluster, api: Api) -> Namespace:
    """Make a namespace that takes pods. It ends with the cluster: to delete a thousand pods takes as long as to make them."""
    made = Namespace(f"t{next(_numbers)}", cluster, api, cluster.audit_log.stat().st_size if cluster.audit_log.exists() else 0)
    await api.create("/api/v1/namespaces", {"metadata": {"name": made.name}})
    await api.wait(made.path("serviceaccounts"), "default", lambda it: it is not None)
    return made


def pod(name: str, *, spec: JSON | None = None, owner: JSON | None = None, **behaviour: str) -> JSON:
    """Return a small pod; `behaviour` as in controlplane/behaviour.go: ready_after="2s", image_pull="fail", unschedulable="true"."""
    meta: JSON = {"name": name, "annotations": {BEHAVIOUR + key.replace("_", "-"): value for key, value in behaviour.items()}}
    if owner is not None:
        reference = {key: owner[key] for key in ("apiVersion", "kind")} | {key: owner["metadata"][key] for key in ("name", "uid")}
        meta["ownerReferences"] = [reference]
    container = {"name": "ray", "image": "ray:test", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    base: JSON = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 30, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": base | (spec or {})}


def condition(of: JSON, kind: str) -> JSON:
    """Return a pod's condition; empty while it has none of the kind."""
    return next((each for each in of["status"].get("conditions", ()) if each["type"] == kind), {})


def waiting(of: JSON) -> Any:
    """Return why its first container waits, or None."""
    statuses = of["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state", {}).get("waiting", {}).get("reason")


async def create_all(namespace: Namespace, pods: Sequence[JSON], in_flight: int = 32) -> None:
    """Create pods with so many requests in flight."""
    left = iter(pods)

    async def work() -> None:
        for each in left:
            await namespace.api.create(namespace.path("pods"), each)

    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(work())


def _is_settled(it: JSON) -> bool:
    return it["status"]["phase"] != "Running" or condition(it, "Ready").get("status") == "True"
