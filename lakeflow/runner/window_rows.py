"""Which of a job's rows are of given windows, by the columns in which they bear them. Pure."""

from __future__ import annotations

import polars as pl
import pyarrow as pa

from lakeflow.runner.windows import END, START, among
from lakeflow.window import Windowed

_ROW = "__row"


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
