"""Declarations come back out of their own text, and no text brings out anything but a DeclarationError."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.declare import IndexSpec, ModelDeclaration, PartitionField, TableSpec, Watermark
from lakeflow.errors import DeclarationError, UsageError
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations
from lakeflow.sql.parse_index import METRICS
from lakeflow.sql.query import tables_of
from lakeflow.sql.statements import CreateModel, CreateTable, CreateVectorIndex, Statement
from lakeflow.sql.types import parse_type, sql_type

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.one_of(
    st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True),
    st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=6),
)
MODEL_NAME = NAME.filter(lambda name: "$" not in name)  # which parts a version from it
TABLE_NAME = st.builds("{}.{}".format, NAME, NAME)
SIMPLE = st.sampled_from(
    [
        *(pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.string()),
        *(pa.binary(), pa.binary(3)),
        *(pa.date32(), pa.time64("us"), pa.timestamp("us"), pa.timestamp("us", tz="UTC")),
    ]
)
DECIMAL = st.integers(1, 38).flatmap(lambda digits: st.builds(pa.decimal128, st.just(digits), st.integers(0, digits)))


def fields(types: st.SearchStrategy[pa.DataType], least: int = 1, most: int = 4) -> st.SearchStrategy[list[pa.Field]]:
    one = st.builds(pa.field, NAME, types, nullable=st.booleans())
    return st.lists(one, min_size=least, max_size=most, unique_by=lambda field: field.name.lower())


def nested(inner: st.SearchStrategy[pa.DataType]) -> st.SearchStrategy[pa.DataType]:
    element = st.builds(pa.field, st.just("element"), inner, nullable=st.booleans())
    value = st.builds(pa.field, st.just("value"), inner, nullable=st.booleans())
    return st.one_of(st.builds(pa.list_, element), st.builds(pa.map_, inner, value), st.builds(pa.struct, fields(inner)))


TYPE = st.recursive(SIMPLE | DECIMAL, nested, max_leaves=6)
OPTIONS = st.dictionaries(TEXT, TEXT, max_size=4)


@st.composite
def schemas(draw: st.DrawFn) -> pa.Schema:
    drawn = draw(fields(TYPE))
    comments = [draw(st.none() | TEXT) for _ in drawn]
    return pa.schema(
        [field if text is None else field.with_metadata({"doc": text}) for field, text in zip(drawn, comments, strict=True)]
    )


@st.composite
def tables(draw: st.DrawFn) -> TableSpec:
    schema = draw(schemas())
    flat = [field for field in schema if not pa.types.is_nested(field.type)]
    exact = [field for field in flat if not pa.types.is_floating(field.type)]
    key = draw(st.lists(st.sampled_from(exact), unique_by=lambda field: field.name)) if exact else []
    names = {field.name for field in key}
    times = [field.name for field in flat if pa.types.is_timestamp(field.type)]
    delay = st.integers(0, 10**12).map(lambda micros: timedelta(microseconds=micros))
    buckets = [f.name for f in exact if not pa.types.is_boolean(f.type)]
    choices = [st.sampled_from([PartitionField(field.name) for field in flat])] if flat else []
    if buckets:
        choices.append(st.builds(PartitionField, st.sampled_from(buckets), st.just("bucket"), st.integers(1, 99)))
    if times:
        choices.append(st.builds(PartitionField, st.sampled_from(times), st.sampled_from(["year", "month", "day", "hour"])))
    return TableSpec(
        name=draw(TABLE_NAME),
        schema=pa.schema([field.with_nullable(field.nullable and field.name not in names) for field in schema]),
        options=draw(OPTIONS),
        partitioning=tuple(draw(st.lists(st.one_of(choices), max_size=3, unique=True))) if choices else (),
        watermark=draw(st.none() | st.builds(Watermark, st.sampled_from(times), delay)) if times else None,
        primary_key=tuple(field.name for field in key),
        comment=draw(st.none() | TEXT),
    )


MODELS = st.builds(ModelDeclaration, MODEL_NAME, schemas(), schemas(), OPTIONS.filter(bool), comment=st.none() | TEXT)
STRIPPED = TEXT.map(str.strip).filter(bool)
COLUMN = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,6}", fullmatch=True)
OWN = ("key", "metric", "model", "columns")
INDEXES = st.builds(
    IndexSpec,
    *(NAME, TABLE_NAME, NAME, STRIPPED),
    metric=st.sampled_from(METRICS),
    model=st.none() | STRIPPED,
    columns=st.lists(COLUMN, max_size=3, unique=True).map(tuple),
    options=OPTIONS.filter(lambda options: not set(OWN) & set(options)),
)
STATEMENTS: st.SearchStrategy[Statement] = st.one_of(
    st.builds(CreateTable, tables(), st.booleans()),
    st.builds(CreateModel, MODELS, st.booleans()),
    st.builds(CreateVectorIndex, INDEXES, st.booleans()),
)


def placeless(statement: Statement) -> tuple[object, ...]:
    """Everything of a statement but its origin; schemas with their metadata, which `==` leaves out."""
    value = next(getattr(statement, name) for name in ("table", "model", "index") if hasattr(statement, name))
    parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value) if field.name != "origin"}
    shown = tuple(part.to_string(show_field_metadata=True) for part in parts.values() if isinstance(part, pa.Schema))
    return type(statement), statement.if_not_exists, parts, shown


@given(TYPE)
def test_a_type_comes_back_out_of_its_text(arrow: pa.DataType) -> None:
    back = parse_type(sql_type(arrow))
    assert back == arrow
    assert str(back) == str(arrow)


@given(st.lists(STATEMENTS, min_size=1, max_size=3))
def test_statements_come_back_out_of_their_text(statements: list[Statement]) -> None:
    back = parse_declarations("\n\n".join(describe(statement) for statement in statements))
    assert [placeless(statement) for statement in back] == [placeless(statement) for statement in statements]


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(DeclarationError):
        parse_declarations(text)


@given(STATEMENTS, st.data())
def test_a_broken_statement_is_read_or_refused(statement: Statement, data: st.DataObject) -> None:
    text = describe(statement)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 20)))
    middle = data.draw(
        st.text(max_size=5) | st.sampled_from(["(", ")", "<", ">", "'", '"', "`", "/*", "--", ",", ";", "NOT NULL", "{#"])
    )
    with contextlib.suppress(DeclarationError):
        parse_declarations(text[:start] + middle + text[stop:])


QUERY = "WITH a AS (SELECT x, 1.5 AS \"y\" FROM ns.t WHERE z = 'q') SELECT * FROM a JOIN ns.u USING (x) LIMIT 3 -- end"


@given(st.data())
def test_a_broken_query_is_read_or_refused(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(QUERY)))
    stop = data.draw(st.integers(start, min(len(QUERY), start + 20)))
    middle = data.draw(
        st.text(max_size=5) | st.sampled_from(["(", ")", "[", "'", '"', "/*", "$$", ",", ";", "COPY", "FROM", "{#", "AS"])
    )
    with contextlib.suppress(UsageError):
        tables_of(QUERY[:start] + middle + QUERY[stop:])


@given(st.text(max_size=60).map("SELECT {}".format) | st.text(max_size=60))
def test_any_text_is_a_query_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        tables_of(text)
