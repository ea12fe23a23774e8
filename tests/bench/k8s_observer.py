"""Sees pods appear, in a process of its own: a watch beside the service's, that nothing of rayscaler has a part in.

python tests/bench/k8s_observer.py URL CA TOKEN NAMESPACE SELECTOR: a line "ready" once the watch is open, then a JSON line for each pod
that is new: {"at": monotonic seconds, which all processes of a machine share, "pod": its name, "cluster": its label}.
"""

import asyncio
import json
import ssl
import sys
import time

import aiohttp

MAX_EVENT_BYTES = 2**24


async def main(url: str, ca: str, token: str, namespace: str, selector: str) -> None:
    """Watch until killed."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca))
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}, connector=connector, timeout=timeout) as session:
        path, query = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
        async with session.get(path, params=query) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        query |= {"watch": "1", "resourceVersion": version}
        async with session.get(path, params=query, read_bufsize=MAX_EVENT_BYTES) as answer:
            print("ready", flush=True)
            async for line in answer.content:
                if line.startswith(b'{"type":"ADDED"'):
                    at, meta = time.monotonic(), json.loads(line)["object"]["metadata"]
                    seen = {"at": at, "pod": meta["name"], "cluster": meta["labels"].get("rayscaler.io/cluster", "")}
                    sys.stdout.write(json.dumps(seen) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
