"""A query as written becomes one that DuckDB runs: calls of models as functions, tables at a moment as views.

A query without any of lakeflow's forms stays as it was written, character by character. Before it is let through it is held
against the allow-list of query.py, and it is bound over tables without rows, so that unknown names, arguments of the wrong
types and whatever else DuckDB refuses is said before anything is read or asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import duckdb
import pyarrow as pa
from sqlglot import exp

from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.sql.aliases import inline_asked
from lakeflow.sql.binding import Binder
from lakeflow.sql.compiled import Call, Compiled, Names, TableRead
from lakeflow.sql.duckdb_errors import explained
from lakeflow.sql.filters import filter_first
from lakeflow.sql.flink import AiCall, Flink, read_query
from lakeflow.sql.hoist import ask_once
from lakeflow.sql.moments import Read, drop_catalog, read_tables, show_views
from lakeflow.sql.query import FIRST_WORDS, refuse_node, refuse_statements, refused, span, without_catalog
from lakeflow.sql.relations import duckdb_type
from lakeflow.sql.rewrite import ONE_ROW, Rewriter, Sites
from lakeflow.sql.tokens import pointed
from lakeflow.sql.versions import VERSION_COLUMNS, join_versions

OWN_NAMES = re.compile(r"(ai|probe)_\d+")
"""Functions that only the compiler writes."""

VOLATILE = "expressions cannot be volatile"
"""What DuckDB says of a call where it would have to compare its results twice."""


def compile_query(text: str, names: Names, *, binds: bool = True, placed: bool = False) -> Compiled:
    """The query for DuckDB, with the tables that it reads and the calls that it makes.

    Without `binds` a query that DuckDB reads as it stands is bound when it runs and not before, which saves a third of the
    time that a small one takes; `columns` is empty then. With `placed` the tables under TUMBLE and its kin have the rows in
    their windows already, with window_start and window_end.

    Raises UsageError for what is no valid read-only query and for calls that are not meant, UnknownName for tables, columns
    and models that are not there, pointing into the text; and what `names` raises.
    """
    refuse_statements(text)
    tree = read_query(text)
    _refuse_kinds(text, tree)
    reads = read_tables(text, tree)
    views = _views(text, reads, names)
    if not binds and _is_plain(text, tree):
        return Compiled(text, without_catalog(text, tree, [read.node for read in reads]), _once(read.read for read in reads))
    written = tree.copy()
    sites = Sites()
    with Binder(views, sites.answer) as binder:
        try:
            compiled = _compiled(text, tree, reads, Rewriter(text, names, binder, sites, placed=placed))
        except duckdb.Error as error:
            if VOLATILE in str(error):
                raise UsageError(
                    "a window over groups cannot be ordered by what a model or a search says",
                    next_step="make that a column of a subquery first, and order by the column",
                ) from error
            plain = text if _is_plain(text, written) and not isinstance(written, exp.Describe | exp.Summarize) else None
            raise located(explained(error, plain, _columns(views)), text, written) from error
    return compiled


def located(error: LakeflowError, text: str, written: exp.Expr) -> LakeflowError:
    """The error, pointing at the name that is not there, where it is one and stands in the query as written."""
    if not isinstance(error, UnknownName) or error.message.startswith("line "):
        return error
    for identifier in written.find_all(exp.Identifier, bfs=False):
        if identifier.name.lower() == error.name.lower() and "start" in identifier.meta:
            error.message = pointed(error.message, text, identifier.meta["start"], identifier.meta["end"] + 1)
            break
    return error


def _compiled(text: str, tree: exp.Expr, reads: Sequence[Read], rewriter: Rewriter) -> Compiled:
    found = _once(read.read for read in reads)
    if _is_plain(text, tree):
        shown = without_catalog(text, tree, [read.node for read in reads])
        return Compiled(text, shown, found, (), *_schema(tree, shown, rewriter.binder))
    join_versions(text, reads)
    show_views(reads)
    drop_catalog(tree)
    _name_columns(tree)
    _apply_joins(tree)
    for call in sorted(tree.find_all(AiCall), key=lambda one: int(one.meta["end"])):
        rewriter.rewrite(call)
    _cross_joins(tree)
    inline_asked(tree, rewriter.sites, rewriter.binder)
    ask_once(tree, rewriter.sites)
    filter_first(tree, rewriter.sites, rewriter.names_of)
    columns, types = _schema(tree, tree.sql(dialect=Flink), rewriter.binder)
    calls = _name_calls(tree, rewriter.sites)
    return Compiled(text, tree.sql(dialect=Flink), found, calls, columns, types)


def _refuse_kinds(text: str, tree: exp.Expr) -> None:
    if not isinstance(tree, exp.Query | exp.Values | exp.Describe | exp.Summarize):
        raise refused(text, f"this is no read-only query; valid: {', '.join(FIRST_WORDS)}", 0, len(text))
    for node in tree.walk():
        refuse_node(text, node)
        if isinstance(node, exp.Anonymous) and OWN_NAMES.fullmatch(node.name.lower()):
            raise refused(text, f"function {node.name!r} is not allowed in a query", *span(node))


def _is_plain(text: str, tree: exp.Expr) -> bool:
    """Whether DuckDB reads the query as it stands."""
    return "`" not in text and not any(isinstance(node, AiCall | exp.Version) or node.meta.get("flink") for node in tree.walk())


def _views(text: str, reads: Sequence[Read], names: Names) -> Mapping[str, pa.Schema]:
    views: dict[str, pa.Schema] = {}
    for read in reads:
        table = read.read
        if table.view in views:
            continue
        try:
            views[table.view] = names.table(table.name, table.at)
        except UnknownName as error:
            error.message = pointed(error.message, text, table.start, table.stop)
            raise
    return views


def _once(reads: Iterable[TableRead]) -> tuple[TableRead, ...]:
    found: dict[str, TableRead] = {}
    for read in reads:
        found.setdefault(read.view, read)
    return tuple(found.values())


def _columns(views: Mapping[str, pa.Schema]) -> list[str]:
    return [name for schema in views.values() for name in schema.names if name not in VERSION_COLUMNS.names]


def _schema(tree: exp.Expr, text: str, binder: Binder) -> tuple[pa.Schema, tuple[str, ...]]:
    """The columns of the query, and DuckDB's names of their types."""
    if isinstance(tree, exp.Describe | exp.Summarize):
        if isinstance(tree.this, exp.Query):
            binder.columns(tree.this.sql(dialect=Flink))
        return pa.schema([]), ()
    columns = binder.columns(text)
    return pa.schema([pa.field(name, binder.arrow(kind)) for name, kind in columns]), tuple(kind for _, kind in columns)


