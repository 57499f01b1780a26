"""`column AS expression [COMMENT '..']` in CREATE TABLE: read where it stands, bound once all columns are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import pyarrow as pa

from lakeflow.declare import Computed, MetadataColumn
from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.sql.clauses import COMMENT_KEY, read_comment
from lakeflow.sql.tokens import Cursor, Token


@dataclass(frozen=True, slots=True)
class _Written:
    """A computed column as it is written: its name, its expression, where that begins, its comment."""

    name: Token
    text: str
    first: Token
    comment: str | None


class ComputedParts:
    """The computed columns of a statement, in the order in which they are read. `taken` are the names so far, in lower case."""

    def __init__(self, cursor: Cursor, taken: set[str]) -> None:
        self._cursor = cursor
        self._taken = taken
        self._written: list[_Written] = []
        self.columns: Computed | None = None

    @property
    def fields(self) -> dict[str, pa.Field]:
        """The columns by name, once they are bound."""
        return {} if self.columns is None else {column.name: column for column in self.columns.columns}

    def read(self) -> None:
        """Read one. Raises DeclarationError, pointing at what is no expression of one row."""
        from lakeflow.sql.computed import check_expression

        cursor = self._cursor
        name = cursor.expect_name("a column's name")
        if name.text.lower() in self._taken:
            cursor.fail(f"column {name} is declared twice (names that differ by case alone count as one)", name)
        self._taken.add(name.text.lower())
        cursor.expect_words("AS", after="after the name of a computed column")
        first, text = read_expression(cursor)
        if not text:
            cursor.fail(f"computed column {name} has no expression, such as price * quantity")
        source = cursor.source
        padded = "".join(one if one == "\n" else " " for one in source.text[: first.start]) + text
        try:
            check_expression(padded, source.path)
        except UsageError as error:
            raise DeclarationError(error.message) from error
        comment = read_comment(cursor) if cursor.at_words("COMMENT") else None
        self._written.append(_Written(name, text, first, comment))

    def bind(self, declared: pa.Schema, metadata: Sequence[MetadataColumn], key: Sequence[str], *, is_topic: bool) -> None:
        """Find the types over the declared columns. Raises DeclarationError where an expression cannot be bound to them."""
        if not self._written:
            return
        for one in self._written:
            if one.name.text in key:
                self._cursor.fail(
                    f"column {one.name} is computed of a row, which is no PRIMARY KEY: deletes bring no row", one.name
                )
        if not is_topic:
            refuse_computed(self._cursor, self._written[0].name, self._written[0].text)
        if not declared.names:
            message = "a column is computed of declared ones, and the table declares none"
            self._cursor.fail(message, self._written[0].name)
        from lakeflow.sql.computed import computed_columns

        around = pa.schema([*declared, *(one.column for one in metadata)])
        for one in self._written:
            try:
                computed_columns([(one.name.text, one.text)], around)
            except UnknownName as error:
                self._cursor.fail(f"computed column {one.name}: {error.message}", one.first)
            except UsageError as error:
                self._cursor.fail(f"computed column {one.name}: {error.message}".splitlines()[0], one.first)
        comments = [None if one.comment is None else {COMMENT_KEY: one.comment.encode()} for one in self._written]
        self.columns = computed_columns([(one.name.text, one.text) for one in self._written], around, comments)


def read_expression(cursor: Cursor) -> tuple[Token, str]:
    """Read up to the next column: the token that it begins with, and the text."""
    first, depth, stop = cursor.token, 0, cursor.token.start
    while not cursor.ended:
        if not depth and (cursor.at_symbol(",") or cursor.at_symbol(")") or cursor.at_words("COMMENT")):
            break
        depth += cursor.at_symbol("(") + cursor.at_symbol("[") - cursor.at_symbol(")") - cursor.at_symbol("]")
        stop = cursor.advance().stop
    return first, cursor.source.text[first.start : stop].strip()


def refuse_computed(cursor: Cursor, name: Token, expression: str) -> NoReturn:
    """Raise the error about a computed column of a table that no topic lands in."""
    shown = " ".join(expression.split()) or ".."
    cursor.fail(
        f"column {name} is computed, which a landing does as it writes ('connector' = 'kafka'); this one has rows of jobs",
        name,
        next_step=f"compute it in the job that writes the table: SELECT *, {shown} AS {name.text} FROM ..",
    )
