"""CREATE TABLE .. LIKE: what is taken over of another table, after Flink's rules.

    LIKE namespace.other [(INCLUDING | EXCLUDING | OVERWRITING part ..)]
    part: ALL, CONSTRAINTS, GENERATED (computed columns), METADATA, OPTIONS, PARTITIONS, WATERMARKS

Columns are always taken over, those of the statement behind them. Without parentheses it is INCLUDING ALL OVERWRITING
OPTIONS; within them a part that is named is as it is said, the others as ALL is. INCLUDING refuses what the statement says
too, OVERWRITING lets the statement have its way, EXCLUDING takes nothing over. The comment is the statement's own. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import pyarrow as pa

from lakeflow.declare import Computed, TableSpec
from lakeflow.errors import DeclarationError, UnknownName, did_you_mean
from lakeflow.sql.clauses import read_table_name
from lakeflow.sql.parse_constraints import check_liked
from lakeflow.sql.statements import CreateTable, Kept, Like
from lakeflow.sql.tokens import Cursor

WAYS: Final = ("INCLUDING", "EXCLUDING", "OVERWRITING")
ALL: Final = "ALL"
OVERWRITABLE: Final = (Kept.METADATA, Kept.OPTIONS, Kept.WATERMARKS)
"""The parts that a statement may say anew; of constraints and partitions there is one for all columns."""


def read_like(cursor: Cursor) -> Like:
    """Read LIKE and what follows. Raises DeclarationError, pointing at what is wrong."""
    cursor.expect_words("LIKE", after="before the table's name")
    table = read_table_name(cursor)
    if not cursor.take_symbol("("):
        return Like(table)
    said: dict[str, str] = {}
    while not cursor.take_symbol(")"):
        way, part = _read_way(cursor), cursor.token
        valid = [ALL, *map(str, OVERWRITABLE if way == "OVERWRITING" else Kept)]
        if part.upper not in valid:
            cursor.fail(f"expected what is taken over after {way}, found {part}{did_you_mean(part.upper, valid)}")
        if part.upper in said:
            cursor.fail(f"{part} is there twice", part)
        said[cursor.advance().upper] = way
    ways = {part: said.get(part) or said.get(ALL) or ("OVERWRITING" if part is Kept.OPTIONS else "INCLUDING") for part in Kept}
    return Like(
        table,
        frozenset(part for part, way in ways.items() if way != "EXCLUDING"),
        frozenset(part for part, way in ways.items() if way == "OVERWRITING" and part in OVERWRITABLE),
    )


def _read_way(cursor: Cursor) -> str:
    way = cursor.token
    if way.upper not in WAYS:
        cursor.fail(f"expected how a part is taken over, or ')', found {way}{did_you_mean(way.upper, WAYS)}")
    return cursor.advance().upper


def like_text(like: Like) -> str:
    """LIKE as SQL text, without the table's name quoted: `(EXCLUDING OPTIONS)`, or nothing where it is the default."""
    default = Like(like.table)
    said = []
    for part in Kept:
        way = _way(like, part)
        if way != _way(default, part):
            said.append(f"{way} {part}")
    return f"({' '.join(said)})" if said else ""


def _way(like: Like, part: Kept) -> str:
    if part not in like.including:
        return "EXCLUDING"
    return "OVERWRITING" if part in like.overwriting else "INCLUDING"


def liken(statement: CreateTable, other: TableSpec) -> CreateTable:
    """The statement with what LIKE takes over of `other`, and without its LIKE.

    Raises DeclarationError, naming the statement's place, where both say the same part and it may not be said anew, and
    UnknownName where it names a column that neither has.
    """
    like, own = statement.like, statement.table
    assert like is not None, "the statement is like another"
    where = f"{own.origin}: table {own.name}, which is LIKE {other.name},"
    kept = like.including
    for part, both in (
        (Kept.CONSTRAINTS, own.primary_key and other.primary_key),
        (Kept.PARTITIONS, own.partitioning and other.partitioning),
        (Kept.WATERMARKS, own.watermark and other.watermark),
        (Kept.OPTIONS, own.options.keys() & other.options.keys()),
    ):
        if both and part in kept and part not in like.overwriting:
            raise DeclarationError(
                f"{where} says anew what it takes over: {part}", next_step=f"LIKE {other.name} ({_cure(part)})"
            )
    metadata = {each.column.name: each for each in other.metadata} if Kept.METADATA in kept else {}
    for each in own.metadata:
        if each.column.name in metadata and Kept.METADATA not in like.overwriting:
            raise DeclarationError(f"{where} declares {each.column.name!r} anew", next_step="LIKE .. (OVERWRITING METADATA)")
        metadata[each.column.name] = each
    key = own.primary_key or (other.primary_key if Kept.CONSTRAINTS in kept else ())
    table = replace(
        own,
        schema=_columns(own, other, key, where),
        options={**(other.options if Kept.OPTIONS in kept else {}), **own.options},
        partitioning=own.partitioning or (other.partitioning if Kept.PARTITIONS in kept else ()),
        watermark=own.watermark or (other.watermark if Kept.WATERMARKS in kept else None),
        primary_key=key,
        expectations=own.expectations + (other.expectations if Kept.CONSTRAINTS in kept else ()),
        metadata=tuple(metadata.values()),
        computed=_computed(own, other if Kept.GENERATED in kept else None, where),
    )
    _check(table, where)
    return CreateTable(table, statement.if_not_exists)


