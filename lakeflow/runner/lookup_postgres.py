"""Rows of a PostgreSQL database as a dimension: read whole, or asked for by the keys that rows have and kept for a while.

Source of the types' numbers: PostgreSQL's catalog, pg_type.dat.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import polars as pl

from lakeflow.errors import JobFailed, LakeflowError, StorageUnavailable, UnknownName, UsageError
from lakeflow.lookup import LookupPostgres
from lakeflow.postgres import Place, driver, read_place
from lakeflow.retry import Backoff, retrying

TYPES: Final[dict[int, tuple[str, pl.DataType]]] = {
    16: ("boolean", pl.Boolean()),
    17: ("bytea", pl.Binary()),
    20: ("bigint", pl.Int64()),
    21: ("smallint", pl.Int16()),
    23: ("integer", pl.Int32()),
    25: ("text", pl.String()),
    700: ("real", pl.Float32()),
    701: ("double precision", pl.Float64()),
    1042: ("bpchar", pl.String()),
    1043: ("character varying", pl.String()),
    1082: ("date", pl.Date()),
    1114: ("timestamp", pl.Datetime("us")),
    1184: ("timestamp with time zone", pl.Datetime("us", "UTC")),
}
"""PostgreSQL's types by number: their names, and the columns that they become."""
NUMERIC: Final = 1700
PATIENCE: Final = Backoff(attempts=5, base=0.2, cap=5.0)
KEYS_A_QUERY: Final = 5_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table: its name, PostgreSQL's name of its type, and its type in a frame."""

    name: str
    kind: str
    type: pl.DataType


class PostgresRows:
    """The rows of one table. Connections are made when they are needed, read only, and closed again.

    Raises UnknownName for a table or a column that is not there, UsageError for a type that no column can be of,
    StorageUnavailable where the database does not answer, ConfigError without its driver.
    """

    def __init__(self, lookup: LookupPostgres, url: str, patience: Backoff = PATIENCE) -> None:
        self.lookup = lookup
        self._place = read_place(url, f"the url of LookupPostgres({lookup.table!r})")
        self._patience = patience
        self._columns: tuple[Column, ...] | None = None

    @property
    def label(self) -> str:
        """What messages call it."""
        return f"{self.lookup.table} of {self._place}"

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns that were asked for, or all, in the order of the table."""
        if self._columns is None:
            self._columns = tuple(self._asked(lambda cursor: list(self._described(cursor))))
        return self._columns

    @property
    def schema(self) -> pl.Schema:
        """The types of `columns`."""
        return pl.Schema({column.name: column.type for column in self.columns})

    def whole(self) -> pl.DataFrame:
        """Every row. Raises UsageError where there are more than `max_rows`."""
        most = self.lookup.max_rows
        rows = self._asked(lambda cursor: _fetched(cursor, f"SELECT {self._names()} FROM {self._table()} LIMIT {most + 1}"))
        if len(rows) > most:
            raise UsageError(
                f"{self.label} has more than max_rows = {most:,} rows",
                next_step="name the columns that rows are found by: LookupPostgres(.., key='id'), or raise max_rows",
            )
        return self.frame(rows)

    def of_keys(self, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows whose key is among `keys`, unordered. `keys` hold no nulls."""
        kinds = {column.name: column.kind for column in self.columns}
        listed = ", ".join(f"%s::{kinds[name]}[]" for name in self.lookup.keys)
        wanted = ", ".join(map(_quoted, self.lookup.keys))
        plain = f"SELECT {self._names()} FROM {self._table()} WHERE ({wanted}) IN ".replace("%", "%%")
        text = f"{plain}(SELECT * FROM unnest({listed}))"
        found: list[tuple[Any, ...]] = []
        for start in range(0, len(keys), KEYS_A_QUERY):
            given = [list(values) for values in zip(*keys[start : start + KEYS_A_QUERY], strict=True)]
            found += self._asked(partial(_fetched, text=text, given=given))
        return found

    def frame(self, rows: Sequence[tuple[Any, ...]]) -> pl.DataFrame:
        """Rows as PostgreSQL gives them, as a frame of `schema`."""
        plain = [tuple(bytes(value) if isinstance(value, memoryview) else value for value in row) for row in rows]
        return pl.DataFrame(plain, schema=self.schema, orient="row", infer_schema_length=None)

    def _names(self) -> str:
        return ", ".join(_quoted(column.name) for column in self.columns)

    def _table(self) -> str:
        return ".".join(map(_quoted, self.lookup.table.split(".")))

    def _described(self, cursor: Any) -> Iterator[Column]:
        cursor.execute(f"SELECT * FROM {self._table()} LIMIT 0")
        there = {one.name: one for one in cursor.description}
        for name in (*self.lookup.keys, *self.lookup.columns):
            if name not in there:
                raise UnknownName(f"column of {self.label}", name, there)
        for name, found in there.items():
            if not self.lookup.columns or name in self.lookup.columns:
                yield self._column(name, found)

    def _column(self, name: str, found: Any) -> Column:
        if found.type_code == NUMERIC and found.precision is not None and found.precision <= 38:
            kind = f"numeric({found.precision}, {found.scale or 0})"
            return Column(name, kind, pl.Decimal(found.precision, found.scale or 0))
        if found.type_code not in TYPES:
            raise UsageError(
                f"column {name!r} of {self.label} has a type that no column of a frame is of (number {found.type_code}); "
                f"valid: {', '.join(kind for kind, _ in TYPES.values())}, numeric(p, s)",
                next_step="look a view up that casts it, or name other columns: LookupPostgres(.., columns=(..))",
            )
        return Column(name, *TYPES[found.type_code])

    def _asked(self, ask: Callable[[Any], list[Any]]) -> list[Any]:
        def once() -> list[Any]:
            with self._connected() as connection, connection.cursor() as cursor:
                return ask(cursor)

        return retrying(once, self._patience)

    @contextmanager
    def _connected(self) -> Iterator[Any]:
        psycopg2 = driver(f"LookupPostgres({self.lookup.table!r})")
        connection = None
        try:
            connection = psycopg2.connect(**self._place.parameters())
            connection.set_session(readonly=True, autocommit=True)
            with connection.cursor() as cursor:
                cursor.execute("SET TimeZone = 'UTC'")
            yield connection
        except psycopg2.Error as error:
            raise _said(error, self.label, self._place) from None  # its chain may show what libpq was given
        finally:
            if connection is not None:
                connection.close()


