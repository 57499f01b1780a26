"""Which files of a table hold rows of given values, and what is left of such a file without them: copy on write.

A file is asked by its statistics and partition first (prune.py), then by the columns of the values alone; only where it
holds one is the whole of it read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa
from pyiceberg.table import Table

from lakeflow.lake.prune import Pruner
from lakeflow.lake.read import Split, read

_PLACE = "__place"
_ROW = "__row"


@dataclass(frozen=True, slots=True)
class Touched:
    """A file that holds rows of some of the values: `places` are those values, ascending."""

    split: Split
    places: pl.Series


class Touching:
    """Rows of a table whose `columns` are equal to a row of `values`, which are distinct and of the table's types.

    NaN is equal to NaN, and null to null where `nulls_equal`. Memory holds the values and one row group of a file.
    """

    def __init__(self, table: Table, columns: Sequence[str], values: pl.DataFrame, *, nulls_equal: bool) -> None:
        self._table = table
        self._columns = list(columns)
        self._values = values.select(self._columns).with_columns(pl.int_range(pl.len(), dtype=pl.UInt32).alias(_PLACE))
        self._nulls_equal = nulls_equal
        self._pruner = Pruner(table, self._values.select(self._columns))

    def among(self, splits: Sequence[Split]) -> Iterator[Touched]:
        """The files that hold one of the values, as the files come."""
        for split in splits:
            if len(candidates := self._pruner.in_file(split.task.file)) and len(places := self._held(split, candidates)):
                yield Touched(split, places)

    def _held(self, split: Split, candidates: pl.Series) -> pl.Series:
        values = self._of(candidates)
        held = [candidates.head(0)]
        for batch in read(self._table, [split], self._columns, self._pruner.in_row_groups):
            rows = frame(pa.Table.from_batches([batch]))
            held.append(rows.join(values, on=self._columns, how="inner", nulls_equal=self._nulls_equal)[_PLACE].unique())
        return pl.concat(held).unique().sort()

    def survivors(self, touched: Touched) -> Iterator[tuple[pa.Table, int]]:
        """The rows of the file that are of none of the values, in their order, and how many between them are left out."""
        values = self._of(touched.places)
        for batch in read(self._table, [touched.split]):
            rows = pa.Table.from_batches([batch])
            asked = frame(rows.select(self._columns)).with_row_index(_ROW)
            kept = asked.join(values, on=self._columns, how="anti", nulls_equal=self._nulls_equal, maintain_order="left")[_ROW]
            gone = rows.num_rows - len(kept)
            yield (rows.take(kept.to_arrow()) if gone else rows), gone

    def rows(self, touched: Touched, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
        """The rows of the file that are of one of the values, in their order; with `columns`, these and the values' alone."""
        values = self._of(touched.places)
        wanted = None if columns is None else list(dict.fromkeys([*self._columns, *columns]))
        for batch in read(self._table, [touched.split], wanted, self._pruner.in_row_groups):
            rows = pa.Table.from_batches([batch])
            asked = frame(rows.select(self._columns)).with_row_index(_ROW)
            kept = asked.join(values, on=self._columns, how="semi", nulls_equal=self._nulls_equal, maintain_order="left")[_ROW]
            if len(kept):
                yield rows.take(kept.to_arrow())

    def values(self, touched: Touched) -> pl.DataFrame:
        """The values that the file holds."""
        return self._of(touched.places).select(self._columns)

    def _of(self, places: pl.Series) -> pl.DataFrame:
        return self._values if len(places) == self._values.height else self._values[places]


def frame(rows: pa.Table) -> pl.DataFrame:
    """Rows as Polars has them."""
    made = pl.from_arrow(rows)
    assert isinstance(made, pl.DataFrame)
    return made
