"""Answers of remote models in a PostgreSQL database, for runs on several machines: see `KeptAnswers`.

The driver is loaded with the first use. Source of the classes of SQLSTATE: PostgreSQL's documentation, "Error Codes".
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from lakeflow.errors import CacheBroken, ConfigError, LakeflowError, StorageFull, StorageUnavailable
from lakeflow.models.cache import EVICT_EVERY_BYTES, KEPT_SHARE, KEYS_A_QUERY, VERSION, Kept, Stored
from lakeflow.postgres import Place, driver
from lakeflow.retry import Backoff, retrying

if TYPE_CHECKING:
    from psycopg2.extensions import connection as Connection

Done = TypeVar("Done")

TABLE = "lakeflow_answers"
MARK = f"lakeflow: answers of remote models, version {VERSION}"
LOCK = 0x6C616B65
"""Number of the advisory lock under which the table is made, and answers are dropped."""
PATIENCE = Backoff(attempts=8, base=0.25, cap=8.0)
"""An answer in hand is paid for: a database that is started anew is waited for."""
STATEMENT_SECONDS = 60
_NOW = "coalesce(%(now)s::float8, extract(epoch FROM clock_timestamp())::float8)"
_MAKE = f"""
CREATE TABLE {TABLE} (
  key bytea NOT NULL PRIMARY KEY, model text NOT NULL, written double precision NOT NULL,
  tokens bigint NOT NULL, size bigint NOT NULL, answer text NOT NULL);
CREATE INDEX {TABLE}_by_age ON {TABLE} (written, size);
COMMENT ON TABLE {TABLE} IS '{MARK}';
"""
_MARKS = "SELECT obj_description(oid, 'pg_class') FROM pg_class WHERE relname = %s AND pg_table_is_visible(oid)"
"""Not by to_regclass, which remembers that a table was not there."""
_WRITABLE = "NOT current_setting('transaction_read_only')::boolean"
_MAY_MAKE = f"SELECT {_WRITABLE} AND coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
_MAY_KEEP = f"SELECT {_WRITABLE} AND " + " AND ".join(
    f"has_table_privilege('{TABLE}', '{right}')" for right in ("SELECT", "INSERT", "UPDATE", "DELETE")
)
_GET = f"SELECT key, answer FROM {TABLE} WHERE key = ANY(%(keys)s) AND (%(age)s IS NULL OR written >= {_NOW} - %(age)s)"
_PUT = f"""
INSERT INTO {TABLE} SELECT key, model, {_NOW}, tokens, size, answer
FROM unnest(%(keys)s, %(models)s, %(tokens)s, %(sizes)s, %(answers)s) AS given (key, model, tokens, size, answer)
ON CONFLICT (key) DO UPDATE SET
  written = excluded.written, tokens = excluded.tokens, size = excluded.size, answer = excluded.answer
WHERE {TABLE}.written < {_NOW} - %(age)s
"""
_DROP_OLDEST = f"""
DELETE FROM {TABLE} WHERE key IN (SELECT key FROM (
  SELECT key, sum(size) OVER (ORDER BY written DESC, key DESC) AS newer FROM {TABLE}) AS aged WHERE newer > %s)
