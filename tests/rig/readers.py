"""Comparing a table as engines read it that no one here wrote: the same rows, as often, and the same types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from tests.independent_reader import multiset
from tests.rig.duck import DuckDB
from tests.rig.spark import Spark, types

SPARK_TYPES: Mapping[type[IcebergType], str] = {
    BooleanType: "boolean",
    IntegerType: "integer",
    LongType: "long",
    FloatType: "float",
    DoubleType: "double",
    StringType: "string",
    BinaryType: "binary",
    FixedType: "binary",
    DateType: "date",
    TimestampType: "timestamp_ntz",
    TimestamptzType: "timestamp",
}
"""Iceberg's documentation, "Spark Queries", type compatibility. There is none for a time of day."""


def spark_type(kind: IcebergType) -> Any:
    """The type that Spark must give a column, as in Spark's schemas."""
    match kind:
        case DecimalType():
            return f"decimal({kind.precision},{kind.scale})"
        case ListType():
            return {"type": "array", "elementType": spark_type(kind.element_type), "containsNull": not kind.element_required}
        case MapType():
            inner = {"keyType": spark_type(kind.key_type), "valueType": spark_type(kind.value_type)}
            return {"type": "map", **inner, "valueContainsNull": not kind.value_required}
        case StructType():
            fields = [
                {"name": field.name, "type": spark_type(field.field_type), "nullable": not field.required}
                for field in kind.fields
            ]
            return {"type": "struct", "fields": fields}
        case _:
            return SPARK_TYPES[type(kind)]


def without_metadata(kind: Any) -> Any:
    """A type in Spark's schema without the free-form part of its fields."""
    match kind:
        case dict():
            return {name: without_metadata(inner) for name, inner in kind.items() if name != "metadata"}
        case list():
            return [without_metadata(inner) for inner in kind]
        case _:
            return kind


def assert_same_rows(found: pa.Table, expected: pa.Table, reader: str) -> None:
    """The same columns in the same order, and every row as often, nested values and NaN included."""
    assert found.column_names == expected.column_names, reader
    for name in expected.column_names:
        one, other = multiset(found.select([name])), multiset(expected.select([name]))
        assert one == other, f"{reader}, column {name}: only there {list(one - other)[:3]}, only here {list(other - one)[:3]}"
    assert multiset(found) == multiset(expected), f"{reader}: the columns agree, the rows do not"


def assert_same_in_spark(spark: Spark, catalog: Mapping[str, str], table: Table, expected: pa.Table | None = None) -> None:
    """Spark, by the catalog, reads what is expected: without it, what PyIceberg reads. Types are compared with the
    table's schema. `catalog` is [catalog] of the project."""
    table.refresh()
    found = spark.rows(catalog, f"SELECT * FROM {'.'.join(table.name())}")
    wanted = {field.name: spark_type(field.field_type) for field in table.schema().fields}
    assert {name: without_metadata(kind) for name, kind in types(found).items()} == wanted
    assert_same_rows(found, table.scan().to_arrow() if expected is None else expected, "Spark")


def assert_same_in_duckdb(duckdb: DuckDB, table: Table, expected: pa.Table | None = None) -> None:
    """DuckDB, by the metadata file, reads what is expected, in Arrow's types of the table's schema."""
    table.refresh()
    found = duckdb.rows(table)
    assert_same_rows(found, table.scan().to_arrow() if expected is None else expected, "DuckDB")
    for name, kind in duckdb_types(table).items():
        assert found.schema.field(name).type == kind, name


def duckdb_types(table: Table) -> dict[str, pa.DataType]:
    """What DuckDB's answers are written as. DuckDB has one type for bytes of any length."""
    return {field.name: _without_lengths(field.type) for field in table.schema().as_arrow()}


def _without_lengths(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_binary(kind) or pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_struct(kind):
        return pa.struct([(child.name, _without_lengths(child.type)) for child in kind])
    if pa.types.is_map(kind):
        return pa.map_(_without_lengths(kind.key_type), _without_lengths(kind.item_type))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", _without_lengths(kind.value_type)))
    return kind
