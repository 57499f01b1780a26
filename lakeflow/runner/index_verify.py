"""Whether an index holds what its table says, key by key and by the content of each row; and how it is mended.

Both sides are read as streams. What is held of a row is 16 bytes, and of a large index a part of the keys at a time, so that
memory keeps to the index's `chunk_mib`. Keys and rows are compared by 64 bits of BLAKE2b (RFC 7693): that two of ten million
differ and look alike has a chance of one in 300,000.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import SourceChanged
from lakeflow.index.rows import SEQUENCE, Layout, chunks
from lakeflow.index.settings import settings_of
from lakeflow.index.vectors import VectorIndex, check_identity
from lakeflow.lake.catalog import Table
from lakeflow.lake.read import Split, appended, read
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.indexing import IndexRoom, checked_table, identity_of, index_schema

ABSENT = np.uint64(0)
"""The content of a row without a vector, which an index does not hold."""

BYTES_A_ROW = 64
SHOWN = 10
Hashes = np.ndarray


@dataclass(frozen=True, slots=True)
class Drift:
    """An index against its table, as far as it has read it. Keys of rows: `missing` from it, `differing` in it, and `extra`.

    `ahead` are rows of an update that has not recorded its position yet; the next one brings them again. `keys` are the first
    that drifted, each with what is wrong. `mended` says whether they were brought in or taken out.
    """

    rows: int = 0
    missing: int = 0
    differing: int = 0
    extra: int = 0
    ahead: int = 0
    keys: tuple[tuple[str | int, str], ...] = ()
    mended: bool = False

    @property
    def drifted(self) -> int:
        """Keys that are not as the table says."""
        return self.missing + self.differing + self.extra


@dataclass(frozen=True, slots=True)
class Side:
    """Some rows of one side: the hash of each key, ascending and each once, and of its content."""

    keys: Hashes
    contents: Hashes


def verify_index(
    spec: IndexSpec, room: IndexRoom, *, repair: bool = False, on_rows: Callable[[int], None] = lambda rows: None
) -> Drift:
    """Compare the index with its table up to the index's position, and with `repair` mend what differs.

    Columns that one of the two lacks are not compared. Rows that another process brings in meanwhile, of a later sequence
    number, are left alone. Raises UnknownName where the index was never built, IndexMismatch where it was built from something
    else, SourceChanged where the table changed by more than appends since, so that the index is due to be built anew.
    """
    table = checked_table(spec, room.lake)
    index = room.open(spec)
    state = index.state()
    check_identity(spec.name, state.identity, identity_of(spec, table, room.models, state.identity.width))
    splits = () if state.position is None else _read_already(spec, table, state.position)
    verifying = _Verifying(spec, index, Layout(spec.name, state.identity, index.schema()), table, splits, state.position)
    rows = max(state.rows, sum(split.rows for split in splits))
    parts = max(1, -(-rows * BYTES_A_ROW // settings_of(spec).chunk_bytes))
    found = Drift()
    for part in range(parts):
        found = verifying.part(part, parts, found, repair=repair, on_rows=on_rows)
    if repair and found.drifted:
        verifying.keep_up()
    return found


def _read_already(spec: IndexSpec, table: Table, position: SnapshotPosition) -> tuple[Split, ...]:
    try:
        later = {split.path for split in appended(table, position)}
    except SourceChanged as change:
        raise SourceChanged(
            f"index {spec.name!r} cannot be compared with {spec.table}: {change.message}",
            next_step=f"lakeflow index update {spec.name}",
        ) from change
    return tuple(split for split in appended(table, None) if split.path not in later)


@dataclass(frozen=True, slots=True)
class _Verifying:
    spec: IndexSpec
    index: VectorIndex
    layout: Layout
    table: Table
    splits: Sequence[Split]
    position: SnapshotPosition | None

    @property
    def sequence(self) -> int:
        """Up to where rows are compared."""
        return -1 if self.position is None else self.position.sequence

    def part(self, part: int, parts: int, before: Drift, *, repair: bool, on_rows: Callable[[int], None]) -> Drift:
        """`before` and what is found of the keys in one of the parts."""
        there, ahead = self._in_index(part, parts)
        meant = self._in_table(part, parts, on_rows)
        meant = _only(meant, ~np.isin(meant.keys, ahead))
        missing, differing, extra = compared(meant, there)
        shown = self._shown(missing, differing, extra, SHOWN - len(before.keys))
        drifts = len(missing) + len(differing) + len(extra) > 0
        if drifts and repair:
            self._mend(np.concatenate([missing, differing]), extra)
        return Drift(
            before.rows + int((meant.contents != ABSENT).sum()),
            before.missing + len(missing),
            before.differing + len(differing),
            before.extra + len(extra),
            before.ahead + len(ahead),
            (*before.keys, *shown),
            before.mended or (drifts and repair),
        )

    def keep_up(self) -> None:
        self.index.writer(self.layout.identity, index_schema(self.spec, self.table)).keep_up()

    def _shown(self, missing: Hashes, differing: Hashes, extra: Hashes, most: int) -> list[tuple[str | int, str]]:
        """The first keys of each kind, with what is wrong."""
        found = [(key, "extra") for key in self._keys_in_index(extra, most)]
        for what, some in (("missing", missing), ("differing", differing)):
            found += [(key, what) for key in self._keys_in_table(some, most - len(found))]
        return found

    def _in_index(self, part: int, parts: int) -> tuple[Side, Hashes]:
        """The rows of the index, and the keys of those that are ahead."""
        keys, contents, ahead = [_nothing()], [_nothing()], [_nothing()]
        for batch in self.index.scan([*self.layout.columns, self.layout.identity.column]):
            hashed = key_hashes(batch.column(self.layout.identity.key))
            mine = hashed % np.uint64(parts) == part
            late = batch.column(SEQUENCE).to_numpy() > self.sequence
            ahead.append(hashed[mine & late])
            keys.append(hashed[mine & ~late])
            contents.append(self._contents(batch.filter(pa.array(mine & ~late))))
        return _last(np.concatenate(keys), np.concatenate(contents)), np.unique(np.concatenate(ahead))

    def _in_table(self, part: int, parts: int, on_rows: Callable[[int], None]) -> Side:
        """The last row of each key, as the index is to hold it."""
        keys, contents = [_nothing()], [_nothing()]
        for chunk in self._chunks():
            prepared = self.layout.prepare(chunk, self.sequence)
            for column, content in (
                (prepared.without_vector, None),
                (prepared.rows.column(self.layout.identity.key), prepared.rows),
            ):
                hashed = key_hashes(column)
                mine = hashed % np.uint64(parts) == part
                keys.append(hashed[mine])
                own = content.filter(pa.array(mine)) if content is not None else None
                contents.append(np.full(mine.sum(), ABSENT) if own is None else self._contents(own))
            on_rows(chunk.num_rows)
        return _last(np.concatenate(keys), np.concatenate(contents))

    def _contents(self, rows: pa.RecordBatch) -> Hashes:
        there = set(index_schema(self.spec, self.table).names)
        identity = self.layout.identity
        return content_hashes(rows, [name for name in self.layout.columns if name in there], identity.column, identity.width)

    def _chunks(self) -> Iterator[pa.RecordBatch]:
        names = index_schema(self.spec, self.table).names
        return chunks(read(self.table, self.splits, names), settings_of(self.spec).chunk_bytes)

    def _mend(self, from_table: Hashes, extra: Hashes) -> None:
        writer = self.index.writer(self.layout.identity, index_schema(self.spec, self.table))
        writer.delete(self._keys_in_index(extra, None), self.sequence)
        key = self.layout.identity.key

        def drifted() -> Iterator[pa.RecordBatch]:
            for chunk in self._chunks():
                yield chunk.filter(pa.array(np.isin(key_hashes(chunk.column(key)), from_table)))

        writer.upsert(drifted(), self.sequence)

    def _keys_in_index(self, wanted: Hashes, most: int | None) -> list[str | int]:
        key = self.layout.identity.key
        return _named((batch.column(key) for batch in self.index.scan([key])), wanted, most)

    def _keys_in_table(self, wanted: Hashes, most: int | None) -> list[str | int]:
        key = self.layout.identity.key
        return _named((batch.column(0) for batch in read(self.table, self.splits, [key])), wanted, most)


def compared(meant: Side, there: Side) -> tuple[Hashes, Hashes, Hashes]:
    """The keys that are missing of what is meant, those that differ, and those that are there and not meant. Pure."""
    wanted = _only(meant, meant.contents != ABSENT)
    both = np.intersect1d(wanted.keys, there.keys, assume_unique=True)
    ours, theirs = (side.contents[np.searchsorted(side.keys, both)] for side in (wanted, there))
    return wanted.keys[~np.isin(wanted.keys, both)], both[ours != theirs], there.keys[~np.isin(there.keys, both)]


def key_hashes(keys: pa.Array) -> Hashes:
    """A hash of each key, uint64; equal keys of any integer or text type have equal ones."""
    return np.array([_hash(str(key).encode()) for key in keys.to_pylist()], dtype=np.uint64)


def content_hashes(rows: pa.RecordBatch, names: Sequence[str], column: str, width: int) -> Hashes:
    """A hash of each row's values in columns and of its vector: uint64, never that of ABSENT."""
    vectors = np.asarray(rows.column(column).flatten(), dtype=np.float32).reshape(-1, width)
    columns = [_plain(rows.column(name)).to_pylist() for name in sorted(names)]
    values = zip(*columns, strict=True)
    hashes = [_hash(repr(row).encode(), vector.tobytes()) for row, vector in zip(values, vectors, strict=True)]
    return np.maximum(np.array(hashes, dtype=np.uint64), np.uint64(1))


def _plain(column: pa.Array) -> pa.Array:
    """Times as the numbers that they are kept as: Python's have no nanoseconds."""
    return column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column


def _hash(*parts: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(b"".join(parts), digest_size=8).digest(), "little")


def _nothing() -> Hashes:
    return np.zeros(0, dtype=np.uint64)


def _only(side: Side, kept: np.ndarray) -> Side:
    return Side(side.keys[kept], side.contents[kept])


def _last(keys: Hashes, contents: Hashes) -> Side:
    """The last content of each key."""
    ascending, from_the_end = np.unique(keys[::-1], return_index=True)
    return Side(ascending, contents[::-1][from_the_end])


def _named(columns: Iterator[pa.Array], wanted: Hashes, most: int | None) -> list[str | int]:
    """The keys, each once, whose hashes are wanted; no more than `most`."""
    found: dict[str | int, None] = {}
    if not len(wanted):
        return []
    for column in columns:
        if most is not None and len(found) >= most:
            break
        found.update(dict.fromkeys(column.filter(pa.array(np.isin(key_hashes(column), wanted))).to_pylist()))
    return list(found)[:most]
