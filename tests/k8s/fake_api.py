"""A small API server on a socket, for the answers that a real one gives rarely: cut watches, 410, 429 storms, silence.

Pods and Services, or one other kind of object in `pods`, whatever it is; without selectors, admission or rights; `has_kubelet` makes
containers run and end. What else is patched or created is only noted in `written`. Everything else is tried on the real one (tier cluster).
"""

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from aiohttp import web
from kubernetes.aio.client.configuration import Configuration

from rayscaler.k8s import labels
from rayscaler.k8s.client import Client
from tests.k8s.fake_objects import merged
from tests.k8s.listening import listen

MINE = {labels.MANAGED_BY: labels.MANAGER, labels.CLUSTER: "c", labels.NODE_TYPE: "small", labels.ROLE: labels.WORKER}


def pod(name: str, **status) -> dict:
    """Return a worker's pod as somebody else would create it."""
    annotations = {labels.INSTANCE_ID: name, labels.SPEC_HASH: "h", labels.MADE_AS: "{}"}
    return {
        "metadata": {"name": name, "labels": MINE, "annotations": annotations},
        "spec": {"containers": [{"name": "ray"}]},
        "status": status,
    }


STORED = frozenset({"pods", "services"})
"""Kinds that are kept when they are created or patched."""


class FakeApi:
    """`calls` counts what was asked; `refuse` has (status, headers, body) for the next calls of a verb."""

    def __init__(self) -> None:
        self.pods: dict[str, dict] = {}
        self.services: dict[str, dict] = {}
        self.calls: Counter[str] = Counter()
        self.refuse: dict[str, list[tuple[int, dict[str, str], dict]]] = {}
        self.written: list[tuple[str, str, dict]] = []
        self.hang_s = 0.0
        self.oldest = 0
        self.version = 100
        self.chunk = 1 << 20
        self.has_kubelet = False
        self._kubelets: set[asyncio.Task[None]] = set()
        self._events: list[tuple[int, str, bytes]] = []
        self._news = asyncio.Condition()
        self._watches: set[web.StreamResponse] = set()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen, on the same port as before."""
        routes = [("/api/v1/namespaces/ns/{plural}", self._many), ("/api/v1/namespaces/ns/{plural}/{name}", self._one)]
        self._runner, self.port = await listen(routes, self.port)

    async def stop(self) -> None:
        """Be away."""
        for task in self._kubelets:
            task.cancel()
        await self._runner.cleanup()

    async def put(self, body: dict, plural: str = "pods") -> dict:
        """Create or change an object."""
        store = self._store(plural)
        known = store.get(body["metadata"]["name"])
        self.version += 1
        uid = known["metadata"]["uid"] if known else f"uid-{self.version}"
        stored = {**body, "metadata": {**body["metadata"], "uid": uid, "resourceVersion": str(self.version)}}
        store[body["metadata"]["name"]] = stored
        await self._tell("MODIFIED" if known else "ADDED", stored, plural)
        return stored

    async def drop(self, name: str, *, silently: bool = False, plural: str = "pods") -> None:
        """Delete an object; silently: nobody who watches is told."""
        self.version += 1
        gone = self._store(plural).pop(name)
        gone["metadata"]["resourceVersion"] = str(self.version)
        if not silently:
            await self._tell("DELETED", gone, plural)

    async def hide(self, name: str) -> None:
        """Let a label selector select an object no more: who watches is told that it is deleted."""
        self.version += 1
        await self._tell("DELETED", self.pods[name], "pods")

    async def cut(self) -> None:
        """Break every watch in the middle."""
        for watch in self._watches:
            if watch._req.transport is not None:
                watch._req.transport.abort()

    async def until_empty(self) -> None:
        """Wait until no pod is left."""
        async with self._news:
            while self.pods:
                await self._news.wait()

    async def say(self, line: dict) -> None:
        """Put any event into the watches of pods."""
        await self._append(json.dumps(line).encode() + b"\n", "pods")

    def _store(self, plural: str) -> dict[str, dict]:
        return self.services if plural == "services" else self.pods

    async def _tell(self, what: str, stored: dict, plural: str) -> None:
        await self._append(json.dumps({"type": what, "object": stored}).encode() + b"\n", plural)

    async def _append(self, line: bytes, plural: str) -> None:
        async with self._news:
            self._events.append((self.version, plural, line))
            self._news.notify_all()

    async def _many(self, request: web.Request) -> web.StreamResponse:
        verb = "create" if request.method == "POST" else "watch" if "watch" in request.query else "list"
        if (refused := self._refused(verb)) is not None:
            return refused
        if verb == "create":
            body, plural = await request.json(), request.match_info["plural"]
            if body["metadata"]["name"] in self._store(plural):
                return _status(409, "AlreadyExists", "it exists")
            if plural not in STORED:
                self.written.append(("create", body["metadata"]["name"], body))
            return web.json_response(await self._create(body, plural), status=201)
        return await (self._watch(request) if verb == "watch" else self._list(request))

    async def _create(self, body: dict, plural: str) -> dict:
        if plural not in STORED:
            return body
        stored = await self.put(body, plural)
        if self.has_kubelet and plural == "pods":
            self._spawn(self._run(body["metadata"]["name"]))
        return stored

    async def _delete(self, name: str) -> None:
        found = self.pods[name]
        if not self.has_kubelet or "nodeName" not in found["spec"]:
            await self.drop(name)
        elif "deletionTimestamp" not in found["metadata"]:
            await self.put({**found, "metadata": {**found["metadata"], "deletionTimestamp": "2100-01-01T00:00:00Z"}})
            self._spawn(self._stop_pod(name))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._kubelets.add(task)
        task.add_done_callback(self._kubelets.discard)

    async def _run(self, name: str) -> None:
        for state in ({"waiting": {"reason": "ContainerCreating"}}, {"running": {}}):
            await asyncio.sleep(0.02)
            if name in self.pods:
                found = self.pods[name]
                statuses = [{"name": each["name"], "state": state} for each in found["spec"]["containers"]]
                await self.put({**found, "spec": {**found["spec"], "nodeName": "n"}, "status": {"containerStatuses": statuses}})

    async def _stop_pod(self, name: str) -> None:
        await asyncio.sleep(0.02)
        await self.drop(name)

    async def _list(self, request: web.Request) -> web.Response:
        begin = int(request.query.get("continue", 0))
        limit = int(request.query["limit"])
        store = self._store(request.match_info["plural"])
        names = sorted(store)
        more = {"continue": str(begin + limit)} if begin + limit < len(names) else {}
        items = [store[name] for name in names[begin : begin + limit]]
        return web.json_response({"metadata": {"resourceVersion": str(self.version), **more}, "items": items})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        version = int(request.query["resourceVersion"])
        if version < self.oldest:
            return _status(410, "Expired", "too old resource version")
        answer = web.StreamResponse()
        await answer.prepare(request)
        self._watches.add(answer)
        at = next((index for index, (of, *_) in enumerate(self._events) if of > version), len(self._events))
        try:
            while True:
                async with self._news:
                    while len(self._events) <= at:
                        await self._news.wait()
                _, plural, line = self._events[at]
                at += 1
                if self._store(plural) is not self._store(request.match_info["plural"]):
                    continue
                for begin in range(0, len(line), self.chunk):
                    await answer.write(line[begin : begin + self.chunk])
        except ConnectionError:
            return answer
        finally:
            self._watches.discard(answer)

    async def _one(self, request: web.Request) -> web.Response:
        verb = {"GET": "get", "DELETE": "delete", "PATCH": "patch"}[request.method]
        if (refused := self._refused(verb)) is not None:
            return refused
        name, plural = request.match_info["name"], request.match_info["plural"]
        if verb == "patch" and plural not in STORED:
            await asyncio.sleep(self.hang_s)
            self.written.append(("patch", name, json.loads(await request.read())))
            return web.json_response({"metadata": {"name": name}})
        store = self._store(plural)
        if name not in store:
            return _status(404, "NotFound", f"{name} not found")
        if verb == "delete":
            options = await request.json()
            if options.get("preconditions", {}).get("uid") not in (None, store[name]["metadata"]["uid"]):
                return _status(409, "Conflict", "the UID in the precondition does not match")
            await (self._delete(name) if plural == "pods" else self.drop(name, plural=plural))
            return web.json_response({})
        return await self._patch(request, store[name]) if verb == "patch" else web.json_response(store[name])

    async def _patch(self, request: web.Request, known: dict) -> web.Response:
        patch = await request.json()
        if patch["metadata"].get("resourceVersion", "") not in ("", known["metadata"]["resourceVersion"]):
            return _status(409, "Conflict", "the object has been modified")
        return web.json_response(await self.put(merged(known, patch), request.match_info["plural"]))

    def _refused(self, verb: str) -> web.Response | None:
        self.calls[verb] += 1
        waiting = self.refuse.get(verb)
        if not waiting:
            return None
        status, headers, body = waiting.pop(0)
        return web.json_response(body, status=status, headers=headers)


def _status(code: int, reason: str, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


@contextlib.asynccontextmanager
async def serving() -> AsyncIterator[tuple[FakeApi, Client]]:
    """Run one, with a client of it."""
    api = FakeApi()
    await api.start()
    client = Client(Configuration(host=f"http://127.0.0.1:{api.port}"), call_s=5.0)
    try:
        yield api, client
    finally:
        await client.close()
        await api.stop()
