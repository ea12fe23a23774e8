"""A small API server for objects of any kind: create, get, merge patch, list and watch, with versions as preconditions.

It has what the record and the lease rest on, and can be told to fail; whether a real one does the same is tried in the tier "cluster".
"""

import asyncio
import contextlib
import copy
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from rayscaler.k8s.client import Client
from tests.k8s.listening import listen

Key = tuple[str, str]


class FakeObjects:
    """`objects` by kind and name; `calls` counts what was asked, `sent` has each write in order.

    `before` runs in front of each request and may change things, or return (status, reason): then that is the answer. With `loses`
    a write is done, and its answer lost.
    """

    def __init__(self) -> None:
        self.objects: dict[Key, dict[str, Any]] = {}
        self.calls: Counter[str] = Counter()
        self.sent: list[tuple[str, str, dict[str, Any]]] = []
        self.before: Callable[[str, str], tuple[int, str] | None] = lambda verb, name: None
        self.loses = 0
        self.version = 100
        self.port = 0
        self._events: list[tuple[int, str, bytes]] = []
        self._news = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        all_of, one_of = "/namespaces/ns/{plural}", "/namespaces/ns/{plural}/{name}"
        prefixes = ("/api/v1", "/apis/{group}/{version}")
        routes = [(prefix + path, handler) for prefix in prefixes for path, handler in ((all_of, self._many), (one_of, self._one))]
        self._runner, self.port = await listen(routes, self.port)

    async def stop(self) -> None:
        """Be away."""
        await self._runner.cleanup()

    def client(self, **options: Any) -> Client:
        """Return a way in."""
        return Client(Configuration(host=f"http://127.0.0.1:{self.port}"), call_s=options.pop("call_s", 2.0), **options)

    async def put(self, plural: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create or replace, as somebody else."""
        key = plural, body["metadata"]["name"]
        known = self.objects.get(key)
        self.version += 1
        uid = known["metadata"]["uid"] if known else f"uid-{self.version}"
        stored = {**copy.deepcopy(body), "metadata": {**copy.deepcopy(body["metadata"]), "uid": uid, "resourceVersion": str(self.version)}}
        self.objects[key] = stored
        await self._append("MODIFIED" if known else "ADDED", plural, stored)
        return stored

    async def drop(self, plural: str, name: str) -> None:
        """Delete, as somebody else."""
        self.version += 1
        gone = self.objects.pop((plural, name))
        gone["metadata"]["resourceVersion"] = str(self.version)
        await self._append("DELETED", plural, gone)

    async def _append(self, what: str, plural: str, stored: dict[str, Any]) -> None:
        async with self._news:
            self._events.append((self.version, plural, json.dumps({"type": what, "object": stored}).encode() + b"\n"))
            self._news.notify_all()

    async def _many(self, request: web.Request) -> web.StreamResponse:
        plural = request.match_info["plural"]
        verb = "create" if request.method == "POST" else "watch" if "watch" in request.query else "list"
        body = await request.json() if verb == "create" else {"metadata": {"name": ""}}
        if (refused := self._asked(verb, body["metadata"]["name"])) is not None:
            return refused
        if verb == "watch":
            return await self._watch(request, plural)
        if verb == "list":
            wanted = request.query.get("labelSelector", "")
            items = [each for (kind, _), each in self.objects.items() if kind == plural and _selects(wanted, each)]
            return web.json_response({"metadata": {"resourceVersion": str(self.version)}, "items": items})
        if (plural, body["metadata"]["name"]) in self.objects:
            return _status(409, "AlreadyExists")
        return await self._done("create", await self.put(plural, body), request, body)

    async def _one(self, request: web.Request) -> web.Response:
        verb = {"GET": "get", "PATCH": "patch"}[request.method]
        plural, name = request.match_info["plural"], request.match_info["name"]
        if (refused := self._asked(verb, name)) is not None:
            return refused
        found = self.objects.get((plural, name))
        if found is None:
            return _status(404, "NotFound")
        if verb == "get":
            return web.json_response(found)
        change = await request.json()
        if change["metadata"].get("resourceVersion", found["metadata"]["resourceVersion"]) != found["metadata"]["resourceVersion"]:
            return _status(409, "Conflict")
        return await self._done("patch", await self.put(plural, merged(found, change)), request, change)

    async def _done(self, verb: str, stored: dict[str, Any], request: web.Request, body: dict[str, Any]) -> web.Response:
        self.sent.append((verb, stored["metadata"]["name"], body))
        if self.loses:
            self.loses -= 1
            request.transport.abort()
        return web.json_response(stored)

    async def _watch(self, request: web.Request, plural: str) -> web.StreamResponse:
        version, wanted = int(request.query["resourceVersion"]), request.query.get("fieldSelector", "").removeprefix("metadata.name=")
        answer = web.StreamResponse()
        await answer.prepare(request)
        at = 0
        with contextlib.suppress(ConnectionError):
            while True:
                async with self._news:
                    while len(self._events) <= at:
                        await self._news.wait()
                of, kind, line = self._events[at]
                at += 1
                if of > version and kind == plural and (not wanted or json.loads(line)["object"]["metadata"]["name"] == wanted):
                    await answer.write(line)
        return answer

    def _asked(self, verb: str, name: str) -> web.Response | None:
        self.calls[verb] += 1
        refused = self.before(verb, name)
        return None if refused is None else _status(*refused)


def _selects(selector: str, found: dict[str, Any]) -> bool:
    wanted = dict(each.split("=", 1) for each in selector.split(",") if each)
    return wanted.items() <= found["metadata"].get("labels", {}).items()


def merged(found: Any, change: Any) -> Any:
    """Merge as RFC 7386 says."""
    if not isinstance(change, dict):
        return change
    out = dict(found) if isinstance(found, dict) else {}
    for key, value in change.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merged(out.get(key), value)
    return out


def _status(code: int, reason: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": reason}, status=code)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[FakeObjects]:
    """Run one."""
    api = FakeObjects()
    await api.start()
    try:
        yield api
    finally:
        await api.stop()
