"""Rows to data files, in bounded memory. The files belong to no snapshot until commit.py takes them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
from pyiceberg.manifest import DataFile as DataFile
from pyiceberg.partitioning import PartitionKey
from pyiceberg.table import Table

from lakeflow.errors import SchemaMismatch
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import ParquetFile, delete_files
from lakeflow.lake.partition import partitions_of
from lakeflow.lake.schema import fit

ROW_GROUP_ROWS = 128 * 1024
OPEN_FILES = 64


@dataclass(slots=True)
class _Part:
    """The rows of one partition that wait for a row group, and the file that is open for it."""

    place: Hashable
    key: PartitionKey | None
    waiting: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    bytes: int = 0
    file: ParquetFile | None = None


@dataclass(frozen=True, slots=True)
class _Encoding:
    """A row group that the encoding thread has in hand."""

    part: _Part
    bytes: int
    done: Future[None]


@contextmanager
def _write_errors(table: str) -> Iterator[None]:
    """As `lake_errors`; a file's statistics and partition tell of moments as Python has them, which end with the year 9999."""
    with lake_errors(f"table {table}"):
        try:
            yield
        except OverflowError as error:
            raise SchemaMismatch(
                f"rows for table {table} hold a DATE or TIMESTAMP that is not of the years 0001 to 9999: {error}",
                next_step="leave such rows out or make the value NULL in the job",
            ) from error


class DataWriter:
    """Writes rows into Parquet data files of about `target_file_bytes`, split by the table's partition spec.

    Rows wait in memory for a row group. A thread encodes one while the rows of the next are taken, `buffer_bytes` of both
    together at the most: so a row group has half of that, and where the rows of all partitions come to three quarters the
    fullest partition is written. Memory holds for any number of partitions, at the price of smaller row groups. What fails
    in the thread is raised by the next call, and by all after it until `abort`. The thread ends with `finish` and `abort`.

    Files are named so that, within a partition, the order of names is that in which rows came: readers go by it. Of
    several writers of one commit, `part` tells which rows come first.
    Raises SchemaMismatch for rows that do not fit, StorageFull where the warehouse refuses the write.
    """

    def __init__(
        self, table: Table, *, target_file_bytes: int = 128 << 20, buffer_bytes: int = 64 << 20, part: int = 0
    ) -> None:
        self.table = table
        self.schema = arrow_schema(table)
        self.rows = 0
        self._name = ".".join(table.name())
        self._target_file_bytes = target_file_bytes
        self._buffer_bytes = buffer_bytes
        self._partitioned = not table.spec().is_unpartitioned()
        self._parts: OrderedDict[Hashable, _Part] = OrderedDict()
        self._waiting = 0
        self._encoding: _Encoding | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._done: list[DataFile] = []
        self._part = part
        self._opened = 0

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Take rows of any order; they are fitted to the table's columns and types first."""
        if isinstance(rows, pa.RecordBatch):
            rows = pa.Table.from_batches([rows])
        if rows.num_rows == 0:
            return
        rows = fit(rows, self.schema, self._name)
        self.rows += rows.num_rows
        with _write_errors(self._name):
            for key, part_rows in self._split(rows):
                self._take(key, part_rows)
            while self._waiting > self._buffer_bytes * 3 // 4:
                self._flush(max(self._parts.values(), key=lambda part: part.bytes))
            if self.buffered_bytes() > self._buffer_bytes:
                self._settle()

    def buffered_bytes(self) -> int:
        """Bytes of rows in memory: those that wait for a row group, and those of the one that is encoded."""
        return self._waiting + (self._encoding.bytes if self._encoding else 0)

    def finish(self) -> tuple[DataFile, ...]:
        """Write what waits, close every file, and hand them over. The writer is empty again."""
        with _write_errors(self._name):
            for part in list(self._parts.values()):
                self._flush(part, last=len(self._parts) == 1)
                self._close(part)
            self._end_thread()
        done, self._done, self.rows = tuple(self._done), [], 0
        return done

    def abort(self) -> None:
        """Delete what was written and forget what waits, once what is encoded is done."""
        self._end_thread()
        self._encoding = None
        with lake_errors(f"table {self._name}"):
            for part in self._parts.values():
                if part.file is not None:
                    part.file.abort()
            delete_files(self.table.io, [data_file.file_path for data_file in self._done])
        self._parts.clear()
        self._done, self._waiting, self.rows = [], 0, 0

    def _split(self, rows: pa.Table) -> Iterator[tuple[PartitionKey | None, pa.Table]]:
        if self._partitioned:
            yield from partitions_of(self.table, rows)
        else:
            yield None, rows

    def _take(self, key: PartitionKey | None, rows: pa.Table) -> None:
        place: Hashable = None if key is None else key.partition
        part = self._parts.setdefault(place, _Part(place, key))
        self._parts.move_to_end(place)
        part.waiting.append(rows)
        part.rows += rows.num_rows
        part.bytes += rows.nbytes
        self._waiting += rows.nbytes
        if part.rows >= ROW_GROUP_ROWS or part.bytes >= self._buffer_bytes // 2:
            self._flush(part)

    def _flush(self, part: _Part, *, last: bool = False) -> None:
        """Encode what waits of a part. The `last` row group is encoded here: nothing is left to be taken meanwhile."""
        if not part.waiting:
            return
        self._settle()
        if part.file is None:
            self._keep_open_files_few()
            part.file = ParquetFile(self.table, self.schema, f"{self._part:05d}-{self._opened:05d}", part.key)
            self._opened += 1
        rows = pa.concat_tables(part.waiting).cast(self.schema)
        encoding = self._encoded_here(part, rows) if last else self._encoded_aside(part, rows)
        self._encoding = _Encoding(part, part.bytes, encoding)
        self._waiting -= part.bytes
        part.waiting, part.rows, part.bytes = [], 0, 0

    def _encoded_aside(self, part: _Part, rows: pa.Table) -> Future[None]:
        assert part.file is not None, "the caller opened it"
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="lakeflow-encode")
        return self._thread.submit(part.file.write, rows)

    def _encoded_here(self, part: _Part, rows: pa.Table) -> Future[None]:
        """A small file is worth no thread."""
        assert part.file is not None, "the caller opened it"
        done: Future[None] = Future()
        try:
            part.file.write(rows)
        except BaseException as error:
            done.set_exception(error)
            self._encoding = _Encoding(part, part.bytes, done)  # what is asked for next fails of it too
            raise
        done.set_result(None)
        return done

    def _settle(self) -> None:
        """Wait for the row group that is encoded. Raises what its encoding did."""
        if self._encoding is None:
            return
        self._encoding.done.result()
        part, self._encoding = self._encoding.part, None
        assert part.file is not None, "a file is open as long as a row group of it is encoded"
        if part.file.written_bytes() >= self._target_file_bytes:
            self._close(part)

    def _end_thread(self) -> None:
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    def _keep_open_files_few(self) -> None:
        open_parts = [part for part in self._parts.values() if part.file is not None]
        if len(open_parts) >= OPEN_FILES:
            self._close(open_parts[0])

    def _close(self, part: _Part) -> None:
        if self._encoding is not None and self._encoding.part is part:
            self._settle()
        if part.file is not None:
            self._done.append(part.file.close())
            part.file = None
        if not part.waiting:
            self._parts.pop(part.place, None)
