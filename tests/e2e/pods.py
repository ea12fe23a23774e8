"""Pods of the tests on a real node: how they look, what they say, programs run in them."""

import asyncio
import json
from collections.abc import Sequence

from tests.cluster.api import JSON
from tests.cluster.namespaces import Namespace

EXEC_S = 60.0
"""For a program in a pod to end."""


def pod(name: str, image: str, args: Sequence[str], **more: object) -> JSON:
    """Return a small pod of one container; `more` is of the container: command=, env=, securityContext=…"""
    container = {"name": "main", "image": image, "args": list(args), "imagePullPolicy": "Never", **more}
    container.setdefault("resources", {"requests": {"cpu": "50m", "memory": "64Mi"}})
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False, "containers": [container]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}}, "spec": spec}


async def log(namespace: Namespace, name: str, **query: str) -> str:
    """Return what a pod has said so far; container= where it has several, previous="true" for what ended."""
    return await namespace.api.text(namespace.path(f"pods/{name}/log"), **query)


async def execute(namespace: Namespace, name: str, argv: Sequence[str], container: str = "") -> tuple[int, str]:
    """Run a program in a pod and return its exit code and all that it said."""
    said = bytearray()
    query = [("stdout", "1"), ("stderr", "1"), ("container", container), *(("command", word) for word in argv)]
    async with asyncio.timeout(EXEC_S), namespace.api.channel(namespace.path(f"pods/{name}/exec"), query) as socket:
        async for message in socket:
            channel, content = message.data[0], message.data[1:]
            if channel == 3:  # the end, as a Status
                status = json.loads(content)
                causes = {cause["reason"]: cause["message"] for cause in status.get("details", {}).get("causes", ())}
                if status["status"] != "Success" and "ExitCode" not in causes:
                    raise RuntimeError(status["message"])
                return int(causes.get("ExitCode", 0)), said.decode()
            said += content
    raise RuntimeError(f"the connection to {name} ended before its program did")
