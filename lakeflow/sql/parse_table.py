"""CREATE TABLE, after Flink's grammar, with Iceberg's partition transforms.

CREATE TABLE [IF NOT EXISTS] namespace.table (
  column TYPE [NOT NULL] [COMMENT '..'], ..
  [[CONSTRAINT name] PRIMARY KEY (column, ..) NOT ENFORCED]
  [WATERMARK FOR column AS column [- INTERVAL '5' MINUTE]]
)
[COMMENT '..'] [PARTITIONED BY (column | day(column) | bucket(16, column) | .., ..)] [WITH ('key' = 'value', ..)]

A table with connector kafka may leave its columns to the topic's schema, and with them the parentheses; columns that
it names elsewhere are then looked for when the table is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

import pyarrow as pa

from lakeflow.declare import PartitionField, TableSpec, Watermark
from lakeflow.errors import did_you_mean
from lakeflow.sql.clauses import (
    read_clauses,
    read_column,
    read_comment,
    read_if_not_exists,
    read_options,
    read_table_name,
)
from lakeflow.sql.statements import CreateTable
from lakeflow.sql.tokens import Cursor, Token

UNITS: Final[dict[str, timedelta]] = {
    "DAY": timedelta(days=1),
    "HOUR": timedelta(hours=1),
    "MINUTE": timedelta(minutes=1),
    "SECOND": timedelta(seconds=1),
}
TRANSFORMS: Final[dict[str, str]] = {
    "identity": "identity",
    **{name + ending: name for name in ("year", "month", "day", "hour") for ending in ("", "s")},
    "bucket": "bucket",
    "truncate": "truncate",
}


def read_create_table(cursor: Cursor, start: Token) -> CreateTable:
    """Read what follows CREATE TABLE. Raises DeclarationError, pointing at what is wrong."""
    if_not_exists = read_if_not_exists(cursor)
    name = read_table_name(cursor)
    body = _Body(cursor)
    if cursor.at_symbol("("):
        body.read()
    comment: list[str] = []
    partitioning: list[PartitionField] = []
    options: list[Mapping[str, str]] = []
    read_clauses(
        cursor,
        {
            "COMMENT": lambda: comment.append(read_comment(cursor)),
            "PARTITIONED BY": lambda: partitioning.extend(_read_partitioning(cursor, body)),
            "WITH": lambda: options.append(read_options(cursor)[0]),
        },
    )
    given = options[0] if options else {}
    if not body.has_columns and given.get("connector") != "kafka":
        cursor.fail("the table has no column; only with 'connector' = 'kafka' may they come from the topic's schema", start)
    table = TableSpec(
        name=name,
        schema=body.schema(),
        options=given,
        partitioning=tuple(partitioning),
        watermark=body.watermark,
        primary_key=body.primary_key,
        comment=comment[0] if comment else None,
        origin=cursor.source.origin(start),
    )
    return CreateTable(table, if_not_exists)


class _Body:
    """What stands between the parentheses. Columns may be named before they are declared, so they are checked at the end."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._fields: dict[str, pa.Field] = {}
        self._taken: set[str] = set()
        self._key: list[Token] = []
        self._watermarked: Token | None = None
        self._delay = timedelta(0)

    @property
    def has_columns(self) -> bool:
        return bool(self._fields)

    @property
    def primary_key(self) -> tuple[str, ...]:
        return tuple(name.text for name in self._key)

    @property
    def watermark(self) -> Watermark | None:
        return Watermark(self._watermarked.text, self._delay) if self._watermarked else None

    def schema(self) -> pa.Schema:
        """The columns; those of the primary key are NOT NULL, said or not, as Flink has it."""
        key = set(self.primary_key)
        return pa.schema([field.with_nullable(field.nullable and name not in key) for name, field in self._fields.items()])

    def read(self) -> None:
        cursor = self._cursor
        cursor.expect_symbol("(", "after the table's name")
        while True:
            self._read_item()
            if not cursor.take_symbol(","):
                break
        cursor.expect_symbol(")", "or ',' after a column")
        self._check_key()
        if self._fields:
            self._check_watermark()

    def field(self, name: Token, what: str) -> pa.Field:
        """The declared column that `name` names, `what` being its part in the declaration."""
        found = self._fields.get(name.text)
        if found is None:
            self._cursor.fail(f"unknown column {name} in {what}{did_you_mean(name.text, self._fields)}", name)
        return found

    def _read_item(self) -> None:
        cursor = self._cursor
        if cursor.at_words("PRIMARY") or cursor.at_words("CONSTRAINT"):
            self._read_key()
        elif cursor.at_words("WATERMARK"):
            self._read_watermark()
        else:
            name, field = read_column(cursor, self._taken)
            self._fields[name.text] = field

    def _read_key(self) -> None:
        cursor = self._cursor
        start = cursor.token
        if cursor.take_words("CONSTRAINT"):
            cursor.expect_name("the constraint's name")
        cursor.expect_words("PRIMARY", "KEY", after="in a constraint (a column of that name is written in double quotes)")
        if self._key:
            cursor.fail("PRIMARY KEY is there twice", start)
        cursor.expect_symbol("(", "after PRIMARY KEY")
        while True:
            self._key.append(cursor.expect_name("a column of the primary key"))
            if not cursor.take_symbol(","):
                break
        cursor.expect_symbol(")", "or ',' after a column of the primary key")
        cursor.expect_words("NOT", "ENFORCED", after="after the primary key: nothing checks that its values are unique")

    def _read_watermark(self) -> None:
        cursor = self._cursor
        start = cursor.advance()
        cursor.expect_words("FOR", after="after WATERMARK (a column of that name is written in double quotes)")
        if self._watermarked:
            cursor.fail("WATERMARK is there twice", start)
        name = cursor.expect_name("the watermark's column")
        cursor.expect_words("AS", after="after the watermark's column")
        again = cursor.expect_name("the watermark's column")
        if again.text != name.text:
            cursor.fail(
                f"the watermark for {name} is made of another column, {again}; valid: {name.text} [- INTERVAL ..]", again
            )
        self._watermarked = name
        if cursor.take_symbol("-"):
            self._delay = read_interval(cursor)

    def _check_key(self) -> None:
        seen: set[str] = set()
        for name in self._key:
            if name.text in seen:
                self._cursor.fail(f"column {name} is twice in PRIMARY KEY", name)
            seen.add(name.text)
            if not self._fields:
                continue
            field = self.field(name, "PRIMARY KEY")
            if pa.types.is_nested(field.type) or pa.types.is_floating(field.type):
                self._cursor.fail(
                    f"column {name} of type {field.type} in PRIMARY KEY; valid: any type that compares exactly", name
                )

    def _check_watermark(self) -> None:
        name = self._watermarked
        if name is not None and not pa.types.is_timestamp(self.field(name, "WATERMARK").type):
            arrow = self.field(name, "WATERMARK").type
            self._cursor.fail(f"the watermark's column {name} is of type {arrow}; valid: TIMESTAMP, TIMESTAMP_LTZ", name)


def read_interval(cursor: Cursor) -> timedelta:
    """Read INTERVAL '5' MINUTE; seconds may have a fraction. Raises DeclarationError where it is malformed."""
    cursor.expect_words("INTERVAL", after="after '-'")
    number = cursor.expect_string("the length of the interval")
    unit = cursor.expect_name("the interval's unit")
    singular = unit.upper.removesuffix("S")
    if singular not in UNITS:
        cursor.fail(f"unknown unit {unit} of an interval{did_you_mean(unit.upper, UNITS)}", unit)
    digits = r"[0-9]{1,9}(\.[0-9]{1,6})?" if singular == "SECOND" else r"[0-9]{1,9}"
    if not re.fullmatch(digits, number.text):
        cursor.fail(
            f"the interval {number} {unit.text} is malformed; valid: INTERVAL '5' MINUTE, INTERVAL '0.5' SECOND", number
        )
    whole, _, fraction = number.text.partition(".")
    return UNITS[singular] * int(whole) + timedelta(microseconds=int(fraction.ljust(6, "0")))


def _read_partitioning(cursor: Cursor, body: _Body) -> list[PartitionField]:
    cursor.expect_words("PARTITIONED", "BY", after="before the partition fields")
    cursor.expect_symbol("(", "after PARTITIONED BY")
    found: list[PartitionField] = []
    while True:
        start = cursor.token
        field = _read_partition_field(cursor, body)
        if field in found:
            cursor.fail(f"partition field {field.transform} of {field.column!r} is there twice", start)
        found.append(field)
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after a partition field")
    return found


