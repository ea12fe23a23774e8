"""A namespace of its own on a real API server, with an account that has the Role of deploy/role.yaml there and no other right."""

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio.client.configuration import Configuration

from rayscaler.k8s.client import Client, connect

ROLE = Path(__file__).parents[2] / "deploy" / "role.yaml"
ACCOUNT = "rayscaler"


@dataclass
class Bed:
    """A namespace; `client` has the Role's rights, `admin` every right."""

    namespace: str
    client: Client
    admin: Client
    token: str

    async def call(self, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> dict[str, Any]:
        """Call as admin; `path` is below the API server's address."""
        return await call(self.admin, path, body, method)

    def through(self, port: int) -> Client:
        """Return a client with the Role's rights that comes through another port of this machine."""
        return _client(self.admin, self.token, f"https://127.0.0.1:{port}")

    @property
    def address(self) -> tuple[str, int]:
        """The API server's host and port."""
        host, _, port = self.admin._configuration.host.rpartition("://")[2].partition(":")
        return host, int(port)


async def call(client: Client, path: str, body: dict[str, Any] | None = None, method: str = "POST") -> dict[str, Any]:
    """Call any path; an error is the API server's own text."""
    session, headers = await client._opened()
    url = f"{client._configuration.host}{path}"
    async with session.request(method, url, json=body, headers=headers) as answer:
        text = await answer.text()
        if answer.status >= 400:
            raise AssertionError(f"{method} {path}: {answer.status}: {text}")
        return json.loads(text)


@contextlib.asynccontextmanager
async def namespace(kubeconfig: Path, labels: dict[str, str] | None = None, **options: Any) -> AsyncIterator[Bed]:
    """Make a namespace and remove it; `options` are the client's."""
    admin = await connect(kubeconfig)
    name = f"t-{secrets.token_hex(4)}"
    try:
        await call(admin, "/api/v1/namespaces", {"metadata": {"name": name, "labels": labels or {}}})
        token = await _account(admin, name)
        client = _client(admin, token, admin._configuration.host, **options)
        try:
            yield Bed(name, client, admin, token)
        finally:
            await client.close()
            await call(admin, f"/api/v1/namespaces/{name}", method="DELETE")
    finally:
        await admin.close()


async def _account(admin: Client, name: str) -> str:
    """Make the account, give it the Role, wait until pods may be created (their own account is made by a controller); return a token."""
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{name}"
    role = yaml.safe_load(ROLE.read_text())
    await call(admin, f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": ACCOUNT}})
    await call(admin, f"{rbac}/roles", role)
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role["metadata"]["name"]}
    await call(admin, f"{rbac}/rolebindings", {"metadata": {"name": ACCOUNT}, "subjects": [subject], "roleRef": reference})
    made = await call(admin, f"/api/v1/namespaces/{name}/serviceaccounts/{ACCOUNT}/token", {"spec": {"expirationSeconds": 3600}})
    for _ in range(600):
        if "default" in await _accounts(admin, name):
            return made["status"]["token"]
        await asyncio.sleep(0.05)
    raise AssertionError(f"no account `default` in {name}: does the controller manager run?")


async def _accounts(admin: Client, name: str) -> set[str]:
    found = await call(admin, f"/api/v1/namespaces/{name}/serviceaccounts", method="GET")
    return {each["metadata"]["name"] for each in found["items"]}


def _client(admin: Client, token: str, host: str, **options: Any) -> Client:
    known = admin._configuration
    made = Configuration(
        host=host, api_key={"BearerToken": f"Bearer {token}"}, ssl_ca_cert=known.ssl_ca_cert, ca_cert_data=known.ca_cert_data
    )
    made.disable_strict_ssl_verification = known.disable_strict_ssl_verification
    return Client(made, **options)


class Line:
    """A way to the API server that can be cut, and be dead for a while."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0

    async def open(self) -> None:
        """Be there, at the same port as before."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection."""
        for writer in self._writers:
            writer.transport.abort()

    async def close(self) -> None:
        """Be gone: connections break, new ones are refused."""
        self._server.close()
        self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._address)
        self._writers |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(_pump(source, sink))
            self._pumps.add(task)
            task.add_done_callback(self._pumps.discard)


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    sink.close()
