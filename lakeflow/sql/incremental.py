"""What a query of a job reads, and whether it can run over new rows alone: tree -> values. Pure.

A query runs incrementally where what it makes of a row depends on that row and on what holds still: then running it over any
cutting of the rows comes to the same as running it once over all. A source of rows is *moving* if it is made of the table's new
rows, and *still* else: a table at a moment (FOR SYSTEM_TIME AS OF PROCTIME(), as of the start of the run), a search, values, or
a subquery of such. Over moving rows a query may choose, compute, filter, unnest, call models, join what is still, and put rows
of one table or of several together by UNION ALL. Two moving tables may be joined within a bound (incremental_intervals.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, NoReturn

import duckdb
from sqlglot import exp
from sqlglot.errors import SqlglotError

from lakeflow.errors import UsageError
from lakeflow.sql.compiled import TableRead
from lakeflow.sql.flink import SEARCH, AiCall, Argument, Flink, ModelArgument, TableArgument, read_query
from lakeflow.sql.moments import read_tables
from lakeflow.sql.query import is_function, names_cte, span, table_name
from lakeflow.sql.tokens import pointed

if TYPE_CHECKING:
    from lakeflow.sql.incremental_intervals import JoinQuery
    from lakeflow.sql.incremental_windows import WindowQuery

STATEFUL_CALLS: Final = frozenset({"SESSION", "ML_EVALUATE"})
"""Functions over tables whose rows depend on each other."""

CLAUSES: Final[Mapping[str, str]] = {
    "distinct": "DISTINCT",
    "group": "GROUP BY",
    "having": "HAVING",
    "qualify": "QUALIFY",
    "sample": "TABLESAMPLE",
    "order": "ORDER BY",
    "limit": "LIMIT",
    "offset": "OFFSET",
    "windows": "WINDOW",
}
"""Clauses whose result for one row depends on the others, by sqlglot's names for them."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a query reads: `moving` tables, whose new rows drive it, and `still` ones, whole or at a moment, each once.

    `texts` are the names of models in its calls, and the texts that may be such, `values` those in calls that are values of
    expressions or joined by LEFT, where no row can be left out. `obstacle` says why it cannot run
    incrementally, pointing into the query; None where it can. `is_ordered` tells that rows come out in the order of the
    table's rows, as merging by key needs it: those of UNION ALL come a branch after the other, and those of a join in the order
    of what stands first in FROM. `is_keyed` tells that it goes on from what it keeps of earlier rows by key (keyed.py),
    `windows` that it goes on whole windows at a time, `joined` how it joins the two tables of `moving` within a bound.
    """

    moving: tuple[str, ...]
    still: tuple[str, ...]
    texts: frozenset[str] = frozenset()
    values: frozenset[str] = frozenset()
    obstacle: str | None = None
    is_ordered: bool = True
    is_keyed: bool = False
    windows: WindowQuery | None = None
    joined: JoinQuery | None = None


def shape_of(text: str) -> Shape:
    """What a query reads and whether it can run incrementally. Raises UsageError where the text is no query."""
    tree = read_query(text)
    reads = [one.read for one in read_tables(text, tree)]
    searched = [table_name(text, table) for table in tree.find_all(exp.Table) if _is_searched(table)]
    moving = _once(read.name for read in reads if read.at is None)
    judge = Judge(text)
    at_moments = [read.name for read in reads if read.at is not None]
    is_keyed, windows, joined = False, None, None
    if len(moving) > 1:
        obstacle, joined = _of_several(judge, tree, reads)
        is_keyed = joined is not None and joined.is_keyed
    else:
        obstacle, is_keyed, windows = _obstacle(judge, tree)
    return Shape(
        moving if joined is None else joined.tables,
        _once([*at_moments, *searched]),
        frozenset(_texts(tree.find_all(AiCall))),
        frozenset(_texts(call for call in tree.find_all(AiCall) if _keeps_rows(call))),
        obstacle,
        is_ordered=not judge.unordered and joined is None,
        is_keyed=is_keyed,
        windows=windows,
        joined=joined,
    )


def _once(names: Iterator[str] | Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _is_searched(table: exp.Table) -> bool:
    around = table.parent.parent.parent if table.parent and table.parent.parent else None
    return isinstance(around, AiCall) and around.this in SEARCH


def _keeps_rows(call: AiCall) -> bool:
    """Whether a row without an answer stays: it is a value, or joined by LEFT JOIN or OUTER APPLY."""
    source = call.parent
    if not isinstance(source, exp.Table | exp.Lateral):
        return True
    join = source.parent
    outer = isinstance(join, exp.Join) and bool(join.args.get("side"))
    return outer or (isinstance(source, exp.Lateral) and source.args.get("cross_apply") is False)


def _texts(calls: Iterable[AiCall]) -> Iterator[str]:
    for call in calls:
        for argument in call.expressions:
            said = argument.this if isinstance(argument, Argument) else argument
            if isinstance(said, ModelArgument) or (isinstance(said, exp.Literal) and said.is_string):
                yield str(said.this)


def _of_several(judge: Judge, tree: exp.Expr, reads: Sequence[TableRead]) -> tuple[str | None, JoinQuery | None]:
    """What keeps a query over several tables from running over new rows of each; how it joins two of them, if it does."""
    from lakeflow.sql.incremental_intervals import join_query

    try:
        joined = join_query(judge.text, tree, reads)
        if joined is None:
            judge.moves(tree, {})
    except UsageError as error:
        return error.message, None
    return None, joined


def _obstacle(judge: Judge, tree: exp.Expr) -> tuple[str | None, bool, WindowQuery | None]:
    """What keeps a query from running over new rows alone; whether it can by what it keeps of earlier ones, or by windows."""
    from lakeflow.sql.incremental_windows import window_query
    from lakeflow.sql.keyed import keyed_query

    try:
        judge.moves(tree, {})
    except UsageError as error:
        first = error.message
    else:
        return None, False, None
    of_windows = None
    try:
        if (windows := window_query(judge.text, tree)) is not None:
            return None, False, windows
    except UsageError as error:
        of_windows = error.message
    try:
        found = keyed_query(judge.text)
    except UsageError as error:
        return of_windows or error.message, False, None
    return (None, True, None) if found is not None else (of_windows or first, False, None)


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges the parts of one query. Its methods say whether rows move, and raise UsageError where moving rows would meet
    what depends on more than each of them. `ctes` are the common table expressions in sight, and whether they move. `unordered`
    are the parts that give moving rows in another order."""

    text: str
    unordered: list[exp.Expr] = field(default_factory=list)

    def moves(self, query: exp.Expr, ctes: Mapping[str, bool]) -> bool:
        """A query, with all that it is made of."""
        ctes = self._with_ctes(query, ctes)
        match query:
            case exp.SetOperation():
                return self._set_operation(query, ctes)
            case exp.Select():
                return self._select(query, ctes)
            case exp.Subquery():
                inside = self.moves(query.this, ctes)
                return inside and self._row_wise(query)
            case exp.Table():
                return self._source(query, ctes)
            case _:
                return self._of_values(query.iter_expressions(), ctes)

    def _with_ctes(self, query: exp.Expr, ctes: Mapping[str, bool]) -> Mapping[str, bool]:
        named = query.args.get("with_")
        if not isinstance(named, exp.With):
            return ctes
        known = dict(ctes)
        for cte in named.expressions:
            if named.args.get("recursive"):
                known[cte.alias.lower()] = False
            moving = self.moves(cte.this, known)
            if moving and named.args.get("recursive"):
                self._refuse("WITH RECURSIVE", cte)
            known[cte.alias.lower()] = moving
        return known

    def _set_operation(self, query: exp.SetOperation, ctes: Mapping[str, bool]) -> bool:
        sides = [self.moves(query.this, ctes), self.moves(query.expression, ctes)]
        if not any(sides):
            return False
        if not isinstance(query, exp.Union) or query.args.get("distinct"):
            kind = "UNION without ALL" if isinstance(query, exp.Union) else type(query).__name__.upper()
            self._refuse(kind, query.expression)
        if not all(sides):
            still = query.expression if sides[0] else query.this
            self._refuse("a branch of UNION ALL that reads no new rows, and would come again with each batch,", still)
        self.unordered.append(query)
        return self._row_wise(query)

    def _select(self, select: exp.Select, ctes: Mapping[str, bool]) -> bool:
        first, joins = select.args.get("from_"), select.args.get("joins") or []
        moving = first is not None and self._source(first.this, ctes)
        for join in [*joins, *(select.args.get("laterals") or [])]:
            moving = self._joined(moving, join, ctes)
        self._expressions(select, ctes)
        return moving and self._row_wise(select)

    def _joined(self, moving: bool, join: exp.Expr, ctes: Mapping[str, bool]) -> bool:
        """Whether the rows before a join and those of the join move together."""
        source = join.this if isinstance(join, exp.Join) else join
        joined = self._source(source, ctes)
        side, method, kind = (str(join.args.get(part) or "").upper() for part in ("side", "method", "kind"))
        if moving and joined:
            return self._meets(join, source)
        if not moving and not joined:
            return False
        if joined:
            self.unordered.append(join)
        kept = "LEFT" if moving else "RIGHT"
        if side not in ("", kept) or method == "POSITIONAL" or (joined and kind in ("SEMI", "ANTI")):
            self._refuse(f"{' '.join(filter(None, (method, side, kind)))} JOIN, which keeps rows of the other side,", source)
        return True

    def _meets(self, join: exp.Expr, source: exp.Expr) -> bool:
        """A join of rows that move with others that move."""
        self._refuse("a join of a table with itself", source)

    def _source(self, source: exp.Expr, ctes: Mapping[str, bool]) -> bool:
        """A source of rows in FROM."""
        if isinstance(source, exp.Table):
            moving = self._table(source, ctes)
            for join in source.args.get("joins") or []:
                moving = self._joined(moving, join, ctes)
            if moving and (source.args.get("pivots") or source.args.get("sample")):
                self._refuse("PIVOT" if source.args.get("pivots") else "TABLESAMPLE", source)
            return moving
        if isinstance(source, exp.Lateral):
            return self._call(source.this, ctes) if isinstance(source.this, AiCall) else self.moves(source.this, ctes)
        if isinstance(source, exp.TableSample):
            if self._source(source.this, ctes):
                self._refuse("TABLESAMPLE", source)
            return False
        if isinstance(source, exp.Subquery):
            moving = self.moves(source, ctes)
            if moving and (source.args.get("pivots") or source.args.get("sample")):
                self._refuse("PIVOT" if source.args.get("pivots") else "TABLESAMPLE", source)
            return moving
        return self.moves(source, ctes)

    def _table(self, table: exp.Table, ctes: Mapping[str, bool]) -> bool:
        if isinstance(table.this, AiCall):
            return self._call(table.this, ctes)
        if is_function(table):
            return self._of_values([table.this], ctes)
        if names_cte(table):
            return ctes.get(table.name.lower(), False)
        return table.args.get("version") is None

    def _call(self, call: AiCall, ctes: Mapping[str, bool]) -> bool:
        """A call of one of lakeflow's functions that gives rows."""
        given = [argument.this for argument in call.expressions if isinstance(argument, Argument)]
        self._of_values([one for one in given if not isinstance(one, TableArgument)], ctes)
        if call.this in SEARCH:
            return False
        tables = [self._source(one.this, ctes) for one in given if isinstance(one, TableArgument)]
        if any(tables) and call.this in STATEFUL_CALLS:
            self._refuse(str(call.this), call)
        return any(tables)

    def _expressions(self, select: exp.Select, ctes: Mapping[str, bool]) -> None:
        """Queries within the expressions of a SELECT."""
        for query in queries_within(select):
            self._of_values([query], ctes)
            inner = query.unnest() if isinstance(query, exp.Subquery) else query
            for node in own_nodes(inner):
                if is_aggregate(node) and _is_of_outer(node, inner):
                    self._refuse(f"the aggregate {called(node).upper()} over columns of the query around it,", node)

    def _of_values(self, nodes: Iterable[exp.Expr], ctes: Mapping[str, bool]) -> bool:
        """Queries within expressions, which see the rows of a batch alone, must not move; False."""
        for query in _queries_in(nodes):
            if self.moves(query, ctes):
                self._refuse("a subquery over the table's rows, of which it would see the new ones alone,", query)
        return False

    def _row_wise(self, query: exp.Expr) -> bool:
        """That moving rows meet no clause and no function that looks at several of them; True."""
        for part, clause in CLAUSES.items():
            if found := query.args.get(part):
                self._refuse(clause, found[0] if isinstance(found, list) else found)
        if isinstance(query, exp.Select):
            for node in own_nodes(query):
                if isinstance(node, exp.Window):
                    self._refuse("a window function", node)
                if is_aggregate(node):
                    self._refuse(f"the aggregate {called(node).upper()}", node)
        return True

    def _refuse(self, what: str, node: exp.Expr) -> NoReturn:
        start, stop = span(node)
        message = f"{what} needs rows that came before: the query cannot run incrementally"
        if (start, stop) == (0, 1):
            start, stop = place_of(self.text, what)
        raise UsageError(pointed(message, self.text, start, stop))


