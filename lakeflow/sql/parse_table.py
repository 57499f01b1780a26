"""CREATE TABLE, after Flink's grammar, with Iceberg's partition transforms.

CREATE TABLE [IF NOT EXISTS] namespace.table (
  column TYPE [NOT NULL] [COMMENT '..'], ..
  [column TYPE METADATA [FROM 'timestamp'] [VIRTUAL], ..]
  [column AS expression [COMMENT '..'], ..]
  [[CONSTRAINT name] PRIMARY KEY (column, ..) NOT ENFORCED]
  [CONSTRAINT name CHECK (condition), and the others of parse_constraints.py]
  [WATERMARK FOR column AS column [- INTERVAL '5' MINUTE]]
)
[COMMENT '..'] [PARTITIONED BY (column | day(column) | bucket(16, column) | .., ..)] [WITH ('key' = 'value', ..)]
[LIKE namespace.other [(INCLUDING | EXCLUDING | OVERWRITING part ..)] | AS query]

A table with connector kafka may leave its columns to the topic's schema, and with them the parentheses; columns that
it names elsewhere are then looked for when the table is made. So are those of a table that is like another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

import pyarrow as pa

from lakeflow.declare import MetadataColumn, PartitionField, TableSpec, Watermark
from lakeflow.errors import did_you_mean
from lakeflow.sql.clauses import (
    COMMENT_KEY,
    read_clauses,
    read_column,
    read_comment,
    read_if_not_exists,
    read_options,
    read_query,
    read_table_name,
)
from lakeflow.sql.parse_computed import ComputedParts
from lakeflow.sql.parse_constraints import Constraint, at_expectation, check_expectations, judge_of, read_expectation
from lakeflow.sql.parse_like import read_like
from lakeflow.sql.statements import CreateTable, CreateTableAs, Like, Query
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


def read_create_table(cursor: Cursor, start: Token) -> CreateTable | CreateTableAs:
    """Read what follows CREATE TABLE. Raises DeclarationError, pointing at what is wrong."""
    if_not_exists = read_if_not_exists(cursor)
    parts = TableParts(cursor, read_table_name(cursor))
    likes: list[Like] = []
    queries: list[Query] = []

    def read_as() -> None:
        cursor.expect_words("AS", after="before the query")
        queries.append(read_query(cursor, "after AS"))

    parts.read({"LIKE": lambda: likes.append(read_like(cursor)), "AS": read_as})
    if queries:
        if likes:
            cursor.fail(f"table {parts.name!r} is LIKE another and has a query; valid: one of them", start)
        return CreateTableAs(replace(parts.spec(start), schema=parts.no_columns("table")), queries[0], if_not_exists)
    if not likes:
        parts.check(start)
    return CreateTable(parts.spec(start), if_not_exists, likes[0] if likes else None)


class TableParts:
    """The parts of a table's statement, in the order in which they are read."""

    def __init__(self, cursor: Cursor, name: str) -> None:
        self.name = name
        self._cursor = cursor
        self._body = _Body(cursor)
        self._comment: list[str] = []
        self._partitioning: list[tuple[PartitionField, Token]] = []
        self._options: list[Mapping[str, str]] = []

    def read(self, clauses: Mapping[str, Callable[[], None]]) -> None:
        """Read the columns and all clauses, `clauses` among them. Raises DeclarationError."""
        cursor = self._cursor
        if cursor.at_symbol("("):
            self._body.read()
        own: dict[str, Callable[[], None]] = {
            "COMMENT": lambda: self._comment.append(read_comment(cursor)),
            "PARTITIONED BY": lambda: self._partitioning.extend(_read_partitioning(cursor)),
            "WITH": lambda: self._options.append(read_options(cursor)[0]),
        }
        read_clauses(cursor, own | dict(clauses))

    def check(self, start: Token) -> None:
        """That there are columns, and that what names one finds it. Raises DeclarationError."""
        kafka = self.spec(start).options.get("connector") == "kafka"
        if not self._body.has_columns and not kafka:
            message = "the table has no column; only with 'connector' = 'kafka' may they come from the topic's schema"
            self._cursor.fail(message, start)
        self._body.check(is_topic=kafka)
        for field, token in self._partitioning:
            self._body.check_partition(field, token)

    def no_columns(self, what: str) -> pa.Schema:
        """No columns, as a statement with a query has. Raises DeclarationError where one is declared."""
        self._body.refuse_columns(f"{what} {self.name!r} has the columns of its query")
        return pa.schema([])

    def spec(self, start: Token) -> TableSpec:
        """The table as a value."""
        options = self._options[0] if self._options else {}
        expectations = tuple(one.expectation for one in self._body.constraints)
        return TableSpec(
            name=self.name,
            schema=self._body.schema(),
            options=options,
            partitioning=tuple(field for field, _ in self._partitioning),
            watermark=self._body.watermark,
            primary_key=self._body.primary_key,
            comment=self._comment[0] if self._comment else None,
            origin=self._cursor.source.origin(start),
            metadata=self._body.metadata,
            computed=self._body.computed.columns,
            expectations=expectations,
            judge=judge_of(expectations) if options.get("connector") == "kafka" else None,
        )


