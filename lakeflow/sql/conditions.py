"""Expectations as SQL: the condition that a kind of rows is, which rows violate it, and the query that a kind of tables is.

What a condition says of a row is held against it by DuckDB, as any other query: it reads, and nothing else. A row violates a
condition that is false of it; one that is null, since a column of it is, is met, as with CHECK.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, assert_never

import numpy as np
import pyarrow as pa

from lakeflow.errors import SchemaMismatch, UnknownName, UsageError
from lakeflow.expect import InRange, NotNull, OneOf, References, RowKind, Unique, Value
from lakeflow.sql.compiled import Compiled, TableRead
from lakeflow.sql.execute import Limits, run_compiled, run_query
from lakeflow.sql.query import check_query, place_of, refuse_node
from lakeflow.sql.relations import ArrowRelation, Relation, duckdb_type, literal, name_text
from lakeflow.sql.tokens import pointed

BATCH: Final = "lakeflow audit.batch"
"""The rows that a query over an audited table knows as those of the batch alone."""
ROWS: Final = "lakeflow audit.rows"
"""All rows of the audited table."""
_BATCH, _ROWS = ('"lakeflow audit"."batch"', '"lakeflow audit"."rows"')
_PLACE = "lakeflow place"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition as it was written. `of_table`: it is made of aggregates, and said of all rows together. `columns` are those
    that it names, as far as its text alone tells."""

    text: str
    of_table: bool
    columns: tuple[str, ...] = ()


def read_condition(text: str, padded: str | None = None, path: Path | None = None) -> Condition:
    """A condition over the columns of a row, or over aggregates. `padded` has it where it stands in the file `path`.

    Raises UsageError, pointing at what is wrong.
    """
    from sqlglot import exp, parse
    from sqlglot.errors import ParseError, SqlglotError

    shown = padded or text
    try:
        trees = parse(shown, read="duckdb")
    except ParseError as error:
        raise UsageError(pointed("syntax error in a condition", shown, *place_of(shown, error), path)) from error
    except (SqlglotError, RecursionError) as error:
        raise UsageError(f"the condition {text[:200]!r} cannot be read: {error}") from error
    start, stop = len(shown) - len(shown.lstrip()), len(shown.rstrip())
    tree = trees[0] if len(trees) == 1 else None
    kinds = exp.Condition | exp.Paren | exp.Predicate
    if tree is None or not isinstance(tree, kinds) or isinstance(tree, exp.Query):
        message = "this is no condition; valid: an expression such as delay >= 0, or count(*) > 0"
        raise UsageError(pointed(message, shown, start, stop, path))
    for node in tree.walk():
        refuse_node(shown, node)
        if isinstance(node, exp.Query | exp.Window):
            message = 'a condition of an expectation holds no query and no window; valid: lf.no_rows("SELECT ..", name="..")'
            raise UsageError(pointed(message, shown, start, stop, path))
    named = () if tree.find(exp.Lambda) else (column.parts[0].name for column in tree.find_all(exp.Column))
    return Condition(text, tree.find(exp.AggFunc) is not None, tuple(dict.fromkeys(named)))


def condition_of(kind: RowKind) -> str:
    """A kind of rows as a condition. Pure."""
    match kind:
        case NotNull(column):
            return f"{name_text(column)} IS NOT NULL"
        case InRange(column, low, high):
            bounds = [f"{name_text(column)} >= {_literal(low)}"] if low is not None else []
            bounds += [f"{name_text(column)} <= {_literal(high)}"] if high is not None else []
            return " AND ".join(bounds)
        case OneOf(column, values):
            return f"{name_text(column)} IN ({', '.join(map(_literal, values))})"
        case References(column, table, other):
            there = ".".join(map(name_text, table.split(".")))
            known = f"SELECT {name_text(other)} FROM {there} WHERE {name_text(other)} IS NOT NULL"
            return f"{name_text(column)} IS NULL OR {name_text(column)} IN ({known})"
        case _:
            assert_never(kind)


