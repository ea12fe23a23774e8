"""Sees pods appear, in a process of its own: a watch beside the service's, that nothing of rayscaler has a part in.

python tests/bench/k8s_observer.py URL CA TOKEN NAMESPACE SELECTOR: a line "ready" once the watch is open, then a JSON line for each pod
that is new: {"at": monotonic seconds, which all processes of a machine share, "pod": its name, "cluster": its label}. A watch that the API
server ends, as it does with one that falls behind, is taken up where it stopped.
"""

import asyncio
import json
import re
import ssl
import sys
import time

import aiohttp

MAX_EVENT_BYTES = 2**24
VERSION = re.compile(rb'"resourceVersion":"(\d+)"')


async def main(url: str, ca: str, token: str, namespace: str, selector: str) -> None:
    """Watch until killed."""
    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=ca))
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(url, headers={"Authorization": f"Bearer {token}"}, connector=connector, timeout=timeout) as session:
        path, query = f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
        async with session.get(path, params=query) as answer:
            version = (await answer.json())["metadata"]["resourceVersion"]
        print("ready", flush=True)
        while True:
            async with session.get(path, params=query | {"watch": "1", "resourceVersion": version}, read_bufsize=MAX_EVENT_BYTES) as answer:
                version = await _told(answer, version)


async def _told(answer: aiohttp.ClientResponse, version: str) -> str:
    """Print the pods that are new until the watch ends; return where it stopped."""
    async for line in answer.content:
        if line.startswith(b'{"type":"ERROR"'):
            raise RuntimeError(line.decode())
        if found := VERSION.search(line):
            version = found[1].decode()
        if line.startswith(b'{"type":"ADDED"'):
            at, meta = time.monotonic(), json.loads(line)["object"]["metadata"]
            seen = {"at": at, "pod": meta["name"], "cluster": meta["labels"].get("rayscaler.io/cluster", "")}
            sys.stdout.write(json.dumps(seen) + "\n")
            sys.stdout.flush()
    return version


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:6]))
