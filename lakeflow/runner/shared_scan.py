"""One scan of a table's data files for several jobs: whoever reads a file first keeps its rows for the others.

The jobs of a statement set go through their steps in turn. Before each turn the scan is told what all of them are to read;
the rows of a file that several want are kept on disk as they pass, with the columns that any of them needs, and are gone with
the next turn. So at the most the rows of one step are kept, which the caps of a batch bound.
"""

from __future__ import annotations

import logging
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc

from lakeflow.lake.catalog import Table
from lakeflow.lake.failures import lake_errors
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.read import Split, read
from lakeflow.runner.plan import Step
from lakeflow.runner.querying import relation_over
from lakeflow.sql.relations import ArrowRelation, Relation

logger = logging.getLogger("lakeflow.runner")

Columns = Mapping[str, frozenset[str]]
"""The columns of each table, by `namespace.table`, that any of the jobs needs."""


class SharedScan:
    """Thread-safe. `rows_read` is how many rows were read from tables for jobs that share them, `rows_given` how many those
    jobs got. The kept rows are in `folder` (None: the system's), and gone after `close`.
    """

    def __init__(self, columns: Columns, folder: Path | None = None) -> None:
        self._columns = columns
        self._lock = threading.Lock()
        self._held = ExitStack()
        self._wanted: Counter[str] = Counter()
        self._kept: dict[str, Path | None] = {}
        self._number = 0
        self.rows_read = 0
        self.rows_given = 0
        with lake_errors("the rows that a statement set shares"):
            if folder is not None:
                folder.mkdir(parents=True, exist_ok=True)
            self._folder = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="lakeflow-", dir=folder)))

    def __enter__(self) -> SharedScan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Delete what was kept."""
        self._held.close()

    def turn(self, steps: Sequence[Step]) -> None:
        """A new turn, in which jobs carry out these steps, each another job's. What the last one kept is deleted."""
        with self._lock:
            gone = [path for path in self._kept.values() if path is not None]
            self._kept.clear()
            self._wanted = Counter(_key(one.table, split) for step in steps for one in step.reads for split in one.splits)
        for path in gone:
            path.unlink(missing_ok=True)

    def relation(self, table: Table, splits: Sequence[Split]) -> Relation:
        """The rows of the splits, in their order, for one of the jobs. Columns that no job needs hold nulls."""
        with self._lock:
            shared = any(self._wanted[_key(table, split)] > 1 for split in splits)
        if not shared:
            return relation_over(table, splits)
        schema = pa.schema([field.with_nullable(True) for field in FileReader(table).schema])
        needed = self._columns.get(".".join(table.name()), frozenset())
        names = [name for name in schema.names if name in needed] or schema.names[:1]
        return ArrowRelation(
            schema, lambda: pa.RecordBatchReader.from_batches(schema, self._rows(table, tuple(splits), names, schema))
        )

    def _rows(self, table: Table, splits: Sequence[Split], names: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for split in splits:
            for batch in self._of_split(table, split, names):
                with self._lock:
                    self.rows_given += batch.num_rows
                yield _filled(batch, schema)

    def _of_split(self, table: Table, split: Split, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a file: from where they are kept, or from the table, kept if nobody keeps them already."""
        key = _key(table, split)
        with self._lock:
            path, target = self._kept.get(key), None
            if key not in self._kept and self._wanted[key] > 1:
                self._kept[key] = None
                self._number += 1
                target = self._folder / f"{self._number}.arrow"
        if path is not None:
            yield from _kept_rows(path)
        elif target is not None:
            yield from self._keeping(key, target, self._source(table, split, names))
        else:
            yield from self._source(table, split, names)

    def _source(self, table: Table, split: Split, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        for batch in read(table, [split], names):
            with self._lock:
                self.rows_read += batch.num_rows
            yield batch

    def _keeping(self, key: str, target: Path, rows: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows, kept once the last has passed. A query that stops before leaves nothing kept."""
        try:
            with ExitStack() as held:
                writer: pa.ipc.RecordBatchStreamWriter | None = None
                for batch in rows:
                    with lake_errors("the rows that a statement set shares"):
                        if writer is None:
                            options = pa.ipc.IpcWriteOptions(compression="lz4")
                            writer = held.enter_context(pa.ipc.new_stream(str(target), batch.schema, options=options))
                        writer.write_batch(batch)
                    yield batch
            with self._lock:
                if writer is not None:
                    self._kept[key] = target
        except BaseException:
            with self._lock:
                self._kept.pop(key, None)
            target.unlink(missing_ok=True)
            raise


def _key(table: Table, split: Split) -> str:
    """What tells a file as one job reads it from the same as another does: deletes and columns may have come between."""
    deletes = sorted(one.file_path for one in split.task.delete_files)
    return " ".join([split.path, str(table.schema().schema_id), *deletes])


def _kept_rows(path: Path) -> Iterator[pa.RecordBatch]:
    with lake_errors("the rows that a statement set shares"), pa.OSFile(str(path)) as kept, pa.ipc.open_stream(kept) as reader:
        yield from reader


def _filled(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch with all columns of `schema`."""
    columns = [
        batch.column(field.name) if field.name in batch.schema.names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
