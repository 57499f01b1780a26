"""Statements that show: tokens -> values.

    SHOW TABLES | MATERIALIZED TABLES | JOBS | VECTOR INDEXES [FROM | IN namespace] [[NOT] LIKE 'pattern']
    SHOW NAMESPACES | DATABASES | MODELS [[NOT] LIKE 'pattern']
    SHOW CREATE TABLE t | SHOW CREATE MATERIALIZED TABLE t | SHOW CREATE VECTOR INDEX i | SHOW CREATE MODEL m
    DESCRIBE | DESC [TABLE] [EXTENDED] t | VECTOR INDEX i | MODEL [EXTENDED] m | query

Each function reads what follows the words that it is named after.
"""

from __future__ import annotations

from typing import Final

from lakeflow.errors import did_you_mean
from lakeflow.sql.alterations import (
    DescribeTable,
    DescribeVectorIndex,
    Show,
    ShowCreateTable,
    ShowCreateVectorIndex,
    Shown,
)
from lakeflow.sql.clauses import at_query, read_pattern, read_rest, read_simple_name, read_table_name
from lakeflow.sql.parse_model import read_describe_model, read_show_create_model, read_show_models
from lakeflow.sql.statements import DescribeModel, ReadRows, ShowCreateModel, ShowModels
from lakeflow.sql.tokens import Cursor, Token

SHOWN: Final[dict[str, Shown]] = {
    **{what.value: what for what in Shown},
    "DATABASES": Shown.NAMESPACES,
    "SCHEMAS": Shown.NAMESPACES,
    "INDEXES": Shown.VECTOR_INDEXES,
}
WITHIN_NAMESPACE: Final = (Shown.TABLES, Shown.MATERIALIZED_TABLES, Shown.JOBS, Shown.VECTOR_INDEXES)
CREATED: Final = ("TABLE", "MATERIALIZED TABLE", "VECTOR INDEX", "MODEL")

Showing = Show | ShowModels | ShowCreateTable | ShowCreateVectorIndex | ShowCreateModel
Describing = DescribeTable | DescribeVectorIndex | DescribeModel | ReadRows


def read_show(cursor: Cursor) -> Showing:
    """Read what follows SHOW. Raises DeclarationError, pointing at what is wrong."""
    if cursor.take_words("CREATE"):
        return _read_show_create(cursor)
    if cursor.take_words("MODELS"):
        return read_show_models(cursor)
    for words, what in SHOWN.items():
        if cursor.take_words(*words.split()):
            return _read_listed(cursor, what)
    shown = cursor.token
    valid = (*(what.value for what in Shown), "MODELS", *(f"CREATE {what}" for what in CREATED))
    raise cursor.source.error(shown, f"{f'SHOW {shown.text}'.strip()} is not understood{did_you_mean(shown.upper, valid)}")


def _read_listed(cursor: Cursor, what: Shown) -> Show:
    namespace = None
    if what in WITHIN_NAMESPACE and (cursor.take_words("FROM") or cursor.take_words("IN")):
        namespace = read_simple_name(cursor, "the namespace's name")
    return Show(what, namespace, *read_pattern(cursor))


def _read_show_create(cursor: Cursor) -> Showing:
    if cursor.take_words("TABLE") or cursor.take_words("MATERIALIZED", "TABLE"):
        return ShowCreateTable(read_table_name(cursor))
    if cursor.take_words("VECTOR", "INDEX"):
        return ShowCreateVectorIndex(read_simple_name(cursor, "the index's name"))
    if cursor.take_words("MODEL"):
        return read_show_create_model(cursor)
    shown = cursor.token
    message = f"{f'SHOW CREATE {shown.text}'.strip()} is not understood{did_you_mean(shown.upper, CREATED)}"
    raise cursor.source.error(shown, message)


def read_describe(cursor: Cursor, start: Token) -> Describing:
    """Read what follows DESCRIBE or DESC, which is `start`. Raises DeclarationError, pointing at what is wrong."""
    if _take(cursor, "MODEL"):
        return read_describe_model(cursor)
    if _take(cursor, "VECTOR"):
        cursor.expect_words("INDEX", after="after VECTOR")
        return DescribeVectorIndex(read_simple_name(cursor, "the index's name"))
    extended = _take(cursor, "EXTENDED")
    is_named = _take(cursor, "TABLE")
    extended = _take(cursor, "EXTENDED") or extended
    if not extended and not is_named and not cursor.peek(1).is_symbol(".") and at_query(cursor):
        return ReadRows(read_rest(cursor, start))
    return DescribeTable(read_table_name(cursor), extended)


def _take(cursor: Cursor, word: str) -> bool:
    """Take a word that is not the namespace of a table."""
    return not cursor.peek(1).is_symbol(".") and cursor.take_words(word)
