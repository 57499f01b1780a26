"""Runs a read-only query on DuckDB, over the tables that it names and with the functions that it calls.

Every query has its own in-memory database with a view for each table and nothing else. Before the query's text reaches
it, extensions, other files, Python variables and settings are shut off, and DuckDB's own parse of the text is held
against the same allow-list as sqlglot's (query.py): DuckDB reads `WITH x AS (COPY .. TO ..) SELECT ..` as a SELECT.

What differs from plain DuckDB: `7 / 2` is 3 as in Flink and PostgreSQL (`integer_division`), and instants are shown in
UTC whatever the machine's zone. A sum of BIGINT is a DECIMAL(38, 0), which it cannot overflow.
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, assert_never
from weakref import WeakSet

import duckdb
import pyarrow as pa

from lakeflow.errors import Interrupted, LakeflowError, SchemaMismatch, UnknownName, UsageError, did_you_mean
from lakeflow.sql.compiled import Call, Compiled, EvaluateCall, Function, PredictCall, PureCall, SearchCall, TableRead
from lakeflow.sql.database import Limits as Limits
from lakeflow.sql.database import Opening, bound, lock, opened, refuse_reserved
from lakeflow.sql.duckdb_errors import explained
from lakeflow.sql.functions import Behind
from lakeflow.sql.parquet_files import parquet_bodies
from lakeflow.sql.pure.registry import pure_function
from lakeflow.sql.query import REFUSED_FUNCTIONS, TABLE_FUNCTIONS, Query, check_query
from lakeflow.sql.relations import ArrowRelation, ParquetRelation, Plain, Relation, StreamSource, name_text, plain_parts, whole
from lakeflow.sql.tokens import pointed

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUERY_NODES: Final = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
"""DuckDB's kinds of query that only read."""


def run_query(text: str, relations: Mapping[str, Relation], limits: Limits = Limits()) -> pa.RecordBatchReader:
    """The rows of a read-only query over `relations`, by `namespace.table`, as they come.

    The reader holds the query's database until it is read to its end or let go of (its `close()` alone frees nothing,
    as PyArrow has it); memory is bounded by `limits`. Raises
    UnknownName for a table or column that is not there (tables are told apart by case), UsageError for anything that is
    no valid read-only query, SchemaMismatch for a relation that does not fit, StorageFull and StorageUnavailable; so
    does the reader.
    """
    query = check_query(text)
    reads = tuple(TableRead(table, table) for table in query.tables)
    return run_compiled(Compiled(text, query.text, reads), relations, (), limits)


def run_compiled(
    compiled: Compiled,
    relations: Mapping[str, Relation],
    functions: Sequence[Function],
    limits: Limits = Limits(),
    opening: Opening | None = None,
) -> pa.RecordBatchReader:
    """The rows of a compiled query over `relations`, by view, with what stands behind its calls, as they come.

    Functions that ask nobody (`PureCall`) need none. `opening` is a database that is being opened for the query, within the
    same limits but for the threads. The reader is as `run_query` says, and raises what it says and, as it was raised, what a
    function raises.
    """
    return _Run(compiled, _named(compiled, relations), _behind(compiled, functions), limits, opening).reader()


def plan_compiled(compiled: Compiled, relations: Mapping[str, Relation], limits: Limits = Limits()) -> list[dict[str, Any]]:
    """DuckDB's own plan of a compiled query over `relations`, as its EXPLAIN gives it in JSON. Nothing stands behind the calls.

    Raises what `run_compiled` raises before the first row.
    """
    functions = [Behind(Function(call.function, _parameters(call), call.result, _unasked)) for call in compiled.calls]
    return _Run(compiled, _named(compiled, relations), functions, limits).plan()


def _named(compiled: Compiled, relations: Mapping[str, Relation]) -> Mapping[str, Relation]:
    for read in compiled.reads:
        if read.view not in relations:
            raise UnknownName("table", read.name, relations, next_step="lakeflow tables list")
    return {read.view: relations[read.view] for read in compiled.reads}


def _parameters(call: Call) -> tuple[pa.DataType, ...]:
    match call:
        case PredictCall():
            return tuple(call.model.input.types)
        case SearchCall():
            return (call.query,)
        case EvaluateCall() | PureCall():
            return call.parameters
        case _:
            assert_never(call)


