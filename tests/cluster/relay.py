"""A proxy before the API server that answers for it at times: a storm of 429, as flow control or a proxy of a cloud sends it."""

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Self

import aiohttp
from aiohttp import web

from tests.cluster.servers import Cluster

TOO_MANY = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests", "message": "a storm"}
KEPT = ("Authorization", "Content-Type", "Accept")
CLOSE_S = 1.0
"""Its clients' watches would last for minutes."""


class Relay:
    """Passes everything on, but answers 429 to what `storms` picks by method and path; `refused` counts those by method.

    What `holds` picks waits here until `released` is set, and is passed on then, whoever asked has ended or not; `held` counts it.
    Watches from versions below `forgotten` are asked from the first one on, which a real API server has forgotten: its own 410.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.storms: Callable[[str, str], bool] = lambda method, path: False
        self.refused: Counter[str] = Counter()
        self.holds: Callable[[str, str], bool] = lambda method, path: False
        self.held = 0
        self.released = asyncio.Event()
        self.forgotten = 0
        self.url = ""
        self._transports: set[asyncio.Transport] = set()
        self._cluster = cluster
        self._tls = ssl.create_default_context(cafile=cluster.ca)

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, cluster: Cluster) -> AsyncIterator[Self]:
        """Run one at a port of its own."""
        made = cls(cluster)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", made._answer)
        runner = web.AppRunner(app, shutdown_timeout=CLOSE_S)
        connector = aiohttp.TCPConnector(ssl=made._tls, limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as made._session:
            await runner.setup()
            try:
                site = web.TCPSite(runner, "127.0.0.1", 0)
                await site.start()
                made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
                yield made
            finally:
                await runner.cleanup()

    def cut(self) -> None:
        """Break what is being answered, watches for the most part."""
        for each in self._transports:
            each.abort()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self._transports.add(request.transport)
        try:
            return await self._passed(request)
        finally:
            self._transports.discard(request.transport)

    async def _passed(self, request: web.Request) -> web.StreamResponse:
        if self.storms(request.method, request.path):
            self.refused[request.method] += 1
            return web.json_response(TOO_MANY, status=429, headers={"Retry-After": "1"})
        headers = {key: request.headers[key] for key in KEPT if key in request.headers}
        known, body = request.query.get("resourceVersion", ""), await request.read()
        is_old = "watch" in request.query and known.isdigit() and int(known) < self.forgotten
        url = request.rel_url.update_query(resourceVersion="1") if is_old else request.rel_url
        url = f"{self._cluster.url}{url}"
        if self.holds(request.method, request.path):
            self.held += 1
            await self.released.wait()
        async with self._session.request(request.method, url, data=body, headers=headers) as found:
            passed = {key: found.headers[key] for key in ("Content-Type", "Retry-After") if key in found.headers}
            answer = web.StreamResponse(status=found.status, headers=passed)
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await answer.prepare(request)
                async for chunk in found.content.iter_any():
                    await answer.write(chunk)
            return answer
