"""What is expected of a job's target, bound to the columns that it has: the conditions of its rows, and what is of the table.

Everything that can be wrong with an expectation is told here, before a row is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import assert_never

import polars as pl
import pyarrow as pa

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, LakeflowError, UnknownName
from lakeflow.expect import (
    Expectation,
    Fresh,
    InRange,
    NoRows,
    NotNull,
    OneOf,
    OnViolation,
    References,
    RowCount,
    Satisfies,
    Unique,
    Value,
    columns_of,
    distinct,
    require_facts,
)
from lakeflow.job import Job
from lakeflow.lake.catalog import Lake, Table, arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.runner.querying import relation_over
from lakeflow.sql.conditions import Condition, check_condition, condition_of, read_condition
from lakeflow.sql.query import tables_of
from lakeflow.sql.relations import ArrowRelation, Relation

KEPT_BYTES = 32 << 20
"""Values that a column may refer to are held for the run as long as they take no more; larger ones are read each time."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Expectations of rows with their conditions, those of the table with theirs where they are one, and the tables that
    conditions refer to, as of the start of the run."""

    rows: tuple[tuple[Expectation, str], ...] = ()
    facts: tuple[tuple[Expectation, Condition | None], ...] = ()
    relations: Mapping[str, Relation] = field(default_factory=dict)


def expectations_of(job: Job, declared: Mapping[str, TableSpec]) -> tuple[Expectation, ...]:
    """Those of the job's target, as it is declared or as the job creates it, then those of the job.

    Raises DeclarationError where two are called the same.
    """
    table = declared.get(job.target) or job.creates
    of_table = table.expectations if table is not None else ()
    return distinct([*of_table, *job.expect], f"{job.origin}: job {job.name!r}, whose target is {job.target}")


def must_hold(expectations: tuple[Expectation, ...]) -> bool:
    """Whether one of them keeps a batch off main."""
    return any(one.on_violation is OnViolation.FAIL for one in expectations)


def expected(expectations: tuple[Expectation, ...], schema: pa.Schema, where: str, target: str, lake: Lake) -> Expected:
    """The expectations of a table of a schema. `where` names the job in messages.

    Raises UnknownName for a column or table that is not there, DeclarationError for a bound of another type than the column
    and for rows that are to be left out for what is no matter of rows, UsageError for a condition that cannot be read.
    """
    rows: list[tuple[Expectation, str]] = []
    facts: list[tuple[Expectation, Condition | None]] = []
    relations: dict[str, Relation] = {}
    for one in expectations:
        try:
            for column in columns_of(one.kind):
                _check_column(column, schema, target)
            bound = _bound(one, schema, target, lake, relations)
            if not isinstance(bound, str):
                require_facts(one.name, one.on_violation)
        except LakeflowError as error:
            error.message = f"{where}, expectation {one.name!r}: {error.message}"
            raise
        if isinstance(bound, str):
            rows.append((one, bound))
        else:
            facts.append((one, bound))
    return Expected(tuple(rows), tuple(facts), relations)


def _bound(
    one: Expectation, schema: pa.Schema, target: str, lake: Lake, relations: dict[str, Relation]
) -> str | Condition | None:
    """The condition of a kind of rows as text, that of a table, or None."""
    kind = one.kind
    match kind:
        case Satisfies(text):
            condition = read_condition(text)
            if condition.of_table:
                return condition
            check_condition(text, schema)
            return text
        case References(_, table, other):
            relations[table] = _referred(lake.table(table), other)
            check_condition(condition_of(kind), schema, relations)
            return condition_of(kind)
        case InRange(column, low, high):
            _check_values(column, [bound for bound in (low, high) if bound is not None], schema)
            return condition_of(kind)
        case OneOf(column, values):
            _check_values(column, list(values), schema)
            return condition_of(kind)
        case NotNull():
            return condition_of(kind)
        case Fresh(column):
            arrow = schema.field(column).type
            if not (pa.types.is_timestamp(arrow) or pa.types.is_date(arrow)):
                raise DeclarationError(f"column {column!r} is of type {arrow}; valid: TIMESTAMP, TIMESTAMP_LTZ, DATE")
        case NoRows(query):
            for table in tables_of(query):
                if table != target:
                    lake.table(table)
        case Unique() | RowCount():
            pass
        case _:
            assert_never(kind)
    return None


def _check_column(column: str, schema: pa.Schema, target: str) -> None:
    if column not in schema.names:
        raise UnknownName(f"column of {target}", column, schema.names)


def _referred(table: Table, column: str) -> Relation:
    """The values of a column, each once; the table itself where they are too many to be held."""
    schema = arrow_schema(table)
    name = ".".join(table.name())
    _check_column(column, schema, name)
    splits = splits_at(table, snapshot_at(table))
    known = pl.DataFrame()
    for batch in read(table, splits, [column]):
        part = pl.from_arrow(batch)
        assert isinstance(part, pl.DataFrame)
        known = pl.concat([known, part]).unique() if known.width else part.unique()
        if known.estimated_size() > KEPT_BYTES:
            return relation_over(table, splits)
    held = known.to_arrow() if known.width else pa.schema([schema.field(column)]).empty_table()
    return ArrowRelation(held.schema, lambda: held.to_reader())


def _check_values(column: str, values: list[Value], schema: pa.Schema) -> None:
    arrow = schema.field(column).type
    for value in values:
        if not _compares(value, arrow):
            raise DeclarationError(
                f"column {column!r} is of type {arrow}, and {value!r} is a {type(value).__name__}; valid: {_wanted(arrow)}"
            )


def _compares(value: Value, arrow: pa.DataType) -> bool:
    types = pa.types
    match value:
        case bool():
            return bool(types.is_boolean(arrow))
        case int() | float() | Decimal():
            return bool(types.is_integer(arrow) or types.is_floating(arrow) or types.is_decimal(arrow))
        case str():
            return bool(types.is_string(arrow) or types.is_large_string(arrow))
        case datetime():
            return bool(types.is_timestamp(arrow)) and (arrow.tz is None) == (value.tzinfo is None)
        case date():
            return bool(types.is_date(arrow))
        case _:
            assert_never(value)


def _wanted(arrow: pa.DataType) -> str:
    """What a column of a type is held against."""
    types = pa.types
    if types.is_timestamp(arrow):
        return "a datetime without a time zone" if arrow.tz is None else "a datetime with a time zone"
    kinds = (
        (types.is_boolean, "True, False"),
        (lambda t: types.is_integer(t) or types.is_floating(t) or types.is_decimal(t), "a number"),
        (lambda t: types.is_string(t) or types.is_large_string(t), "a text"),
        (types.is_date, "a date"),
    )
    return next((said for fits, said in kinds if fits(arrow)), 'a condition, as lf.satisfies("..")')
