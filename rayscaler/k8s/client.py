"""The one door to the API server: seven verbs over any kind of object. Bytes go in as JSON, come out as the kind's own values.

Each call has a deadline, within which a 429 is waited out as the API server asks; what it refuses is an error of our tree.
kubernetes.aio gives credentials, certificates and the connection pool; its models and its watch are left aside, as decoding with
only the used fields is 10 to 50 times faster (design §6), and its watch asks for an expired version for ever.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import msgspec
import yaml
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from rayscaler.errors import Denied, InvalidRequest, Unavailable
from rayscaler.k8s import failures
from rayscaler.k8s.objects import Event, Kind, Named, Page

T = TypeVar("T")

MERGE, APPLY, STRATEGIC = "application/merge-patch+json", "application/apply-patch+yaml", "application/strategic-merge-patch+json"
"""Forms of a patch; JSON is YAML."""
CALL_S = 20.0
"""Deadline of a call, its waits after a 429 included."""
SILENCE_S = 100.0
"""A watch without a word for so long is broken: bookmarks come every minute."""
WATCH_S = 540
"""The API server is asked to end a watch after so long, so that connections spread over its replicas."""
PAGE = 500
"""Objects per page of a list: a few MB at a time."""
KEEPALIVE = ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 3), (socket.TCP_USER_TIMEOUT, 20_000))
"""A machine that died says nothing; the kernel notices within half a minute."""
_EVENTS = msgspec.json.Decoder(Event)


class Client:
    """Speaks to one API server. `may_write` is asked right before each request that changes something; what it raises is not caught."""

    def __init__(self, configuration: Configuration, *, call_s: float = CALL_S, may_write: Callable[[], None] = lambda: None) -> None:
        self._configuration = configuration
        self._call_s = call_s
        self._may_write = may_write
        self._session: aiohttp.ClientSession | None = None
        self.on_denied: Callable[[], None] = lambda: None
        """Called when the API server says that a right is missing; whoever looks after rights sets it."""

    async def create(self, kind: Kind[T], namespace: str, body: Mapping[str, Any]) -> T:
        """Create an object and return it; raises AlreadyExists. `namespace` "" is for kinds that are in none."""
        return kind.one.decode(await self._call("create", kind, namespace, data=body))

    async def get(self, kind: Kind[T], namespace: str, name: str) -> T:
        """Return an object; raises NotFound."""
        return kind.one.decode(await self._call("get", kind, namespace, name))

    async def replace(self, kind: Kind[T], namespace: str, name: str, body: Mapping[str, Any]) -> T:
        """Put another object in an object's place; raises Busy if `body` has a version that is not the newest."""
        return kind.one.decode(await self._call("update", kind, namespace, name, data=body))

    async def patch(
        self,
        kind: Kind[T],
        namespace: str,
        name: str,
        body: Mapping[str, Any],
        *,
        form: str = MERGE,
        query: Mapping[str, str] | None = None,
        part: str = "",
    ) -> T:
        """Change a part of an object, `part` by a way of its own; `query` has the field manager of a server-side apply."""
        return kind.one.decode(await self._call("patch", kind, namespace, name, data=body, form=form, query=query, part=part))

    async def delete(self, kind: Kind[T], namespace: str, name: str, *, uid: str = "", grace_s: int | None = None) -> T | None:
        """Begin the end of an object; with `uid` only of that one, else raises Busy. `grace_s` None leaves the object's own.

        Returns the object as it is being ended, None where the API server tells no more than that it is done.
        """
        options = {"preconditions": {"uid": uid}} if uid else {}
        grace = {} if grace_s is None else {"gracePeriodSeconds": grace_s}
        told = await self._call("delete", kind, namespace, name, data={**options, **grace})
        return kind.one.decode(told) if msgspec.json.decode(told, type=Named).metadata.name == name else None

    async def list(self, kind: Kind[T], namespace: str, *, selector: str = "") -> tuple[list[T], str]:
        """Return every object that the label selector selects, and the version they are of; raises Expired if it took too long."""
        found: list[T] = []
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page: Page[T] = kind.page.decode(await self._call("list", kind, namespace, query=query))
            found += page.items
            if not page.metadata.continue_:
                return found, page.metadata.resource_version
            query["continue"] = page.metadata.continue_

    async def read(self, path: str) -> bytes:
        """Return what the API server says of itself at a path that is no kind of object's, such as `openid/v1/jwks`."""
        return await self._ask(
            "GET", f"{self._configuration.host}/{path}", f"get /{path}", accept="*/*"
        )  # its keys have a type of their own

    @contextlib.asynccontextmanager
    async def watch(
        self, kind: Kind[T], namespace: str, *, version: str, selector: str = "", fields: str = ""
    ) -> AsyncIterator[AsyncIterator[tuple[str, T]]]:
        """Open a watch from `version` on: it is open once the block begins. Yields event types and objects, bookmarks too.

        Ends when the API server ends it; raises Expired, Overloaded, Denied, Unavailable.
        """
        what = f"watch {kind.plural} in {namespace}"
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_S)}
        if selector:
            query["labelSelector"] = selector
        if fields:
            query["fieldSelector"] = fields
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._call_s, sock_read=SILENCE_S)
        with _translated(what, self._call_s):
            session, headers = await self._opened()
            async with asyncio.timeout(self._call_s) as patience:
                answer = await session.get(self._url(kind, namespace), params=query, headers=headers, timeout=timeout)
                if answer.status >= 400:
                    await self._refuse(answer, what)
                patience.reschedule(None)
            try:
                _keep_alive(answer)
                yield _events(answer, kind, what)
            finally:
                _abort(answer)

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()

    async def _call(
        self,
        verb: str,
        kind: Kind[T],
        namespace: str,
        name: str = "",
        *,
        data: Mapping[str, Any] | None = None,
        form: str = "application/json",
        query: Mapping[str, str] | None = None,
        part: str = "",
    ) -> bytes:
        part = f"/{part}" if part else ""
        what = f"{verb} {kind.plural}{part}{f' in {namespace}' if namespace else ''}"
        body = None if data is None else msgspec.json.encode(data)
        return await self._ask(_METHODS[verb], self._url(kind, namespace, name) + part, what, body=body, form=form, query=query)

    async def _ask(
        self,
        method: str,
        url: str,
        what: str,
        *,
        body: bytes | None = None,
        form: str = "application/json",
        accept: str = "application/json",
        query: Mapping[str, str] | None = None,
    ) -> bytes:
        """Ask until the answer is no 429, or the deadline has come; return the body. `what` is the call, for the text of errors."""
        deadline = asyncio.get_running_loop().time() + self._call_s
        while True:
            try:
                with _translated(what, self._call_s):
                    async with asyncio.timeout_at(deadline):
                        session, headers = await self._opened()
                        if method != "GET":
                            self._may_write()
                        request = session.request(
                            method,
                            url,
                            params=query,
                            data=body,
                            headers={**headers, "Accept": accept, "Content-Type": form},
                            timeout=_NO_TIMEOUT,
                        )
                        async with request as answer:
                            if answer.status >= 400:
                                await self._refuse(answer, what)
                            return await answer.read()
            except failures.Overloaded as error:
                if asyncio.get_running_loop().time() + error.retry_after_s >= deadline:
                    raise
                await asyncio.sleep(error.retry_after_s)

    async def _refuse(self, answer: aiohttp.ClientResponse, what: str) -> NoReturn:
        error = failures.of(answer.status, failures.read(await answer.read()), what, answer.headers.get("Retry-After"))
        if isinstance(error, Denied):
            self.on_denied()
        raise error

    async def _opened(self) -> tuple[aiohttp.ClientSession, dict[str, str]]:
        """Return the connections and the credentials of this moment: a token in a file is read again each minute."""
        if self._session is None:
            self._configuration.client_session_kwargs = {"trust_env": False, "proxy": _proxy(self._configuration)}
            self._session = RESTClientObject(self._configuration)._create_pool_manager()  # noqa: SLF001 - made to be overridden
        settings = (await self._configuration.auth_settings()).get("BearerToken")
        token = None if settings is None else settings["value"]
        return self._session, {"Accept": "application/json", **({"Authorization": token} if token else {})}

    def _url(self, kind: Kind[T], namespace: str, name: str = "") -> str:
        inside = f"namespaces/{quote(namespace, safe='')}/" if namespace else ""
        path = f"{kind.group}/{inside}{kind.plural}"
        return f"{self._configuration.host}/{path}{'/' if name else ''}{quote(name, safe='')}"


