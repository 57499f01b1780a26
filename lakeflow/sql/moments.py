"""The tables that a query reads, and as of when each: FOR SYSTEM_TIME AS OF, FOR VERSION AS OF.

A table at a moment is a view of its own to DuckDB, which knows nothing of snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb
from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.compiled import AtRef, AtRow, AtSnapshot, AtStart, AtTime, Moment, TableRead
from lakeflow.sql.flink import SEARCH, AiCall, Flink
from lakeflow.sql.query import CATALOG, is_function, names_cte, span, table_name
from lakeflow.sql.tokens import pointed

PROCESSING_TIME = frozenset({"proc_time", "proctime"})
"""Columns by which a join says that it looks a table up, as Flink's documentation names them."""

CONSTANT = (exp.Literal, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Add, exp.Sub, exp.Interval, exp.Var, exp.Neg, exp.Paren)
"""What a moment may be written with, beside CURRENT_TIMESTAMP."""


@dataclass(frozen=True, slots=True)
class Read:
    """A table of the tree, and what it reads."""

    node: exp.Table
    read: TableRead


def read_tables(text: str, tree: exp.Expr) -> Sequence[Read]:
    """Every table of the query in order of appearance. Raises UsageError for a name or a moment that is none."""
    found = [table for table in tree.find_all(exp.Table) if _is_read(table)]
    views: dict[tuple[str, Moment | None], str] = {}
    reads = []
    for table in sorted(found, key=lambda one: _place(one)[0]):
        name, at = table_name(text, table), _moment(text, table)
        view = views.setdefault((name, at), name if at is None else f"{name} at {len(views)}")
        start, stop = _place(table)
        reads.append(Read(table, TableRead(name, view, at, start, stop)))
    return reads


def show_views(reads: Sequence[Read]) -> None:
    """Make the tree read the views in place of the tables."""
    for read in reads:
        node, shown = read.node, read.read
        namespace, _, name = shown.view.rpartition(".")
        if shown.at is not None and not node.args.get("alias"):
            node.set("alias", exp.TableAlias(this=exp.to_identifier(node.name, quoted=True)))
        node.set("this", exp.to_identifier(name, quoted=True))
        node.set("db", exp.to_identifier(namespace, quoted=True) if namespace else None)
        node.set("catalog", None)
        node.set("version", None)


def drop_catalog(tree: exp.Expr) -> None:
    """`lakeflow.namespace.table.column` loses its first part, which DuckDB does not know."""
    for column in tree.find_all(exp.Column):
        if column.text("catalog").lower() == CATALOG:
            column.set("catalog", None)


def _place(table: exp.Table) -> tuple[int, int]:
    """The characters of a table's name, without its alias and its moment."""
    places = [span(part) for part in table.parts]
    return min(start for start, _ in places), max(stop for _, stop in places)


def _is_read(table: exp.Table) -> bool:
    if is_function(table) or isinstance(table.this, AiCall) or names_cte(table):
        return False
    around = table.parent.parent.parent if table.parent and table.parent.parent else None
    return not (isinstance(around, AiCall) and around.this in SEARCH)


def _moment(text: str, table: exp.Table) -> Moment | None:
    version = table.args.get("version")
    if version is None:
        return None
    said = version.expression
    if version.args.get("kind") != "AS OF" or said is None:
        raise _refused(text, table, "a table is read FOR SYSTEM_TIME AS OF or FOR VERSION AS OF one moment")
    if version.name == "VERSION" or version.this == "VERSION":
        if isinstance(said, exp.Literal) and said.is_string:
            return AtRef(str(said.this))
        if isinstance(said, exp.Literal) and str(said.this).isdigit():
            return AtSnapshot(int(said.this))
        raise _refused(text, table, "FOR VERSION AS OF needs a snapshot's id, or the name of a branch or tag in quotes")
    if _is_processing_time(said):
        return AtStart()
    if said.find(exp.Column) is not None:
        return AtRow()
    return AtTime(_microseconds(text, table, said))


def _is_processing_time(said: exp.Expr) -> bool:
    if isinstance(said, exp.Column):
        return said.name.lower() in PROCESSING_TIME
    return isinstance(said, exp.Anonymous) and said.name.upper() == "PROCTIME"


def _microseconds(text: str, table: exp.Table, said: exp.Expr) -> int:
    strange = [node for node in said.walk() if not isinstance(node, (*CONSTANT, exp.CurrentTimestamp))]
    if strange:
        raise _refused(text, table, "FOR SYSTEM_TIME AS OF needs a constant, such as TIMESTAMP '2026-01-31 12:00:00' (in UTC)")
    now = f"TIMESTAMPTZ '{datetime.now(UTC).isoformat()}'"
    plain = said.copy()
    for node in list(plain.find_all(exp.CurrentTimestamp)):
        moment: exp.Expr = exp.maybe_parse(now, dialect=Flink)
        plain = moment if node is plain else plain
        node.replace(moment)
    with duckdb.connect(":memory:", config={"enable_external_access": False, "threads": 1}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        try:
            rows = connection.sql(f"SELECT epoch_us(CAST({plain.sql(dialect=Flink)} AS TIMESTAMPTZ))").fetchall()
        except duckdb.Error as error:
            raise _refused(text, table, f"FOR SYSTEM_TIME AS OF a time that cannot be read: {error}") from error
    if rows[0][0] is None:
        raise _refused(text, table, "FOR SYSTEM_TIME AS OF NULL is no moment")
    return int(rows[0][0])


def _refused(text: str, table: exp.Table, message: str) -> UsageError:
    return UsageError(pointed(message, text, *_place(table)))
