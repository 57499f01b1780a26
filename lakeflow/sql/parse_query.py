"""Statements that hold a query, in Flink's grammar: tokens -> values. The query is kept as text, with its place.

    INSERT INTO | OVERWRITE namespace.table [(column, ..)] query
    BEGIN STATEMENT SET; insert; .. END        EXECUTE STATEMENT SET BEGIN insert; .. END
    CREATE MATERIALIZED TABLE [IF NOT EXISTS] namespace.table [(PRIMARY KEY (column, ..) NOT ENFORCED)]
      [COMMENT '..'] [PARTITIONED BY (..)] [WITH (..)]
      [FRESHNESS = INTERVAL '3' MINUTE] [REFRESH_MODE = CONTINUOUS | FULL] AS query
    ALTER MATERIALIZED TABLE namespace.table SUSPEND | RESUME | REFRESH
    DROP MATERIALIZED TABLE [IF EXISTS] namespace.table
    EXPLAIN [PLAN FOR] query | insert | statement set | create .. as
    SET ['key' = 'value']        RESET ['key']

Each function reads what follows the words that it is named after.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Final

from lakeflow.errors import did_you_mean
from lakeflow.sql.clauses import QUERY_WORDS, at_query, read_if_exists, read_if_not_exists, read_query, read_table_name
from lakeflow.sql.parse_table import TableParts, read_create_table, read_interval
from lakeflow.sql.statements import (
    AlterMaterializedTable,
    CreateMaterializedTable,
    CreateTableAs,
    DropMaterializedTable,
    Explain,
    Insert,
    JobStatement,
    Query,
    ReadRows,
    RefreshMode,
    RefreshTable,
    ResetOption,
    ResumeTable,
    SetOption,
    StatementSet,
    SuspendTable,
)
from lakeflow.sql.tokens import Cursor, Kind, Token

ALTERATIONS: Final = ("SUSPEND", "RESUME", "REFRESH")
EXPLAINED: Final = (*QUERY_WORDS, "INSERT", "STATEMENT SET", "CREATE TABLE", "CREATE MATERIALIZED TABLE")


def read_replacing(cursor: Cursor, start: Token) -> CreateTableAs:
    """Read what follows CREATE OR REPLACE TABLE; `start` is the CREATE. Raises DeclarationError, pointing at what is wrong."""
    created = read_create_table(cursor, start)
    if not isinstance(created, CreateTableAs):
        cursor.fail("OR REPLACE goes with a query, whose rows replace the table's: CREATE OR REPLACE TABLE t AS ..", start)
    if created.if_not_exists:
        cursor.fail("OR REPLACE and IF NOT EXISTS exclude each other", start)
    return replace(created, or_replace=True)


def at_job_statement(cursor: Cursor) -> bool:
    """Whether an insert, a statement set, or a materialized table comes next; CREATE TABLE is not looked at."""
    begins = (("INSERT",), ("BEGIN",), ("EXECUTE",), ("CREATE", "MATERIALIZED"))
    return any(cursor.at_words(*words) for words in begins)


def read_job_statement(cursor: Cursor) -> JobStatement:
    """Read one of those that `at_job_statement` tells. Raises DeclarationError, pointing at what is wrong."""
    start = cursor.token
    if cursor.take_words("INSERT"):
        return read_insert(cursor, start)
    if cursor.take_words("CREATE", "MATERIALIZED"):
        cursor.expect_words("TABLE", after="after CREATE MATERIALIZED")
        return read_create_materialized(cursor, start)
    return read_statement_set(cursor)


def read_insert(cursor: Cursor, start: Token) -> Insert:
    """Read what follows INSERT, which is `start`. Raises DeclarationError, pointing at what is wrong."""
    overwrite = cursor.take_words("OVERWRITE")
    if not overwrite and not cursor.take_words("INTO"):
        cursor.fail(f"expected INTO or OVERWRITE after INSERT, found {cursor.token}")
    target = read_table_name(cursor)
    if cursor.at_words("PARTITION"):
        cursor.fail(
            "PARTITION (..) is not needed: which partition a row belongs to follows from its columns",
            next_step="write the column's value in the query, as any other",
        )
    columns = _read_column_names(cursor) if cursor.at_symbol("(") and not at_query(cursor) else ()
    what = f"after INSERT {'OVERWRITE' if overwrite else 'INTO'} {target}"
    return Insert(target, read_query(cursor, what), columns, overwrite, cursor.source.origin(start))


def _read_column_names(cursor: Cursor) -> tuple[str, ...]:
    cursor.expect_symbol("(", "before the columns")
    names: dict[str, Token] = {}
    while True:
        name = cursor.expect_name("a column's name")
        if name.text.lower() in names:
            cursor.fail(f"column {name} is written twice (names that differ by case alone count as one)", name)
        names[name.text.lower()] = name
        if not cursor.take_symbol(","):
            break
    cursor.expect_symbol(")", "or ',' after a column")
    return tuple(name.text for name in names.values())


def read_statement_set(cursor: Cursor) -> StatementSet:
    """Read BEGIN STATEMENT SET; .. END or EXECUTE STATEMENT SET BEGIN .. END, whole. Raises DeclarationError."""
    start = cursor.token
    if cursor.take_words("BEGIN"):
        cursor.expect_words("STATEMENT", "SET", after="after BEGIN")
        cursor.expect_symbol(";", "after BEGIN STATEMENT SET")
    else:
        cursor.expect_words("EXECUTE", "STATEMENT", "SET", "BEGIN", after="before the first INSERT")
    return _read_set(cursor, start)


def _read_set(cursor: Cursor, start: Token) -> StatementSet:
    """The inserts up to END; each ends with a semicolon."""
    inserts: list[Insert] = []
    while not cursor.take_words("END"):
        if cursor.take_symbol(";"):
            continue
        first = cursor.token
        if not cursor.take_words("INSERT"):
            cursor.fail(f"expected INSERT or END in a statement set, found {first}{_near(first, ('INSERT', 'END'))}")
        insert = read_insert(cursor, first)
        if any(insert.target == other.target for other in inserts):
            cursor.fail(
                f"table {insert.target} is written twice in one statement set", first, next_step="write both rows by UNION ALL"
            )
        inserts.append(insert)
        cursor.expect_symbol(";", "after an INSERT of a statement set, before the next one or END")
    if not inserts:
        cursor.fail("a statement set holds one INSERT at the least", start)
    return StatementSet(tuple(inserts), cursor.source.origin(start))


def read_create_materialized(cursor: Cursor, start: Token) -> CreateMaterializedTable:
    """Read what follows CREATE MATERIALIZED TABLE; `start` is the CREATE. Raises DeclarationError."""
    if_not_exists = read_if_not_exists(cursor)
    parts = TableParts(cursor, read_table_name(cursor))
    freshness: list[timedelta] = []
    modes: list[RefreshMode] = []
    queries: list[Query] = []
    parts.read(
        {
            "FRESHNESS": lambda: freshness.append(_read_freshness(cursor)),
            "REFRESH_MODE": lambda: modes.append(_read_mode(cursor)),
            "AS": lambda: queries.append(_read_as(cursor)),
        }
    )
    if not queries:
        cursor.fail(f"materialized table {parts.name!r} has no query; valid: .. FRESHNESS = INTERVAL '3' MINUTE AS SELECT ..")
    table = replace(parts.spec(start), schema=parts.no_columns("materialized table"))
    return CreateMaterializedTable(table, queries[0], next(iter(freshness), None), next(iter(modes), None), if_not_exists)


def _read_as(cursor: Cursor) -> Query:
    cursor.expect_words("AS", after="before the query")
    return read_query(cursor, "after AS")


def _read_freshness(cursor: Cursor) -> timedelta:
    cursor.expect_words("FRESHNESS", after="before its interval")
    cursor.expect_symbol("=", "after FRESHNESS")
    start = cursor.token
    interval = read_interval(cursor, "after FRESHNESS =")
    if not interval:
        cursor.fail("FRESHNESS of no time is no freshness; valid: INTERVAL '1' SECOND and more", start)
    return interval


def _read_mode(cursor: Cursor) -> RefreshMode:
    cursor.expect_words("REFRESH_MODE", after="before the mode")
    cursor.expect_symbol("=", "after REFRESH_MODE")
    mode = cursor.expect_name("CONTINUOUS or FULL")
    if mode.text.upper() not in RefreshMode.__members__:
        cursor.fail(f"unknown REFRESH_MODE {mode}{did_you_mean(mode.text.upper(), map(str, RefreshMode))}", mode)
    return RefreshMode(mode.text.upper())


def read_alter_materialized(cursor: Cursor) -> AlterMaterializedTable:
    """Read what follows ALTER MATERIALIZED TABLE. Raises DeclarationError, pointing at what is wrong."""
    name = read_table_name(cursor)
    change = cursor.advance()
    match change.upper:
        case "SUSPEND":
            return SuspendTable(name)
        case "RESUME":
            if cursor.at_words("WITH"):
                cursor.fail("RESUME takes no options: those of the table's statement in jobs/ hold")
            return ResumeTable(name)
        case "REFRESH":
            if cursor.at_words("PARTITION"):
                cursor.fail("REFRESH makes the whole table anew; a single partition cannot be named")
            return RefreshTable(name)
        case "AS":
            raise cursor.source.error(change, "the query of a materialized table is changed in its file in jobs/")
        case _:
            message = f"expected what ALTER MATERIALIZED TABLE does, found {change}{_near(change, ALTERATIONS)}"
            raise cursor.source.error(change, message)


def read_drop_materialized(cursor: Cursor) -> DropMaterializedTable:
    """Read what follows DROP MATERIALIZED TABLE. Raises DeclarationError, pointing at what is wrong."""
    if_exists = read_if_exists(cursor)
    return DropMaterializedTable(read_table_name(cursor), if_exists)


def read_explain(cursor: Cursor) -> Explain:
    """Read what follows EXPLAIN. Raises DeclarationError, pointing at what is wrong."""
    cursor.take_words("PLAN", "FOR")
    start = cursor.token
    if at_query(cursor):
        return Explain(ReadRows(read_query(cursor, "after EXPLAIN")))
    if cursor.take_words("STATEMENT", "SET"):
        cursor.expect_words("BEGIN", after="after EXPLAIN STATEMENT SET")
        return Explain(_read_set(cursor, start))
    if at_job_statement(cursor):
        return Explain(read_job_statement(cursor))
    if cursor.take_words("CREATE", "TABLE"):
        created = read_create_table(cursor, start)
        if isinstance(created, CreateTableAs):
            return Explain(created)
        cursor.fail("EXPLAIN of a CREATE TABLE without a query: there is nothing to carry out in steps", start)
    raise cursor.source.error(start, f"expected what EXPLAIN explains, found {start}{_near(start, EXPLAINED)}")


def read_set(cursor: Cursor) -> SetOption:
    """Read what follows SET. Raises DeclarationError, pointing at what is wrong."""
    if cursor.ended or cursor.at_symbol(";"):
        return SetOption()
    key = _read_key(cursor, "SET 'key' = 'value'")
    cursor.expect_symbol("=", f"after SET {key}")
    return SetOption(key.text, cursor.expect_string(f"the value of {key}").text)


def read_reset(cursor: Cursor) -> ResetOption:
    """Read what follows RESET. Raises DeclarationError, pointing at what is wrong."""
    if cursor.ended or cursor.at_symbol(";"):
        return ResetOption()
    return ResetOption(_read_key(cursor, "RESET 'key'").text)


def _read_key(cursor: Cursor, valid: str) -> Token:
    if cursor.token.kind is not Kind.STRING:
        cursor.fail(f"expected an option's key in single quotes, found {cursor.token}; valid: {valid}")
    return cursor.advance()


def _near(found: Token, valid: tuple[str, ...]) -> str:
    return did_you_mean(found.upper, valid)
