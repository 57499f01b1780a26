"""Answers of remote models, kept so that none is paid for twice: written before they are used, read before anything is asked.

`AnswerStore` is the protocol, `KeptAnswers` what looks into it too; `SqliteAnswers` is a file that threads and processes
share, and postgres_cache.py a database that machines share.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from datetime import time as time_of_day
from decimal import Decimal
from pathlib import Path
from typing import Protocol, TypeVar

from lakeflow.errors import CacheBroken, StorageFull, StorageUnavailable

Done = TypeVar("Done")

VERSION = 1
KEYS_A_QUERY = 500
OPEN_AGAIN = 0.02
BUSY_SECONDS = 30.0
EVICT_EVERY_BYTES = 16 << 20
KEPT_SHARE = 0.9
"""How much of its bound a cache holds after the oldest answers went, so that they need not go at every write."""


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer as text, under the SHA-256 of what decides it. `tokens` is what it cost."""

    key: bytes
    model: str
    answer: str
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one model; times in seconds since 1970."""

    model: str
    answers: int
    bytes: int
    tokens: int
    oldest: float
    newest: float


class AnswerStore(Protocol):
    """Called from any thread, and by several processes at once.

    Raises CacheBroken, StorageFull, StorageUnavailable; ConfigError where the place refuses who asks.
    """

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, str]:
        """Those of the answers that are there and not too old."""
        ...

    def put(self, answers: Sequence[Stored]) -> Mapping[bytes, str]:
        """Keep answers, of different keys; once it returns, a process that dies does not lose them.

        The first answer to a key stays. Returns those that another had kept before and that are not too old: they take
        the place of the ones given, so that all who ask the same say the same.
        """
        ...

    def close(self) -> None:
        """May be called again; what comes after opens it anew."""
        ...


class KeptAnswers(AnswerStore, Protocol):
    """A store that can be looked into and emptied."""

    def stats(self) -> list[Kept]:
        """What is kept, a line a model, by name."""
        ...

    def clear(self, model: str | None = None) -> int:
        """Forget the answers of one model, or all; how many they were."""
        ...


def answer_key(fingerprint: str, row: Mapping[str, object]) -> bytes:
    """SHA-256 over a model's fingerprint and the INPUT values of a row."""
    text = json.dumps(list(row.values()), default=_plain, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(f"{fingerprint}\n{text}".encode("utf-8", "surrogatepass")).digest()


def _plain(value: object) -> object:
    match value:
        case bytes():
            return b64encode(value).decode()
        case datetime() | date() | time_of_day():
            return value.isoformat()
        case Decimal():
            return str(value)
        case _:
            return repr(value)


_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
  key BLOB NOT NULL PRIMARY KEY, model TEXT NOT NULL, written REAL NOT NULL,
  tokens INTEGER NOT NULL, size INTEGER NOT NULL, answer TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS answers_by_age ON answers (written, size);
"""


class SqliteAnswers:
    """One SQLite file. It is made at the first write; a read before it finds nothing.

    `days` is how long an answer counts (None: for ever), `most_bytes` what the answers may take; the oldest go first.
    Journal `wal` is for a local disk; `delete` is SQLite's older one, which a disk shared by machines needs.
    """

    def __init__(
        self,
        path: Path,
        *,
        days: float | None = None,
        most_bytes: int = 4 << 30,
        journal: str = "wal",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._age = None if days is None else days * 86_400.0
        self._most_bytes = most_bytes
        self._journal = journal
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: sqlite3.Connection | None = None
        self._since_eviction = EVICT_EVERY_BYTES

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, str]:
        if not self._path.exists():
            return {}
        since = float("-inf") if self._age is None else self._clock() - self._age
        found: dict[bytes, str] = {}
        with self._connection() as connection:
            for start in range(0, len(keys), KEYS_A_QUERY):
                some = keys[start : start + KEYS_A_QUERY]
                marks = ",".join("?" * len(some))
                rows = connection.execute(
                    f"SELECT key, answer FROM answers WHERE key IN ({marks}) AND written >= ?", [*some, since]
                )
                found.update(rows)
        return found

    def _set_journal(self, connection: sqlite3.Connection) -> None:
        """SQLite waits for no lock here: of two that open a new file at once, the second is refused."""
        deadline = time.monotonic() + BUSY_SECONDS
        while True:
            try:
                connection.execute(f"PRAGMA journal_mode = {self._journal}")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= deadline:
                    raise
                time.sleep(OPEN_AGAIN)

    def put(self, answers: Sequence[Stored]) -> Mapping[bytes, str]:
        now = self._clock()
        rows = [(one.key, one.model, now, one.tokens, len(one.answer.encode()), one.answer) for one in answers]
        since = float("-inf") if self._age is None else now - self._age
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            written = connection.executemany(
                "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
                "written = excluded.written, tokens = excluded.tokens, size = excluded.size, answer = excluded.answer "
                "WHERE answers.written < ?",
                [(*row, since) for row in rows],
            )
            stood = {} if written.rowcount == len(rows) else self._others(connection, answers)
            connection.execute("COMMIT")
            self._since_eviction += sum(row[4] for row in rows)
            if self._since_eviction >= EVICT_EVERY_BYTES:
                self._since_eviction = 0
                self._evict(connection, since)
        return stood

    def stats(self) -> list[Kept]:
        if not self._path.exists():
            return []
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT model, count(*), sum(size), sum(tokens), min(written), max(written) FROM answers GROUP BY 1 ORDER BY 1"
            )
            return [Kept(*row) for row in rows]

    def clear(self, model: str | None = None) -> int:
        """Forget the answers of one model, or all; how many they were. A file that cannot be read is deleted, as one."""
        if not self._path.exists():
            return 0
        try:
            with self._connection() as connection:
                where, given = ("", ()) if model is None else (" WHERE model = ?", (model,))
                gone = connection.execute(f"DELETE FROM answers{where}", given).rowcount
                connection.execute("VACUUM")
                return int(gone)
        except CacheBroken:
            if model is not None:
                raise
            self.close()
            for suffix in ("", "-wal", "-shm", "-journal"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            return 1

    def close(self) -> None:
        with self._lock:
            if self._opened is not None:
                self._opened.close()
                self._opened = None

    def _others(self, connection: sqlite3.Connection, answers: Sequence[Stored]) -> dict[bytes, str]:
        """The answers that stand in place of those given."""
        found: dict[bytes, str] = {}
        for one in answers:
            found.update(
                connection.execute("SELECT key, answer FROM answers WHERE key = ? AND answer <> ?", (one.key, one.answer))
            )
        return found

    def _evict(self, connection: sqlite3.Connection, since: float) -> None:
        """Drop what is too old, and the oldest of what is too much."""
        connection.execute("DELETE FROM answers WHERE written < ?", (since,))
        [(size,)] = connection.execute("SELECT coalesce(sum(size), 0) FROM answers")
        if size > self._most_bytes:
            connection.execute(
                "DELETE FROM answers WHERE rowid IN (SELECT rowid FROM (SELECT rowid, "
                "sum(size) OVER (ORDER BY written DESC, rowid DESC) AS newer FROM answers) WHERE newer > ?)",
                (int(self._most_bytes * KEPT_SHARE),),
            )

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """The one connection, for this thread alone; a failure closes it, so that the next call begins anew."""
        with self._lock:
            try:
                if self._opened is None:
                    self._opened = self._open()
                yield self._opened
            except (sqlite3.Error, OSError) as error:
                if self._opened is not None:
                    self._opened.close()
                    self._opened = None
                raise self._said(error) from error

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            [(version,)] = connection.execute("PRAGMA user_version")
            if version not in (0, VERSION):
                raise CacheBroken(
                    f"the cache of answers {self._path} is of version {version}; this lakeflow reads {VERSION}",
                    next_step="name another file as cache in [models], or run the lakeflow that wrote it",
                )
            self._set_journal(connection)
            connection.execute("PRAGMA synchronous = NORMAL" if self._journal == "wal" else "PRAGMA synchronous = FULL")
            connection.executescript(_TABLE)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _said(self, error: sqlite3.Error | OSError) -> CacheBroken | StorageFull | StorageUnavailable:
        """What a failure means; SQLite's own words name no file."""
        name = getattr(error, "sqlite_errorname", "")
        if name in ("SQLITE_BUSY", "SQLITE_LOCKED") or name.startswith("SQLITE_BUSY"):
            return StorageUnavailable(f"the cache of answers {self._path} is held by another process: {error}")
        if isinstance(error, OSError) or name.startswith(("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")):
            return StorageFull(
                f"the cache of answers {self._path} cannot be written: {error}",
                next_step="make room and make it writable, or name another file as cache in [models]; answers are not paid for "
                "without being kept, unless a model says 'cache' = 'off'",
            )
        return CacheBroken(
            f"the cache of answers {self._path} cannot be read: {error}",
            left_behind="the file as it is",
            next_step="lakeflow models cache clear --yes deletes it, and its answers are paid for again; or restore the file",
        )
