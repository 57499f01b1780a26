"""Reads tables: which data files, in which order, and their rows in bounded memory.

Planning is one reading of the manifests of main's head. PyIceberg's incremental scan skips what is no append without
a word, gives no order and reads the manifests of every snapshot in between; here the entries of the head's manifests
are filtered by their sequence number, which survives the merging of manifests and the expiry of snapshots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot as Snapshot
from pyiceberg.transforms import IdentityTransform

from lakeflow.errors import Terminal, UnknownName, UsageError
from lakeflow.job import Caps
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.compact_spans import Span
from lakeflow.lake.evolved import ColumnMap, column_map
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.history import ancestors, check_readable_from, is_cut, require_ordered, split_by
from lakeflow.lake.iceberg import FileReader, have_deletes, live_files, manifests_of
from lakeflow.lake.manifests import files_exchanged
from lakeflow.lake.schema import require_columns
from lakeflow.progress import SnapshotPosition

BATCH_ROWS = 64 * 1024
BATCH_BYTES = 16 << 20
"""Of a batch that is read, as its columns are encoded; more is held only where a single row is larger."""

THREADS_BYTES = 1 << 20
"""Of a row group whose columns are decoded side by side; to hand out those of a smaller one takes longer than they do."""

RowGroups = Callable[[pq.ParquetFile], Sequence[int]]
"""Which row groups of a file are worth reading."""


@dataclass(frozen=True, slots=True)
class Split:
    """One data file to be read: where it stands in the order of commits, and how large it is."""

    sequence: int
    task: FileScanTask

    @property
    def path(self) -> str:
        return self.task.file.file_path

    @property
    def rows(self) -> int:
        """Rows in the file, deleted ones included."""
        return self.task.file.record_count

    @property
    def bytes(self) -> int:
        return self.task.file.file_size_in_bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Splits that one commit of a job reads, and the position after them.

    `removed` are files that were read before and that the table no longer has.
    """

    splits: tuple[Split, ...]
    end: SnapshotPosition
    removed: tuple[Split, ...] = ()


def appended(table: Table, start: SnapshotPosition | None) -> tuple[Split, ...]:
    """The files that were appended after `start` up to main's head, in the order of their commits.

    From the very beginning these are all files of main's head. Raises SourceChanged where appended files alone would
    not tell what became of the table since `start`.
    """
    name = ".".join(table.name())
    head = table.current_snapshot()
    require_ordered(table.metadata, name)
    if start is not None:
        for replaced in check_readable_from(table.metadata, start, name):
            _check_replaced(table, replaced, start)
    if head is None:
        return ()
    with lake_errors(f"table {name}"):
        if start is None:
            return _splits_of(table, head)
        after = start.sequence if start.path is None else start.sequence - 1
        return tuple(split for split in _splits_of(table, head, after) if not start.covers(split.sequence, split.path))


def _check_replaced(table: Table, snapshot: Snapshot, start: SnapshotPosition) -> None:
    """Whether a reader may pass a snapshot by which another engine put files in place of others with the same rows.

    It may where it has read all of the old files and the new ones stand behind it, or has read none and they stand
    before it. An engine may give the new files a later sequence number than the reader's: their rows would come again.
    """
    name = ".".join(table.name())
    with lake_errors(f"table {name}"):
        exchanged = list(files_exchanged(table, snapshot))
    read_already = {start.covers(live.sequence, live.data_file.file_path) for live in exchanged}
    if len(read_already) > 1:
        numbers = [live.sequence for live in exchanged]
        raise split_by(f"snapshot {snapshot.snapshot_id}", name, start, Span(min(numbers), max(numbers)))


