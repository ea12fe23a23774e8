"""The floor of Kubernetes: pods created by bare requests, as fast as one process gets them through. Imports nothing of rayscaler.

python tests/bench/k8s_floor.py URL CA TOKEN NAMESPACE PODS IN_FLIGHT [POD]: one JSON line, {"seconds": from the first request to the last
answer}. POD is a file with the pod to be made, under other names; without it, one as small as may be.
"""

import asyncio
import json
import ssl
import sys
import time
from pathlib import Path

import aiohttp


def smallest() -> dict:
    """Return a worker's pod, no larger than it must be."""
    container = {"name": "ray", "image": "ray:test", "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"restartPolicy": "Never", "containers": [container]}}


def body(pod: dict, name: str) -> bytes:
    """Return a request's body."""
    return json.dumps({**pod, "metadata": {**pod["metadata"], "name": name}}).encode()


async def main(url: str, ca: str, token: str, namespace: str, pods: int, in_flight: int, pod: dict) -> None:
    """Create the pods and print how long it took."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca), limit=in_flight)
    bodies = iter([body(pod, f"bare-{index}") for index in range(pods)])
    path = f"/api/v1/namespaces/{namespace}/pods"
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:

        async def work() -> None:
            for each in bodies:
                async with session.post(path, data=each) as answer:
                    if answer.status != 201:
                        raise RuntimeError(f"{answer.status}: {await answer.text()}")
                    await answer.read()

        began = time.monotonic()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        print(json.dumps({"seconds": time.monotonic() - began}))


if __name__ == "__main__":
    made = json.loads(Path(sys.argv[7]).read_text()) if len(sys.argv) > 7 else smallest()
    asyncio.run(main(*sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6]), made))
