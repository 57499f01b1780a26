"""Columns of Debezium's rows: from the Connect schema that comes with a value, or from what a table declares. Pure.

Connect's JSON schema: {"type": "struct", "fields": [{"field": .., "type": .., "optional": .., "name": .., "parameters": ..}]}.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from lakeflow.errors import DeclarationError, SchemaMismatch
from lakeflow.topics.formats import logical_reads as reads
from lakeflow.topics.formats.debezium_options import DebeziumOptions
from lakeflow.topics.formats.logical import Logical, Read, leaf, list_of, map_of, plain, struct_of
from lakeflow.topics.formats.logical_types import (
    DATE,
    DEBEZIUM_TIME,
    DECIMAL,
    LOCAL,
    MEANINGS,
    MOMENT,
    TIME,
    VARIABLE_SCALE,
    VARIABLE_SCALE_WRITTEN,
    YEARS,
    named_type,
)
from lakeflow.topics.formats.shape import JSON_TEXT

LITERALS: Final[Mapping[str, pa.DataType]] = {
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "float32": pa.float32(),
    "double": pa.float64(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
    "string": pa.string(),
    "bytes": pa.binary(),
}

OfField = Callable[[str, pa.DataType | None], Logical | None]
"""The field of a name as it is written, for a column of a type or the default; None where the writer has no such field."""


def columns_for(names: Sequence[str], of_field: OfField, declared: pa.Schema | None) -> list[Logical]:
    """The columns of a row whose writer has the fields `names`: those declared, or else all of them.

    A declared column that the writer lacks is null. Raises SchemaMismatch where it is NOT NULL, or cannot hold what is written.
    """
    if declared is None:
        lowered = [name.lower() for name in names]
        if len(set(lowered)) < len(lowered):
            clash = next(name for name in names if lowered.count(name.lower()) > 1)
            raise SchemaMismatch(f"the row has {clash!r} and another field that differs by case only")
        return [field for name in names if (field := of_field(name, None)) is not None]
    found: list[Logical] = []
    for column in declared:
        field = of_field(column.name, column.type)
        if field is None and not column.nullable:
            raise SchemaMismatch(f"{column.name} is NOT NULL, and the writer has no such field; it has: {', '.join(names)}")
        found.append((field or plain(column.name, column.type)).named(column.name).nullable(column.nullable))
    return found


def connect_columns(schema: Mapping[str, Any], declared: pa.Schema | None) -> list[Logical]:
    """The columns of the rows in an envelope's Connect schema."""
    fields = {str(field.get("field")): field for field in _fields(schema, "the envelope")}
    row = fields.get("after")
    if row is None or row.get("type") != "struct":
        raise SchemaMismatch(f"the schema is no envelope: it has the fields {', '.join(fields)}, and no struct `after`")
    written = {str(field.get("field")): field for field in _fields(row, "after")}

    def of_field(name: str, column: pa.DataType | None) -> Logical | None:
        return _of(written[name], column, name).named(name) if name in written else None

    return columns_for(list(written), of_field, declared)


def _fields(schema: Mapping[str, Any], path: str) -> list[Mapping[str, Any]]:
    fields = schema.get("fields")
    if not isinstance(fields, list) or not fields or not all(isinstance(field, dict) for field in fields):
        raise SchemaMismatch(f"{path} is a struct of no fields, which a table cannot hold")
    return fields


def _of(schema: Any, column: pa.DataType | None, path: str) -> Logical:
    """A field, nullable if its schema is optional, for `column` or the default."""
    if not isinstance(schema, dict):
        raise SchemaMismatch(f"{path} has the schema {schema!r:.60}; wanted an object")
    found = _by_type(schema, schema.get("type"), column, path)
    return found.nullable(schema.get("optional") is True)


def _by_type(schema: Mapping[str, Any], type_: Any, column: pa.DataType | None, path: str) -> Logical:
    name = schema.get("name")
    if isinstance(name, str) and (name in MEANINGS or name in (DECIMAL, VARIABLE_SCALE)):
        return _named(schema, name, column, path)
    match type_:
        case "struct":
            return _struct(schema, column, path)
        case "array":
            inner = None if column is None else _inside(column, pa.types.is_list, path).value_type
            return list_of("value", _of(schema.get("items"), inner, f"{path}[]"))
        case "map":
            return _map(schema, column, path)
        case str() if type_ in LITERALS:
            return _named(schema, "", column, path)
        case _:
            raise SchemaMismatch(f"{path} is of the Connect type {type_!r}; valid: {', '.join(LITERALS)}, array, map, struct")