class _Body:
    """What stands between the parentheses. Columns may be named before they are declared, so they are checked at the end."""

    def __init__(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._fields: dict[str, pa.Field] = {}
        self._metadata: dict[str, tuple[Token, MetadataColumn]] = {}
        self.constraints: list[Constraint] = []
        self._first: Token | None = None
        self._taken: set[str] = set()
        self.computed = ComputedParts(cursor, self._taken)
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

    @property
    def metadata(self) -> tuple[MetadataColumn, ...]:
        return tuple(column for _, column in self._metadata.values())

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

    def check(self, *, is_topic: bool) -> None:
        """That what names a column finds one that fits. Raises DeclarationError."""
        for token, column in self._metadata.values():
            if not is_topic:
                message = f"column {token} is METADATA of a record; only with 'connector' = 'kafka' are there records"
                self._cursor.fail(message, token)
            if column.column.name in self.primary_key:
                self._cursor.fail(f"column {token} is METADATA of a record, which is no PRIMARY KEY of rows", token)
        self.computed.bind(self.schema(), self.metadata, self.primary_key, is_topic=is_topic)
        self._check_key()
        check_expectations(self._cursor, self.constraints, self._row() if is_topic else self.schema(), is_topic=is_topic)
        if self._fields:
            self._check_watermark()

    def _row(self) -> pa.Schema:
        """All columns of a row that a landing writes; none where they come from the topic's schema."""
        more = [*(column.column for column in self.metadata), *self.computed.fields.values()]
        return pa.schema([*self.schema(), *more]) if self._fields else self.schema()

    def refuse_columns(self, why: str) -> None:
        """Raises DeclarationError, pointing at the first column, where there is one."""
        if self._first is not None:
            self._cursor.fail(f"{why}; valid between the parentheses: PRIMARY KEY (..) NOT ENFORCED", self._first)

    def field(self, name: Token, what: str) -> pa.Field:
        """The declared column that `name` names, `what` being its part in the declaration."""
        known = self._fields | {column.column.name: column.column for column in self.metadata} | self.computed.fields
        found = known.get(name.text)
        if found is None:
            self._cursor.fail(f"unknown column {name} in {what}{did_you_mean(name.text, known)}", name)
        return found

    def check_partition(self, field: PartitionField, token: Token) -> None:
        """That a partition field names a column of a type that its transform takes. Raises DeclarationError."""
        if not self.has_columns:
            return
        arrow = self.field(token, "PARTITIONED BY").type
        fits, valid = FITS[field.transform]
        if not fits(arrow):
            message = f"column {token} of type {arrow} cannot be partitioned by {field.transform}; valid types: {valid}"
            self._cursor.fail(message, token)

    def _read_item(self) -> None:
        cursor = self._cursor
        if at_expectation(cursor):
            self.constraints.append(read_expectation(cursor))
        elif cursor.at_words("PRIMARY") or cursor.at_words("CONSTRAINT"):
            self._read_key()
        elif cursor.at_words("WATERMARK"):
            self._read_watermark()
        else:
            self._read_column()

    def _read_column(self) -> None:
        cursor = self._cursor
        start = self._first = self._first or cursor.token
        if cursor.peek(1).upper == "AS":
            self.computed.read()
            return
        name, field = read_column(cursor, self._taken)
        if not cursor.take_words("METADATA"):
            self._fields[name.text] = field
            return
        key = cursor.expect_string("the key of the metadata").text if cursor.take_words("FROM") else name.text
        cursor.take_words("VIRTUAL")
        if not field.nullable:
            cursor.fail(f"column {name} is METADATA NOT NULL, and a record may come without it", start)
        if (comment := read_comment(cursor) if cursor.at_words("COMMENT") else None) is not None:
            field = field.with_metadata({COMMENT_KEY: comment.encode()})
        self._metadata[name.text] = (name, MetadataColumn(field, key))

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


def read_interval(cursor: Cursor, after: str = "after '-'") -> timedelta:
    """Read INTERVAL '5' MINUTE; seconds may have a fraction. Raises DeclarationError where it is malformed."""
    cursor.expect_words("INTERVAL", after=after)
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


def _read_partitioning(cursor: Cursor) -> list[tuple[PartitionField, Token]]:
    """The partition fields, each with the token of its column."""
    cursor.expect_words("PARTITIONED", "BY", after="before the partition fields")
    cursor.expect_symbol("(", "after PARTITIONED BY")
    found: dict[PartitionField, Token] = {}
    while True:
        start = cursor.token
        field, column = _read_partition_field(cursor)
        if field in found:
            cursor.fail(f"partition field {field.transform} of {field.column!r} is there twice", start)
        found[field] = column
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after a partition field")
    return list(found.items())


def _read_partition_field(cursor: Cursor) -> tuple[PartitionField, Token]:
    first = cursor.expect_name("a column or a partition transform")
    if not cursor.at_symbol("("):
        return PartitionField(first.text), first
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
    return PartitionField(column.text, transform, width), column


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
