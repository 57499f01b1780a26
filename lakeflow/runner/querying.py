"""Read-only SQL over the tables of a lake."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pyarrow as pa

from lakeflow.errors import UnknownName
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.read import Snapshot, Split, read, snapshot_at, splits_at
from lakeflow.sql.database import Opening
from lakeflow.sql.execute import Limits, run_query
from lakeflow.sql.query import tables_of
from lakeflow.sql.relations import ArrowRelation, ParquetRelation, Plain, Relation, parquet_columns, parquet_fits


def query(text: str, lake: Lake, limits: Limits, declared: Collection[str] = ()) -> pa.RecordBatchReader:
    """The rows of a read-only query over the tables as of now, as they come.

    Raises UnknownName for a table that is not there (one of `declared` holds nothing yet), and what `run_query` raises.
    """
    relations: dict[str, Relation] = {}
    for name in tables_of(text):
        if name in declared and not lake.exists(name):
            raise UnknownName(
                "table", name, lake.names(), next_step=f"it is declared and holds nothing yet: lakeflow land {name}"
            )
        relations[name] = relation(_table(name, lake))
    return run_query(text, relations, limits)


@contextmanager
def spilling(folder: Path, memory_bytes: int) -> Iterator[Limits]:
    """Limits of a query that spills into a folder of its own within `folder`, which is gone after the block.

    Where `folder` cannot be written the query holds to `memory_bytes` and does not spill.
    """
    threads = os.cpu_count() or 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = Path(tempfile.mkdtemp(prefix="query-", dir=folder))
    except OSError:
        yield Limits(memory_bytes=memory_bytes, threads=threads)
        return
    try:
        yield Limits(memory_bytes=memory_bytes, threads=threads, temp_directory=place)
    finally:
        shutil.rmtree(place, ignore_errors=True)


Ready = Callable[[], AbstractContextManager[tuple[Limits, Opening | None]]]
"""Gives a query its limits, and its database where one is being opened."""


@contextmanager
def databases_ahead(folder: Path, memory_bytes: int, count: int) -> Iterator[Ready]:
    """What queries that run one after the other are given, of which the first `count` have databases that are opened by now,
    each in a thread: to open one takes as long as a small query does. Those that nobody took are closed with the block."""
    with ExitStack() as held:
        ahead = []
        for _ in range(count):
            limits = held.enter_context(spilling(folder, memory_bytes))
            ahead.append((limits, held.enter_context(Opening(limits))))

        @contextmanager
        def ready() -> Iterator[tuple[Limits, Opening | None]]:
            if ahead:
                yield ahead.pop(0)
                return
            with spilling(folder, memory_bytes) as limits:
                yield limits, None

        yield ready


def relation(table: Table, snapshot: Snapshot | None = None) -> Plain:
    """The table as a snapshot has it (None: as of now): its own data files where DuckDB reads them right, a stream of its rows
    elsewhere."""
    return relation_over(table, splits_at(table, snapshot or snapshot_at(table)))


def relation_over(table: Table, splits: Sequence[Split]) -> Plain:
    """Some of a table's data files, in their order, read in the same way."""
    if _is_plain(table, splits):
        files, columns = tuple(split.path for split in splits), parquet_columns(arrow_schema(table))
        if parquet_fits(files, columns):
            return ParquetRelation(files, columns)
    schema = FileReader(table).schema
    return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, read(table, splits)))


def _is_plain(table: Table, splits: Sequence[Split]) -> bool:
    """Whether the files' rows are the table's: Parquet that carries field ids, and no deletes."""
    return table.name_mapping() is None and not any(
        split.task.delete_files or split.task.file.file_format != "PARQUET" for split in splits
    )


def _table(name: str, lake: Lake) -> Table:
    if name.count(".") != 1:
        raise UnknownName("table", name, lake.names(), next_step="lakeflow tables")
    return lake.table(name)