def _unasked(_rows: pa.RecordBatch) -> pa.Array:
    raise UsageError("a plan of a query asks nothing")


def _behind(compiled: Compiled, functions: Sequence[Function]) -> Sequence[Behind]:
    given = {function.name: function for function in functions}
    for call in compiled.calls:
        if isinstance(call, PureCall) and call.function not in given:
            given[call.function] = pure_function(call)
        if call.function not in given:
            raise UsageError(
                f"nothing stands behind {call.function!r}, which the query calls{did_you_mean(call.function, given)}"
            )
    return [Behind(given[call.function]) for call in compiled.calls]


class _Run:
    """One query and its database."""

    def __init__(
        self,
        compiled: Compiled,
        relations: Mapping[str, Relation],
        behind: Sequence[Behind],
        limits: Limits,
        opening: Opening | None = None,
    ) -> None:
        self._compiled = compiled
        self._query = Query(compiled.text, tuple(read.view for read in compiled.reads))
        self._limits = limits
        self._relations = relations
        self._behind = behind
        self._sources: list[StreamSource] = []
        self._held: DuckDBPyConnection | None = opened(limits) if opening is None else opening.take(limits.threads)
        self._reader: pa.RecordBatchReader | None = None
        with _opening:
            _open_runs.add(self)

    def interrupt(self) -> None:
        """Stop what runs now; the database stays."""
        connection = self._held
        if connection is not None:
            with suppress(duckdb.ConnectionException):  # it has been closed meanwhile
                connection.interrupt()

    def close(self) -> None:
        """Stop what still runs, and free the database."""
        self.interrupt()
        connection, self._held = self._held, None
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
        if connection is not None:
            connection.close()

    @property
    def _connection(self) -> DuckDBPyConnection:
        if self._held is None:
            raise Interrupted("the query was interrupted")
        return self._held

    def reader(self) -> pa.RecordBatchReader:
        with self._closed_on_failure():
            self._prepare()
            found = bound(self._connection, self._query.text)
            reader = found.to_arrow_reader(self._limits.batch_rows)
        self._reader = reader
        return pa.RecordBatchReader.from_batches(reader.schema, self._batches(reader))

    def plan(self) -> list[dict[str, Any]]:
        """DuckDB's plan: nodes with name, children and extra_info."""
        with self._closed_on_failure():
            self._prepare()
            rows = self._connection.execute(f"EXPLAIN (FORMAT JSON) {self._query.text}").fetchall()
        self.close()
        plan: list[dict[str, Any]] = json.loads(rows[0][1])
        return plan

    def _prepare(self) -> None:
        """Make tables and functions known, and shut off everything else."""
        parts = {
            table: {f"{table}, part {place}" if place else table: part for place, part in enumerate(plain_parts(relation))}
            for table, relation in self._relations.items()
        }
        named = {name: part for of_table in parts.values() for name, part in of_table.items()}
        bodies = parquet_bodies(
            self._connection, {name: one for name, one in named.items() if isinstance(one, ParquetRelation)}
        )
        for table, relation in self._relations.items():
            selects = [bodies.get(name) or self._streamed(part, f"stream of {name}") for name, part in parts[table].items()]
            self._show(table, relation, whole(relation, selects))
        for function in self._behind:
            function.define(self._connection)
        lock(self._connection, self._relations.values())
        _refuse_writes(self._connection, self._query)

    @contextmanager
    def _closed_on_failure(self) -> Iterator[None]:
        try:
            yield
        except (duckdb.Error, OSError) as error:
            self.close()
            raise self._explained(error) from error
        except LakeflowError:
            self.close()
            raise

    def _batches(self, reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise self._explained(error) from error
        finally:
            self.close()

    def _explained(self, error: Exception) -> LakeflowError:
        failures = [failure for one in self._sources for failure in one.failures]
        failures += [failure for one in self._behind for failure in one.failures]
        if failures:
            return failures[0]
        columns = [name for relation in self._relations.values() for name in relation.column_names]
        as_written = not self._behind and len(self._compiled.text) == len(self._compiled.written)
        return explained(error, self._compiled.text if as_written else None, columns)

    def _show(self, table: str, relation: Relation, body: str) -> None:
        """Make the view `namespace.table` of the database read the relation by the SELECT `body`."""
        namespace, _, name = table.rpartition(".")
        refuse_reserved(table)
        _refuse_names(table, relation)
        self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {name_text(namespace)}")
        self._connection.execute(f"CREATE VIEW {name_text(namespace)}.{name_text(name)} AS {body}")

    def _streamed(self, relation: Plain, stream: str) -> str:
        """The SELECT that reads a relation which comes as Arrow."""
        assert isinstance(relation, ArrowRelation), "files have their SELECT already"
        source = StreamSource(relation)
        self._sources.append(source)
        self._connection.register(stream, source)
        return f"SELECT * FROM {name_text(stream)}"


_open_runs: WeakSet[_Run] = WeakSet()
_opening = Lock()


def interrupt_queries() -> None:
    """Stop what every query of this process runs at this moment, from another thread: it raises Interrupted in its own.

    One that has not begun to run is not stopped, so whoever wants to stop it calls this until it has ended.
    """
    with _opening:
        running = list(_open_runs)
    for run in running:
        run.interrupt()


@atexit.register
def _close_all() -> None:
    """Free the databases of readers that nobody read to their end, before the interpreter goes: DuckDB complains otherwise."""
    for run in list(_open_runs):
        run.close()


def _refuse_names(table: str, relation: Relation) -> None:
    seen: dict[str, str] = {}
    for name in relation.column_names:
        if name.lower() in seen:
            raise SchemaMismatch(
                f"table {table!r} has columns {seen[name.lower()]!r} and {name!r}, which SQL does not tell apart",
                next_step="rename one of them",
            )
        seen[name.lower()] = name


def _refuse_writes(connection: DuckDBPyConnection, query: Query) -> None:
    """Hold DuckDB's own parse of the text against the allow-list. Raises UsageError where anything is not on it."""
    answers = connection.execute("SELECT json_serialize_sql($1)", [query.text]).fetchall()
    parsed = json.loads(answers[0][0])
    if parsed.get("error_type") == "parser":
        start = len(query.text.encode()[: int(parsed.get("position") or 0)].decode(errors="ignore"))
        raise UsageError(pointed(str(parsed.get("error_message")), query.text, start, start + 1))
    if parsed.get("error") or len(parsed.get("statements", [])) != 1:
        raise UsageError("this is no read-only query; valid: one SELECT, VALUES, DESCRIBE or SUMMARIZE")
    nodes = list(_nodes(parsed["statements"]))
    ctes = {str(entry["key"]).lower() for node in nodes if "cte_map" in node for entry in node["cte_map"]["map"]}
    for node in nodes:
        _refuse_node(node, query, ctes)


def _nodes(tree: object) -> Iterator[dict[str, Any]]:
    pending = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            yield node
            pending.extend(node.values())
        elif isinstance(node, list):
            pending.extend(node)


def _refuse_node(node: Mapping[str, Any], query: Query, ctes: set[str]) -> None:
    kind = str(node.get("type", ""))
    function = str(node.get("function_name", "")).lower()
    if kind.endswith("_NODE") and kind not in QUERY_NODES:
        raise UsageError(f"{kind.removesuffix('_QUERY_NODE')} is not allowed within a read-only query")
    if kind == "TABLE_FUNCTION":
        called = str(node["function"].get("function_name", "")).lower()
        if called not in TABLE_FUNCTIONS:
            raise UsageError(f"table function {called!r} is not allowed{did_you_mean(called, TABLE_FUNCTIONS)}")
    if function in REFUSED_FUNCTIONS:
        raise UsageError(f"function {function!r} is not allowed in a read-only query")
    if kind == "BASE_TABLE":
        parts = [str(node[part]) for part in ("catalog_name", "schema_name", "table_name") if node.get(part)]
        if ".".join(parts) not in query.tables and not (len(parts) == 1 and parts[0].lower() in ctes):
            raise UsageError(f"table {'.'.join(parts)!r} is not among those of the query: {', '.join(query.tables)}")
