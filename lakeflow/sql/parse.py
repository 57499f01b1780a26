"""The files in tables/: text -> statements.

    CREATE TABLE          see parse_table.py
    CREATE MODEL [IF NOT EXISTS] m INPUT (c TYPE, ..) OUTPUT (c TYPE, ..) [COMMENT '..'] WITH ('provider' = '..', ..)
    CREATE VECTOR INDEX [IF NOT EXISTS] i ON namespace.table (column) WITH ('key' = 'c', 'metric' = 'cosine', ..)

Pure: no file is read, and the WITH pairs stay as written; `${NAME}` and `{{ secret.NAME }}` are filled in by config.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa

from lakeflow.declare import IndexSpec, ModelDeclaration
from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.sql.clauses import (
    read_clauses,
    read_columns,
    read_comment,
    read_if_not_exists,
    read_options,
    read_simple_name,
    read_table_name,
)
from lakeflow.sql.parse_table import read_create_table
from lakeflow.sql.statements import CreateModel, CreateVectorIndex, Statement
from lakeflow.sql.tokens import Cursor, Kind, Source, Token

VALID_STATEMENTS: Final = "CREATE TABLE, CREATE MODEL, CREATE VECTOR INDEX"
METRICS: Final = ("cosine", "l2", "dot")


def parse_declarations(text: str, path: Path | None = None) -> list[Statement]:
    """The statements of a file, in order; `path` is for messages alone.

    Raises DeclarationError, pointing at what is wrong with file:line:column and the source line, for anything that
    is no valid CREATE TABLE, CREATE MODEL or CREATE VECTOR INDEX.
    """
    cursor = Cursor(Source(text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text, path))
    statements: list[Statement] = []
    while not cursor.ended:
        if cursor.take_symbol(";"):
            continue
        statements.append(_read_statement(cursor))
        if not cursor.ended:
            cursor.expect_symbol(";", "after a statement")
    return statements


def _read_statement(cursor: Cursor) -> Statement:
    start = cursor.token
    if not cursor.take_words("CREATE"):
        raise _no_declaration(cursor, start, start.text)
    if cursor.take_words("TABLE"):
        return read_create_table(cursor, start)
    if cursor.take_words("MODEL"):
        return _read_create_model(cursor, start)
    if cursor.take_words("VECTOR", "INDEX"):
        return _read_create_index(cursor, start)
    raise _no_declaration(cursor, cursor.token, f"CREATE {cursor.token.text}")


NEXT_STEPS: Final = {
    "SELECT": 'lakeflow query "SELECT .."',
    "WITH": 'lakeflow query "WITH .."',
    "INSERT": "move the statement to a file in jobs/",
    "DROP": "a file in tables/ says what there is: delete the declaration itself",
    "ALTER": "a file in tables/ says what there is: change the declaration itself",
}


def _no_declaration(cursor: Cursor, token: Token, statement: str) -> DeclarationError:
    if token.kind is not Kind.WORD:
        return cursor.source.error(token, f"expected a statement, found {token}; valid in tables/: {VALID_STATEMENTS}")
    message = f"{statement.upper()} is no declaration; valid in tables/: {VALID_STATEMENTS}"
    return cursor.source.error(token, message, next_step=NEXT_STEPS.get(token.upper))


def _read_create_model(cursor: Cursor, start: Token) -> CreateModel:
    if_not_exists = read_if_not_exists(cursor)
    name = read_simple_name(cursor, "the model's name")
    schemas: dict[str, pa.Schema] = {}
    comment: list[str] = []
    options: list[Mapping[str, str]] = []

    def read_schema(side: str) -> None:
        cursor.expect_words(side, after="before its columns")
        schemas[side] = read_columns(cursor, f"after {side}")

    read_clauses(
        cursor,
        {
            "INPUT": lambda: read_schema("INPUT"),
            "OUTPUT": lambda: read_schema("OUTPUT"),
            "COMMENT": lambda: comment.append(read_comment(cursor)),
            "WITH": lambda: options.append(read_options(cursor)[0]),
        },
    )
    missing = [
        clause
        for clause, there in (("INPUT", "INPUT" in schemas), ("OUTPUT", "OUTPUT" in schemas), ("WITH", options))
        if not there
    ]
    if missing:
        cursor.fail(f"model {name!r} has no {' and no '.join(missing)}; valid: CREATE MODEL m INPUT (..) OUTPUT (..) WITH (..)")
    model = ModelDeclaration(
        name=name,
        input=schemas["INPUT"],
        output=schemas["OUTPUT"],
        options=options[0],
        comment=comment[0] if comment else None,
        origin=cursor.source.origin(start),
    )
    return CreateModel(model, if_not_exists)


def _read_create_index(cursor: Cursor, start: Token) -> CreateVectorIndex:
    if_not_exists = read_if_not_exists(cursor)
    name = read_simple_name(cursor, "the index's name")
    cursor.expect_words("ON", after="after the index's name")
    table = read_table_name(cursor)
    cursor.expect_symbol("(", "after the table's name")
    column = cursor.expect_name("the column that holds the vectors").text
    cursor.expect_symbol(")", "after the one column that holds the vectors")
    if not cursor.at_words("WITH"):
        cursor.fail(f"index {name!r} has no WITH; valid: WITH ('key' = 'column', 'metric' = 'cosine', ..)")
    options, values = read_options(cursor)
    read_clauses(cursor, {})
    if "key" not in options:
        cursor.fail(
            f"index {name!r} has no option 'key', the column that identifies a row{did_you_mean('key', options)}", start
        )
    index = IndexSpec(
        name=name,
        table=table,
        column=column,
        key=_filled(cursor, values["key"], "key"),
        metric=_metric(cursor, values.get("metric")),
        model=_filled(cursor, values["model"], "model") if "model" in values else None,
        columns=_columns(cursor, values.get("columns")),
        options={key: value for key, value in options.items() if key not in ("key", "metric", "model", "columns")},
        origin=cursor.source.origin(start),
    )
    return CreateVectorIndex(index, if_not_exists)


def _filled(cursor: Cursor, value: Token, key: str) -> str:
    if not value.text.strip():
        cursor.fail(f"option {key!r} is empty", value)
    return value.text.strip()


def _metric(cursor: Cursor, value: Token | None) -> str:
    if value is None:
        return METRICS[0]
    metric = value.text.strip().lower()
    if metric not in METRICS:
        cursor.fail(f"unknown metric {value}{did_you_mean(metric, METRICS)}", value)
    return metric


def _columns(cursor: Cursor, value: Token | None) -> tuple[str, ...]:
    if value is None:
        return ()
    columns = tuple(part.strip() for part in value.text.split(","))
    if not all(columns) or len(set(columns)) != len(columns):
        cursor.fail(f"option 'columns' is {value}; valid: each column once, with commas between: 'title, body'", value)
    return columns
