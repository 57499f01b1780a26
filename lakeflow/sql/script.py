"""What `lakeflow sql` runs: text -> statements. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.sql.clauses import QUERY_WORDS, at_query, read_rest
from lakeflow.sql.parse import read_statements
from lakeflow.sql.parse_alter import read_alter_table, read_drop_table
from lakeflow.sql.parse_index import read_alter_index, read_create_index, read_drop_index
from lakeflow.sql.parse_model import read_alter_model, read_create_model, read_drop_model
from lakeflow.sql.parse_query import (
    at_job_statement,
    read_alter_materialized,
    read_drop_materialized,
    read_explain,
    read_job_statement,
    read_replacing,
    read_reset,
    read_set,
)
from lakeflow.sql.parse_rows import STATEMENTS as ROW_CHANGES
from lakeflow.sql.parse_rows import read_delete, read_truncate, read_update
from lakeflow.sql.parse_show import read_describe, read_show
from lakeflow.sql.parse_table import read_create_table
from lakeflow.sql.statements import ReadRows, ScriptStatement
from lakeflow.sql.tokens import Cursor, Kind, Token

KINDS: Final = ("TABLE", "MATERIALIZED TABLE", "MODEL", "VECTOR INDEX")
VALID_STATEMENTS: Final = (
    *QUERY_WORDS,
    "SUMMARIZE",
    "INSERT INTO",
    "INSERT OVERWRITE",
    "BEGIN STATEMENT SET",
    "EXECUTE STATEMENT SET",
    "EXPLAIN",
    "SET",
    "RESET",
    "DESCRIBE",
    "DESC",
    "SHOW",
    *ROW_CHANGES,
    *(f"{verb} {kind}" for kind in KINDS for verb in ("CREATE", "ALTER", "DROP")),
)
NEXT_STEPS: Final = {
    "USE": "write names whole: namespace.table",
    "DELETE": "DELETE FROM table WHERE condition",
    "MERGE": "a job with output update merges by key: docs/jobs.md",
    "TRUNCATE": "TRUNCATE TABLE table",
    "CREATE TEMPORARY": "leave TEMPORARY out: what is made stays, until it is dropped",
    "CREATE VIEW": "WITH name AS (SELECT ..) within the query, or a materialized table",
    "CREATE DATABASE": "a namespace is there with its first table: CREATE TABLE namespace.table ..",
    "CREATE FUNCTION": "a class of the project is a model: CREATE MODEL .. WITH ('provider' = 'python', ..)",
    "COPY": "lakeflow query writes rows as CSV, JSON, Parquet: lakeflow query --help",
}


def parse_script(text: str, path: Path | None = None) -> list[ScriptStatement]:
    """The statements of a text, `;` between them, in order; `path` is for messages alone.

    A query is taken as it is, and judged when it is run. Raises DeclarationError, pointing at what is wrong
    with line and column, for whatever is not among `VALID_STATEMENTS`.
    """
    return read_statements(text, path, _read_statement)


def _read_statement(cursor: Cursor) -> ScriptStatement:
    start = cursor.token
    if at_query(cursor) or start.upper == "SUMMARIZE" or cursor.at_symbol("("):
        return ReadRows(read_rest(cursor))
    if at_job_statement(cursor):
        return read_job_statement(cursor)
    match start.upper:
        case "CREATE" | "ALTER" | "DROP":
            return _read_defining(cursor, start)
        case "DELETE" if cursor.take_words("DELETE", "FROM"):
            return read_delete(cursor, start)
        case "UPDATE" if cursor.take_words("UPDATE"):
            return read_update(cursor, start)
        case "TRUNCATE" if cursor.take_words("TRUNCATE", "TABLE"):
            return read_truncate(cursor)
        case "SHOW":
            cursor.advance()
            return read_show(cursor)
        case "DESCRIBE" | "DESC":
            cursor.advance()
            return read_describe(cursor, start)
        case "EXPLAIN":
            cursor.advance()
            return read_explain(cursor)
        case "SET":
            cursor.advance()
            return read_set(cursor)
        case "RESET":
            cursor.advance()
            return read_reset(cursor)
        case _:
            raise _refused(cursor, start)


def _read_defining(cursor: Cursor, start: Token) -> ScriptStatement:
    """CREATE, ALTER or DROP, and what is behind it; CREATE MATERIALIZED TABLE has been read elsewhere."""
    if cursor.take_words("CREATE", "OR", "REPLACE", "TABLE"):
        return read_replacing(cursor, start)
    for kind in KINDS:
        if not cursor.take_words(start.upper, *kind.split()):
            continue
        match start.upper, kind:
            case "CREATE", "TABLE":
                return read_create_table(cursor, start)
            case "CREATE", "MODEL":
                return read_create_model(cursor, start)
            case "CREATE", "VECTOR INDEX":
                return read_create_index(cursor, start)
            case "ALTER", "TABLE":
                return read_alter_table(cursor)
            case "ALTER", "MATERIALIZED TABLE":
                return read_alter_materialized(cursor)
            case "ALTER", "MODEL":
                return read_alter_model(cursor)
            case "ALTER", "VECTOR INDEX":
                return read_alter_index(cursor)
            case "DROP", "TABLE":
                return read_drop_table(cursor)
            case "DROP", "MATERIALIZED TABLE":
                return read_drop_materialized(cursor)
            case "DROP", "MODEL":
                return read_drop_model(cursor)
            case _:
                return read_drop_index(cursor)
    raise _refused(cursor, start)


def _refused(cursor: Cursor, start: Token) -> DeclarationError:
    if start.kind is not Kind.WORD:
        return cursor.source.error(start, f"expected a statement, found {start}; valid: {', '.join(VALID_STATEMENTS)}")
    second = cursor.peek(1).upper
    said = f"{start.upper} {second}".strip() if start.upper in ("CREATE", "DROP", "ALTER") else start.upper
    next_step = NEXT_STEPS.get(said)
    shown = f"; valid: {', '.join(VALID_STATEMENTS)}"
    near = shown if next_step else did_you_mean(said, VALID_STATEMENTS, most=len(VALID_STATEMENTS))
    return cursor.source.error(start, f"{said} is no statement that lakeflow sql runs{near}", next_step=next_step)
