"""Rows of a table as records of its sink's topic: values, keys, headers and times. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa

from lakeflow.errors import Terminal
from lakeflow.lake.schema import storable
from lakeflow.landing.produce_spec import SinkSpec, checked_columns
from lakeflow.topics.formats.json_write import JsonWriter
from lakeflow.topics.sink import Outgoing
from lakeflow.topics.source import Headers

Encode = Callable[[pa.RecordBatch], Sequence[bytes | None]]
NOW = -1
"""The timestamp of a record whose row names none."""


class RecordWriter:
    """Makes records of rows of a table. Raises DeclarationError and UnknownName where its columns do not fit the spec.

    `columns` are those that it needs of a row.
    """

    def __init__(self, spec: SinkSpec, table: pa.Schema) -> None:
        schema = storable(table, spec.where)
        values = checked_columns(spec, schema)
        self._spec = spec
        self._names = values.names
        self._value = _encoder(spec, spec.format, values)
        self._key = _encoder(spec, spec.key_format, pa.schema([schema.field(name) for name in spec.key])) if spec.key else None
        time = (spec.timestamp,) if spec.timestamp else ()
        self.columns: tuple[str, ...] = tuple(dict.fromkeys([*values.names, *spec.key, *spec.headers, *time]))

    def records(self, rows: pa.RecordBatch, first: int = 0) -> list[Outgoing]:
        """A record for each row, in order; `first` is the number of the first of them, for messages.

        Raises Terminal for a row that makes none: a key that holds a NULL, a value that the format does not have.
        """
        values = self._told(lambda: self._value(rows.select(self._names)))
        if None in values:
            raise Terminal(
                f"{self._spec.where}: column {self._names[0]!r} is NULL in row {first + values.index(None)} of a batch, and as "
                "'raw' it would be a record without a value, which takes the row of its key away",
                next_step="leave such rows out of the table, or say 'sink.format' = 'json'",
            )
        keys = self.keys(rows) if self._key else [None] * rows.num_rows
        headers, times = self._headers(rows), self._times(rows)
        return [
            Outgoing(key, value, header, time, f"row {first + place} of a batch of table {self._spec.table}")
            for place, (key, value, header, time) in enumerate(zip(keys, values, headers, times, strict=True))
        ]

    def keys(self, rows: pa.RecordBatch) -> list[bytes]:
        """The record's key of each row. Raises Terminal for one that holds a NULL."""
        assert self._key is not None, "the caller looks"
        encode, columns = self._key, rows.select(list(self._spec.key))
        for name, column in zip(columns.schema.names, columns.columns, strict=True):
            if column.null_count:
                raise Terminal(
                    f"{self._spec.where}: column {name!r} of 'sink.key' is NULL in {column.null_count} of {len(column)} rows, "
                    "which records by key cannot have",
                    next_step=f"leave such rows out of {self._spec.table}, or name another 'sink.key'",
                )
        return [key for key in self._told(lambda: encode(columns)) if key is not None]

    def tombstone(self, key: bytes) -> Outgoing:
        """The record that takes the row of a key away."""
        return Outgoing(key, None, [], NOW, f"the removal of key {key[:100]!r} of table {self._spec.table}")

    def _told(self, encode: Callable[[], Sequence[bytes | None]]) -> Sequence[bytes | None]:
        """What is encoded; an error tells of the table."""
        try:
            return encode()
        except Terminal as error:
            error.message = f"{self._spec.where}: {error.message}"
            raise

    def _headers(self, rows: pa.RecordBatch) -> list[Headers]:
        names = self._spec.headers
        if not names:
            return [[]] * rows.num_rows
        columns = [_bare(rows.column(name)) for name in names]
        return [list(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def _times(self, rows: pa.RecordBatch) -> list[int]:
        if self._spec.timestamp is None:
            return [NOW] * rows.num_rows
        given = rows.column(self._spec.timestamp).cast(pa.int64()).to_pylist()
        times = [None if time is None else time // 1000 for time in given]
        if early := [time for time in times if time is not None and time < 1]:
            raise Terminal(
                f"{self._spec.where}: column {self._spec.timestamp!r} of 'sink.timestamp' has a time {-early[0]} ms before "
                "1970, and records have times after that year began",
                next_step="leave 'sink.timestamp' out",
            )
        return [NOW if time is None else time for time in times]


def _encoder(spec: SinkSpec, format: str, columns: pa.Schema) -> Encode:
    if format == "raw":
        return lambda rows: _bare(rows.column(0))
    return JsonWriter(columns, spec.json).values


def _bare(column: pa.Array) -> list[bytes | None]:
    """A column of STRING or BYTES as it stands."""
    found: list[bytes | None] = column.cast(pa.binary()).to_pylist()
    return found
