"""Tables as LazyFrames, read in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import Split, read


def scan(table: Table, splits: Sequence[Split], on_rows: Callable[[int], None] = lambda rows: None) -> pl.LazyFrame:
    """The rows of the splits, in their order, as a LazyFrame that reads a row group of one file at a time.

    Only the columns that the query needs are read. `on_rows` is told the rows as they are read, before any filter.
    """
    schema = polars_schema(arrow_schema(table))

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for batch in read(table, splits, with_columns):
            frame = _frame(batch)
            on_rows(frame.height)
            if predicate is not None:
                frame = frame.filter(predicate)
            if left is not None:
                frame = frame.head(left)
                left -= frame.height
            yield frame
            if left == 0:
                return

    return register_io_source(frames, schema=schema, is_pure=True)


def polars_schema(schema: pa.Schema) -> pl.Schema:
    """The Polars types of an Arrow schema."""
    return _frame(pa.RecordBatch.from_pylist([], schema)).schema


def arrow_schema_of(frame: pl.LazyFrame) -> pa.Schema:
    """The Arrow types of a LazyFrame's rows, found without reading any."""
    return pl.DataFrame(schema=frame.collect_schema()).to_arrow().schema


def _frame(batch: pa.RecordBatch) -> pl.DataFrame:
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame
