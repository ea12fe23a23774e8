"""The tests' own way to the API server: plain JSON over HTTP, sharing nothing with the product, so that it can bear witness."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from http import HTTPStatus
from typing import Any, Self

import aiohttp

from tests.cluster.servers import Cluster

JSON = dict[str, Any]
SERVER_SIDE_APPLY = "application/apply-patch+yaml"
MERGE_PATCH = "application/merge-patch+json"
WAIT_S = 60.0
"""For an object to be as wished; a moment mostly, but a busy machine's garbage collector and controllers take their time."""
MAX_EVENT_BYTES = 2**24
"""A watch event is one line; etcd takes objects of 1.5 MiB."""


class ApiError(Exception):
    """The API server refused: `status` is HTTP's, `reason` Kubernetes' word."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason


class LateError(ApiError):
    """The API server gave up in the middle."""


class Api:
    """One user's connections. Paths are as in Kubernetes' reference; every answer is its JSON, every refusal an ApiError."""

    def __init__(self, cluster: Cluster, token: str | None = None, connections: int = 100) -> None:
        self._url = cluster.url
        self._headers = {"Authorization": f"Bearer {token or cluster.token}"}
        self._tls = ssl.create_default_context(cafile=cluster.ca)
        self._connections = connections

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._tls, limit=self._connections)
        self._session = aiohttp.ClientSession(self._url, headers=self._headers, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()
        await asyncio.sleep(0)  # the loop closes the sockets in its next round

    async def get(self, path: str, **query: str) -> JSON:
        return await self._request("GET", path, query=query)

    async def create(self, path: str, body: JSON) -> JSON:
        return await self._request("POST", path, body)

    async def patch(self, path: str, body: JSON, kind: str = MERGE_PATCH, **query: str) -> JSON:
        return await self._request("PATCH", path, body, kind, query)

    async def delete(self, path: str, body: JSON | None = None, **query: str) -> JSON:
        return await self._request("DELETE", path, body, query=query)

    async def text(self, path: str, **query: str) -> str:
        """Return what is no JSON: a container's log."""
        async with self._session.get(path, params=query) as response:
            text = await response.text()
            if response.status >= 400:
                raise ApiError(response.status, "", text)
            return text

    @contextlib.asynccontextmanager
    async def channel(self, path: str, query: Sequence[tuple[str, str]]) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """Open a connection to a pod's program, as `kubectl exec` does; each message starts with the number of its stream."""
        async with self._session.ws_connect(path, params=query, protocols=["v4.channel.k8s.io"], max_msg_size=0) as socket:
            yield socket

    async def follow(self, path: str, **query: str) -> AsyncGenerator[tuple[str, JSON]]:
        """Yield (ADDED, object) for everything in a collection, then its events as they come; until the caller has enough."""
        listed = await self.get(path, **query)
        for item in listed["items"]:
            yield "ADDED", item
        async with contextlib.aclosing(self.watch(path, listed["metadata"]["resourceVersion"], **query)) as events:
            async for event in events:
                yield event

    async def watch(self, path: str, resource_version: str, **query: str) -> AsyncGenerator[tuple[str, JSON]]:
        """Yield (ADDED, MODIFIED or DELETED, object) as it happens from a version on, however often the server ends a watch that falls behind."""
        timeout = aiohttp.ClientTimeout(total=None)
        while True:
            query |= {"watch": "1", "resourceVersion": resource_version}
            async with self._session.get(path, params=query, timeout=timeout, read_bufsize=MAX_EVENT_BYTES) as response, _cut(response):
                async for line in response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise ApiError(event["object"]["code"], event["object"].get("reason", ""), event["object"]["message"])
                    resource_version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]

    async def wait(
        self, path: str, name: str, until: Callable[[JSON | None], bool], timeout_s: float = WAIT_S, *, since: JSON | None = None
    ) -> JSON | None:
        """Wait until an object (None: it is not there) is as wished and return it as it is then.

        `since` is the object as it was: what it has been in between is then looked at too, however soon it was over.
        """
        query = {"fieldSelector": f"metadata.name={name}"}
        newest = since
        try:
            async with asyncio.timeout(timeout_s):
                listed = since or await self.get(path, **query)
                if since is None:
                    newest = listed["items"][0] if listed["items"] else None
                if until(newest):
                    return newest
                async with contextlib.aclosing(self.watch(path, listed["metadata"]["resourceVersion"], **query)) as events:
                    async for kind, found in events:
                        newest = None if kind == "DELETED" else found
                        if until(newest):
                            break
                return newest
        except TimeoutError:
            state = "not there" if newest is None else json.dumps(newest.get("status"), indent=1)
            raise TimeoutError(f"{path}/{name} is not as wished after {timeout_s:g} s; it was {state}") from None

    async def _request(
        self, method: str, path: str, body: JSON | None = None, kind: str = "application/json", query: dict | None = None
    ) -> JSON:
        data = None if body is None else json.dumps(body)
        async with self._session.request(method, path, params=query, data=data, headers={"Content-Type": kind}) as response:
            answer = await response.json(content_type=None)
            if response.status >= 400:
                kind = LateError if response.status == HTTPStatus.GATEWAY_TIMEOUT else ApiError
                raise kind(response.status, answer.get("reason", ""), answer.get("message", ""))
            return answer


@contextlib.asynccontextmanager
async def _cut(response: aiohttp.ClientResponse) -> AsyncIterator[None]:
    """Drop the connection of a watch that its caller leaves: TLS would wait for the server's farewell, beyond the end of the test."""
    try:
        yield
    finally:
        if response.connection is not None and response.connection.transport is not None:
            response.connection.transport.abort()