_METHODS = {"create": "POST", "get": "GET", "list": "GET", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
"""HTTP methods of the verbs, as a Role names them."""
_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)
"""The deadline around the call counts."""


async def connect(kubeconfig: Path | None = None, *, call_s: float = CALL_S, may_write: Callable[[], None] = lambda: None) -> Client:
    """Return a client of the cluster that this process runs in, or of a kubeconfig's current context; raises InvalidRequest."""
    configuration = Configuration()
    # Python 3.13 refuses the certificates of many clusters' own authorities for a field that they lack.
    configuration.disable_strict_ssl_verification = True
    try:
        if kubeconfig is None:
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(config_file=str(kubeconfig), client_configuration=configuration, persist_config=False)
    except (config.ConfigException, OSError, ValueError, yaml.YAMLError) as error:
        where = "the service account of this pod" if kubeconfig is None else str(kubeconfig)
        raise InvalidRequest(f"{where}: {error}; run in a pod, or name a kubeconfig") from error
    return Client(configuration, call_s=call_s, may_write=may_write)


def _proxy(configuration: Configuration) -> str | None:
    """Return the proxy on the way to the API server: the kubeconfig's, else the environment's.

    Asked for once: aiohttp would look into the environment, and into ~/.netrc in a thread, with each request.
    """
    api_server = urlsplit(configuration.host)
    if configuration.proxy or proxy_bypass(api_server.netloc):
        return configuration.proxy
    return getproxies().get(api_server.scheme)