def _named(schema: Mapping[str, Any], name: str, column: pa.DataType | None, path: str) -> Logical:
    if name == DECIMAL:
        written = JSON_TEXT
    elif name == VARIABLE_SCALE:
        written = VARIABLE_SCALE_WRITTEN
    else:
        written = LITERALS.get(str(schema.get("type")), pa.string())
    parameters = schema.get("parameters")
    try:
        return named_type(name, parameters if isinstance(parameters, dict) else {}, written, column)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{path} {error.message}") from error


def _struct(schema: Mapping[str, Any], column: pa.DataType | None, path: str) -> Logical:
    written = {str(field.get("field")): field for field in _fields(schema, path)}
    wanted = None if column is None else pa.schema(list(_inside(column, pa.types.is_struct, path)))

    def of_field(name: str, inner: pa.DataType | None) -> Logical | None:
        return _of(written[name], inner, f"{path}.{name}").named(name) if name in written else None

    return struct_of("value", columns_for(list(written), of_field, wanted))


def _map(schema: Mapping[str, Any], column: pa.DataType | None, path: str) -> Logical:
    keys, values = schema.get("keys"), schema.get("values")
    wanted = None if column is None else _inside(column, pa.types.is_map, path)
    item = _of(values, None if wanted is None else wanted.item_type, f"{path}{{}}")
    if isinstance(keys, dict) and keys.get("type") == "string" and not keys.get("optional"):
        return map_of("value", item)
    # Connect writes these as lists of pairs [key, value], which are neither objects nor of one type.
    raise SchemaMismatch(f"{path} is a map with keys that are no strings, which Connect writes as arrays of two types")


def _inside(column: pa.DataType, is_one: Callable[[pa.DataType], bool], path: str) -> pa.DataType:
    if not is_one(column):
        raise SchemaMismatch(f"{path} is nested otherwise than the column, which is of {column}")
    return column


def declared_columns_of(columns: pa.Schema, options: DebeziumOptions) -> list[Logical]:
    """The declared columns, as the connector writes them where its values have no schema."""
    return [_declared(field, options) for field in columns]


def _declared(field: pa.Field, options: DebeziumOptions) -> Logical:
    return _declared_type(field.type, options).named(field.name).nullable(field.nullable)


def _declared_type(type_: pa.DataType, options: DebeziumOptions) -> Logical:
    if type_ == DATE:
        return _dates(options)
    if type_ == TIME:
        return _times(type_, options.time_unit, "of a day", reads.times)
    if type_ == LOCAL:
        return _times(type_, options.timestamp_unit, f"since 1970-01-01, {YEARS}", lambda unit: reads.moments(unit, LOCAL))
    if type_ == MOMENT:
        return named_type(f"{DEBEZIUM_TIME}ZonedTimestamp", {}, pa.string())
    if pa.types.is_decimal128(type_) and options.decimal_mode == "precise":
        wanted = f"DECIMAL({type_.precision}, {type_.scale}) as unscaled bytes in base64 ('debezium.decimal.mode' = 'precise')"
        return leaf("value", pa.binary(), type_, reads.unscaled(type_.scale, type_), wanted)
    if pa.types.is_struct(type_):
        return struct_of("value", [_declared(field, options) for field in type_])
    if pa.types.is_list(type_):
        return list_of("value", _declared(type_.value_field, options))
    if pa.types.is_map(type_) and type_.key_type == pa.string():
        return map_of("value", _declared(type_.item_field, options))
    return plain("value", type_)


def _dates(options: DebeziumOptions) -> Logical:
    if options.timestamp_unit is None:
        return named_type(f"{DEBEZIUM_TIME}IsoDate", {}, pa.string())
    return named_type(f"{DEBEZIUM_TIME}Date", {}, pa.int32())


def _times(type_: pa.DataType, unit: int | None, wanted: str, read: Callable[[int], Read]) -> Logical:
    if unit is None:
        name = "IsoTime" if type_ == TIME else "IsoTimestamp"
        return named_type(f"{DEBEZIUM_TIME}{name}", {}, pa.string())
    words = {1000: "milliseconds", 1: "microseconds", reads.NANOSECONDS: "nanoseconds, in whole microseconds"}
    return leaf("value", pa.int64(), type_, read(unit), f"{words[unit]} {wanted}")


def declared_or_refused(columns: pa.Schema | None) -> pa.Schema:
    """The declared columns of plain JSON without schemas, which knows of no others. Raises DeclarationError where none are."""
    if columns is None:
        raise DeclarationError("values without a schema need declared columns; or 'debezium.schema-include' = 'true'")
    return columns
