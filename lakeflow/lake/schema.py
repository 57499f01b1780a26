"""Which Arrow types a table can hold, how rows are fitted to a table, and how two schemas differ. Pure.

PyIceberg stores some Arrow types under another type without a word and corrupts others (32 and 64 bit unsigned
integers). So every schema passes through `storable` first, which names the one type that each is stored as.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import SchemaMismatch, UnknownName
from lakeflow.lake.reshape import by_name, nulls, reshaped

DECIMAL_DIGITS = 38


def storable(schema: pa.Schema, where: str) -> pa.Schema:
    """The schema that Iceberg stores `schema` as. Raises SchemaMismatch for a type that has no place, naming the column."""
    _refuse_clashes(schema.names, where)
    return pa.schema([_storable_field(field, f"{where}: column {field.name!r}") for field in schema])


def _refuse_clashes(names: Sequence[str], where: str) -> None:
    """SQL engines find columns and fields whatever their case, so two that differ by it alone cannot both be found."""
    seen: dict[str, str] = {}
    for name in names:
        if (clash := seen.get(name.lower())) is not None:
            fault = "is there twice" if clash == name else f"and {clash!r} differ by case only"
            raise SchemaMismatch(f"{where}: {name!r} {fault}; rename one")
        seen[name.lower()] = name


def _storable_field(field: pa.Field, what: str) -> pa.Field:
    return pa.field(field.name, _storable_type(field.type, what), field.nullable)


def _storable_type(kind: pa.DataType, what: str) -> pa.DataType:
    for fits, stored in _STORED_AS:
        if fits(kind):
            return stored
    if pa.types.is_dictionary(kind):
        return _storable_type(kind.value_type, what)
    if pa.types.is_decimal(kind) and kind.precision <= DECIMAL_DIGITS and kind.scale >= 0:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us", "UTC") if kind.tz else pa.timestamp("us")
    if pa.types.is_fixed_size_binary(kind):
        return kind
    if pa.types.is_struct(kind):
        if kind.num_fields == 0:
            raise SchemaMismatch(f"{what} is a struct of no fields, which a table cannot hold")
        _refuse_clashes([kind.field(i).name for i in range(kind.num_fields)], what)
        return pa.struct([_storable_field(kind.field(i), f"{what}.{kind.field(i).name}") for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        item = pa.field("value", _storable_type(kind.item_type, f"{what}.value"), kind.item_field.nullable)
        return pa.map_(pa.field("key", _storable_type(kind.key_type, f"{what}.key"), nullable=False), item)
    if _is_list(kind):
        element = kind.value_field
        return pa.list_(pa.field("element", _storable_type(element.type, f"{what}.element"), element.nullable))
    raise SchemaMismatch(
        f"{what} has the type {kind}, which a table cannot hold; valid: boolean, integers up to 64 bit, float, double, "
        "decimal up to 38 digits and of no negative scale, string, binary, date, time, timestamp, list, map, struct",
        next_step="cast the column in the job",
    )


def _is_list(kind: pa.DataType) -> bool:
    """List views are left out: Arrow's cast of one to a list gives broken offsets."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _any_of(*kinds: pa.DataType) -> Callable[[pa.DataType], bool]:
    return lambda kind: kind in kinds


_STORED_AS: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
    (pa.types.is_boolean, pa.bool_()),
    (_any_of(pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()), pa.int32()),
    (_any_of(pa.int64(), pa.uint32(), pa.uint64()), pa.int64()),
    (_any_of(pa.float16(), pa.float32()), pa.float32()),
    (pa.types.is_float64, pa.float64()),
    (_any_of(pa.string(), pa.large_string(), pa.string_view()), pa.string()),
    (_any_of(pa.binary(), pa.large_binary(), pa.binary_view()), pa.binary()),
    (pa.types.is_date, pa.date32()),
    (pa.types.is_time, pa.time64("us")),
)


def fit(rows: pa.Table, target: pa.Schema, table: str) -> pa.Table:
    """`rows` with the columns, order and types of `target`, which is the table's own Arrow schema.

    Columns are found by name, and so are fields at every depth. A nullable one that `rows` lacks is filled with nulls, so that
    rows of a writer with an older or narrower schema fit; casts change no value. Raises SchemaMismatch where
    a column is unknown to the table, is missing though required, holds a null though required, or holds a value that
    the table's type cannot hold.
    """
    unknown = [name for name in rows.schema.names if name not in target.names]
    if unknown:
        raise SchemaMismatch(
            f"table {table} has no column {unknown[0]!r}; it has: {', '.join(target.names)}; the rows have: "
            f"{', '.join(rows.schema.names)}",
            next_step=f"select the table's columns, or drop the table to have it made anew: lakeflow tables drop {table}",
        )
    _refuse_clashes(rows.schema.names, f"the rows for table {table}")
    columns = [_fit_column(rows, field, table) for field in target]
    return pa.Table.from_arrays(columns, schema=target)


