"""The rows of a source as a job by windows sees them: each once in every window of a view, with the window's bounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from lakeflow.errors import JobFailed
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import RowGroups, Split, read
from lakeflow.lake.time_bounds import TimeBounds, require_time
from lakeflow.runner.frames import polars_schema, scan
from lakeflow.runner.windows import END, START, TIME, View, moments
from lakeflow.window import END as END_COLUMN
from lakeflow.window import START as START_COLUMN
from lakeflow.window import Session

FRAME_ROWS = 64 * 1024
"""Rows that are put into windows at once: each may be in many."""


def view_scan(
    table: Table, splits: Sequence[Split], view: View, on_rows: Callable[[int], None] = lambda rows: None
) -> pl.LazyFrame:
    """The rows of the splits in the windows of a view, in their order, with columns window_start and window_end of the type of
    the time column. A row group of one file is read at a time; those without a moment of the view are left out.

    Raises JobFailed where the table has columns of these names.
    """
    schema = view_schema(table, view)

    def frames(
        with_columns: list[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        unneeded = [] if with_columns != [] else [START_COLUMN]  # without any column, a frame has no rows to count
        for rows in placed_rows(table, splits, view, unneeded or with_columns or schema.names(), on_rows):
            frame = rows if left is None else rows.head(left)
            left = None if left is None else left - frame.height
            yield (frame if predicate is None else frame.filter(predicate)).drop(unneeded)
            if left == 0:
                return

    return register_io_source(frames, schema=schema, is_pure=True)


def view_schema(table: Table, view: View) -> pl.Schema:
    """The columns of the table, and window_start and window_end. Raises JobFailed where it has such already."""
    schema = polars_schema(arrow_schema(table))
    name = ".".join(table.name())
    for taken in (START_COLUMN, END_COLUMN):
        if taken in schema:
            raise JobFailed(
                f"table {name} has a column {taken!r} already, which a job by windows adds to its rows",
                next_step="rename the column in the job or table before",
            )
    require_time(table, view.window.column)
    time = schema[view.window.column]
    return pl.Schema({**schema, START_COLUMN: time, END_COLUMN: time})


def placed_rows(
    table: Table, splits: Sequence[Split], view: View, columns: Sequence[str], on_rows: Callable[[int], None]
) -> Iterator[pl.DataFrame]:
    """What `view_scan` gives, with these columns."""
    window, time = view.window, polars_schema(arrow_schema(table))[view.window.column]
    by = window.by if isinstance(window, Session) else ()
    added = {START_COLUMN: START, END_COLUMN: END}
    needed = list(dict.fromkeys([*(name for name in columns if name not in added), window.column, *by]))
    groups = row_groups_of(table, view)
    for split in splits:
        for batch in read(table, [split], needed, groups):
            on_rows(batch.num_rows)
            for slice_start in range(0, batch.num_rows, FRAME_ROWS):
                rows = frame_of(batch.slice(slice_start, FRAME_ROWS)).with_columns(moments(window.column).alias(TIME))
                yield view.placed(rows, split.sequence).select(
                    pl.col(added[name]).cast(time).alias(name) if name in added else pl.col(name) for name in columns
                )


def row_groups_of(table: Table, view: View) -> RowGroups | None:
    """Which row groups may hold rows of the view; None: all."""
    if view.ranges is None:
        return None
    bounds, ranges = TimeBounds(table, view.window.column), view.ranges
    return lambda file: bounds.row_groups(file, ranges)


def frame_of(batch: pa.RecordBatch) -> pl.DataFrame:
    """A batch as Polars has it."""
    frame = pl.from_arrow(batch)
    assert isinstance(frame, pl.DataFrame)
    return frame


def source_scan(
    table: Table, splits: Sequence[Split], view: View | None, on_rows: Callable[[int], None] = lambda rows: None
) -> pl.LazyFrame:
    """The rows of a source as a job sees them: in windows where there is a view of them."""
    return scan(table, splits, on_rows) if view is None else view_scan(table, splits, view, on_rows)