def _splits_of(table: Table, snapshot: Snapshot, after_sequence: int = -1) -> tuple[Split, ...]:
    manifests = manifests_of(table, snapshot)
    if have_deletes(manifests):
        tasks = {task.file.file_path: task for task in table.scan(snapshot_id=snapshot.snapshot_id).plan_files()}
    else:
        tasks = {}
    splits = [
        Split(live.sequence, tasks.get(live.data_file.file_path) or FileScanTask(live.data_file))
        for live in live_files(table, snapshot, after_sequence, manifests)
    ]
    return tuple(sorted(splits, key=lambda split: (split.sequence, split.path)))


def cut(splits: Sequence[Split], caps: Caps, table: Table, head: SnapshotPosition | None = None) -> Iterator[Batch]:
    """Cut splits, in their order, into batches within the caps; a batch holds one split at the least.

    `head` is the position after all of them; None: main's head.
    """
    head = head or position_at(table, table.current_snapshot())
    pending: list[Split] = []
    rows = size = 0
    for index, split in enumerate(splits):
        pending.append(split)
        rows, size = rows + split.rows, size + split.bytes
        following = splits[index + 1] if index + 1 < len(splits) else None
        if following is None:
            yield Batch(tuple(pending), head)
        elif _exceeded(caps, len(pending) + 1, rows + following.rows, size + following.bytes):
            partial = split.path if following.sequence == split.sequence else None
            yield Batch(tuple(pending), replace(head, sequence=split.sequence, path=partial))
            pending, rows, size = [], 0, 0


def _exceeded(caps: Caps, files: int, rows: int, size: int) -> bool:
    return (
        (caps.files is not None and files > caps.files)
        or (caps.rows is not None and rows > caps.rows)
        or (caps.bytes is not None and size > caps.bytes)
    )


def snapshot_at(table: Table, *, snapshot_id: int | None = None, as_of: datetime | None = None) -> Snapshot | None:
    """The snapshot to read: main's head, the one named, or the newest of main at or before a moment.

    None where the table has no snapshot yet. Raises UsageError where the named one is not there or expired.
    """
    name = ".".join(table.name())
    if snapshot_id is not None:
        found = table.snapshot_by_id(snapshot_id)
        if found is None:
            raise UnknownName(
                f"snapshot of {name}",
                str(snapshot_id),
                [str(s.snapshot_id) for s in table.snapshots()],
                next_step=f"lakeflow tables show {name}",
            )
        return found
    if as_of is None:
        return table.current_snapshot()
    moment = int(as_of.timestamp() * 1000)
    line = list(ancestors(table.metadata))
    for snapshot in line:
        if snapshot.timestamp_ms <= moment:
            return snapshot
    if not line:
        return None
    oldest = datetime.fromtimestamp(line[-1].timestamp_ms / 1000, as_of.tzinfo)
    which = "the oldest kept one" if is_cut(line[-1]) else "its first"
    raise UsageError(
        f"table {name} has no snapshot as old as {as_of}; {which} is of {oldest}",
        next_step=f"name a later moment; lakeflow tables show {name} lists the snapshots",
    )


def splits_at(table: Table, snapshot: Snapshot | None, after_sequence: int = -1) -> tuple[Split, ...]:
    """The files of a snapshot that came after a commit (without one: all), in the order of their commits."""
    if snapshot is None:
        return ()
    with lake_errors(f"table {'.'.join(table.name())}"):
        return _splits_of(table, snapshot, after_sequence)


def position_at(table: Table, snapshot: Snapshot | None) -> SnapshotPosition:
    """The position of a reader that has read the whole of a snapshot; with None, of a table that has none yet."""
    if snapshot is None:
        return SnapshotPosition(str(table.metadata.table_uuid), 0, 0)
    return SnapshotPosition(str(table.metadata.table_uuid), snapshot.snapshot_id, snapshot.sequence_number or 0)