def _name_columns(tree: exp.Expr) -> None:
    """Columns with calls in them that the query gives no name are called EXPR$0, EXPR$1, as in Flink; see `replace_node`."""
    for select in tree.find_all(exp.Select):
        for place, one in enumerate(select.expressions):
            inside = any(call.find_ancestor(exp.Select) is select for call in one.find_all(AiCall))
            if inside and not isinstance(one, exp.Alias | exp.Aliases | AiCall | exp.Star):
                one.replace(exp.alias_(one.copy(), one.name if isinstance(one, exp.Dot) else f"EXPR${place}", quoted=True))


def _apply_joins(tree: exp.Expr) -> None:
    """CROSS APPLY and OUTER APPLY as DuckDB writes them."""
    for lateral in tree.find_all(exp.Lateral):
        cross, join = lateral.args.get("cross_apply"), lateral.parent
        lateral.set("cross_apply", None)
        if cross is not None and isinstance(join, exp.Join):
            join.set("kind", "CROSS" if cross else None)
            join.set("side", None if cross else "LEFT")
            join.set("on", None if cross else exp.true())


def _cross_joins(tree: exp.Expr) -> None:
    """LEFT JOIN LATERAL .. ON TRUE of exactly one row is CROSS JOIN, which DuckDB streams where it keeps the other whole."""
    for lateral in tree.find_all(exp.Lateral):
        join = lateral.parent
        on = join.args.get("on") if isinstance(join, exp.Join) else None
        for_all = isinstance(on, exp.Boolean) and on.this and lateral.this.meta.get(ONE_ROW)
        if isinstance(join, exp.Join) and join.side == "LEFT" and for_all:
            join.set("kind", "CROSS")
            join.set("side", None)
            join.set("on", None)


def _name_calls(tree: exp.Expr, sites: Sites) -> tuple[Call, ...]:
    """Turn the probes into the functions that they are; equal ones are one function."""
    functions: dict[str, Call] = {}
    shown: dict[str, str] = {}
    for node in list(tree.find_all(exp.Anonymous)):
        site = sites.of(node)
        if site is None:
            continue
        if site.call is None or site.given is None:
            node.replace(exp.Null())  # DuckDB did not bind it: it stands in a common table expression that nothing reads
            continue
        key = f"{site.asks} {site.parameters} {site.call.result}"
        if key not in functions:
            functions[key] = site.decide(site.given, f"ai_{len(functions)}")[1]
        for value, given, wanted in zip(node.expressions, site.given, site.parameters, strict=True):
            if not given.equals(wanted):
                value.replace(exp.Cast(this=value.copy(), to=exp.DataType.build(duckdb_type(wanted), dialect=Flink)))
        node.set("this", functions[key].function)
        shown[f"__{site.name}"] = f"__{functions[key].function}_{len(shown)}"
    for identifier in tree.find_all(exp.Identifier):
        if identifier.name in shown:  # EXPLAIN shows the column for the call
            identifier.set("this", shown[identifier.name])
    return tuple(functions.values())
