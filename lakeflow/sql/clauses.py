"""The parts that several statements share: names, columns, COMMENT, WITH."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from lakeflow.sql.tokens import Cursor, Source, Token
from lakeflow.sql.types import read_nullable, read_type

COMMENT_KEY = b"doc"
"""The key of a column's comment in its Arrow field's metadata: the one that PyIceberg reads and writes."""


def read_if_not_exists(cursor: Cursor) -> bool:
    """Read IF NOT EXISTS, if it comes next."""
    if not cursor.at_words("IF"):
        return False
    cursor.expect_words("IF", "NOT", "EXISTS", after="before the name")
    return True


def read_if_exists(cursor: Cursor) -> bool:
    """Read IF EXISTS, if it comes next."""
    if not cursor.at_words("IF"):
        return False
    cursor.expect_words("IF", "EXISTS", after="before the name")
    return True


def read_table_name(cursor: Cursor) -> str:
    """Read `namespace.table`. Raises DeclarationError for any other number of parts."""
    first = cursor.expect_name("a table's name")
    parts = [first]
    while cursor.take_symbol("."):
        parts.append(cursor.expect_name("a name after the dot"))
    for part in parts:
        _refuse_dot(cursor, part)
    name = ".".join(part.text for part in parts)
    if len(parts) != 2:
        cursor.fail(f"table {name!r}: a table is named namespace.table, for instance 'bronze.flights'", first)
    return name


def read_simple_name(cursor: Cursor, what: str) -> str:
    """Read a name of one part. Raises DeclarationError for a dotted one."""
    name = cursor.expect_name(what)
    _refuse_dot(cursor, name)
    if cursor.at_symbol("."):
        cursor.fail(f"{what} has one part, without a dot; found {name} and a dot")
    return name.text


def _refuse_dot(cursor: Cursor, name: Token) -> None:
    if "." in name.text:
        cursor.fail(f"name {name} holds a dot, which parts names from namespaces", name)


def read_column(cursor: Cursor, taken: set[str]) -> tuple[Token, pa.Field]:
    """Read `name TYPE [NOT NULL] [COMMENT '..']`; `taken` holds the names so far in lower case and gains this one.

    Raises DeclarationError for a name that differs from an earlier one at most by case: SQL does not tell them apart.
    """
    name = cursor.expect_name("a column's name")
    if name.text.lower() in taken:
        cursor.fail(f"column {name} is declared twice (names that differ by case alone count as one)", name)
    taken.add(name.text.lower())
    arrow = read_type(cursor)
    nullable = read_nullable(cursor)
    comment = read_comment(cursor) if cursor.at_words("COMMENT") else None
    metadata = {COMMENT_KEY: comment.encode()} if comment is not None else None
    return name, pa.field(name.text, arrow, nullable=nullable, metadata=metadata)


def read_columns(cursor: Cursor, after: str) -> pa.Schema:
    """Read `(column, ..)` with one column at least."""
    cursor.expect_symbol("(", after)
    fields: list[pa.Field] = []
    taken: set[str] = set()
    while True:
        fields.append(read_column(cursor, taken)[1])
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after a column")
    return pa.schema(fields)


def read_comment(cursor: Cursor) -> str:
    """Read COMMENT 'text'."""
    cursor.expect_words("COMMENT", after="before its text")
    return cursor.expect_string("the comment").text


def read_options(cursor: Cursor) -> tuple[Mapping[str, str], Mapping[str, Token]]:
    """Read WITH ('key' = 'value', ..). See `read_option_pairs`."""
    cursor.expect_words("WITH", after="before the options")
    return read_option_pairs(cursor, "after WITH")


def read_option_pairs(cursor: Cursor, after: str) -> tuple[Mapping[str, str], Mapping[str, Token]]:
    """Read ('key' = 'value', ..): the pairs as written, and the token of each value for messages.

    Raises DeclarationError for a key that comes twice.
    """
    cursor.expect_symbol("(", after)
    values: dict[str, Token] = {}
    while True:
        key = cursor.expect_string("an option's key")
        if key.text in values:
            cursor.fail(f"option {key} is set twice", key)
        cursor.expect_symbol("=", f"after the option {key}")
        values[key.text] = cursor.expect_string(f"the value of option {key}")
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after an option")
    return {key: value.text for key, value in values.items()}, values


def read_keys(cursor: Cursor, after: str) -> tuple[str, ...]:
    """Read ('key', ..), each once."""
    cursor.expect_symbol("(", after)
    keys: list[str] = []
    while True:
        key = cursor.expect_string("an option's key")
        if key.text in keys:
            cursor.fail(f"option {key} is named twice", key)
        keys.append(key.text)
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after an option")
    return tuple(keys)


def read_clauses(cursor: Cursor, clauses: Mapping[str, Callable[[], None]]) -> None:
    """Read clauses in any order, each at most once, up to a semicolon or the end.

    `clauses` maps what each begins with, such as "PARTITIONED BY", to the reading of it; the reading takes these
    words itself. Raises DeclarationError for a clause that comes twice and for anything else.
    """
    read: set[str] = set()
    while not cursor.ended and not cursor.at_symbol(";"):
        found = next((words for words in clauses if cursor.at_words(*words.split())), None)
        if found is None:
            left = [words for words in clauses if words not in read]
            cursor.fail(f"expected {', '.join([*left, 'or ;']) if left else ';'}, found {cursor.token}")
        if found in read:
            cursor.fail(f"{found} is there twice")
        read.add(found)
        clauses[found]()


def parse_columns(text: str) -> pa.Schema:
    """The schema of `a INT NOT NULL, b STRING`. Raises DeclarationError, pointing at what is wrong."""
    return read_columns(Cursor(Source(f"({text})")), "before the columns")
