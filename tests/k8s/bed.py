"""Ways to a real API server: with the Role of deploy/rayscaler.yaml in one namespace and no other right; and a line that can be cut."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from rayscaler.k8s.client import Client, connect
from tests.chart import manifests
from tests.cluster.namespaces import BEHAVIOUR, Namespace

(ROLE,) = manifests.objects("Role")


def template(sim: dict[str, str] | None = None, *, grace_s: int | None = None, **container: Any) -> str:
    """Return a pod template whose pods behave as `sim` says (controlplane/behaviour.go)."""
    annotations = {f"{BEHAVIOUR}{key}": value for key, value in (sim or {}).items()}
    spec = {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0", **container}]}
    grace = {} if grace_s is None else {"terminationGracePeriodSeconds": grace_s}
    return json.dumps({"metadata": {"annotations": annotations}, "spec": {**spec, **grace}})


@contextlib.asynccontextmanager
async def entered(namespace: Namespace, *, port: int | None = None, rules: list[dict] | None = None) -> AsyncIterator[Client]:
    """Yield a client with the Role's rights, or with these, by way of another port of this machine if one is given."""
    account = await namespace.account(f"rayscaler-{port or 0}", rules or ROLE["rules"])
    path = account.kubeconfig
    if port is not None:
        path = path.with_suffix(f".{port}")
        path.write_text(account.kubeconfig.read_text().replace(namespace.cluster.url, f"https://127.0.0.1:{port}"))
    client = await connect(path)
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0.05)  # TLS says goodbye in the loop's next rounds; the loop would end before


async def disenfranchise(namespace: Namespace) -> None:
    """Take away all rights of who has entered; return once the API server refuses what they allowed."""
    await namespace.api.delete(namespace.path("roles/rayscaler-0", "rbac.authorization.k8s.io/v1"))
    await namespace.authorized(f"system:serviceaccount:{namespace.name}:rayscaler-0", ROLE["rules"][0], is_allowed=False)


class Line:
    """A way to the API server that can be cut, and be dead for a while."""

    def __init__(self, namespace: Namespace) -> None:
        self._address = namespace.cluster.url.removeprefix("https://").split(":")
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        """Where it is."""
        return f"https://127.0.0.1:{self.port}"

    @classmethod
    @contextlib.asynccontextmanager
    async def opened(cls, namespace: Namespace) -> AsyncIterator[Self]:
        """Have one for the length of the block."""
        made = cls(namespace)
        await made.open()
        try:
            yield made
        finally:
            await made.close()

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