def _fetched(cursor: Any, text: str, given: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
    cursor.execute(text, given)
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _said(error: Any, label: str, place: Place) -> LakeflowError:
    """What PostgreSQL's error means: by its SQLSTATE, of which none is that nothing answered."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    for secret in filter(None, (place.password, *place.query.values())):
        text = text.replace(secret, "***")
    state = error.pgcode or ""
    if state in ("42P01", "3F000"):
        return UnknownName("table of PostgreSQL, looked up by the job:", label, ())
    if (not state and "authentication" not in text) or state.startswith(("08", "40", "53", "55", "57")):
        return StorageUnavailable(f"{label} does not answer: {text}", next_step="run again once it does")
    return JobFailed(f"{label} cannot be read: {text}", next_step="check the user, its rights and the table")


@dataclass(slots=True)
class _Kept:
    """Rows that were asked for, by key, with the time of asking; the ones used last come last. No row: there was none."""

    rows: OrderedDict[tuple[Any, ...], tuple[float, tuple[tuple[Any, ...], ...]]] = field(default_factory=OrderedDict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_kept: dict[LookupPostgres, _Kept] = {}
_keeping = threading.Lock()


class KeyedLookup:
    """What a job gets for a LookupPostgres with a key: `customers.join(orders, on="customer_id")`."""

    def __init__(self, rows: PostgresRows, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._clock = rows, clock
        with _keeping:
            self._kept = _kept.setdefault(rows.lookup, _Kept())

    def join(self, frame: pl.LazyFrame, on: str | Sequence[str] | None = None, *, suffix: str = "_right") -> pl.LazyFrame:
        """`frame` with the columns of the rows that its rows' keys name, null where there is none; a LEFT JOIN.

        `on` are the columns of `frame` that hold the key, in its order (None: those of the same names). Where several rows
        have one key, a row comes once for each. Raises UnknownName for a column that is not there.
        """
        lookup = self._rows.lookup
        left = list(lookup.keys) if on is None else [on] if isinstance(on, str) else list(on)
        schema = frame.collect_schema()
        if len(left) != len(lookup.keys):
            raise UsageError(f"{self._rows.label} is found by {', '.join(lookup.keys)}; on= names {', '.join(left)}")
        for name in left:
            if name not in schema:
                raise UnknownName("column of the frame that is joined", name, schema.names())

        def joined(part: pl.DataFrame) -> pl.DataFrame:
            casts = [pl.col(name).cast(self._rows.schema[key]) for name, key in zip(left, lookup.keys, strict=True)]
            keys = part.select(casts).drop_nulls().unique(maintain_order=True).rows()
            right = self._rows.frame(self._found(keys))
            return part.with_columns(casts).join(
                right, left_on=left, right_on=list(lookup.keys), how="left", suffix=suffix, maintain_order="left_right"
            )

        empty = joined(pl.DataFrame(schema=schema))
        return frame.map_batches(joined, schema=empty.schema, streamable=True, projection_pushdown=False)

    def _found(self, keys: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """The rows of the keys: those that are kept and young enough, and the others asked for."""
        now, kept = self._clock(), self._kept
        oldest = now - self._rows.lookup.age.total_seconds()
        with kept.lock:
            young = {key: kept.rows[key][1] for key in keys if key in kept.rows and kept.rows[key][0] > oldest}
            for key in young:
                kept.rows.move_to_end(key)
        asked = [key for key in keys if key not in young]
        if asked:
            young |= self._ask(asked, now)
        return [row for key in keys for row in young[key]]

    def _ask(self, keys: Sequence[tuple[Any, ...]], now: float) -> dict[tuple[Any, ...], tuple[tuple[Any, ...], ...]]:
        names = [column.name for column in self._rows.columns]
        places = [names.index(name) for name in self._rows.lookup.keys]
        found: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {key: [] for key in keys}
        for row in self._rows.of_keys(keys):
            found[tuple(row[place] for place in places)].append(row)
        told = {key: tuple(rows) for key, rows in found.items()}
        with self._kept.lock:
            for key, rows in told.items():
                self._kept.rows[key] = (now, rows)
                self._kept.rows.move_to_end(key)
            while len(self._kept.rows) > self._rows.lookup.max_rows:
                self._kept.rows.popitem(last=False)
        return told
