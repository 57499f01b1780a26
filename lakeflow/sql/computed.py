"""Computed columns of a landed table: what an expression makes of a row's other columns, as it is written.

Expressions are DuckDB's, as in queries: integer division, instants in UTC. They see a row alone, ask nobody, and give the same
for the same row whenever it is written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Final

import duckdb
import pyarrow as pa

from lakeflow.errors import UsageError
from lakeflow.sql.database import Limits, lock, opened
from lakeflow.sql.duckdb_errors import explained
from lakeflow.sql.query import function_name, place_of, refuse_node
from lakeflow.sql.relations import name_text
from lakeflow.sql.tokens import pointed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from sqlglot import exp

_ROWS: Final = "given rows"
MEMORY_BYTES: Final = 256 << 20


def check_expression(padded: str, path: Path | None) -> None:
    """That a text, which stands where it does in its file, is an expression of one row.

    Raises UsageError, pointing at what is wrong.
    """
    from sqlglot import exp, parse
    from sqlglot.errors import ParseError, SqlglotError

    from lakeflow.sql.flink import AiCall, Flink

    start, stop = len(padded) - len(padded.lstrip()), len(padded.rstrip())
    try:
        trees = parse(padded, read=Flink)
    except ParseError as error:
        raise UsageError(pointed("syntax error in a computed column", padded, *place_of(padded, error), path)) from error
    except (SqlglotError, RecursionError) as error:
        raise UsageError(pointed(f"a computed column that cannot be read: {error}", padded, start, stop, path)) from error
    tree = trees[0] if len(trees) == 1 else None
    if tree is None or isinstance(tree, exp.Select | exp.SetOperation | exp.Command | exp.DDL | exp.DML):
        raise UsageError(pointed("a computed column is an expression, such as price * quantity", padded, start, stop, path))
    for node in tree.walk():
        refuse_node(padded, node)
        what = _unmeant(node, AiCall)
        if what is not None:
            message = f"{what} in a computed column, which an expression over the columns of one row makes"
            raise UsageError(pointed(message, padded, start, stop, path))


def _unmeant(node: exp.Expr, call: type) -> str | None:
    from sqlglot import exp

    if isinstance(node, exp.Query):
        return "a query"
    if isinstance(node, exp.Window):
        return "a window function"
    if isinstance(node, exp.AggFunc):
        return f"the aggregate {function_name(node).upper()}"
    if isinstance(node, exp.Star):
        return "*"
    return "a model or a search" if isinstance(node, call) else None


@dataclass(frozen=True, slots=True)
class ComputedColumns:
    """Expressions over the columns of a row: a lakeflow.declare.Computed. `texts` are the expressions of `columns`, in order.

    One database is held for all rows, and freed with the last reference.
    """

    columns: pa.Schema
    texts: tuple[str, ...]
    _held: list[DuckDBPyConnection] = field(default_factory=list, compare=False, repr=False)
    _lock: Lock = field(default_factory=Lock, compare=False, repr=False)

    def of(self, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, tuple[tuple[int, str], ...]]:
        """As `Computed.of`."""
        with self._lock:
            failures: list[tuple[int, str]] = []
            parts = list(self._parts(rows, 0, failures))
            found = pa.Table.from_batches(parts, pa.schema([*rows.schema, *self.columns])).combine_chunks()
        batches = found.to_batches()
        whole = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=found.schema)
        return whole, tuple(failures)

    def _parts(self, rows: pa.RecordBatch, first: int, failures: list[tuple[int, str]]) -> Iterator[pa.RecordBatch]:
        """The rows in order, halved wherever one of them cannot be computed."""
        try:
            yield self._computed(rows)
        except duckdb.Error as error:
            if rows.num_rows > 1:
                half = rows.num_rows // 2
                yield from self._parts(rows.slice(0, half), first, failures)
                yield from self._parts(rows.slice(half), first + half, failures)
                return
            said = explained(error, None, rows.schema.names)
            if not isinstance(said, UsageError) or not rows.num_rows:
                raise said from error
            failures.append((first, f"a computed column ({', '.join(self.columns.names)}): {said.message}"))

    def _computed(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        connection = self._connection()
        connection.register(_ROWS, pa.Table.from_batches([rows]))
        try:
            named = zip(self.texts, self.columns, strict=True)
            asked = ", ".join(f"({text}\n) AS {name_text(column.name)}" for text, column in named)
            found = connection.sql(f"SELECT {asked} FROM {name_text(_ROWS)}").to_arrow_table()
        finally:
            connection.unregister(_ROWS)
        made = [found.column(place).cast(column.type).combine_chunks() for place, column in enumerate(self.columns)]
        arrays = [part.chunk(0) if isinstance(part, pa.ChunkedArray) else part for part in made]
        return pa.RecordBatch.from_arrays([*rows.columns, *arrays], schema=pa.schema([*rows.schema, *self.columns]))

    def _connection(self) -> DuckDBPyConnection:
        if not self._held:
            self._held.append(connected())
        return self._held[0]


def connected() -> DuckDBPyConnection:
    """A database that reads no file, in which rows keep their order."""
    connection = opened(Limits(memory_bytes=MEMORY_BYTES, threads=1))
    lock(connection, ())
    return connection


def computed_columns(
    given: Sequence[tuple[str, str]], around: pa.Schema, comments: Sequence[dict[bytes, bytes] | None] = ()
) -> ComputedColumns:
    """The columns (name, expression) over rows of the schema `around`, with their types.

    Raises UnknownName and UsageError for an expression that DuckDB cannot bind, or whose value may be another each time.
    """
    with connected() as connection:
        connection.register(_ROWS, around.empty_table())
        fields = []
        for place, (name, text) in enumerate(given):
            try:
                relation = connection.sql(f"SELECT ({text}\n) AS value FROM {name_text(_ROWS)}")
                kind = relation.to_arrow_table().schema.field(0).type
            except duckdb.Error as error:
                raise explained(error, None, around.names) from error
            fields.append(pa.field(name, _kept(kind), metadata=comments[place] if comments else None))
        for name, text in given:
            if (unsteady := _unsteady(connection, text, around)) is not None:
                raise UsageError(f"computed column {name!r} calls {unsteady}, which gives another value each time")
    return ComputedColumns(pa.schema(fields), tuple(text for _, text in given))


def _kept(kind: pa.DataType) -> pa.DataType:
    """The type that a table keeps a value of DuckDB's as."""
    if pa.types.is_null(kind):
        return pa.int32()
    return kind


def _unsteady(connection: DuckDBPyConnection, text: str, around: pa.Schema) -> str | None:
    """The first function called, by DuckDB's own parse, whose value is not of its arguments alone."""
    parsed = connection.execute("SELECT json_serialize_sql($1)", [f"SELECT ({text}\n)"]).fetchall()[0][0]
    called = {name.lower() for name in re.findall(r'"function_name":"([^"]+)"', parsed)}
    bare = {name.lower() for name in re.findall(r'"column_names":\["([^"]+)"\]', parsed)}
    if clocks := bare - {name.lower() for name in around.names} - _parameters(parsed):
        return str(min(clocks)).upper()
    rows = connection.execute(
        "SELECT DISTINCT function_name FROM duckdb_functions() WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
    ).fetchall()
    found = min(called & {str(row[0]).lower() for row in rows}, default=None)
    return None if found is None else f"{found}()"


def _parameters(parsed: str) -> set[str]:
    """The names of the parameters of lambdas, which DuckDB's parse shows as columns."""
    lambdas = re.findall(r'"type":"LAMBDA".*?"lhs":(.*?)"expr"', parsed)
    return {name.lower() for part in lambdas for name in re.findall(r'"column_names":\["([^"]+)"\]', part)}
