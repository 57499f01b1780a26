"""The keys that a step by whole keys makes anew: those of new rows, and of rows that went, but for rows that only moved.

Who changes one row of a file writes all the others again. A key with one row that went and one that came, equal in all columns,
and none in any other file, has nothing to be made of it. Rows are compared by 64 bits of Polars' hash, of one key at a time:
that another row passes for the same has a chance of one in 10^19.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl
import pyarrow as pa

from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.changes import read_removed
from lakeflow.lake.read import Split, read
from lakeflow.lake.touch import Touching, frame
from lakeflow.runner.plan import Source

ROWS, CONTENT = "__rows", "__content"


def changed_keys(source: Source, by: Sequence[str], others: Sequence[Split]) -> pl.DataFrame:
    """The keys, each once. `others` are the files that the step has read before it and leaves in place. Memory holds the keys
    of files that came and went."""
    table, names = source.table, list(by)
    schema = arrow_schema(table)
    nothing = frame(schema.empty_table().select(names))
    compares = bool(source.removed) and not any(pa.types.is_nested(kind) for kind in schema.types)
    if not compares:
        batches = [*_keys(read(table, source.splits, names)), *_keys(read_removed(table, source.removed, names))]
        return pl.concat([nothing, *batches]).unique()
    came = _contents(read(table, source.splits), names, nothing)
    went = _contents(read_removed(table, source.removed, schema.names), names, nothing)
    every = pl.concat([came.select(names), went.select(names)]).unique()
    single = [one.filter(pl.col(ROWS) == 1).drop(ROWS) for one in (came, went)]
    moved = single[0].join(single[1], on=[*names, CONTENT], how="inner", nulls_equal=True).select(names)
    if moved.is_empty():
        return every
    touching = Touching(table, names, moved, nulls_equal=True)
    for touched in touching.among(others):
        moved = moved.join(touching.values(touched), on=names, how="anti", nulls_equal=True)
    return every.join(moved, on=names, how="anti", nulls_equal=True)


def _keys(batches: Iterator[pa.RecordBatch]) -> Iterator[pl.DataFrame]:
    for batch in batches:
        yield frame(pa.Table.from_batches([batch])).unique()


def _contents(batches: Iterator[pa.RecordBatch], by: list[str], nothing: pl.DataFrame) -> pl.DataFrame:
    """Of each key how many rows there are, and a hash of one."""
    found = [nothing.with_columns(pl.lit(0, pl.UInt64).alias(ROWS), pl.lit(0, pl.UInt64).alias(CONTENT))]
    for batch in batches:
        rows = frame(pa.Table.from_batches([batch]))
        told = rows.select(by).with_columns(pl.lit(1, pl.UInt64).alias(ROWS), rows.hash_rows().alias(CONTENT))
        found.append(_summed(told, by))
    return _summed(pl.concat(found), by)


def _summed(told: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    return told.group_by(by).agg(pl.col(ROWS).sum(), pl.col(CONTENT).first())
