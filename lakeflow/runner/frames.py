"""Tables as LazyFrames, read in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import Split, read

Batches = Callable[[Table, Sequence[Split], Sequence[str] | None], Iterator[pa.RecordBatch]]
"""Reads columns of a table's splits."""

FRAME_BYTES = 4 << 20
"""Polars reads some thirty frames ahead whatever their size, so memory is bounded by how large one is."""


def scan(
    table: Table, splits: Sequence[Split], on_rows: Callable[[int], None] = lambda rows: None, batches: Batches | None = None
) -> pl.LazyFrame:
    """The rows of the splits, in their order, as a LazyFrame that reads a row group of one file at a time.

    Only the columns that the query needs are read, by `batches` where it is given. `on_rows` is told rows as they are read,
    before any filter.
    Where Polars asks for the first rows and a filter at once, it means the filter of the first rows.
    """
    schema = polars_schema(arrow_schema(table))

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        unneeded = [] if with_columns != [] else schema.names()[:1]  # without any column, a frame has no rows to count
        for batch in (batches or read)(table, splits, unneeded or with_columns):
            frame = _frame(batch)
            on_rows(frame.height)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            for part in frame.iter_slices(_rows_a_frame(frame)):
                yield (part if predicate is None else part.filter(predicate)).drop(unneeded)
            if left == 0:
                return

    return register_io_source(frames, schema=schema, is_pure=True)


def read_up_to(table: Table, splits: Sequence[Split], most_bytes: int) -> pl.DataFrame | None:
    """The rows of the splits in memory; None where they take more than `most_bytes` there."""
    frames = [pl.DataFrame(schema=polars_schema(arrow_schema(table)))]
    size = 0
    for batch in read(table, splits):
        size += batch.nbytes
        if size > most_bytes:
            return None
        frames.append(_frame(batch))
    return pl.concat(frames)


def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The Polars types of an Arrow schema."""
    return _frame(pa.RecordBatch.from_pylist([], schema)).schema


def arrow_schema_of(frame: pl.LazyFrame) -> pa.Schema:
    """The Arrow types of a LazyFrame's rows, found without reading any."""
    return pl.DataFrame(schema=frame.collect_schema()).to_arrow().schema


def _rows_a_frame(frame: pl.DataFrame) -> int:
    return max(1, FRAME_BYTES * frame.height // max(1, int(frame.estimated_size())))


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame
