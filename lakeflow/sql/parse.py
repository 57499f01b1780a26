"""The files in tables/: text -> statements.

    CREATE TABLE          see parse_table.py
    CREATE MODEL          see parse_model.py
    CREATE VECTOR INDEX [IF NOT EXISTS] i ON namespace.table (column) WITH ('key' = 'c', 'metric' = 'cosine', ..)

Pure: no file is read, and the WITH pairs stay as written; `${NAME}` and `{{ secret.NAME }}` are filled in by config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.sql.clauses import read_clauses, read_if_not_exists, read_options, read_simple_name, read_table_name
from lakeflow.sql.parse_model import read_create_model
from lakeflow.sql.parse_table import read_create_table
from lakeflow.sql.statements import CreateVectorIndex, Statement
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
        return read_create_model(cursor, start)
    if cursor.take_words("VECTOR", "INDEX"):
        return _read_create_index(cursor, start)
    raise _no_declaration(cursor, cursor.token, f"CREATE {cursor.token.text}")


NEXT_STEPS: Final = {
    "SELECT": 'lakeflow query "SELECT .."',
    "WITH": 'lakeflow query "WITH .."',
    "INSERT": "move the statement to a file in jobs/",
    "DROP": "a file in tables/ says what there is: delete the declaration itself; versions of a model: lakeflow sql",
    "ALTER": "a file in tables/ says what there is: change the declaration itself; a model's default version: lakeflow sql",
    "SHOW": 'lakeflow sql -e "SHOW .."',
    "DESCRIBE": 'lakeflow sql -e "DESCRIBE .."',
    "DESC": 'lakeflow sql -e "DESC .."',
}


def _no_declaration(cursor: Cursor, token: Token, statement: str) -> DeclarationError:
    if token.kind is not Kind.WORD:
        return cursor.source.error(token, f"expected a statement, found {token}; valid in tables/: {VALID_STATEMENTS}")
    message = f"{statement.upper()} is no declaration; valid in tables/: {VALID_STATEMENTS}"
    return cursor.source.error(token, message, next_step=NEXT_STEPS.get(token.upper))


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
