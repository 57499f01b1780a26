"""SQL type text <-> Arrow types, both ways and without loss: `parse_type(sql_type(t)) == t`.

    BOOLEAN                                  bool          STRING, VARCHAR[(n)], CHAR[(n)]      string
    TINYINT, SMALLINT, INT, BIGINT           int8 .. int64 BYTES, BINARY, VARBINARY[(n)]        binary
                                                           BINARY(n)                            fixed size binary
    FLOAT, REAL                              float32       DATE                                 date32
    DOUBLE [PRECISION]                       float64       TIME[(0..6)]                         time64[us]
    DECIMAL, NUMERIC [(p[, s])]              decimal128    TIMESTAMP[(0..6)]                    timestamp[us]
    ARRAY<T>, MAP<K, V>, ROW<a T, ..>        list, map, struct
    TIMESTAMP_LTZ[(0..6)], TIMESTAMP[(0..6)] WITH LOCAL TIME ZONE                               timestamp[us, UTC]

The grammar is Flink's, with its defaults (DECIMAL is DECIMAL(10, 0)); STRUCT stands for ROW, and `ROW(a T)` for
`ROW<a T>`. A length in VARCHAR(n), CHAR(n) or VARBINARY(n) is read and not kept: Iceberg has no such types, nothing is
cut and nothing is padded. BINARY(n) is n bytes exactly, as Iceberg's fixed.
Precisions below microseconds are kept as microseconds, which hold every such value.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import pyarrow as pa

from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.sql.tokens import Cursor, Kind, Source

DEEPEST = 32
"""How deep types may be nested."""

MOST_DIGITS = 38
MOST_PRECISION = 6

SIMPLE: Final[dict[str, pa.DataType]] = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INT": pa.int32(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "FLOAT": pa.float32(),
    "REAL": pa.float32(),
    "DOUBLE": pa.float64(),
    "STRING": pa.string(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
}
SIZED: Final[dict[str, pa.DataType]] = {
    "VARCHAR": pa.string(),
    "CHAR": pa.string(),
    "BINARY": pa.binary(),
    "VARBINARY": pa.binary(),
}
TYPE_NAMES: Final = (
    *SIMPLE,
    *SIZED,
    "DECIMAL",
    "NUMERIC",
    "TIME",
    "TIMESTAMP",
    "TIMESTAMP_LTZ",
    "ARRAY",
    "MAP",
    "ROW",
    "STRUCT",
)


def parse_type(text: str) -> pa.DataType:
    """The Arrow type of a SQL type. Raises DeclarationError, pointing at what is wrong."""
    cursor = Cursor(Source(text))
    found = read_type(cursor)
    if not cursor.ended:
        cursor.fail(f"expected nothing after the type, found {cursor.token}")
    return found


def read_type(cursor: Cursor, depth: int = 0) -> pa.DataType:
    """Read a type, without a NOT NULL behind it. Raises DeclarationError, pointing at what is wrong."""
    if depth > DEEPEST:
        cursor.fail(f"types are nested deeper than {DEEPEST}")
    named = cursor.token
    if named.kind is not Kind.WORD:
        cursor.fail(f"expected a type, found {named}")
    name = cursor.advance().upper
    if name in SIMPLE:
        if name == "DOUBLE":
            cursor.take_words("PRECISION")
        return SIMPLE[name]
    if name in SIZED:
        length = _read_length(cursor, name)
        return pa.binary(length) if name == "BINARY" and length is not None else SIZED[name]
    match name:
        case "DECIMAL" | "NUMERIC":
            return _read_decimal(cursor)
        case "TIME" | "TIMESTAMP" | "TIMESTAMP_LTZ":
            return _read_time(cursor, name)
        case "ARRAY":
            return _within(cursor, name, "<", ">", lambda: pa.list_(_read_inner(cursor, "element", depth)))
        case "MAP":
            return _within(cursor, name, "<", ">", lambda: _read_map(cursor, depth))
        case "ROW" | "STRUCT":
            opening, closing = ("(", ")") if cursor.at_symbol("(") else ("<", ">")
            return _within(cursor, name, opening, closing, lambda: _read_row(cursor, depth))
        case _:
            raise cursor.source.error(named, f"unknown type {named}{did_you_mean(name, TYPE_NAMES, most=len(TYPE_NAMES))}")


def read_nullable(cursor: Cursor) -> bool:
    """Read NOT NULL or NULL behind a type, if there is one: False for NOT NULL."""
    if cursor.take_words("NOT", "NULL"):
        return False
    cursor.take_words("NULL")
    return True


def _within(cursor: Cursor, name: str, opening: str, closing: str, read: Callable[[], pa.DataType]) -> pa.DataType:
    cursor.expect_symbol(opening, f"after {name}")
    found = read()
    cursor.expect_symbol(closing, f"at the end of {name}{opening}..")
    return found


def _read_inner(cursor: Cursor, name: str, depth: int) -> pa.Field:
    inner = read_type(cursor, depth + 1)
    return pa.field(name, inner, nullable=read_nullable(cursor))


def _read_map(cursor: Cursor, depth: int) -> pa.DataType:
    key = read_type(cursor, depth + 1)
    read_nullable(cursor)  # a map's key is never null, said or not
    cursor.expect_symbol(",", "between the key and the value of MAP<")
    return pa.map_(key, _read_inner(cursor, "value", depth))


def _read_row(cursor: Cursor, depth: int) -> pa.DataType:
    fields: list[pa.Field] = []
    taken: set[str] = set()
    while True:
        name = cursor.expect_name("a field's name")
        if name.text.lower() in taken:
            cursor.fail(f"field {name} is declared twice in the row", name)
        taken.add(name.text.lower())
        fields.append(_read_inner(cursor, name.text, depth))
        if cursor.token.kind is Kind.STRING:
            cursor.fail("a comment within a row is not kept; put it on the column: COMMENT '..'")
        if not cursor.take_symbol(","):
            return pa.struct(fields)


def _read_length(cursor: Cursor, name: str) -> int | None:
    if not cursor.take_symbol("("):
        return None
    length, token = cursor.expect_number(f"the length of {name}")
    if not 1 <= length < 2**31:
        cursor.fail(f"the length of {name} is {length}; valid: 1 to {2**31 - 1}", token)
    cursor.expect_symbol(")", f"after the length of {name}")
    return length


def _read_decimal(cursor: Cursor) -> pa.DataType:
    digits, scale = 10, 0
    if cursor.take_symbol("("):
        digits, token = cursor.expect_number("the number of digits")
        if not 1 <= digits <= MOST_DIGITS:
            cursor.fail(f"a decimal of {digits} digits; valid: 1 to {MOST_DIGITS}", token)
        if cursor.take_symbol(","):
            scale, token = cursor.expect_number("the number of digits after the point")
            if scale > digits:
                cursor.fail(f"a decimal of {digits} digits with {scale} after the point; valid: 0 to {digits}", token)
        cursor.expect_symbol(")", "after the digits")
    return pa.decimal128(digits, scale)


def _read_time(cursor: Cursor, name: str) -> pa.DataType:
    if cursor.take_symbol("("):
        precision, token = cursor.expect_number(f"the precision of {name}")
        if precision > MOST_PRECISION:
            cursor.fail(f"{name}({precision}) is finer than microseconds; valid: {name}(0) to {name}({MOST_PRECISION})", token)
        cursor.expect_symbol(")", f"after the precision of {name}")
    return _zoned(cursor, name)


def _zoned(cursor: Cursor, name: str) -> pa.DataType:
    started = cursor.token
    if name == "TIMESTAMP_LTZ" or (name == "TIMESTAMP" and cursor.take_words("WITH", "LOCAL", "TIME", "ZONE")):
        return pa.timestamp("us", tz="UTC")
    cursor.take_words("WITHOUT", "TIME", "ZONE")
    if cursor.at_words("WITH", "TIME", "ZONE"):
        cursor.fail(
            f"{name} WITH TIME ZONE keeps a zone for each value, which Iceberg does not; "
            "valid: TIMESTAMP_LTZ (an instant), TIMESTAMP (no zone)",
            started,
        )
    return pa.time64("us") if name == "TIME" else pa.timestamp("us")


TEXTS: Final[dict[pa.DataType, str]] = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INT",
    pa.int64(): "BIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "STRING",
    pa.large_string(): "STRING",
    pa.string_view(): "STRING",
    pa.binary(): "BYTES",
    pa.large_binary(): "BYTES",
    pa.binary_view(): "BYTES",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME(6)",
    pa.timestamp("us"): "TIMESTAMP(6)",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP_LTZ(6)",
}


def sql_type(arrow: pa.DataType) -> str:
    """The SQL text of an Arrow type. Raises DeclarationError where SQL has no such type (unsigned, nanoseconds, ..)."""
    if arrow in TEXTS:
        return TEXTS[arrow]
    if pa.types.is_decimal128(arrow) and 0 <= arrow.scale <= arrow.precision:
        return f"DECIMAL({arrow.precision}, {arrow.scale})"
    if pa.types.is_fixed_size_binary(arrow):
        return f"BINARY({arrow.byte_width})"
    if pa.types.is_list(arrow) or pa.types.is_large_list(arrow):
        return f"ARRAY<{_with_null(arrow.value_field)}>"
    if pa.types.is_map(arrow):
        return f"MAP<{sql_type(arrow.key_type)}, {_with_null(arrow.item_field)}>"
    if pa.types.is_struct(arrow) and arrow.num_fields:
        return f"ROW<{', '.join(f'{quoted(field.name)} {_with_null(field)}' for field in arrow)}>"
    raise DeclarationError(
        f"the Arrow type {arrow} has no SQL type; valid: {', '.join(sorted(set(TEXTS.values())))}, DECIMAL, ARRAY, MAP, ROW"
    )


def _with_null(field: pa.Field) -> str:
    return sql_type(field.type) + ("" if field.nullable else " NOT NULL")


def quoted(name: str) -> str:
    """A name as SQL text: bare where it can stand bare, in double quotes otherwise."""
    if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name) and name.upper() not in MARKED:
        return name
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


MARKED: Final = frozenset({"PRIMARY", "WATERMARK", "CONSTRAINT"})
"""Words that begin something other than a column in a list of columns."""
