"""A query over windows that a watermark closes: it is given the rows of its table in their windows, as a function in Python is.

DuckDB could put a row into its windows by the row's time alone. Which of them it came too late for depends on the commit
that it came with, which only the reader of the table's files knows. So the columns window_start and window_end are there
before the query runs, and TUMBLE, HOP and CUMULATE hand them on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.job import Job, Read, SqlQuery
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.read import read
from lakeflow.runner.plan import Source
from lakeflow.runner.window_frames import FRAME_ROWS, frame_of, row_groups_of, view_schema
from lakeflow.runner.windows import END, START, TIME, View, moments
from lakeflow.sql.compiled import Moment, Names, Signature
from lakeflow.sql.relations import ArrowRelation
from lakeflow.window import END as END_COLUMN
from lakeflow.window import START as START_COLUMN
from lakeflow.window import Windowed

_ROW = "__row"

Rows = Callable[[Sequence[str]], Iterable[tuple[int, pa.RecordBatch]]]
"""Rows with these columns, each batch with the sequence number of the commit that it is of."""


def is_placed(job: Job) -> bool:
    """Whether the job is a query that is given its rows in windows."""
    return isinstance(job.body, SqlQuery) and job.windowed is not None and job.windowed.waits


def placed_names(job: Job, names: Names) -> Names:
    """What such a query may name: the table that it reads has the columns of its windows too."""
    assert job.windowed is not None, "the caller looked"
    [source] = [one.table for one in job.inputs.values() if isinstance(one, Read)]
    return PlacedNames(names, source, job.windowed)


@dataclass(frozen=True, slots=True)
class PlacedNames:
    """`Names`, in which the table `source` has window_start and window_end where it has the windows' time column."""

    names: Names
    source: str
    windowed: Windowed

    def table(self, name: str, at: Moment | None) -> pa.Schema:
        """The columns of a table, at that moment."""
        schema = self.names.table(name, at)
        if name != self.source or at is not None:
            return schema
        time = next((field.type for field in schema if field.name.lower() == self.windowed.window.column.lower()), None)
        added = (START_COLUMN, END_COLUMN)
        if time is None or not pa.types.is_timestamp(time) or any(name in schema.names for name in added):
            return schema  # which the compiler or the plan refuses, naming the column
        return pa.schema([*schema, *(pa.field(name, time) for name in added)])

    def model(self, name: str) -> Signature:
        """A model by `m` or `m$2`."""
        return self.names.model(name)

    def index(self, table: str, column: str) -> IndexSpec | None:
        """The vector index over a column."""
        return self.names.index(table, column)


def placed_schema(source: Source, view: View) -> pa.Schema:
    """The columns of the rows of a source in windows. Raises JobFailed as `view_schema` does."""
    view_schema(source.table, view)
    schema = pa.schema([field.with_nullable(True) for field in FileReader(source.table).schema])
    time = schema.field(view.window.column).type
    return pa.schema([*schema, pa.field(START_COLUMN, time), pa.field(END_COLUMN, time)])


def placed_relation(source: Source, view: View, needed: Iterable[str] | None = None) -> ArrowRelation:
    """The rows of a source in the windows of its view. Columns other than `needed` (None: all) hold nulls."""
    groups = row_groups_of(source.table, view)

    def rows(columns: Sequence[str]) -> Iterator[tuple[int, pa.RecordBatch]]:
        for split in source.splits:
            for batch in read(source.table, [split], columns, groups):
                yield split.sequence, batch

    return relation_of(placed_schema(source, view), view, rows, needed)


def relation_of(schema: pa.Schema, view: View, rows: Rows, needed: Iterable[str] | None = None) -> ArrowRelation:
    """Rows, each once in every window of the view. `schema` is theirs with window_start and window_end."""
    wanted = set(schema.names if needed is None else needed) | {view.window.column}
    own = [name for name in schema.names if name in wanted - {START_COLUMN, END_COLUMN}]

    def batches() -> Iterator[pa.RecordBatch]:
        for sequence, batch in rows(own):
            for start in range(0, batch.num_rows, FRAME_ROWS):
                yield _placed(batch.slice(start, FRAME_ROWS), schema, view, sequence)

    return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, batches()))


def _placed(batch: pa.RecordBatch, schema: pa.Schema, view: View, sequence: int) -> pa.RecordBatch:
    times = frame_of(batch.select([view.window.column])).select(moments(view.window.column).alias(TIME)).with_row_index(_ROW)
    placed = view.placed(times, sequence)
    taken = batch.take(placed[_ROW].to_arrow())
    bounds = {START_COLUMN: START, END_COLUMN: END}
    columns = []
    for field in schema:
        if field.name in bounds:
            columns.append(placed[bounds[field.name]].cast(pl.Int64).to_arrow().cast(field.type))
        elif field.name in taken.schema.names:
            columns.append(taken.column(field.name))
        else:
            columns.append(pa.nulls(taken.num_rows, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)
