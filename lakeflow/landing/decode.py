"""Records to rows: the value's format, the key's, and what Kafka knows of a record, joined by the record's place. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lakeflow.landing.rows import with_metadata
from lakeflow.landing.spec import ChangelogMode, KeySpec, LandingSpec
from lakeflow.topics.formats.format import Decoded, Format, Part, Reject, RejectKind
from lakeflow.topics.source import Records

NONE = -1
"""In place of a row: there is none."""


class RecordDecoder:
    """Decodes the records of one landing. Each is accepted or rejected by itself, as its formats do."""

    def __init__(self, spec: LandingSpec, values: Format, keys: Format | None) -> None:
        self._values = values
        self._keys = keys
        self._key = spec.key
        self._metadata = spec.metadata
        self._deletes_by_key = spec.mode is ChangelogMode.UPSERT and keys is not None

    def columns(self) -> pa.Schema:
        """The columns of the rows, as far as they are known before any record, without the metadata columns.

        Raises what the formats' `schema` does.
        """
        columns = self._values.schema()
        if self._keys is None or self._key is None or self._key.in_value:
            return columns
        for column in _named(self._keys.schema(), self._key):
            columns = columns.append(column)
        return columns

    def decode(self, records: Records) -> Decoded:
        """What the records came to: rows with their metadata columns, deletes by the columns of their key."""
        decoded = self._values.decode(records.values)
        if self._keys is not None and self._key is not None:
            if not self._key.in_value:
                decoded = _with_keys(decoded, self._key_rows(records.keys), self._key)
            if self._deletes_by_key:
                decoded = self._with_tombstones(decoded, records.keys)
        if not self._metadata:
            return decoded
        parts = (Part(with_metadata(part.rows, records, part.kept, self._metadata), part.kept) for part in decoded.parts)
        return replace(decoded, parts=tuple(parts))

    def _with_tombstones(self, decoded: Decoded, keys: Sequence[bytes | None]) -> Decoded:
        """`decoded` with the records that have no value as deletes of their key."""
        assert self._key is not None
        places = [reject.index for reject in decoded.rejects if reject.kind is RejectKind.TOMBSTONE]
        if not places:
            return decoded
        found = self._key_rows([keys[place] for place in places])
        named = _named(found.rows.schema, self._key)
        where = np.flatnonzero(found.row_of != NONE)
        rows = found.rows.take(pa.array(found.row_of[where])).cast(named) if len(where) else None
        deletes = () if rows is None else (Part(_batch(rows), pa.array(np.asarray(places)[where], pa.int64())),)
        rejects = [reject for reject in decoded.rejects if reject.kind is not RejectKind.TOMBSTONE]
        rejects += [replace(reject, index=places[reject.index]) for reject in found.rejects]
        rejects.sort(key=lambda reject: reject.index)
        return replace(decoded, deletes=(*decoded.deletes, *deletes), rejects=tuple(rejects))

    def _key_rows(self, keys: Sequence[bytes | None]) -> _KeyRows:
        assert self._keys is not None
        decoded = self._keys.decode(keys)
        rejects = [replace(reject, kind=_kind(reject), reason=f"its key: {_reason(reject)}") for reject in decoded.rejects]
        tables = [pa.Table.from_batches([part.rows]) for part in decoded.parts]
        rows = pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})
        row_of = np.full(len(keys), NONE, np.int64)
        start = 0
        for part in decoded.parts:
            count = part.rows.num_rows
            row_of[_places(part)] = np.arange(start, start + count)
            start += count
        return _KeyRows(rows, row_of, tuple(rejects))


class _KeyRows:
    """The rows of keys: `row_of` has for the place of each key its row, or NONE; `rejects` are of those without one."""

    def __init__(self, rows: pa.Table, row_of: np.ndarray, rejects: tuple[Reject, ...]) -> None:
        self.rows = rows
        self.row_of = row_of
        self.rejects = rejects


def _kind(reject: Reject) -> RejectKind:
    """A record without a key is no tombstone."""
    return RejectKind.MISFIT if reject.kind is RejectKind.TOMBSTONE else reject.kind


def _reason(reject: Reject) -> str:
    return "there is none" if reject.kind is RejectKind.TOMBSTONE else reject.reason


def _named(schema: pa.Schema, key: KeySpec) -> pa.Schema:
    """The key's columns by their names in the table."""
    return pa.schema([column.with_name(key.prefix + column.name) for column in schema])


def _places(part: Part) -> np.ndarray:
    return np.arange(part.rows.num_rows) if part.kept is None else part.kept.to_numpy()


def _with_keys(decoded: Decoded, keys: _KeyRows, key: KeySpec) -> Decoded:
    """`decoded` with the key's columns in rows and deletes; a record whose key gives none is rejected for it."""
    met = {*(reject.index for reject in decoded.rejects), *decoded.truncates, *decoded.passed}
    rejects = [*decoded.rejects, *(reject for reject in keys.rejects if reject.index not in met)]
    return replace(
        decoded,
        parts=tuple(_joined(part, keys, key) for part in decoded.parts),
        deletes=tuple(_joined(part, keys, key) for part in decoded.deletes),
        rejects=tuple(sorted(rejects, key=lambda reject: reject.index)),
    )


def _joined(part: Part, keys: _KeyRows, key: KeySpec) -> Part:
    places = _places(part)
    rows_of_keys = keys.row_of[places]
    has_key = rows_of_keys != NONE
    rows, kept = part.rows, part.kept
    if not has_key.all():
        rows = rows.filter(pa.array(has_key))
        kept = pa.array(places[has_key], pa.int64())
    columns = keys.rows.take(pa.array(rows_of_keys[has_key])).combine_chunks()
    schema = pa.schema([*rows.schema, *_named(keys.rows.schema, key)])
    added = [column.combine_chunks() if column.num_chunks != 1 else column.chunk(0) for column in columns.columns]
    return Part(pa.RecordBatch.from_arrays([*rows.columns, *added], schema=schema), kept)


def _batch(table: pa.Table) -> pa.RecordBatch:
    (batch,) = table.combine_chunks().to_batches()
    return batch
