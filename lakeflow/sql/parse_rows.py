"""DELETE, UPDATE and TRUNCATE, in Flink's grammar: tokens -> values.

    DELETE FROM t [WHERE condition]
    UPDATE t SET column = value, .. [WHERE condition]
    TRUNCATE TABLE t

Each function reads what follows the words that it is named after; `start` is the first of these. Conditions and values are
kept as text, which the compiler of queries reads.
"""

from __future__ import annotations

import re
from typing import Final

from lakeflow.sql.clauses import read_table_name
from lakeflow.sql.row_changes import Assignment, DeleteRows, TruncateTable, UpdateRows, Written
from lakeflow.sql.tokens import Cursor, Token

STATEMENTS: Final = ("DELETE FROM", "UPDATE", "TRUNCATE TABLE")


def read_delete(cursor: Cursor, start: Token) -> DeleteRows:
    """Read what follows DELETE FROM. Raises DeclarationError, pointing at what is wrong."""
    name = read_table_name(cursor)
    kept = _blank(cursor.source.text[: start.stop]) + cursor.source.text[start.stop : cursor.token.start]
    return DeleteRows(name, _read_condition(cursor, kept, "or the end of the statement after DELETE FROM and a table"))


def read_update(cursor: Cursor, start: Token) -> UpdateRows:
    """Read what follows UPDATE. Raises DeclarationError, pointing at what is wrong."""
    name = read_table_name(cursor)
    text = cursor.source.text
    written = text[start.stop : cursor.token.start]
    select = _blank(text[: start.start]) + "SELECT"
    assignments: list[Assignment] = []
    cursor.expect_words("SET", after="after UPDATE and a table")
    while True:
        column = cursor.expect_name("a column to be set")
        if any(one.column == column.text for one in assignments):
            cursor.fail(f"column {column} is set twice", column)
        cursor.expect_symbol("=", f"after the column {column}")
        value, first = _read_expression(cursor, f"the value of column {column}", ends=("WHERE",), at_comma=True)
        query = f"{select}{_blank(text[start.stop : first])}{value}\nFROM {written}"
        assignments.append(Assignment(column.text, Written(value, query)))
        if not cursor.take_symbol(","):
            break
    kept = f"{_blank(text[: start.start])}FROM  {written}"
    kept += _blank(text[len(kept) : cursor.token.start])
    return UpdateRows(name, tuple(assignments), _read_condition(cursor, kept, "or the end of the statement after the values"))


def read_truncate(cursor: Cursor) -> TruncateTable:
    """Read what follows TRUNCATE TABLE. Raises DeclarationError, pointing at what is wrong."""
    return TruncateTable(read_table_name(cursor))


def _read_condition(cursor: Cursor, kept: str, where: str) -> Written | None:
    """The condition behind WHERE, if that comes next. `kept` are the characters before WHERE, of which a query is made."""
    if cursor.ended or cursor.at_symbol(";"):
        return None
    where_at = cursor.token.start
    cursor.expect_words("WHERE", after=where)
    condition, first = _read_expression(cursor, "a condition", ends=(), at_comma=False)
    return Written(condition, kept + cursor.source.text[where_at:first] + condition)


def _read_expression(cursor: Cursor, what: str, *, ends: tuple[str, ...], at_comma: bool) -> tuple[str, int]:
    """Everything up to a word or a comma outside of parentheses that ends it, a semicolon or the end; and where it begins."""
    first = cursor.token
    stop, depth = first.start, 0
    while not cursor.ended and not cursor.at_symbol(";"):
        if depth == 0 and (cursor.token.upper in ends or (at_comma and cursor.at_symbol(","))):
            break
        depth += (cursor.at_symbol("(") or cursor.at_symbol("[")) - (cursor.at_symbol(")") or cursor.at_symbol("]"))
        stop = cursor.advance().stop
    if stop == first.start:
        cursor.fail(f"expected {what}, found {cursor.token}")
    return cursor.source.text[first.start : stop], first.start


def _blank(text: str) -> str:
    """As many lines and columns without what stands there."""
    return re.sub(r"[^\n]", " ", text)
