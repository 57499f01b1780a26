"""Statements that change or drop a table, in Flink's grammar: tokens -> values.

    ALTER TABLE [IF EXISTS] t ADD column TYPE [COMMENT '..'] [FIRST | AFTER column] | (column .., ..)
    ALTER TABLE [IF EXISTS] t MODIFY column TYPE [NOT NULL] [COMMENT '..'] [FIRST | AFTER column] | (column .., ..)
    ALTER TABLE [IF EXISTS] t DROP column | (column, ..)
    ALTER TABLE [IF EXISTS] t RENAME column TO other | RENAME TO namespace.other
    ALTER TABLE [IF EXISTS] t SET ('k' = 'v', ..) | RESET ('k', ..)
    DROP TABLE [IF EXISTS] t

Each function reads what follows the words that it is named after.
"""

from __future__ import annotations

from typing import Final

from lakeflow.errors import did_you_mean
from lakeflow.sql.alterations import (
    AddColumns,
    AlterTable,
    DropColumns,
    DropTable,
    ModifyColumns,
    Place,
    PlacedColumn,
    RenameColumn,
    RenameTable,
    ResetTableOptions,
    SetTableOptions,
)
from lakeflow.sql.clauses import read_column, read_if_exists, read_keys, read_option_pairs, read_table_name
from lakeflow.sql.parse_computed import read_expression, refuse_computed
from lakeflow.sql.tokens import Cursor, Token

ALTERATIONS: Final = ("ADD", "MODIFY", "DROP", "RENAME", "SET", "RESET")
ELSEWHERE: Final = {
    "PRIMARY": "the primary key of a table is that of its declaration in tables/",
    "CONSTRAINT": "the primary key of a table is that of its declaration in tables/",
    "WATERMARK": "the watermark of a table is that of its declaration in tables/",
    "PARTITION": "which partitions there are follows from the rows; what a table is partitioned by, from its declaration",
}


def read_alter_table(cursor: Cursor) -> AlterTable:
    """Read what follows ALTER TABLE. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    name = read_table_name(cursor)
    change = cursor.advance()
    match change.upper:
        case "ADD":
            return AddColumns(name, _read_placed(cursor), if_exists)
        case "MODIFY":
            return ModifyColumns(name, _read_placed(cursor), if_exists)
        case "DROP":
            return DropColumns(name, _read_dropped(cursor), if_exists)
        case "RENAME" if cursor.take_words("TO"):
            return RenameTable(name, read_table_name(cursor), if_exists)
        case "RENAME":
            column = cursor.expect_name("a column's name, or TO and the table's new name").text
            cursor.expect_words("TO", after="after the column's name")
            return RenameColumn(name, column, cursor.expect_name("the column's new name").text, if_exists)
        case "SET":
            return SetTableOptions(name, read_option_pairs(cursor, "after SET")[0], if_exists)
        case "RESET":
            return ResetTableOptions(name, read_keys(cursor, "after RESET"), if_exists)
        case _:
            message = f"expected what ALTER TABLE changes, found {change}{did_you_mean(change.upper, ALTERATIONS)}"
            raise cursor.source.error(change, message)


def read_drop_table(cursor: Cursor) -> DropTable:
    """Read what follows DROP TABLE. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    return DropTable(read_table_name(cursor), if_exists)


def _read_placed(cursor: Cursor) -> tuple[PlacedColumn, ...]:
    """A column, or several between parentheses."""
    taken: set[str] = set()
    cursor.take_words("COLUMN")
    if not cursor.take_symbol("("):
        return (_read_one(cursor, taken),)
    found = [_read_one(cursor, taken)]
    while cursor.take_symbol(","):
        found.append(_read_one(cursor, taken))
    cursor.expect_symbol(")", "or ',' after a column")
    return tuple(found)


def _read_one(cursor: Cursor, taken: set[str]) -> PlacedColumn:
    _refuse_elsewhere(cursor)
    if cursor.peek(1).upper == "AS":
        name, _ = cursor.advance(), cursor.advance()
        refuse_computed(cursor, name, read_expression(cursor)[1])
    column = read_column(cursor, taken)[1]
    if cursor.at_words("METADATA"):
        cursor.fail("METADATA columns of a table are those of its declaration in tables/")
    if cursor.take_words("FIRST"):
        return PlacedColumn(column, Place())
    if cursor.take_words("AFTER"):
        return PlacedColumn(column, Place(cursor.expect_name("the column that stands before it").text))
    return PlacedColumn(column)


def _read_dropped(cursor: Cursor) -> tuple[str, ...]:
    """A column's name, or several between parentheses."""
    cursor.take_words("COLUMN")
    _refuse_elsewhere(cursor)
    if not cursor.take_symbol("("):
        return (cursor.expect_name("a column's name").text,)
    names: dict[str, Token] = {}
    while True:
        name = cursor.expect_name("a column's name")
        if name.text in names:
            cursor.fail(f"column {name} is there twice", name)
        names[name.text] = name
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after a column")
    return tuple(names)


def _refuse_elsewhere(cursor: Cursor) -> None:
    if (why := ELSEWHERE.get(cursor.token.upper)) is not None:
        cursor.fail(why, next_step="change the declaration, then: lakeflow plan")
