"""What a batch of a table comes to as records of its sink: new rows, and of a table by key what became of changed ones.

A file that is written anew holds rows that did not change, too: those are told by what their records would be, and sent no
second time. Of a key whose row went, and that is in no other file, the record is a tombstone. Memory holds the keys of one
batch over files that went, and a digest of the record of each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from lakeflow.lake.catalog import Table
from lakeflow.lake.changes import read_removed
from lakeflow.lake.read import Batch, Split, read, splits_at
from lakeflow.lake.touch import Touching, frame
from lakeflow.landing.produce_rows import RecordWriter
from lakeflow.landing.produce_spec import SinkSpec
from lakeflow.topics.sink import Outgoing

ROWS = 8_192
"""Rows whose records are alive at once."""
DIGEST = 16


@dataclass(frozen=True, slots=True)
class Piece:
    """Records of some rows: of `read` rows and keys that went, those that are as they were make no record."""

    records: Sequence[Outgoing]
    read: int
    tombstones: int = 0


def pieces(spec: SinkSpec, writer: RecordWriter, table: Table, batch: Batch) -> Iterator[Piece]:
    """The records of a batch, in the order of the table; tombstones last.

    Raises SourceChanged where a file that went cannot be read any more, Terminal for a row that makes no record.
    """
    if not batch.removed:
        for records in _records(writer, read(table, batch.splits, writer.columns)):
            yield Piece(records, len(records))
        return
    yield from _Followed(spec, writer, table, batch).pieces()


def _records(writer: RecordWriter, batches: Iterator[pa.RecordBatch]) -> Iterator[list[Outgoing]]:
    first = 0
    for rows in batches:
        for start in range(0, rows.num_rows, ROWS):
            part = rows.slice(start, ROWS)
            yield writer.records(part, first)
            first += part.num_rows


@dataclass(slots=True)
class _Followed:
    """A batch over files that went: `gone` has the last record of each key in them, as a digest."""

    spec: SinkSpec
    writer: RecordWriter
    table: Table
    batch: Batch
    gone: dict[bytes, bytes] = field(default_factory=dict)
    came: set[bytes] = field(default_factory=set)
    sent: set[bytes] = field(default_factory=set)

    def pieces(self) -> Iterator[Piece]:
        for records in _records(self.writer, read_removed(self.table, self.batch.removed, self.writer.columns)):
            self.gone.update((_key(record), _digest(record)) for record in records)
        for records in _records(self.writer, read(self.table, self.batch.splits, self.writer.columns)):
            yield Piece([record for record in records if self._is_new(record)], len(records))
        lost = self.gone.keys() - self.came
        if lost:
            left = self._left(lost)
            tombstones = [self.writer.tombstone(key) for key in self.gone if key in lost and key not in left]
            yield Piece([*left.values(), *tombstones], len(lost), len(tombstones))

    def _is_new(self, record: Outgoing) -> bool:
        """Whether the record says something else than the last of its key did; after one that does, all of the key are sent."""
        key = _key(record)
        self.came.add(key)
        if key not in self.sent and self.gone.get(key) == _digest(record):
            return False
        self.sent.add(key)
        return True

    def _left(self, lost: set[bytes]) -> dict[bytes, Outgoing]:
        """Of keys whose row went, the last row in files that are still there, where a key has several rows."""
        values = [self._rows_of(lost, rows) for rows in read_removed(self.table, self.batch.removed, self.spec.key)]
        keys = frame(pa.Table.from_batches(values)).unique()
        end = self.table.snapshot_by_id(self.batch.end.snapshot_id)
        read_now = {split.path for split in self.batch.splits}
        left = [split for split in splits_at(self.table, end) if split.path not in read_now]
        found: dict[bytes, Outgoing] = {}
        for touched in Touching(self.table, self.spec.key, keys, nulls_equal=False).among(left):
            for records in _records(self.writer, self._read(touched.split)):
                found.update((_key(record), record) for record in records if record.key in lost)
        return found

    def _read(self, split: Split) -> Iterator[pa.RecordBatch]:
        return read(self.table, [split], self.writer.columns)

    def _rows_of(self, lost: set[bytes], rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows.filter(pa.array([key in lost for key in self.writer.keys(rows)], pa.bool_()))


def _key(record: Outgoing) -> bytes:
    assert record.key is not None, "a table that is followed has a key"
    return record.key


def _digest(record: Outgoing) -> bytes:
    text: Callable[[bytes | None], bytes] = lambda part: b"-" if part is None else b"%d:%b" % (len(part), part)  # noqa: E731
    parts = [text(record.value), b"%d" % record.timestamp]
    parts += [text(each) for name, value in record.headers for each in (name.encode(), value)]
    return hashlib.blake2b(b";".join(parts), digest_size=DIGEST).digest()