def _literal(value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case float():
            return f"CAST({value!r} AS DOUBLE)"
        case int() | Decimal():
            return str(value)
        case str():
            return literal(value)
        case datetime():
            kind = "TIMESTAMP" if value.tzinfo is None else "TIMESTAMPTZ"
            return f"CAST({literal(value.isoformat())} AS {kind})"
        case date():
            return f"CAST({literal(value.isoformat())} AS DATE)"
        case _:
            assert_never(value)


def violating(
    rows: pa.Table, conditions: Sequence[str], relations: Mapping[str, Relation], limits: Limits
) -> list[pa.BooleanArray]:
    """For each condition, which of the rows violate it. `relations` are the tables that conditions refer to.

    Raises what `run_query` raises.
    """
    places = pa.array(np.arange(rows.num_rows, dtype=np.int64))
    there = _readable(rows).append_column(_PLACE, places)
    relation = ArrowRelation(there.schema, lambda: there.to_reader())
    columns = [f"({text}\n) IS FALSE AS v{number}" for number, text in enumerate(conditions)]
    query = f"SELECT {', '.join([name_text(_PLACE), *columns])} FROM {_BATCH}"
    with _run(query, {**relations, BATCH: relation}, limits) as reader:
        found = reader.read_all()
    if found.num_rows != rows.num_rows:
        raise UsageError(f"a condition gives {found.num_rows} values for {rows.num_rows} rows; valid: an expression of one row")
    if not found.column(_PLACE).equals(pa.chunked_array([places])):
        found = found.sort_by(_PLACE)
    return [_flat(found.column(f"v{number}")) for number in range(len(conditions))]


def _flat(column: pa.ChunkedArray) -> pa.BooleanArray:
    return (
        pa.concat_arrays([chunk.cast(pa.bool_()) for chunk in column.chunks]) if column.num_chunks else pa.array([], pa.bool_())
    )


def _readable(rows: pa.Table) -> pa.Table:
    """The columns of types that a condition can be of."""
    return rows.select([field.name for field in rows.schema if _is_readable(field.type)])


def _is_readable(arrow: pa.DataType) -> bool:
    try:
        duckdb_type(arrow)
    except SchemaMismatch:
        return False
    return True


def check_condition(text: str, schema: pa.Schema, relations: Mapping[str, Relation] = MappingProxyType({})) -> None:
    """That a condition can be asked of rows of a schema. Raises UnknownName for a column, UsageError otherwise."""
    try:
        violating(schema.empty_table(), [text], relations, Limits(threads=1))
    except UnknownName as error:
        raise UnknownName(error.kind, error.name, [name for name in error.known if name != _PLACE]) from error


def unique_query(kind: Unique, *, appended: bool) -> str:
    """The values that stand in several rows, with their number as the last column; where the batch was appended, those of them
    that it brought."""
    columns = ", ".join(map(name_text, kind.columns))
    known = " AND ".join(f"{name_text(column)} IS NOT NULL" for column in kind.columns)
    only = f" AND ({columns}) IN (SELECT ({columns}) FROM {_BATCH} WHERE {known})" if appended else ""
    return f"SELECT {columns}, count(*) AS rows FROM {_ROWS} WHERE {known}{only} GROUP BY ALL HAVING count(*) > 1"


def newest_query(column: str, *, batch: bool) -> str:
    """The greatest value of a column, among the batch or all."""
    return f"SELECT max({name_text(column)}) AS newest FROM {_BATCH if batch else _ROWS}"


def facts_query(condition: Condition) -> str:
    """One row where a condition of aggregates is false of the table, none where it holds."""
    return f"SELECT 'false' AS \"condition\" WHERE (SELECT ({condition.text}\n) IS FALSE FROM {_ROWS})"


def answers(
    query: str, relations: Mapping[str, Relation], limits: Limits, most: int, *, written: bool = False
) -> tuple[int, list[dict[str, Any]]]:
    """How many rows a query gives, and the first `most` of them; `written`: by the user, into whose text messages point.

    Raises what `run_query` raises.
    """
    count = 0
    first: list[dict[str, Any]] = []
    for batch in _batches(query, relations, limits, written):
        first += batch.slice(0, max(0, most - len(first))).to_pylist()
        count += batch.num_rows
    return count, first


def _batches(query: str, relations: Mapping[str, Relation], limits: Limits, written: bool) -> Iterator[pa.RecordBatch]:
    with (run_query if written else _run)(query, relations, limits) as reader:
        yield from reader


def _run(query: str, relations: Mapping[str, Relation], limits: Limits) -> pa.RecordBatchReader:
    """A query that nobody wrote: messages do not point into it."""
    checked = check_query(query)
    return run_compiled(
        Compiled("", checked.text, tuple(TableRead(name, name) for name in checked.tables)), relations, (), limits
    )