"""


def is_postgres(place: str) -> bool:
    """Whether a place is meant as a PostgreSQL database."""
    return place.startswith(("postgresql:", "postgresql+", "postgres:"))


class PostgresAnswers:
    """One table of a database, made at the first use. Threads, processes and machines share it.

    `days` is how long an answer counts (None: for ever), `most_bytes` what the answers may take; the oldest go first. Times
    are the database's own, unless a `clock` is given. What fails for want of the database is tried again, by `patience`.
    """

    def __init__(
        self,
        place: Place,
        *,
        days: float | None = None,
        most_bytes: int = 4 << 30,
        clock: Callable[[], float] | None = None,
        patience: Backoff = PATIENCE,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._place = place
        self._age = None if days is None else days * 86_400.0
        self._most_bytes = most_bytes
        self._clock = clock
        self._patience = patience
        self._sleep = sleep
        self._lock = threading.Lock()
        self._opened: Connection | None = None
        self._since_eviction = EVICT_EVERY_BYTES

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, str]:
        def ask(cursor: Any) -> dict[bytes, str]:
            found: dict[bytes, str] = {}
            for start in range(0, len(keys), KEYS_A_QUERY):
                cursor.execute(_GET, {**self._times(), "keys": list(keys[start : start + KEYS_A_QUERY])})
                found.update((bytes(key), answer) for key, answer in cursor)
            return found

        return self._transact(ask)

    def put(self, answers: Sequence[Stored]) -> Mapping[bytes, str]:
        ordered = sorted(answers, key=lambda one: one.key)  # so that two who keep the same never wait for each other
        if not ordered:
            return {}
        sizes = [len(one.answer.encode()) for one in ordered]

        def write(cursor: Any) -> dict[bytes, str]:
            cursor.execute(
                _PUT,
                {
                    **self._times(),
                    "keys": [one.key for one in ordered],
                    "models": [one.model for one in ordered],
                    "tokens": [one.tokens for one in ordered],
                    "sizes": sizes,
                    "answers": [one.answer for one in ordered],
                },
            )
            return {} if cursor.rowcount == len(ordered) else _others(cursor, ordered)

        stood = self._transact(write)
        self._since_eviction += sum(sizes)
        if self._since_eviction >= EVICT_EVERY_BYTES:
            self._since_eviction = 0
            self._transact(self._evict)
        return stood

    def stats(self) -> list[Kept]:
        def ask(cursor: Any) -> list[Kept]:
            cursor.execute(
                f"SELECT model, count(*), sum(size)::bigint, sum(tokens)::bigint, min(written), max(written) FROM {TABLE} "
                'GROUP BY 1 ORDER BY model COLLATE "C"'
            )
            return [Kept(*row) for row in cursor]

        return self._transact(ask)

    def clear(self, model: str | None = None) -> int:
        def forget(cursor: Any) -> int:
            where, given = ("", ()) if model is None else (" WHERE model = %s", (model,))
            cursor.execute(f"DELETE FROM {TABLE}{where}", given)
            return int(cursor.rowcount)

        return self._transact(forget)

    def probe(self) -> bool:
        """Whether the table is there; makes nothing, and tries once. Raises as `get` does, StorageFull where the user may
        not keep answers."""
        psycopg2 = driver()
        connection: Connection | None = None
        try:
            connection = psycopg2.connect(**self._place.parameters())
            with connection, connection.cursor() as cursor:
                there = _is_there(cursor, self._place)
                cursor.execute(_MAY_KEEP if there else _MAY_MAKE)
                may = cursor.fetchone()[0]
        except psycopg2.Error as error:
            raise self._said(error) from None
        finally:
            if connection is not None:
                connection.close()
        if not may:
            raise StorageFull(
                f"the cache of answers {self._place}: the user may not {'write' if there else 'make'} the table {TABLE}",
                next_step="grant that right in the database, or name another as cache in [models]",
            )
        return there

    def close(self) -> None:
        with self._lock:
            self._let_go()

    def _evict(self, cursor: Any) -> None:
        """Drop what is too old, and the oldest of what is too much; another that is at it is enough."""
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", (LOCK,))
        if not cursor.fetchone()[0]:
            return
        cursor.execute(f"DELETE FROM {TABLE} WHERE written < {_NOW} - %(age)s", self._times())
        cursor.execute(f"SELECT coalesce(sum(size), 0) FROM {TABLE}")
        if cursor.fetchone()[0] > self._most_bytes:
            cursor.execute(_DROP_OLDEST, (int(self._most_bytes * KEPT_SHARE),))

    def _times(self) -> dict[str, float | None]:
        """What the moments in a statement are reckoned from."""
        return {"now": None if self._clock is None else self._clock(), "age": self._age}

    def _transact(self, work: Callable[[Any], Done]) -> Done:
        """`work` in a transaction of its own; where the database is away, it is begun again on a new connection."""

        def once() -> Done:
            with self._transaction() as cursor:
                return work(cursor)

        return retrying(once, self._patience, sleep=self._sleep)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """The one connection, for this thread alone; a failure closes it, so that the next call begins anew."""
        psycopg2 = driver()
        with self._lock:
            try:
                if self._opened is None:
                    self._opened = psycopg2.connect(**self._place.parameters())
                    self._prepare(self._opened)
                with self._opened, self._opened.cursor() as cursor:
                    yield cursor
            except BaseException as error:
                self._let_go()
                if isinstance(error, psycopg2.Error):
                    raise self._said(error) from None  # its chain may show what libpq was given
                raise

    def _prepare(self, connection: Connection) -> None:
        """The table, made where it is missing; of those that come at once, one makes it."""
        with connection, connection.cursor() as cursor:
            cursor.execute(f"SET SESSION statement_timeout = '{STATEMENT_SECONDS}s'")
            if not _is_there(cursor, self._place):
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                if not _is_there(cursor, self._place):
                    cursor.execute(_MAKE)

    def _let_go(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None and not opened.closed:
            opened.close()

    def _said(self, error: Any) -> LakeflowError:
        """What a failure means. libpq names host, port and user in its words, never the password."""
        name = f"the cache of answers {self._place}"
        text = " ".join(str(error).split())
        text = text.replace(self._place.password, "***") if self._place.password else text
        state = error.pgcode or ""
        if state.startswith("28") or "authentication failed" in text or "no pg_hba.conf entry" in text:
            return ConfigError(
                f"{name} refuses the user: {text}", next_step="correct cache in [models], or the secret it names"
            )
        if state == "3D000" or re.search(r'database ".*" does not exist', text) or "invalid connection option" in text:
            return ConfigError(f"{name} cannot be opened: {text}", next_step="make the database, or correct cache in [models]")
        if state.startswith(("53", "42501", "25006")) and state != "53300":
            return StorageFull(
                f"{name} cannot be written: {text}",
                next_step="make room, or give the user the right to make and write the table; answers are not paid for without "
                "being kept, unless a model says 'cache' = 'off'",
            )
        if not state or state.startswith(("08", "40", "53", "55", "57")):
            return StorageUnavailable(f"{name} does not answer: {text}", next_step="run again once it does")
        return CacheBroken(
            f"{name} cannot be read: {text}", next_step="mend the database, or name another as cache in [models]"
        )


def _is_there(cursor: Any, place: Place) -> bool:
    """Whether the table is there. Raises CacheBroken for one of another version or of somebody else."""
    cursor.execute(_MARKS, (TABLE,))
    marks = [mark for (mark,) in cursor]
    if marks and marks != [MARK]:
        raise CacheBroken(
            f"the cache of answers {place} has a table {TABLE} that is marked {marks[0]!r}; this lakeflow reads {MARK!r}",
            next_step="name another database as cache in [models], or run the lakeflow that made it",
        )
    return bool(marks)


def _others(cursor: Any, answers: Sequence[Stored]) -> dict[bytes, str]:
    """The answers that stand in place of those given."""
    given = {one.key: one.answer for one in answers}
    cursor.execute(f"SELECT key, answer FROM {TABLE} WHERE key = ANY(%s)", (list(given),))
    return {bytes(key): answer for key, answer in cursor if given[bytes(key)] != answer}
