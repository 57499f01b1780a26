"""Ranges of one column's values: which files hold rows of them, and rows of a range put in place of those that are there.

Values are kept as Iceberg's bounds order them: moments in microseconds since 1970-01-01 00:00 UTC, dates in days, whole
numbers, texts. A row without a value is in no range.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform, HourTransform, IdentityTransform, MonthTransform, YearTransform

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.prune import Held, column_bounds
from lakeflow.lake.read import RowGroups, Split, read, snapshot_at, splits_at
from lakeflow.lake.replace import Replaced
from lakeflow.lake.schema import fit, require_columns
from lakeflow.lake.spool import RowSpool
from lakeflow.lake.time_bounds import TimeBounds
from lakeflow.lake.touch import frame
from lakeflow.lake.write import DataWriter

Value = int | str

_FAR = 1 << 62
_ORDERED = (IdentityTransform, YearTransform, MonthTransform, DayTransform, HourTransform)


@dataclass(frozen=True, slots=True)
class ValueRange:
    """Rows whose `column` is at `low` or behind it, and before `high`; None: without a bound there."""

    column: str
    low: Value | None
    high: Value | None

    def rows(self) -> pl.Expr:
        """Whether a row is in the range, never null."""
        value = pl.col(self.column).to_physical()
        held = value.is_not_null()
        if self.low is not None:
            held = held & (value >= self.low)
        if self.high is not None:
            held = held & (value < self.high)
        return held.fill_null(False)

    def may_hold(self, held: Held) -> bool:
        """Whether a file may hold a row of the range."""
        above = self.low is None or held.high is None or held.high >= self.low
        below = self.high is None or held.low is None or held.low < self.high
        return held.values and bool(above and below)

    def holds_all(self, held: Held) -> bool:
        """Whether all rows of a file are known to be in the range."""
        if not held.values or held.nulls:
            return False
        above = self.low is None or (held.low is not None and held.low >= self.low)
        below = self.high is None or (held.high is not None and held.high < self.high)
        return bool(above and below)


def partition_columns(table: Table) -> dict[str, str]:
    """Which column each field of the table's partitioning is of, by the field's name, where it keeps the column's order."""
    fields = [field for field in table.spec().fields if isinstance(field.transform, _ORDERED)]
    return {field.name: table.schema().find_column_name(field.source_id) or field.name for field in fields}


def splits_within(table: Table, splits: Sequence[Split], within: ValueRange) -> tuple[Split, ...]:
    """The files that may hold rows of the range, by their bounds."""
    bounds = column_bounds(table, within.column)
    return tuple(split for split in splits if within.may_hold(bounds(split.task.file)))


def read_within(
    table: Table, splits: Sequence[Split], within: ValueRange, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """The rows of the range, in their order, a row group of one file in memory at a time. `columns` of None: all."""
    wanted = arrow_schema(table).names if columns is None else list(columns)
    needed = list(dict.fromkeys([*wanted, within.column]))
    groups = row_groups_within(table, within)
    for batch in read(table, splits, needed, groups):
        mask = frame(pa.Table.from_batches([batch.select([within.column])])).select(within.rows()).to_series()
        kept = batch if mask.all() else batch.filter(mask.to_arrow().cast(pa.bool_()))
        if kept.num_rows:
            yield kept.select(wanted)


def row_groups_within(table: Table, within: ValueRange) -> RowGroups | None:
    """Which row groups of a file may hold rows of the range; None: all, since only moments are looked at."""
    if not pa.types.is_timestamp(arrow_schema(table).field(within.column).type):
        return None
    bounds = TimeBounds(table, within.column)
    low, high = (int(one) if one is not None else far for one, far in ((within.low, -_FAR), (within.high, _FAR)))

    def chosen(file: pq.ParquetFile) -> Sequence[int]:
        return bounds.row_groups(file, ((low, high),))

    return chosen


def count_within(table: Table, splits: Sequence[Split], within: ValueRange) -> int:
    """How many rows are in the range. Only files that hold others too are read, and of them one column."""
    bounds = column_bounds(table, within.column)
    total = 0
    for split in splits:
        if within.holds_all(bounds(split.task.file)) and not split.task.delete_files:
            total += split.rows
        else:
            total += sum(batch.num_rows for batch in read_within(table, [split], within, [within.column]))
    return total


class RangeReplacement:
    """Collects rows, then puts them in place of all that a table holds of a range, in one snapshot.

    Files that lie within the range go unread, those that hold none of it stay, the others are written anew without its rows.
    `merge` may be called again after `table.refresh()`. Memory holds a row group; the rows wait in a file of `spool_dir`.
    """

    def __init__(self, table: Table, within: ValueRange, spool_dir: Path | None = None) -> None:
        self._table = table
        self._name = ".".join(table.name())
        self._schema = arrow_schema(table)
        self._within = within
        require_columns([within.column], self._schema, self._name)
        self._spool = RowSpool(self._schema, spool_dir)
        self.rows = 0

    def write(self, rows: pa.Table) -> None:
        """Take new rows. Raises SchemaMismatch for rows that do not fit the table."""
        self._spool.write(fit(rows, self._schema, self._name))
        self.rows += rows.num_rows

    def merge(self, writer: DataWriter) -> Replaced:
        """Write the files of the replacement against the table's head, as `self` was given it or refreshed since."""
        head = snapshot_at(self._table)
        bounds: Callable[[DataFile], Held] = column_bounds(self._table, self._within.column)
        remove: list[DataFile] = []
        removed = 0
        for split in splits_within(self._table, splits_at(self._table, head), self._within):
            whole = self._within.holds_all(bounds(split.task.file)) and not split.task.delete_files
            gone = split.rows if whole else count_within(self._table, [split], self._within)
            if not gone:
                continue
            if not whole:
                self._keep_others(split, writer)
            remove.append(split.task.file)
            removed += gone
        for rows in self._spool.batches():
            writer.write(rows)
        return Replaced(writer.finish(), tuple(remove), head.snapshot_id if head else None, removed, self.rows)

    def _keep_others(self, split: Split, writer: DataWriter) -> None:
        for batch in read(self._table, [split]):
            rows = pa.Table.from_batches([batch])
            mask = frame(rows.select([self._within.column])).select(~self._within.rows()).to_series()
            others = rows.filter(mask.to_arrow().cast(pa.bool_()))
            if others.num_rows:
                writer.write(others)

    def close(self) -> None:
        """Delete the spool."""
        self._spool.close()