def _computed(own: TableSpec, other: TableSpec | None, where: str) -> Computed | None:
    """The computed columns of the one or the other; of both there are none, since their expressions are of other columns."""
    theirs = other.computed if other is not None else None
    if own.computed is not None and theirs is not None:
        raise DeclarationError(
            f"{where} computes {', '.join(own.computed.columns.names)}, and takes over {', '.join(theirs.columns.names)}",
            next_step="LIKE .. (EXCLUDING GENERATED)",
        )
    return own.computed or theirs


def likened(statements: Iterable[CreateTable]) -> dict[str, TableSpec]:
    """The tables that statements declare, by name; those that are like another, once that one is known.

    Raises as `liken` does, UnknownName for another table that none of them declares, DeclarationError for a circle.
    """
    by_name = {statement.table.name: statement for statement in statements}
    done: dict[str, TableSpec] = {}

    def table(name: str, behind: tuple[str, ...]) -> TableSpec:
        if name in done:
            return done[name]
        statement = by_name[name]
        if statement.like is not None:
            other = statement.like.table
            if other in (*behind, name):
                raise DeclarationError(
                    f"{statement.table.origin}: tables are LIKE each other: {' -> '.join((*behind, name, other))}"
                )
            if other not in by_name:
                raise UnknownName(
                    f"table, which {name} ({statement.table.origin}) is LIKE:",
                    other,
                    by_name,
                    next_step="declare it in tables/; one that the catalog alone has: lakeflow sql, CREATE TABLE .. LIKE",
                )
            statement = liken(statement, table(other, (*behind, name)))
        done[name] = statement.table
        return done[name]

    return {name: table(name, ()) for name in by_name}


def _cure(part: Kept) -> str:
    return f"{'OVERWRITING' if part in OVERWRITABLE else 'EXCLUDING'} {part}"


def _columns(own: TableSpec, other: TableSpec, key: tuple[str, ...], where: str) -> pa.Schema:
    """The columns of both; those of the key are NOT NULL, as of any table."""
    there = {name.lower(): name for name in other.schema.names}
    for name in own.schema.names:
        if name.lower() in there:
            raise DeclarationError(
                f"{where} declares column {name!r}, which {other.name} has as {there[name.lower()]!r} already"
            )
    columns = [*other.schema, *own.schema]
    return pa.schema([column.with_nullable(column.nullable and column.name not in key) for column in columns])


def _check(table: TableSpec, where: str) -> None:
    check_liked(table, where)
    if not table.schema.names:
        if table.options.get("connector") != "kafka":
            raise DeclarationError(f"{where} has no column")
        return
    computed = table.computed.columns.names if table.computed else []
    known = [*table.schema.names, *(each.column.name for each in table.metadata), *computed]
    named = [("PRIMARY KEY", name) for name in table.primary_key]
    named += [("PARTITIONED BY", part.column) for part in table.partitioning]
    named += [("WATERMARK", table.watermark.column)] if table.watermark else []
    for what, name in named:
        if name not in known:
            raise UnknownName(f"column in {what} of {where}", name, known)
    if table.computed and table.options.get("connector") != "kafka":
        raise DeclarationError(
            f"{where} takes over column {computed[0]!r}, which a landing computes, and has no 'connector' = 'kafka'",
            next_step="LIKE .. (EXCLUDING GENERATED)",
        )
    if table.metadata and table.options.get("connector") != "kafka":
        column = table.metadata[0].column.name
        raise DeclarationError(
            f"{where} takes over column {column!r}, METADATA of a record; only with 'connector' = 'kafka' are there records",
            next_step="LIKE .. (EXCLUDING METADATA)",
        )