@contextlib.contextmanager
def _translated(what: str, call_s: float) -> Any:
    """Turn what the connection does into our errors."""
    try:
        yield
    except TimeoutError as error:
        raise Unavailable(f"{what}: no answer within {call_s:g} s") from error
    except (aiohttp.ClientError, OSError) as error:
        raise Unavailable(f"{what}: {type(error).__name__}: {error}") from error
    except msgspec.DecodeError as error:
        raise Unavailable(f"{what}: the answer is not what the API server says: {error}") from error


async def _events(answer: aiohttp.ClientResponse, kind: Kind[T], what: str) -> AsyncIterator[tuple[str, T]]:
    """Yield the events of a watch: one JSON text a line, however the bytes come."""
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in filter(None, lines):
            event = _EVENTS.decode(line)
            if event.type == "ERROR":
                failure = failures.read(bytes(event.object))
                raise failures.of(failure.code, failure, what)
            yield event.type, kind.one.decode(event.object)


def _abort(answer: aiohttp.ClientResponse) -> None:
    """End a watch's connection at once: TLS would wait for the API server's goodbye, longer than the caller may live."""
    transport = _transport(answer)
    if transport is not None:
        transport.abort()
    answer.close()


def _transport(answer: aiohttp.ClientResponse) -> asyncio.Transport | None:
    return None if answer.connection is None else answer.connection.transport


def _keep_alive(answer: aiohttp.ClientResponse) -> None:
    transport = _transport(answer)
    line = None if transport is None else transport.get_extra_info("socket")
    if line is not None:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            line.setsockopt(socket.IPPROTO_TCP, option, value)
