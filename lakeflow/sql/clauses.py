"""The parts that several statements share: names, columns, COMMENT, WITH, LIKE 'pattern', a query."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import pyarrow as pa

from lakeflow.errors import did_you_mean
from lakeflow.sql.query import CATALOG
from lakeflow.sql.statements import Query
from lakeflow.sql.tokens import Cursor, Source, Token
from lakeflow.sql.types import read_nullable, read_type

COMMENT_KEY = b"doc"
"""The key of a column's comment in its Arrow field's metadata: the one that PyIceberg reads and writes."""

QUERY_WORDS: Final = ("SELECT", "WITH", "FROM", "VALUES", "TABLE")
"""What a query begins with, behind as many opening parentheses as there are."""


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
    """Read `namespace.table`, or `lakeflow.namespace.table`, which is the same. Raises DeclarationError for any other name."""
    first = cursor.expect_name("a table's name")
    parts = [first]
    while cursor.take_symbol("."):
        parts.append(cursor.expect_name("a name after the dot"))
    for part in parts:
        _refuse_dot(cursor, part)
    written = ".".join(part.text for part in parts)
    if len(parts) == 3 and first.text.lower() == CATALOG:
        parts = parts[1:]
    if len(parts) == 3:
        cursor.fail(f"unknown catalog {first}; valid: {CATALOG}.{'.'.join(part.text for part in parts[1:])}", first)
    if len(parts) != 2:
        cursor.fail(f"table {written!r}: a table is named namespace.table, for instance 'bronze.flights'", first)
    return ".".join(part.text for part in parts)


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


def read_pattern(cursor: Cursor) -> tuple[str | None, bool]:
    """Read [[NOT] LIKE 'pattern'], if it comes next: the pattern, and whether NOT was said."""
    negated = cursor.take_words("NOT")
    if not cursor.take_words("LIKE"):
        if negated:
            cursor.fail(f"expected LIKE after NOT, found {cursor.token}")
        return None, False
    return cursor.expect_string("the pattern").text, negated


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


def at_query(cursor: Cursor) -> bool:
    """Whether a query comes next: one of `QUERY_WORDS`, behind parentheses or not. `(a, b)` is a list of names."""
    ahead = 0
    while cursor.peek(ahead).is_symbol("("):
        ahead += 1
    if cursor.peek(ahead).upper not in QUERY_WORDS:
        return False
    behind = cursor.peek(ahead + 1)
    return not ahead or not (behind.is_symbol(",") or behind.is_symbol(")"))


def read_query(cursor: Cursor, after: str) -> Query:
    """Read everything up to the next semicolon or the end. Raises DeclarationError where no query comes next."""
    if not at_query(cursor):
        cursor.fail(f"expected a query {after}, found {cursor.token}{did_you_mean(cursor.token.upper, QUERY_WORDS)}")
    return read_rest(cursor)


def read_rest(cursor: Cursor, first: Token | None = None) -> Query:
    """Read everything up to the next semicolon or the end, whatever it is. It begins with `first`, if that was taken."""
    begin = first or cursor.token
    stop = begin.stop
    while not cursor.ended and not cursor.at_symbol(";"):
        stop = cursor.advance().stop
    text = cursor.source.text
    return Query(text[begin.start : stop], begin.start, text, cursor.source.path)
