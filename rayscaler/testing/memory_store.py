"""A store in memory: the same promises as a real one, and it can be told to fail, to be slow, to be kept across a restart."""

import asyncio

from rayscaler.errors import Unavailable
from rayscaler.store import codec
from rayscaler.store.base import ClusterRecord


class MemoryStore:
    """A Store, and Definitions, that outlive the services given them. `saves` has every record written, in order."""

    def __init__(self) -> None:
        self.saves: list[ClusterRecord] = []
        self.is_down = False
        """Set: every call raises Unavailable, having done nothing."""
        self.save_s = 0.0
        """How long a save takes."""
        self.load_s = 0.0
        """How long a load takes."""
        self._texts: dict[str, str] = {}
        self._good: dict[str, str] = {}

    async def load(self, cluster: str) -> ClusterRecord | None:
        """Return the record, or None if there was never one."""
        await asyncio.sleep(self.load_s)
        self._check()
        text = self._texts.get(cluster)
        return None if text is None else codec.decode(text)

    async def save(self, record: ClusterRecord) -> None:
        """Replace the record."""
        await asyncio.sleep(self.save_s)
        self._check()
        self._texts[record.cluster] = codec.encode(record)
        self.saves.append(record)

    async def last_good(self, source: str) -> str | None:
        """Return the last good text of a definition, or None if there was never one."""
        self._check()
        return self._good.get(source)

    async def keep_good(self, source: str, text: str) -> None:
        """Replace the last good text of a definition."""
        self._check()
        self._good[source] = text

    async def close(self) -> None:
        """Do nothing: the records stay."""

    def _check(self) -> None:
        if self.is_down:
            raise Unavailable("the record is out of reach")
