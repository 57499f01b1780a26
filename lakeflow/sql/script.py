"""What `lakeflow sql` runs: text -> statements about models, and statements that read. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from lakeflow.errors import DeclarationError, did_you_mean
from lakeflow.sql.parse_model import (
    read_alter_model,
    read_create_model,
    read_describe_model,
    read_drop_model,
    read_show,
)
from lakeflow.sql.query import FIRST_WORDS
from lakeflow.sql.statements import ModelStatement, Query, ReadRows
from lakeflow.sql.tokens import Cursor, Kind, Source, Token

VALID_STATEMENTS: Final = (
    "CREATE MODEL",
    "ALTER MODEL",
    "DROP MODEL",
    "DESCRIBE MODEL",
    "SHOW MODELS",
    "SHOW CREATE MODEL",
    *FIRST_WORDS,
)
NEXT_STEPS: Final = {
    "CREATE TABLE": "declare the table in a file of tables/; the first landing or job that writes it makes it",
    "CREATE VECTOR": "declare the index in a file of tables/, then: lakeflow index build",
    "DROP TABLE": "lakeflow tables drop NAME",
    "DROP VECTOR": "delete the index's declaration from tables/",
    "ALTER TABLE": "change the table's declaration in tables/, then: lakeflow plan",
    "INSERT": "write a job in jobs/, then: lakeflow run JOB",
}


def parse_script(text: str, path: Path | None = None) -> list[ModelStatement | ReadRows]:
    """The statements of a text, `;` between them, in order; `path` is for messages alone.

    A statement that reads is taken as it is, and judged when it is run. Raises DeclarationError, pointing at what is wrong
    with line and column, for whatever is not among `VALID_STATEMENTS`.
    """
    cursor = Cursor(Source(text.replace("\ufeff", " ", 1) if text.startswith("\ufeff") else text, path))
    statements: list[ModelStatement | ReadRows] = []
    while not cursor.ended:
        if cursor.take_symbol(";"):
            continue
        statements.append(_read_statement(cursor))
        if not cursor.ended:
            cursor.expect_symbol(";", "after a statement")
    return statements


def _read_statement(cursor: Cursor) -> ModelStatement | ReadRows:
    start = cursor.token
    if cursor.take_words("CREATE", "MODEL"):
        return read_create_model(cursor, start)
    if cursor.take_words("ALTER", "MODEL"):
        return read_alter_model(cursor)
    if cursor.take_words("DROP", "MODEL"):
        return read_drop_model(cursor)
    if cursor.take_words("DESCRIBE", "MODEL") or cursor.take_words("DESC", "MODEL"):
        return read_describe_model(cursor)
    if cursor.take_words("SHOW"):
        return read_show(cursor)
    if start.upper in FIRST_WORDS or cursor.at_symbol("("):
        return _read_rows(cursor)
    raise _refused(cursor, start)


def _read_rows(cursor: Cursor) -> ReadRows:
    """Everything up to the next semicolon, at its place in the text: so messages name the right line and column."""
    start, stop = cursor.token.start, cursor.token.stop
    while not cursor.ended and not cursor.at_symbol(";"):
        stop = cursor.advance().stop
    text = cursor.source.text
    return ReadRows(Query(text[start:stop], start, text, cursor.source.path))


def _refused(cursor: Cursor, start: Token) -> DeclarationError:
    if start.kind is not Kind.WORD:
        return cursor.source.error(start, f"expected a statement, found {start}; valid: {', '.join(VALID_STATEMENTS)}")
    cursor.advance()
    second = cursor.token.upper
    both = f"{start.upper} {second}".strip()
    said = both if start.upper in ("CREATE", "DROP", "ALTER") else start.upper
    next_step = NEXT_STEPS.get(both) or NEXT_STEPS.get(start.upper)
    valid = f"; valid: {', '.join(VALID_STATEMENTS)}" if next_step else did_you_mean(said, VALID_STATEMENTS)
    return cursor.source.error(start, f"{said} is no statement that lakeflow sql runs{valid}", next_step=next_step)
