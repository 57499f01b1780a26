"""Some rows of a source's files: those of a range of a column's values, or of given keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import polars as pl
import pyarrow as pa

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.iceberg import FileReader
from lakeflow.lake.prune import Pruner
from lakeflow.lake.ranges import read_within
from lakeflow.lake.read import read
from lakeflow.lake.touch import frame
from lakeflow.runner.frames import scan
from lakeflow.sql.relations import ArrowRelation, RangedRelation, Relation

if TYPE_CHECKING:
    from lakeflow.runner.plan import Source

_ROW = "__row"


def scan_within(source: Source, on_rows: Callable[[int], None]) -> pl.LazyFrame:
    """The rows of the source's range as a LazyFrame that reads a row group of one file at a time."""
    within = source.within
    assert within is not None, "the caller looked"
    return scan(
        source.table, source.splits, on_rows, lambda table, splits, columns: read_within(table, splits, within, columns)
    )


def chosen_relation(source: Source) -> Relation:
    """The rows of the source's range or keys as a query reads them: of a range of moments alone by DuckDB itself."""
    within = source.within
    if within is not None and source.keys is None and pa.types.is_timestamp(kind := _type_of(source, within.column)):
        from lakeflow.runner.querying import relation_over

        low, high = (None if one is None else int(one) for one in (within.low, within.high))
        return RangedRelation(relation_over(source.table, source.splits), within.column, low, high, kind.tz is not None)
    schema = FileReader(source.table).schema
    return ArrowRelation(schema, lambda: pa.RecordBatchReader.from_batches(schema, _batches(source)))


def _type_of(source: Source, column: str) -> pa.DataType:
    return arrow_schema(source.table).field(column).type


def _batches(source: Source) -> Iterator[pa.RecordBatch]:
    if source.within is not None:
        batches = read_within(source.table, source.splits, source.within)
    else:
        groups = None if source.keys is None else Pruner(source.table, source.keys).in_row_groups
        batches = read(source.table, source.splits, None, groups)
    for batch in batches:
        yield batch if source.keys is None else _of_keys(batch, source.keys)


def _of_keys(batch: pa.RecordBatch, keys: pl.DataFrame) -> pa.RecordBatch:
    """The rows of the keys, in their order."""
    asked = frame(pa.Table.from_batches([batch.select(keys.columns)])).with_row_index(_ROW)
    kept = asked.join(keys, on=keys.columns, how="semi", nulls_equal=True, maintain_order="left")[_ROW]
    return batch if len(kept) == batch.num_rows else batch.take(kept.to_arrow())
