"""The store on SQLite, for local use: one file, one row per cluster and one per definition.

WAL with synchronous=NORMAL: a save outlives any death of the process, and whatever happens the row is the old one or the new one.
Only a loss of power can take the last saves, and with it go all local workers that they were about. A save is a write of a few KiB
without waiting for the disk (which took up to 0.2 s on a busy one), so it needs no thread.
"""

import sqlite3
from pathlib import Path

from rayscaler.errors import Unavailable
from rayscaler.store import codec
from rayscaler.store.base import ClusterRecord

BUSY_S = 0.2
"""So long another process may hold the file: this wait stops the whole loop, so who calls tries again instead."""


class SqliteStore:
    """A Store, and Definitions, in one SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.execute("CREATE TABLE IF NOT EXISTS record (cluster TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT")
            self._db.execute("CREATE TABLE IF NOT EXISTS definition (source TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT")
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
        """Replace the record."""
        try:
            self._db.execute(
                "INSERT INTO record (cluster, body) VALUES (?, ?) ON CONFLICT (cluster) DO UPDATE SET body = excluded.body",
                (record.cluster, codec.encode(record)),
            )
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: the record of {record.cluster} cannot be written: {error}") from error

    async def last_good(self, source: str) -> str | None:
        """Return the last good text of a definition, or None if there was never one."""
        try:
            row = self._db.execute("SELECT body FROM definition WHERE source = ?", (source,)).fetchone()
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the last over a broken page
            raise Unavailable(f"{self._path}: the last good text of {source} cannot be read: {error}") from error
        return None if row is None else str(row[0])

    async def keep_good(self, source: str, text: str) -> None:
        """Replace the last good text of a definition."""
        try:
            self._db.execute(
                "INSERT INTO definition (source, body) VALUES (?, ?) ON CONFLICT (source) DO UPDATE SET body = excluded.body",
                (source, text),
            )
        except sqlite3.Error as error:
            raise Unavailable(f"{self._path}: the last good text of {source} cannot be written: {error}") from error

    async def close(self) -> None:
        """Close the file."""
        self._db.close()
