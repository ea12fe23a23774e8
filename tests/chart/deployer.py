"""Somebody who installs the chart: the administrator of one namespace and of nothing else, with helm and kubectl."""

import asyncio
from pathlib import Path

from tests.chart import tools
from tests.cluster.namespaces import Namespace

INSTALL_S = 120
"""For the pods of a release to be ready; 3 to 6 s on a real node of two idle cores."""


class Deployer:
    """An administrator of one namespace, who has helm and kubectl."""

    def __init__(self, namespace: Namespace, kubeconfig: Path, home: Path) -> None:
        self._tools = tools.build()
        self._namespace = namespace.name
        self._env = {"KUBECONFIG": str(kubeconfig), "HOME": str(home)}

    async def helm(self, *arguments: str | Path) -> str:
        return await self._run("helm", *arguments)

    async def kubectl(self, *arguments: str | Path) -> str:
        return await self._run("kubectl", *arguments)

    def line(self, arguments: str) -> str:
        """Return what runs kubectl in a shell; `arguments` may name its variables."""
        return f"KUBECONFIG={self._env['KUBECONFIG']} {self._tools / 'kubectl'} -n {self._namespace} {arguments}"

    async def install(self, *arguments: str) -> str:
        """Install the chart and wait until its pods are there and ready."""
        return await self.helm("install", "any-name", tools.CHART, "--wait", "--timeout", f"{INSTALL_S}s", *arguments)

    async def _run(self, program: str, *arguments: str | Path) -> str:
        process = await asyncio.create_subprocess_exec(
            self._tools / program,
            "-n",
            self._namespace,
            *arguments,
            env=self._env,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        if process.returncode:
            raise RuntimeError(err.decode())
        return out.decode()


async def administrator(namespace: Namespace, home: Path) -> Deployer:
    """Return who administers a namespace, which takes restricted pods only from now on."""
    await namespace.restrict()
    await namespace.api.create(namespace.path("serviceaccounts"), {"metadata": {"name": "deployer"}})
    binding = {
        "metadata": {"name": "deployer"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "deployer", "namespace": namespace.name}],
    }
    await namespace.api.create(namespace.path("rolebindings", "rbac.authorization.k8s.io/v1"), binding)
    right = {"verbs": ["create"], "apiGroups": [""], "resources": ["configmaps"]}
    await namespace.authorized(f"system:serviceaccount:{namespace.name}:deployer", right)
    token = await token_of(namespace, "deployer")
    return Deployer(namespace, namespace.cluster.kubeconfig(f"{namespace.name}-deployer", token, namespace.name), home)


async def token_of(namespace: Namespace, name: str) -> str:
    """Return a token of an account there."""
    answer = await namespace.api.create(namespace.path(f"serviceaccounts/{name}/token"), {"spec": {"expirationSeconds": 7200}})
    return str(answer["status"]["token"])
