"""A Sink that remembers what it was told, and waits for it; and ConfigMaps with definitions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import yaml

from rayscaler.clock import SystemClock
from rayscaler.config.file import Definition
from rayscaler.k8s import labels
from rayscaler.k8s.client import Client
from rayscaler.k8s.definitions import Clear, Definitions
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.reflector import Pauses
from rayscaler.testing.memory_store import MemoryStore

TEMPLATE = {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}]}}
QUICK = Pauses(first_s=0.02, longest_s=0.1, blind_s=0.3)


def text(*types: str, name: str = "demo", **spec: object) -> str:
    """Return a definition with these node types, as pods."""
    kinds = [{"name": each, "resources": {"CPU": 1}, "template": TEMPLATE} for each in types]
    document = {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": name}}
    return yaml.safe_dump({**document, "spec": {"head": {"template": TEMPLATE}, **spec, "nodeTypes": kinds}}, sort_keys=False)


def config_map(name: str, text: str | None = None, *, key: str = "cluster.yaml", **metadata) -> dict:
    """Return a ConfigMap with a definition, as a user applies it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "labels": {labels.CLUSTER: ""}, **metadata},
        "data": {} if text is None else {key: text},
    }


class RecordingSink:
    """`told` has what was told, in order: the word, the name, and with it the node types, the problems or why."""

    def __init__(self) -> None:
        self.told: list[tuple] = []
        self.owners: dict[str, Owner] = {}
        self._news = asyncio.Event()

    def defined(self, definition: Definition, owner: Owner) -> None:
        self.owners[definition.config.name] = owner
        self._note("defined", definition.config.name, *(each.name for each in definition.config.node_types))

    def refused(self, name: str, problems: tuple[str, ...]) -> None:
        self._note("refused", name, *problems)

    def held(self, name: str, why: str) -> None:
        self._note("held", name, why)

    def gone(self, name: str) -> None:
        self._note("gone", name)

    def words(self) -> list[str]:
        """Return what was told, a word each."""
        return [each[0] for each in self.told]

    async def until(self, *words: str, seconds: float = 30.0) -> list[tuple]:
        """Wait until as much was told; fail unless it was just that. Return what was told since the last such wait, and forget it."""
        async with asyncio.timeout(seconds):
            while len(self.told) < len(words):
                self._news.clear()
                await self._news.wait()
        told, self.told = self.told, []
        assert [each[0] for each in told] == list(words), told
        return told

    def _note(self, *told: str) -> None:
        self.told.append(told)
        self._news.set()


@contextlib.asynccontextmanager
async def following(
    client: Client, namespace: str, kept: MemoryStore | None = None, pauses: Pauses = QUICK, *, clear: Clear | None = None
) -> AsyncIterator[RecordingSink]:
    """Follow a namespace's definitions."""
    sink = RecordingSink()
    made = Definitions(client, namespace, sink=sink, kept=kept or MemoryStore(), clock=SystemClock(), clear=clear, pauses=pauses)
    task = asyncio.create_task(made.run())
    try:
        yield sink
    finally:
        assert not task.done() or task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