def _read_partition_field(cursor: Cursor, body: _Body) -> PartitionField:
    first = cursor.expect_name("a column or a partition transform")
    if not cursor.at_symbol("("):
        return _partition_field(cursor, body, first, "identity", None)
    transform = TRANSFORMS.get(first.text.lower())
    if transform is None:
        cursor.fail(f"unknown partition transform {first}{did_you_mean(first.text.lower(), TRANSFORMS)}", first)
    cursor.expect_symbol("(", "after the transform")
    width: int | None = None
    if transform in ("bucket", "truncate"):
        width, number = cursor.expect_number(f"the width of {transform}, as in {transform}(16, column)")
        if not 1 <= width < 2**31:
            cursor.fail(f"the width of {transform} is {width}; valid: 1 and more", number)
        cursor.expect_symbol(",", f"after the width of {transform}")
    column = cursor.expect_name("the transform's column")
    cursor.expect_symbol(")", "after the transform's column")
    return _partition_field(cursor, body, column, transform, width)


def _is_whole(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_signed_integer(arrow) or pa.types.is_decimal(arrow))


FITS: Final[dict[str, tuple[Callable[[pa.DataType], bool], str]]] = {
    "identity": (lambda t: not pa.types.is_nested(t), "any but ARRAY, MAP, ROW"),
    "year": (lambda t: pa.types.is_date(t) or pa.types.is_timestamp(t), "DATE, TIMESTAMP, TIMESTAMP_LTZ"),
    "month": (lambda t: pa.types.is_date(t) or pa.types.is_timestamp(t), "DATE, TIMESTAMP, TIMESTAMP_LTZ"),
    "day": (lambda t: pa.types.is_date(t) or pa.types.is_timestamp(t), "DATE, TIMESTAMP, TIMESTAMP_LTZ"),
    "hour": (pa.types.is_timestamp, "TIMESTAMP, TIMESTAMP_LTZ"),
    "bucket": (
        lambda t: not (pa.types.is_nested(t) or pa.types.is_floating(t) or pa.types.is_boolean(t)),
        "any but BOOLEAN, FLOAT, DOUBLE, ARRAY, MAP, ROW",
    ),
    "truncate": (
        lambda t: _is_whole(t) or pa.types.is_string(t) or pa.types.is_binary(t),
        "INT, BIGINT, DECIMAL, STRING, BYTES",
    ),
}
"""The types that a transform takes, after the Iceberg specification, "Partition Transforms"."""


def _partition_field(cursor: Cursor, body: _Body, column: Token, transform: str, width: int | None) -> PartitionField:
    if not body.has_columns:
        return PartitionField(column.text, transform, width)
    arrow = body.field(column, "PARTITIONED BY").type
    fits, valid = FITS[transform]
    if not fits(arrow):
        cursor.fail(f"column {column} of type {arrow} cannot be partitioned by {transform}; valid types: {valid}", column)
    return PartitionField(column.text, transform, width)