def read(
    table: Table, splits: Sequence[Split], columns: Sequence[str] | None = None, row_groups: RowGroups | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of the splits, in order, a row group of one file in memory at a time. `columns` of None: all.

    `row_groups` may leave out some of a file's, where it is asked: of a file whose columns are found by their ids.

    So are files that were written before the table got the columns that it has now (evolved.py). PyIceberg's reader, which
    holds a whole file and some fifteen batches ahead, reads what is left: files with deleted rows, of other formats, without
    field ids, with timestamps of another unit, and those whose partition or a default tells what they lack.
    """
    name = ".".join(table.name())
    if columns is not None:
        require_columns(columns, table.schema().as_arrow(), name)
    reader = FileReader(table, columns)
    for split in splits:
        with lake_errors(f"table {name}"), _broken_files(split.path, name):
            yield from _read(table, split, reader, row_groups)


@contextmanager
def _broken_files(path: str, table: str) -> Iterator[None]:
    """A data file that is gone or no longer what was written, as an error that names it."""
    try:
        yield
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise Terminal(
            f"data file {path} of table {table} cannot be read: {error}",
            left_behind="the table's other files and every other table",
            next_step=f"bring the file back, or roll the table back to a snapshot without it: lakeflow tables show {table}",
        ) from error


def _read(table: Table, split: Split, reader: FileReader, row_groups: RowGroups | None) -> Iterator[pa.RecordBatch]:
    if split.task.delete_files or split.task.file.file_format is not FileFormat.PARQUET:
        yield from reader.read(split.task)
        return
    with table.io.new_input(split.path).open() as stream:
        file = pq.ParquetFile(stream, pre_buffer=True)
        columns = _columns_of(table, split, file, reader.schema.names)
        if columns is not None:
            chosen = range(file.num_row_groups) if row_groups is None else row_groups(file)
            yield from _row_groups(file, columns, reader.schema, chosen)
            return
    yield from reader.read(split.task)


def _told_elsewhere(table: Table, split: Split) -> set[int]:
    """Fields whose values, where the file lacks them, are not null: those of its partition, and defaults."""
    schema, spec = table.schema(), table.specs()[split.task.file.spec_id]
    partitioned = {field.source_id for field in spec.fields if isinstance(field.transform, IdentityTransform)}
    return partitioned | {number for number in schema.field_ids if schema.find_field(number).initial_default is not None}


def is_read_by_id(table: Table, split: Split) -> bool:
    """Whether the columns of a file without deletes are found by field id; PyIceberg's reader maps those of the others."""
    name = ".".join(table.name())
    with lake_errors(f"table {name}"), _broken_files(split.path, name), table.io.new_input(split.path).open() as stream:
        return _columns_of(table, split, pq.ParquetFile(stream), arrow_schema(table).names) is not None


def _columns_of(table: Table, split: Split, file: pq.ParquetFile, names: Sequence[str]) -> ColumnMap | None:
    target = pa.schema([arrow_schema(table).field(name) for name in names])
    return column_map(file.schema_arrow, target, _told_elsewhere(table, split), split.path)


def _row_groups(file: pq.ParquetFile, columns: ColumnMap, schema: pa.Schema, chosen: Sequence[int]) -> Iterator[pa.RecordBatch]:
    """The rows of the row groups `chosen` of a file with the columns of `schema`, one after the other."""
    for number in chosen:
        group = file.metadata.row_group(number)
        size, threads = _batch_rows(group, columns.names), group.total_byte_size > THREADS_BYTES
        for batch in file.iter_batches(size, row_groups=[number], columns=list(columns.names), use_threads=threads):
            rows = columns.rows(batch)
            yield rows if rows.schema.equals(schema, check_metadata=True) else rows.cast(schema)


def _batch_rows(group: pq.RowGroupMetaData, columns: Sequence[str]) -> int:
    """Rows of about BATCH_BYTES, BATCH_ROWS at the most."""
    parts = [group.column(place) for place in range(group.num_columns)]
    inside = tuple(f"{name}." for name in columns)
    read = (part for part in parts if part.path_in_schema in columns or part.path_in_schema.startswith(inside))
    size = sum(int(part.total_uncompressed_size) for part in read)
    return max(1, min(BATCH_ROWS, BATCH_BYTES * int(group.num_rows) // max(1, size)))
