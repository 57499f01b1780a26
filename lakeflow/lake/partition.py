"""Rows split by a table's partition spec, whatever transforms it has, and partition values as Iceberg keeps them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.partitioning import PartitionField, PartitionFieldValue, PartitionKey, partition_record_value
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform, TruncateTransform, VoidTransform
from pyiceberg.typedef import Record

from lakeflow.errors import SchemaMismatch


class _Key(PartitionKey):
    """PyIceberg's own takes one partition field a column, and no bucket of times."""

    @cached_property
    def partition(self) -> Record:
        return Record(*(self._value(each) for each in self.field_values))

    def _value(self, each: PartitionFieldValue) -> object:
        if each.value is None or not isinstance(each.field.transform, _KEEPS_TYPE):
            return each.value
        return partition_record_value(each.field, each.value, self.schema)


_KEEPS_TYPE = (IdentityTransform, TruncateTransform)
"""Transforms whose values are of the column's type; those of the others are integers."""


def partitions_of(table: Table, rows: pa.Table) -> Iterator[tuple[PartitionKey, pa.Table]]:
    """The rows split by the table's partition spec, partitions in the order of their first row, rows in their own.

    Raises SchemaMismatch for NaN in a partition column, which equals nothing, for a transform that is not known, and for a
    field whose column was dropped.
    """
    spec, schema = table.spec(), table.schema()
    name = ".".join(table.name())
    names = [str(place) for place in range(len(spec.fields))]
    values = pa.table([_values(rows, field, schema, name) for field in spec.fields], names=names)
    numbered = values.append_column("row", pa.array(range(rows.num_rows), pa.int64()))
    groups = numbered.group_by(names, use_threads=False).aggregate([("row", "list")])
    for group in range(groups.num_rows):
        keys = [
            PartitionFieldValue(field, groups.column(place)[group].as_py())
            for place, field in zip(names, spec.fields, strict=True)
        ]
        yield _Key(keys, spec, schema), rows.take(groups.column("row_list")[group].values)


def _values(rows: pa.Table, field: PartitionField, schema: Schema, table: str) -> pa.ChunkedArray:
    if field.source_id not in schema.field_ids:  # PyIceberg would write a manifest that it cannot read again
        raise _unwritable(table, field, "the column that it is made of was dropped")
    if isinstance(field.transform, VoidTransform):
        return pa.chunked_array([pa.nulls(rows.num_rows)])
    column = _source(rows, schema.find_column_name(field.source_id) or "")
    try:
        values = field.transform.pyarrow_transform(schema.find_field(field.source_id).field_type)(column)
    except (NotImplementedError, ValueError) as error:
        raise _unwritable(table, field, str(error)) from error
    if pa.types.is_floating(values.type) and (count := pc.sum(pc.is_nan(values)).as_py()):
        raise SchemaMismatch(
            f"{count} of {rows.num_rows} rows for table {table} belong to no partition: a partition column holds NaN",
            next_step="filter NaN out in the job, or make it null",
        )
    return values


def _unwritable(table: str, field: PartitionField, reason: str) -> SchemaMismatch:
    return SchemaMismatch(
        f"table {table} is partitioned by {field.transform!r} ({field.name}), which cannot be written: {reason}",
        left_behind="nothing of these rows is in the table",
        next_step="partition the table otherwise with the engine that made it",
    )


def _source(rows: pa.Table, path: str) -> pa.ChunkedArray:
    """A column, or a field within a struct. PyIceberg's transforms know one of Arrow's two kinds of binary."""
    if path in rows.column_names:
        values = rows.column(path)
    else:
        column, *fields = path.split(".")
        values = pc.struct_field(rows.column(column), fields)
    return values.cast(pa.binary()) if pa.types.is_large_binary(values.type) else values