def _fit_column(rows: pa.Table, field: pa.Field, table: str) -> pa.ChunkedArray:
    what = f"column {field.name!r} of table {table}"
    if field.name not in rows.schema.names:
        if not field.nullable:
            raise SchemaMismatch(f"{what} is required ({field.type} NOT NULL) and the rows have no such column")
        return pa.chunked_array([nulls(rows.num_rows, field.type)])
    column = rows.column(field.name)
    if not field.nullable and column.null_count:
        row = pc.index(pc.is_null(column), True).as_py()
        raise SchemaMismatch(
            f"{what} is required ({field.type} NOT NULL) and row {row} of {rows.num_rows} holds a null",
            left_behind="the table, as of the last commit",
            next_step=f"leave out rows without it ({field.name} IS NOT NULL), or give them a value",
        )
    if column.type == field.type:
        return column
    if not _may_cast(column.type, field.type):
        raise SchemaMismatch(f"{what} is {field.type} and the rows bring {column.type}", next_step="cast the column in the job")
    try:
        return pa.chunked_array([reshaped(chunk, field, by_name, what) for chunk in column.chunks], field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaMismatch(f"{what} is {field.type} and the rows bring {column.type} that does not fit: {error}") from error


def _may_cast(source: pa.DataType, target: pa.DataType) -> bool:
    """Casts that change no value, or fail on the first value that they would change."""
    if pa.types.is_null(source):
        return True
    if pa.types.is_nested(source):
        return _may_cast_nested(source, target)
    stored = _storable_type(source, "a column")
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if any(is_one(stored) for is_one in numbers):
        if pa.types.is_integer(target):
            return bool(pa.types.is_integer(stored))
        if pa.types.is_floating(target):
            return bool(pa.types.is_integer(stored) or (pa.types.is_floating(stored) and stored.bit_width <= target.bit_width))
        return bool(pa.types.is_decimal(target) and not pa.types.is_floating(stored))
    return bool(stored == _storable_type(target, "a column"))


def _may_cast_nested(source: pa.DataType, target: pa.DataType) -> bool:
    """Arrow alone would parse strings inside of lists and drop fields that a struct of the table lacks."""
    if _is_list(source) and _is_list(target):
        return _may_cast(source.value_type, target.value_type)
    if pa.types.is_map(source) and pa.types.is_map(target):
        return _may_cast(source.key_type, target.key_type) and _may_cast(source.item_type, target.item_type)
    if not (pa.types.is_struct(source) and pa.types.is_struct(target)):
        return False
    brought = {source.field(i).name: source.field(i).type for i in range(source.num_fields)}
    wanted = {target.field(i).name: target.field(i) for i in range(target.num_fields)}
    return all(name in wanted and _may_cast(kind, wanted[name].type) for name, kind in brought.items()) and all(
        name in brought or field.nullable for name, field in wanted.items()
    )


def difference(declared: pa.Schema, existing: pa.Schema) -> str | None:
    """What keeps a declaration from describing a table that exists: a line a column, both sides; None where it fits.

    Both are schemas as stored. The order of columns is no difference.
    """
    lines = []
    for name in dict.fromkeys([*declared.names, *existing.names]):
        left = _shown(declared, name)
        right = _shown(existing, name)
        if left != right:
            lines.append(f"  {name}: declared {left}, in the table {right}")
    return "\n".join(lines) or None


def _shown(schema: pa.Schema, name: str) -> str:
    index = schema.get_field_index(name)
    if index < 0:
        return "nothing"
    field = _storable_field(schema.field(index), name)
    return f"{field.type}" if field.nullable else f"{field.type} NOT NULL"


def require_columns(columns: Sequence[str], schema: pa.Schema, table: str) -> None:
    """Raises UnknownName for the first of `columns` that the table lacks."""
    for column in columns:
        if column not in schema.names:
            raise UnknownName(f"column of {table}", column, schema.names)
