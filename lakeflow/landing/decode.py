"""Records to rows: the value's format, the key's, and what Kafka knows of a record, joined by the record's place. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa

from lakeflow.declare import Computed
from lakeflow.landing.expected import held_against
from lakeflow.landing.rows import with_metadata
from lakeflow.landing.spec import ChangelogMode, KeySpec, LandingSpec
from lakeflow.topics.formats.format import Decoded, Format, Part, Reject, RejectKind
from lakeflow.topics.source import Records


class RecordDecoder:
    """Decodes the records of one landing. Each is accepted or rejected by itself, as its formats do."""

    def __init__(self, spec: LandingSpec, values: Format, keys: Format | None) -> None:
        self._values = values
        self._keys = keys
        self._key = spec.key
        self._metadata = spec.metadata_names
        self._computed = spec.declared.computed
        self._declared = spec.declared
        self._lacks_keys = spec.mode is ChangelogMode.UPSERT and keys is None
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
        """What the records came to: rows with their metadata and computed columns that are as the table expects, deletes by
        the columns of their key."""
        decoded = self._values.decode(records.values)
        if self._lacks_keys:
            decoded = replace(decoded, rejects=tuple(map(_needing_a_key, decoded.rejects)))
        if self._keys is not None and self._key is not None:
            if not self._key.in_value:
                decoded = _with_keys(decoded, self._keyed(records.keys))
            if self._deletes_by_key:
                decoded = self._with_tombstones(decoded, records.keys)
        if self._metadata:
            parts = (Part(with_metadata(part.rows, records, part.kept, self._metadata), part.kept) for part in decoded.parts)
            decoded = replace(decoded, parts=tuple(parts))
        if self._computed is not None:
            decoded = _with_computed(decoded, self._computed)
        return held_against(decoded, self._declared)

    def _with_tombstones(self, decoded: Decoded, keys: Sequence[bytes | None]) -> Decoded:
        """`decoded` with the records that have no value as deletes of their key."""
        assert self._key is not None
        places = [reject.index for reject in decoded.rejects if reject.kind is RejectKind.TOMBSTONE]
        if not places:
            return decoded
        found = self._keyed([keys[place] for place in places])
        everywhere = pa.array(places, pa.int64())
        deletes = (Part(part.rows, everywhere.take(pa.array(_places(part)))) for part in found.parts)
        rejects = [reject for reject in decoded.rejects if reject.kind is not RejectKind.TOMBSTONE]
        rejects += [replace(reject, index=places[reject.index]) for reject in found.rejects]
        rejects.sort(key=lambda reject: reject.index)
        return replace(decoded, deletes=(*decoded.deletes, *deletes), rejects=tuple(rejects))

    def _keyed(self, keys: Sequence[bytes | None]) -> Decoded:
        """The columns of keys, by their names in the table, a part for each schema that keys were written with."""
        assert self._key is not None
        decoded = self._keys.decode(keys) if self._keys is not None else Decoded(())
        rejects = [replace(reject, kind=_kind(reject), reason=f"its key: {_reason(reject)}") for reject in decoded.rejects]
        parts = (Part(_named_rows(part.rows, self._key), part.kept) for part in decoded.parts if part.rows.num_rows)
        return Decoded(tuple(parts), tuple(rejects))


def _with_computed(decoded: Decoded, computed: Computed) -> Decoded:
    """`decoded` with the computed columns in its rows; a record of which one cannot be computed is rejected for it."""
    parts, rejects = [], list(decoded.rejects)
    for part in decoded.parts:
        rows, failures = computed.of(part.rows)
        places = _places(part)
        rejects += [Reject(int(places[at]), RejectKind.MISFIT, why) for at, why in failures]
        kept = np.delete(places, [at for at, _ in failures]) if failures else None
        parts.append(Part(rows, part.kept if kept is None else pa.array(kept, pa.int64())))
    rejects.sort(key=lambda reject: reject.index)
    return replace(decoded, parts=tuple(parts), rejects=tuple(rejects))


def _needing_a_key(reject: Reject) -> Reject:
    """Of a table by key: what would make a delete of a tombstone."""
    if reject.kind is not RejectKind.TOMBSTONE:
        return reject
    return replace(reject, reason=f"{reject.reason}; with 'key.format' in the declaration it takes the row of its key away")


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


def _named_rows(rows: pa.RecordBatch, key: KeySpec) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(rows.columns, schema=_named(rows.schema, key))


def _with_keys(decoded: Decoded, keys: Decoded) -> Decoded:
    """`decoded` with the key's columns in rows and deletes; a record whose key gives none is rejected for it."""
    met = {*(reject.index for reject in decoded.rejects), *decoded.truncates, *decoded.passed}
    rejects = [*decoded.rejects, *(reject for reject in keys.rejects if reject.index not in met)]
    return replace(
        decoded,
        parts=tuple(joined for part in decoded.parts for joined in _joined(part, keys.parts)),
        deletes=tuple(joined for part in decoded.deletes for joined in _joined(part, keys.parts)),
        rejects=tuple(sorted(rejects, key=lambda reject: reject.index)),
    )


def _joined(part: Part, keys: Sequence[Part]) -> Iterator[Part]:
    """The rows of `part` beside those of their keys, a part for each of `keys`."""
    places = _places(part)
    for key in keys:
        both, at, of = np.intersect1d(places, _places(key), assume_unique=True, return_indices=True)
        if len(both):
            rows, columns = _taken(part.rows, at), _taken(key.rows, of)
            schema = pa.schema([*rows.schema, *columns.schema])
            yield Part(pa.RecordBatch.from_arrays([*rows.columns, *columns.columns], schema=schema), pa.array(both, pa.int64()))


def _taken(rows: pa.RecordBatch, at: np.ndarray) -> pa.RecordBatch:
    """The rows at these places, which ascend."""
    return rows if len(at) == rows.num_rows else rows.take(pa.array(at))