def place_of(text: str, clause: str) -> tuple[int, int]:
    """Where a clause's words stand; the query itself where they do not."""
    words = clause.removeprefix("the aggregate ")
    start = text.upper().rfind(words)
    if start >= 0:
        return start, start + len(words)
    first = len(text) - len(text.lstrip())
    return first, first + 1


def own_nodes(select: exp.Expr) -> Iterator[exp.Expr]:
    """What stands in the expressions of a SELECT itself, queries within left out."""
    aside = [select.args.get("from_"), select.args.get("with_")]
    pending = [node for node in select.iter_expressions() if not any(node is one for one in aside)]
    while pending:
        node = pending.pop()
        if isinstance(node, exp.Query) and not isinstance(node, exp.Table):
            continue
        yield node
        pending.extend(node.iter_expressions())


def queries_within(select: exp.Select) -> Iterator[exp.Expr]:
    """The outermost queries in the expressions of a SELECT, those of FROM and JOIN left out."""
    aside = [select.args.get("from_"), select.args.get("with_")]
    return _queries_in(node for node in select.iter_expressions() if not any(node is one for one in aside))


def _queries_in(nodes: Iterable[exp.Expr]) -> Iterator[exp.Expr]:
    """The outermost queries in expressions; of a join its condition counts, and not its source."""
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if isinstance(node, exp.Query):
            if not isinstance(node, exp.Table):
                yield node
        elif isinstance(node, exp.Join):
            pending.extend(part for part in (node.args.get("on"),) if isinstance(part, exp.Expr))
        elif not isinstance(node, exp.Lateral):
            pending.extend(node.iter_expressions())


def _is_of_outer(aggregate: exp.Expr, query: exp.Expr) -> bool:
    """Whether an aggregate in a subquery is over columns of the query around it alone, to which SQL then counts it."""
    columns = list(aggregate.find_all(exp.Column))
    if not columns:
        return False
    first = query.args.get("from_")
    if first is None:
        return True
    sources = [first.this, *(join.this for join in query.args.get("joins") or [])]
    own = {str(source.alias_or_name).lower() for source in sources}
    return all(column.table and column.table.lower() not in own for column in columns)


def is_aggregate(node: exp.Expr) -> bool:
    if isinstance(node, exp.AggFunc):
        return True
    return isinstance(node, exp.Func) and called(node) in aggregates()


def called(node: exp.Expr) -> str:
    """The name by which DuckDB calls a function."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    try:
        return str(node.sql(dialect=Flink)).partition("(")[0].strip().lower()
    except (SqlglotError, ValueError):
        return ""


@cache
def aggregates() -> frozenset[str]:
    """The names of DuckDB's aggregate functions."""
    with duckdb.connect(":memory:", config={"threads": 1}) as connection:
        rows = connection.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'"
        ).fetchall()
    return frozenset(str(row[0]).lower() for row in rows)
