"""Statements about vector indexes: tokens -> values.

    CREATE VECTOR INDEX [IF NOT EXISTS] i ON namespace.table (column) WITH ('key' = 'c', 'metric' = 'cosine', ..)
    ALTER VECTOR INDEX [IF EXISTS] i SET ('k' = 'v', ..) | RESET ('k', ..)
    DROP VECTOR INDEX [IF EXISTS] i

Each function reads what follows the words that it is named after.
"""

from __future__ import annotations

from typing import Final

from lakeflow.declare import IndexSpec
from lakeflow.errors import did_you_mean
from lakeflow.sql.alterations import AlterVectorIndex, DropVectorIndex
from lakeflow.sql.clauses import (
    read_clauses,
    read_if_exists,
    read_if_not_exists,
    read_keys,
    read_option_pairs,
    read_options,
    read_simple_name,
    read_table_name,
)
from lakeflow.sql.statements import CreateVectorIndex
from lakeflow.sql.tokens import Cursor, Token

METRICS: Final = ("cosine", "l2", "dot")


def read_create_index(cursor: Cursor, start: Token) -> CreateVectorIndex:
    """Read what follows CREATE VECTOR INDEX; `start` is the CREATE. Raises DeclarationError, pointing at what is wrong."""
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


def read_alter_index(cursor: Cursor) -> AlterVectorIndex:
    """Read what follows ALTER VECTOR INDEX. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    name = read_simple_name(cursor, "the index's name")
    if cursor.take_words("SET"):
        return AlterVectorIndex(name, read_option_pairs(cursor, "after SET")[0], if_exists=if_exists)
    if cursor.take_words("RESET"):
        return AlterVectorIndex(name, reset=read_keys(cursor, "after RESET"), if_exists=if_exists)
    found = cursor.token
    message = f"expected what ALTER VECTOR INDEX changes, found {found}{did_you_mean(found.upper, ('SET', 'RESET'))}"
    raise cursor.source.error(found, message)


def read_drop_index(cursor: Cursor) -> DropVectorIndex:
    """Read what follows DROP VECTOR INDEX. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    return DropVectorIndex(read_simple_name(cursor, "the index's name"), if_exists)
