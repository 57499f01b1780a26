"""The files of a project: text -> statements. Those of tables/ declare, those of jobs/ are jobs.

    tables/: CREATE TABLE (parse_table.py, parse_like.py), CREATE MODEL (parse_model.py), CREATE VECTOR INDEX (parse_index.py)
    jobs/:   INSERT, BEGIN STATEMENT SET, CREATE TABLE .. AS, CREATE MATERIALIZED TABLE, SET, RESET (parse_query.py)

Pure: no file is read, and the WITH pairs stay as written; `${NAME}` and `{{ secret.NAME }}` are filled in by config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar

from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.sql.parse_index import read_create_index
from lakeflow.sql.parse_model import read_create_model
from lakeflow.sql.parse_query import at_job_statement, read_job_statement, read_reset, read_set
from lakeflow.sql.parse_table import read_create_table
from lakeflow.sql.statements import CreateTableAs, JobStatement, ResetOption, SetOption, Statement
from lakeflow.sql.tokens import Cursor, Kind, Source, Token

DECLARATIONS: Final = ("CREATE TABLE", "CREATE MODEL", "CREATE VECTOR INDEX")
JOB_STATEMENTS: Final = (
    "INSERT INTO",
    "INSERT OVERWRITE",
    "BEGIN STATEMENT SET",
    "EXECUTE STATEMENT SET",
    "CREATE TABLE .. AS",
    "CREATE MATERIALIZED TABLE",
    "SET",
    "RESET",
)
AS_A_JOB: Final = "move the statement to a file in jobs/"
DECLARATION_STEPS: Final = {
    "SELECT": 'lakeflow query "SELECT .."',
    "WITH": 'lakeflow query "WITH .."',
    "INSERT": AS_A_JOB,
    "BEGIN": AS_A_JOB,
    "EXECUTE": AS_A_JOB,
    "MATERIALIZED": AS_A_JOB,
    "DROP": "a file in tables/ says what there is: delete the declaration itself; versions of a model: lakeflow sql",
    "ALTER": "a file in tables/ says what there is: change the declaration itself; a model's default version: lakeflow sql",
    "SHOW": 'lakeflow sql -e "SHOW .."',
    "DESCRIBE": 'lakeflow sql -e "DESCRIBE .."',
    "DESC": 'lakeflow sql -e "DESC .."',
    "SET": AS_A_JOB,
}
JOB_STEPS: Final = {
    "SELECT": "a job writes a table: INSERT INTO namespace.table SELECT ..; to look at rows: lakeflow query",
    "WITH": "a job writes a table: INSERT INTO namespace.table WITH ..; to look at rows: lakeflow query",
    "MODEL": "move the declaration to a file in tables/",
    "TABLE": "move the declaration to a file in tables/",
    "VECTOR": "move the declaration to a file in tables/",
    "DROP": 'lakeflow sql -e "DROP .."',
    "ALTER": 'lakeflow sql -e "ALTER .."',
    "SHOW": 'lakeflow sql -e "SHOW .."',
    "EXPLAIN": 'lakeflow sql -e "EXPLAIN .."',
}

Read = TypeVar("Read")


def parse_declarations(text: str, path: Path | None = None) -> list[Statement]:
    """The statements of a file of tables/, in order; `path` is for messages alone.

    Raises DeclarationError, pointing at what is wrong with file:line:column and the source line, for anything that
    is no valid CREATE TABLE, CREATE MODEL or CREATE VECTOR INDEX.
    """
    return read_statements(text, path, _read_declaration)


def parse_jobs(text: str, path: Path | None = None) -> list[JobStatement | SetOption | ResetOption]:
    """The statements of a file of jobs/, in order; `path` is for messages alone.

    Raises DeclarationError, pointing at what is wrong, for anything that is none of `JOB_STATEMENTS`. What the queries say
    is not looked at.
    """
    return read_statements(text, path, _read_job)


def read_statements(text: str, path: Path | None, read: Callable[[Cursor], Read]) -> list[Read]:
    """What `read` makes of each statement of a text, `;` between them. Raises DeclarationError."""
    cursor = Cursor(Source(text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text, path))
    statements: list[Read] = []
    while not cursor.ended:
        if cursor.take_symbol(";"):
            continue
        statements.append(read(cursor))
        if not cursor.ended:
            cursor.expect_symbol(";", "after a statement")
    return statements


def _read_declaration(cursor: Cursor) -> Statement:
    start = cursor.token
    if not cursor.take_words("CREATE"):
        raise _not_among(cursor, start, start.text, "declaration", "tables/", DECLARATIONS, DECLARATION_STEPS)
    if cursor.take_words("TABLE"):
        created = read_create_table(cursor, start)
        if isinstance(created, CreateTableAs):
            message = "CREATE TABLE .. AS is a job: it fills its table; valid in tables/: " + ", ".join(DECLARATIONS)
            raise cursor.source.error(start, message, next_step=AS_A_JOB)
        return created
    if cursor.take_words("MODEL"):
        return read_create_model(cursor, start)
    if cursor.take_words("VECTOR", "INDEX"):
        return read_create_index(cursor, start)
    raise _not_among(
        cursor, cursor.token, f"CREATE {cursor.token.text}", "declaration", "tables/", DECLARATIONS, DECLARATION_STEPS
    )


def _read_job(cursor: Cursor) -> JobStatement | SetOption | ResetOption:
    start = cursor.token
    if at_job_statement(cursor):
        return read_job_statement(cursor)
    if cursor.take_words("SET"):
        return read_set(cursor)
    if cursor.take_words("RESET"):
        return read_reset(cursor)
    if cursor.take_words("CREATE", "TABLE"):
        created = read_create_table(cursor, start)
        if isinstance(created, CreateTableAs):
            return created
        message = "CREATE TABLE without a query is no job; valid in jobs/: " + ", ".join(JOB_STATEMENTS)
        raise cursor.source.error(start, message, next_step=JOB_STEPS["TABLE"])
    named = start if not cursor.take_words("CREATE") else cursor.token
    said = start.text if named is start else f"CREATE {named.text}"
    raise _not_among(cursor, named, said, "job", "jobs/", JOB_STATEMENTS, JOB_STEPS)


def _not_among(
    cursor: Cursor,
    token: Token,
    statement: str,
    what: str,
    folder: str,
    valid: tuple[str, ...],
    next_steps: Mapping[str, str],
) -> DeclarationError:
    if token.kind is not Kind.WORD:
        return cursor.source.error(token, f"expected a statement, found {token}; valid in {folder}: {', '.join(valid)}")
    next_step = next_steps.get(token.upper)
    near = "; valid: " + ", ".join(valid) if next_step else did_you_mean(statement.upper(), valid)
    near = near.replace("valid:", f"valid in {folder}:", 1)
    return cursor.source.error(token, f"{statement.upper()} is no {what}{near}", next_step=next_step)
