"""Which of a job's rows are of given windows, by the columns in which they bear them. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from lakeflow.errors import JobFailed
from lakeflow.job import Job
from lakeflow.lake.schema import require_columns
from lakeflow.runner.windows import END, START, among
from lakeflow.window import Windowed

_ROW = "__row"


def require_windows(job: Job, schema: pa.Schema, given: Sequence[str] = ()) -> None:
    """That the rows of a job by windows bear their window. `given` are the columns of a query, which go to those by place.

    Raises UnknownName for a column that is missing, JobFailed where one is no time.
    """
    if job.windowed is None:
        return
    columns = job.windowed.named(given, schema.names).columns
    require_columns(columns.all, schema, f"the rows of job {job.name!r}, which works by windows")
    for name in (columns.start, columns.end):
        if not pa.types.is_timestamp(schema.field(name).type):
            raise not_a_window(job, f"column {name!r} of its rows is {schema.field(name).type}, and no TIMESTAMP")


def not_a_window(job: Job, what: str) -> JobFailed:
    """What a job does in place of handing the windows on that it was given."""
    return JobFailed(
        f"job {job.name!r} ({job.origin}) replaces the windows that it was given, and {what}",
        left_behind=f"{job.target}, as of the last step that was committed",
        next_step=f"hand window_start, window_end and the key of sessions on as they are, then: lakeflow run {job.name}",
    )


def rows_among(rows: pa.Table, windows: pl.DataFrame, windowed: Windowed) -> pa.Table:
    """The rows whose window is one of `windows`, in their order. A query gives others too, of which it has seen a part."""
    kept = among(_bearing(rows, windowed), windows, windowed.by)[_ROW]
    return rows if len(kept) == rows.num_rows else rows.take(kept.to_arrow())


def rows_outside(rows: pa.Table, windows: pl.DataFrame, windowed: Windowed) -> pa.Table:
    """The other rows."""
    bearing = _bearing(rows, windowed)
    others = bearing.join(among(bearing, windows, windowed.by), on=_ROW, how="anti", maintain_order="left")
    return rows.take(others[_ROW].to_arrow())


def _bearing(rows: pa.Table, windowed: Windowed) -> pl.DataFrame:
    """Place, key and window of each row."""
    columns = windowed.columns
    given = pl.from_arrow(rows.select(list(dict.fromkeys(columns.all))))
    assert isinstance(given, pl.DataFrame)
    bounds = ((columns.start, START), (columns.end, END))
    return given.select(
        pl.int_range(pl.len(), dtype=pl.UInt32).alias(_ROW),
        *(pl.col(name).alias(own) for own, name in zip(windowed.by, columns.by, strict=True)),
        *(pl.col(name).dt.cast_time_unit("us").to_physical().alias(to) for name, to in bounds),
    )
