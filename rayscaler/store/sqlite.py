"""The store on SQLite, for local use: one file, one row per cluster.

WAL with synchronous=FULL: a save is on the disk when it returns, and a crash leaves the old row or the new one.
The writes are a few KiB and block the loop for about a millisecond; a thread would cost more than it saves.
"""

import sqlite3
from pathlib import Path

from rayscaler.errors import Unavailable
from rayscaler.store import codec
from rayscaler.store.base import ClusterRecord

BUSY_S = 0.2
"""So long another process may hold the file: this wait stops the whole loop, so who calls tries again instead."""


class SqliteStore:
    """A Store in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("CREATE TABLE IF NOT EXISTS record (cluster TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT")
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last from the sqlite3 module, over a broken schema
            raise Unavailable(f"{path}: the record cannot be opened: {error}") from error

    async def load(self, cluster: str) -> ClusterRecord | None:
        """Return the record, or None if there was never one."""
        try:
            row = self._db.execute("SELECT body FROM record WHERE cluster = ?", (cluster,)).fetchone()
            return None if row is None else codec.decode(row[0])
        except (sqlite3.Error, *codec.NO_RECORD) as error:
            raise Unavailable(f"{self._path}: the record of {cluster} cannot be read: {error}") from error

    async def save(self, record: ClusterRecord) -> None:
        """Replace the record, durably."""
        try:
            self._db.execute(
                "INSERT INTO record (cluster, body) VALUES (?, ?) ON CONFLICT (cluster) DO UPDATE SET body = excluded.body",
                (record.cluster, codec.encode(record)),
            )
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: the record of {record.cluster} cannot be written: {error}") from error

    async def close(self) -> None:
        """Close the file."""
        self._db.close()
