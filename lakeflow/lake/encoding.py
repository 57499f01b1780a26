"""Which columns of a Parquet file are worth a dictionary. Pure.

A dictionary of values that hardly repeat is built, outgrown and thrown away: it costs a third of the time to write and
makes files larger. Other encodings than that and plain are left out, as readers of Iceberg in Java refuse some of them.
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SAMPLE_ROWS = 8192
FEW_ROWS = 256
MOST_DISTINCT = 0.5
"""Of the values in the sample; with more of them distinct a dictionary does not pay."""


def worth_a_dictionary(rows: pa.Table) -> bool | list[str]:
    """The columns' paths, as Parquet has them, or whether all or none; by the first rows of a file. Nested ones always are."""
    sample = rows.slice(0, SAMPLE_ROWS)
    if sample.num_rows < FEW_ROWS:
        return True
    varied = {field.name for field in rows.schema if _is_varied(field, sample)}
    if not varied:
        return True
    return [path for path in _paths(rows.schema) if path not in varied] or False


def _is_varied(field: pa.Field, sample: pa.Table) -> bool:
    if pa.types.is_nested(field.type):
        return False
    column = sample.column(field.name)
    present = len(column) - column.null_count
    return bool(present >= FEW_ROWS and pc.count_distinct(column, mode="only_valid").as_py() > MOST_DISTINCT * present)


def _paths(schema: pa.Schema) -> list[str]:
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, schema) as writer:
        found = writer
    columns = found.writer.metadata.schema
    return [columns.column(place).path for place in range(len(columns))]
