"""Brings changed and removed rows of a table into its index, without building it anew.

A merge writes whole files again, most of whose rows are as they were. So the rows of the files that came are compared with
those of the files that went, by hashes: what differs is brought in, what is gone is taken out, and the rest of the index, its
approximate index too, stays. It is done in a copy (`VectorIndex.revise`), which no writer that was left behind knows.

What is held is 8 or 16 bytes a row, and of a large table a part of the keys at a time, so that memory keeps to the index's
`chunk_mib`. Rows are told apart by 64 bits: that two of ten million differ and look alike has a chance of one in 300,000.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa

from lakeflow.index.rows import SEQUENCE
from lakeflow.index.vectors import IndexWriter, UpsertCounts, VectorIndex
from lakeflow.lake.catalog import Table
from lakeflow.lake.changes import read_removed
from lakeflow.lake.read import Batch, Split, read, splits_at
from lakeflow.progress import SnapshotPosition

BYTES_A_ROW = 64
MOST_CHANGED = 0.5
"""Of the rows of a table: where more than this share changed, an index that is built anew is better and costs less."""
SEED = 7
Hashes = np.ndarray


class TooMuchChanged(Exception):
    """So many rows are others that the index had better be built anew."""


@dataclass(frozen=True, slots=True)
class Following:
    """What is followed: `key` is the index's key, `columns` are those that it keeps, all as `table` has them."""

    table: Table
    key: str
    columns: Sequence[str]
    chunk_bytes: int
    on_rows: Callable[[int], None]

    def bring(self, writer: IndexWriter, index: VectorIndex, batches: Sequence[Batch]) -> UpsertCounts:
        """All of `batches` into a copy of `index`, to which `writer` writes. Raises TooMuchChanged."""
        counts = UpsertCounts()
        ahead = self._ahead(index, writer.position)
        hashed = key_hashes(ahead)
        for batch in batches:
            if batch.removed:
                counts += self._changed(writer, batch, hashed)
            else:
                counts += writer.upsert(self._told(self.read(batch.splits)), batch.end.sequence)
            writer.record(batch.end)
        return counts + self._settled(writer, ahead, hashed, batches[-1].end)

    def read(self, splits: Sequence[Split]) -> Iterator[pa.RecordBatch]:
        """The rows of files of one of the table's snapshots. Raises SourceChanged where one has been deleted."""
        return read_removed(self.table, splits, self.columns)

    def _changed(self, writer: IndexWriter, batch: Batch, ahead: Hashes) -> UpsertCounts:
        snapshot = self.table.snapshot_by_id(batch.end.snapshot_id)
        live = splits_at(self.table, snapshot)
        came = {split.path for split in batch.splits}
        stayed = tuple(split for split in live if split.path not in came)
        rows = sum(split.rows for split in (*live, *batch.removed))
        parts = max(1, -(-rows * BYTES_A_ROW // self.chunk_bytes))
        most = round(MOST_CHANGED * sum(split.rows for split in live) / parts) if live else rows
        counts = UpsertCounts()
        for part in range(parts):
            counts += _Part(self, writer, batch, stayed, part, parts, ahead, most).bring()
        self.on_rows(sum(split.rows for split in batch.splits))
        return counts

    def _ahead(self, index: VectorIndex, position: SnapshotPosition | None) -> pa.Array:
        """The keys that an update brought in before it ended without recording its position."""
        last = -1 if position is None else position.sequence
        found = [pa.array([], index.schema().field(self.key).type)]
        for batch in index.scan([self.key]):
            found.append(batch.column(self.key).filter(pa.array(batch.column(SEQUENCE).to_numpy() > last)))
        return pa.concat_arrays(found)

    def _settled(self, writer: IndexWriter, ahead: pa.Array, hashed: Hashes, end: SnapshotPosition) -> UpsertCounts:
        """The rows that were ahead are what the table holds now, or go."""
        if not len(ahead):
            return UpsertCounts()
        there = [_nothing()]

        def wanted() -> Iterator[pa.RecordBatch]:
            for rows in self.read(splits_at(self.table, self.table.snapshot_by_id(end.snapshot_id))):
                keys = key_hashes(rows.column(self.key))
                chosen = np.isin(keys, hashed)
                there.append(keys[chosen])
                yield rows.filter(pa.array(chosen))

        counts = writer.upsert(wanted(), end.sequence)
        gone = ahead.filter(pa.array(~np.isin(hashed, np.concatenate(there))))
        return counts + UpsertCounts(deleted=writer.delete(gone.to_pylist(), end.sequence))

    def _told(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield batch
            self.on_rows(batch.num_rows)


@dataclass(frozen=True, slots=True)
class _Part:
    """The keys of one part: those whose hash leaves `part` when divided by `parts`. `most` of them may differ."""

    following: Following
    writer: IndexWriter
    batch: Batch
    stayed: Sequence[Split]
    part: int
    parts: int
    ahead: Hashes
    most: int

    def bring(self) -> UpsertCounts:
        """A key whose row stands in a file that stayed too is brought in as the table's order says, whatever it was."""
        keys, contents = self._removed()
        stayed = self._keys(self.stayed)
        uncertain = np.concatenate([stayed, self.ahead])
        came: list[Hashes] = [_nothing()]
        counts = self.writer.upsert(self._differing(keys, contents, uncertain, came), self.batch.end.sequence)
        gone = keys[~np.isin(keys, np.concatenate(came))]
        back = gone[np.isin(gone, stayed)]
        if len(back):
            counts += self.writer.upsert(self._those(self.stayed, back), self.batch.end.sequence)
        return counts + UpsertCounts(deleted=self._take_out(gone[~np.isin(gone, stayed)]))

    def _removed(self) -> tuple[Hashes, Hashes]:
        """The keys of the rows that went, ascending, and the last content of each."""
        keys, contents = [_nothing()], [_nothing()]
        for rows in self.following.read(self.batch.removed):
            hashed = key_hashes(rows.column(self.following.key))
            mine = self._mine(hashed)
            keys.append(hashed[mine])
            contents.append(row_hashes(rows)[mine])
        ascending, from_the_end = np.unique(np.concatenate(keys)[::-1], return_index=True)
        return ascending, np.concatenate(contents)[::-1][from_the_end]

    def _differing(self, keys: Hashes, contents: Hashes, uncertain: Hashes, came: list[Hashes]) -> Iterator[pa.RecordBatch]:
        """The rows that came and are not as they were; of a key that has one, all that follow."""
        brought = _nothing()
        for rows in self.following.read(self.batch.splits):
            hashed = key_hashes(rows.column(self.following.key))
            mine = self._mine(hashed)
            came.append(hashed[mine])
            places = np.minimum(np.searchsorted(keys, hashed), max(len(keys) - 1, 0))
            alike = (
                (keys[places] == hashed) & (contents[places] == row_hashes(rows)) if len(keys) else np.zeros(len(hashed), bool)
            )
            differing = mine & (~alike | np.isin(hashed, uncertain))
            brought = np.union1d(brought, hashed[differing])
            if len(brought) > self.most:
                raise TooMuchChanged
            yield rows.filter(pa.array(mine & np.isin(hashed, brought)))

    def _take_out(self, gone: Hashes) -> int:
        if not len(gone):
            return 0
        if len(gone) > self.most:
            raise TooMuchChanged
        key = self.following.key
        removed = read_removed(self.following.table, self.batch.removed, [key])
        return self.writer.delete(
            (
                one
                for rows in removed
                for one in rows.column(0).filter(pa.array(np.isin(key_hashes(rows.column(0)), gone))).to_pylist()
            ),
            self.batch.end.sequence,
        )

    def _those(self, splits: Sequence[Split], wanted: Hashes) -> Iterator[pa.RecordBatch]:
        for rows in self.following.read(splits):
            yield rows.filter(pa.array(np.isin(key_hashes(rows.column(self.following.key)), wanted)))

    def _keys(self, splits: Sequence[Split]) -> Hashes:
        found = [_nothing()]
        for rows in read(self.following.table, splits, [self.following.key]):
            hashed = key_hashes(rows.column(0))
            found.append(hashed[self._mine(hashed)])
        return np.unique(np.concatenate(found))

    def _mine(self, hashed: Hashes) -> np.ndarray:
        return np.asarray(hashed % np.uint64(self.parts) == self.part)


def key_hashes(keys: pa.Array) -> Hashes:
    """A hash of each key, uint64; those of the index and of its table are alike. Within one process."""
    return _hashes([keys.cast(pa.int64() if pa.types.is_integer(keys.type) else pa.string())])


def row_hashes(rows: pa.RecordBatch) -> Hashes:
    """A hash of each row by the bits of its values, uint64. Within one process."""
    return _hashes([_by_bits(column) for column in rows.columns])


def _hashes(columns: Sequence[pa.Array]) -> Hashes:
    frame = pl.from_arrow(pa.table(list(columns), names=[str(place) for place in range(len(columns))]))
    assert isinstance(frame, pl.DataFrame), "a table becomes a frame"
    return frame.hash_rows(SEED).to_numpy()


def _by_bits(column: pa.Array) -> pa.Array:
    """Real numbers as whole ones of the same bits, since 0 and -0 are two; lists of them as bytes, which is faster too."""
    if pa.types.is_float64(column.type) or pa.types.is_float32(column.type):
        return column.view(pa.int64() if pa.types.is_float64(column.type) else pa.int32())
    if not (pa.types.is_list(column.type) or pa.types.is_large_list(column.type)) or column.values.null_count:
        return column
    wide = {pa.float32(): 4, pa.float64(): 8}.get(column.type.value_type)
    if wide is None:
        return column
    offsets = np.asarray(column.offsets, dtype=np.int64) * wide + column.values.offset * wide
    present = pa.array(np.asarray(column.is_valid())) if column.null_count else None
    made = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), len(column), [None, pa.py_buffer(offsets), column.values.buffers()[1]]
    )
    return made if present is None else pa.compute.if_else(present, made, None)


def _nothing() -> Hashes:
    return np.zeros(0, dtype=np.uint64)
