"""Statements of jobs and scripts come back out of their own text, and no text brings out anything but a DeclarationError."""

from __future__ import annotations

import contextlib
import dataclasses
from datetime import timedelta

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.declare import MetadataColumn, PartitionField, TableSpec
from lakeflow.errors import DeclarationError
from lakeflow.sql.describe import describe
from lakeflow.sql.parse import parse_declarations, parse_jobs
from lakeflow.sql.script import parse_script
from lakeflow.sql.statements import (
    CreateMaterializedTable,
    CreateTable,
    CreateTableAs,
    Insert,
    JobStatement,
    Kept,
    Like,
    Query,
    RefreshMode,
    StatementSet,
)
from tests.property.test_sql_roundtrip import NAME, OPTIONS, TABLE_NAME, TEXT, TYPE

QUERIES = st.sampled_from(
    [
        "SELECT 1",
        "SELECT ';' AS \"a;b\" -- ; END\n FROM x.y",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "WITH a AS (SELECT 1) SELECT * FROM /* ; */ a",
        "VALUES (1, 'it''s'), (2, NULL)",
        "SELECT CASE WHEN x THEN 1 END FROM ML_PREDICT(TABLE a.b, MODEL m, DESCRIPTOR(c))",
        "FROM x.y",
    ]
).map(Query)
COLUMNS = st.lists(NAME, max_size=3, unique_by=str.lower).map(tuple)
INSERTS = st.builds(Insert, TABLE_NAME, QUERIES, COLUMNS, st.booleans())


@st.composite
def made_of_queries(draw: st.DrawFn) -> TableSpec:
    parts = st.builds(PartitionField, NAME) | st.builds(PartitionField, NAME, st.just("bucket"), st.integers(1, 99))
    return TableSpec(
        name=draw(TABLE_NAME),
        schema=pa.schema([]),
        options=draw(OPTIONS),
        partitioning=tuple(draw(st.lists(parts, max_size=3, unique=True))),
        primary_key=tuple(draw(st.lists(NAME, max_size=2, unique=True))),
        comment=draw(st.none() | TEXT),
    )


FRESHNESS = st.none() | st.integers(1, 10**12).map(lambda micros: timedelta(microseconds=micros))
JOB_STATEMENTS: st.SearchStrategy[JobStatement] = st.one_of(
    INSERTS,
    st.lists(INSERTS, min_size=1, max_size=3, unique_by=lambda insert: insert.target).map(tuple).map(StatementSet),
    st.builds(CreateTableAs, made_of_queries(), QUERIES, st.booleans()),
    st.builds(
        CreateMaterializedTable, made_of_queries(), QUERIES, FRESHNESS, st.none() | st.sampled_from(RefreshMode), st.booleans()
    ),
)


@st.composite
def likenesses(draw: st.DrawFn) -> CreateTable:
    """A table with METADATA columns that is LIKE another."""
    names = draw(st.lists(NAME, min_size=1, max_size=4, unique_by=str.lower))
    of_values = draw(st.integers(0, len(names)))
    including = frozenset(draw(st.sets(st.sampled_from(Kept))))
    overwriting = frozenset(draw(st.sets(st.sampled_from([Kept.METADATA, Kept.OPTIONS, Kept.WATERMARKS]))))
    table = TableSpec(
        name=draw(TABLE_NAME),
        schema=pa.schema([pa.field(name, draw(TYPE)) for name in names[:of_values]]),
        options=draw(OPTIONS),
        metadata=tuple(MetadataColumn(pa.field(name, draw(TYPE)), draw(TEXT)) for name in names[of_values:]),
    )
    return CreateTable(table, draw(st.booleans()), Like(draw(TABLE_NAME), including, overwriting & including))


def placeless(statement: object) -> object:
    """The statement without the places that it was read from."""
    table = getattr(statement, "table", None)
    if not isinstance(table, TableSpec):
        return statement
    return dataclasses.replace(statement, table=dataclasses.replace(table, origin=TableSpec("", table.schema).origin))  # type: ignore[type-var]


@given(st.lists(JOB_STATEMENTS, min_size=1, max_size=3))
def test_statements_of_jobs_come_back_out_of_their_text(statements: list[JobStatement]) -> None:
    text = "\n\n".join(describe(statement) for statement in statements)
    assert [placeless(statement) for statement in parse_jobs(text)] == statements
    assert [placeless(statement) for statement in parse_script(text)] == statements


@given(likenesses())
def test_tables_like_others_come_back_out_of_their_text(statement: CreateTable) -> None:
    [back] = parse_declarations(describe(statement))
    assert placeless(back) == statement


WORDS = st.sampled_from(
    [
        "CREATE",
        "TABLE",
        "MODEL",
        "VECTOR",
        "INDEX",
        "MATERIALIZED",
        "IF",
        "NOT",
        "EXISTS",
        "ALTER",
        "DROP",
        "DESCRIBE",
        "SHOW",
        "EXPLAIN",
        "PLAN",
        "FOR",
        "SET",
        "RESET",
        "INSERT",
        "INTO\n",
        "",
        "",
        "",
        "OVERWRITE",
        "BEGIN",
        "STATEMENT",
        "END",
        "EXECUTE",
        "LIKE",
        "INCLUDING",
        "EXCLUDING",
        "ALL",
        "OPTIONS",
        "AS",
        "SELECT",
        "WITH",
        "VALUES",
        "FROM",
        "METADATA",
        "WATERMARK",
        "PRIMARY\n",
        "",
        "",
        "",
        "KEY",
        "ENFORCED",
        "PARTITIONED",
        "BY",
        "PARTITION",
        "COMMENT",
        "FRESHNESS",
        "REFRESH_MODE",
        "INTERVAL",
        "MINUTE",
        "FULL",
        "SUSPEND",
        "REFRESH",
        "ADD",
        "MODIFY",
        "RENAME",
        "TO\n",
        "",
        "",
        "",
        "COLUMN",
        "FIRST",
        "AFTER",
        "EXTENDED",
        "TABLES",
        "JOBS",
        "CREATED",
        "ROW",
        "ARRAY",
        "DECIMAL",
        "INT",
        "a",
        "a.b",
        '"q"',
        "`r`",
        "'k'",
        "'v'",
        "5",
        "(",
        ")",
        ",",
        ";",
        ".",
        "=",
        "<",
        ">",
        "-",
        "'",
        '"',
        "/*",
        "*/",
        "--",
        "\n",
    ]
)


def read_or_refuse(text: str) -> None:
    for parse in (parse_script, parse_jobs, parse_declarations):
        with contextlib.suppress(DeclarationError):
            parse(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refuse(text)


@given(st.lists(WORDS, max_size=30).map(" ".join))
def test_any_words_are_read_or_refused(text: str) -> None:
    read_or_refuse(text)


@given(st.one_of(JOB_STATEMENTS, likenesses()), st.data())
def test_a_broken_statement_is_read_or_refused(statement: JobStatement | CreateTable, data: st.DataObject) -> None:
    text = describe(statement)
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 20)))
    read_or_refuse(text[:start] + data.draw(st.text(max_size=5) | WORDS) + text[stop:])


@given(
    st.sampled_from(["(", "ROW<a ", "ARRAY<", "INSERT INTO a.b (", "EXPLAIN ", "BEGIN STATEMENT SET;"]), st.integers(1, 3000)
)
def test_deep_texts_are_read_or_refused(part: str, times: int) -> None:
    read_or_refuse(part * times)
    read_or_refuse(f"CREATE TABLE a.b (x {part * times}")
