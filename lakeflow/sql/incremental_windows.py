"""Queries over windows that run incrementally, whole windows at a time: TUMBLE, HOP, CUMULATE and SESSION over the table. Pure.

What such a query makes of a window must depend on the rows of that window alone, and on what holds still. So every clause that
looks at several rows has both window_start and window_end among what it groups by: GROUP BY, PARTITION BY of window functions,
DISTINCT; over sessions the key of PARTITION BY too. The query hands the bounds of the window on, and may filter, compute, ask
models and join what is still, in as many subqueries as it likes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.calls_windows import Window, read_window
from lakeflow.sql.flink import PREDICT, WINDOWS, AiCall, Argument, TableArgument
from lakeflow.sql.incremental import Judge, is_aggregate, own_nodes, place_of, queries_within
from lakeflow.sql.query import is_function, names_cte, span
from lakeflow.sql.tokens import pointed

START, END = "window_start", "window_end"
REFUSED: Final[Mapping[str, str]] = {
    "order": "ORDER BY",
    "limit": "LIMIT",
    "offset": "OFFSET",
    "sample": "TABLESAMPLE",
    "windows": "WINDOW",
}
"""Clauses that look at rows of several windows, by sqlglot's names for them."""


@dataclass(frozen=True, slots=True)
class WindowQuery:
    """A query over windows of one table: the call, the columns of that table with the time and a session's key, and what the
    columns of the query are called that have the key, window_start and window_end, in this order."""

    window: Window
    time: str
    by: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows of windows: what the columns are called that have window_start, window_end and the key, in small letters."""

    bounds: tuple[str, str]
    by: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.by, *self.bounds)


Ctes = Mapping[str, "_Rows | bool"]
"""What common table expressions are: rows of windows, or whether they move."""


def window_query(text: str, tree: exp.Expr) -> WindowQuery | None:
    """The query over windows; None where it has no window over rows of the table itself.

    Raises UsageError, pointing into the text, where something looks at rows of several windows.
    """
    calls = [call for call in tree.find_all(AiCall) if call.this in WINDOWS]
    if not calls:
        return None
    judge = _WindowJudge(text)
    rows = judge.rows(tree, {})
    if not isinstance(rows, _Rows):
        return None
    if len(calls) > 1:
        judge.refuse("a second call of a window", calls[1])
    window = read_window(text, calls[0])
    by = tuple(key.name for key in window.partition)
    return WindowQuery(window, window.time.name, by, rows.all)


@dataclass(frozen=True, slots=True)
class _WindowJudge:
    """Says of the parts of a query whether they give rows of windows, or else whether they move."""

    text: str

    def rows(self, query: exp.Expr, ctes: Ctes) -> _Rows | bool:
        """A query, with all that it is made of."""
        ctes = self._with_ctes(query, ctes)
        match query:
            case exp.Select():
                return self._select(query, ctes)
            case exp.Subquery():
                inner = self.rows(query.this, ctes)
                if isinstance(inner, _Rows):
                    self._refuse_clauses(query)
                return inner
            case exp.SetOperation():
                sides = [self.rows(side, ctes) for side in (query.this, query.expression)]
                if any(isinstance(side, _Rows) for side in sides):
                    self.refuse(type(query).__name__.upper(), query.expression)
                return self._plain(query, ctes)
            case _:
                return self._plain(query, ctes)

    def _plain(self, query: exp.Expr, ctes: Ctes) -> bool:
        """A part without windows. Raises UsageError where it needs rows that came before."""
        moving = {name: one is not False for name, one in ctes.items()}
        return Judge(self.text).moves(query, moving)

    def _with_ctes(self, query: exp.Expr, ctes: Ctes) -> Ctes:
        named = query.args.get("with_")
        if not isinstance(named, exp.With):
            return ctes
        known = dict(ctes)
        for cte in named.expressions:
            if named.args.get("recursive"):
                known[cte.alias.lower()] = False
            found = self.rows(cte.this, known)
            if named.args.get("recursive") and found is not False:
                self.refuse("WITH RECURSIVE", cte)
            known[cte.alias.lower()] = found
        return known

    def _select(self, select: exp.Select, ctes: Ctes) -> _Rows | bool:
        first, joins = select.args.get("from_"), select.args.get("joins") or []
        sources = [] if first is None else [first.this, *(join.this for join in joins)]
        found = [self._source(source, ctes) for source in sources]
        if not any(isinstance(one, _Rows) for one in found):
            return self._plain(select, ctes)
        rows = found[0]
        if not isinstance(rows, _Rows):
            self.refuse("a window that is joined to another table, and does not stand first in FROM,", sources[0])
        for join, one in zip(joins, found[1:], strict=True):
            self._joined(join, one)
        for lateral in select.args.get("laterals") or []:
            if not isinstance(lateral.this, AiCall) and self._plain(lateral.this, ctes):
                self.refuse("a second reading of the table", lateral)
        self._refuse_clauses(select)
        for query in queries_within(select):
            if self._plain(query, ctes):
                self.refuse("a subquery over the table's rows", query)
        self._grouping(select, rows)
        return self._handed_on(select, rows)

    def _joined(self, join: exp.Join, source: _Rows | bool) -> None:
        side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
        if source is not False:
            self.refuse("a join of windows with each other, or with new rows of the table,", join.this)
        if side not in ("", "LEFT"):
            self.refuse(f"{side} {kind} JOIN".replace("  ", " "), join.this)

    def _source(self, source: exp.Expr, ctes: Ctes) -> _Rows | bool:
        if isinstance(source, exp.Table):
            if isinstance(source.this, AiCall):
                return self._call(source.this, ctes)
            if is_function(source):
                return False
            if names_cte(source):
                return ctes.get(source.name.lower(), False)
            return source.args.get("version") is None
        return self.rows(source, ctes)

    def _call(self, call: AiCall, ctes: Ctes) -> _Rows | bool:
        tables = [argument.this for argument in call.expressions if isinstance(argument, Argument)]
        given = [one for one in tables if isinstance(one, TableArgument)]
        if call.this in WINDOWS and len(given) == 1:
            return self._window(call, given[0], ctes)
        if call.this in PREDICT and given:
            return self._source(given[0].this, ctes)
        return False

    def _window(self, call: AiCall, given: TableArgument, ctes: Ctes) -> _Rows | bool:
        inner = given.this
        if not self._source(inner, ctes):
            return False
        if not isinstance(inner, exp.Table) or names_cte(inner) or isinstance(inner.this, AiCall):
            self.refuse(f"{call.this} over a subquery, in place of the table itself,", call)
        window = read_window(self.text, call)
        other = next((key for key in window.partition if not isinstance(key, exp.Column)), None)
        if other is not None:
            self.refuse("PARTITION BY what is no column of the table", call)
        return _Rows((START, END), tuple(key.name.lower() for key in window.partition))

    def _refuse_clauses(self, query: exp.Expr) -> None:
        for part, clause in REFUSED.items():
            if found := query.args.get(part):
                self.refuse(clause, found[0] if isinstance(found, list) else found)
        distinct = query.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            self.refuse("DISTINCT ON", distinct)

    def _grouping(self, select: exp.Select, rows: _Rows) -> None:
        """That groups and window functions each see rows of one window."""
        group = select.args.get("group")
        if group is not None:
            if any(group.args.get(part) for part in ("rollup", "cube", "grouping_sets", "totals")):
                self.refuse("GROUP BY ROLLUP, CUBE or GROUPING SETS", group)
            self._require(self._grouped(select, group), rows, "GROUP BY", group)
        for node in own_nodes(select):
            if isinstance(node, exp.Window):
                self._require(node.args.get("partition_by") or [], rows, "a window function's PARTITION BY", node)
            elif is_aggregate(node) and group is None and not _is_windowed(node):
                self.refuse("an aggregate without GROUP BY", node)

    def _grouped(self, select: exp.Select, group: exp.Expr) -> Sequence[exp.Expr]:
        """What GROUP BY names, places and aliases among it."""
        if group.args.get("all"):
            return [one.unalias() for one in select.expressions if not one.find(exp.AggFunc)]
        aliases = {one.alias.lower(): one.unalias() for one in select.expressions if isinstance(one, exp.Alias)}
        found = []
        for key in group.expressions:
            if isinstance(key, exp.Literal) and not key.is_string and 0 < int(key.name) <= len(select.expressions):
                found.append(select.expressions[int(key.name) - 1].unalias())
            elif isinstance(key, exp.Column) and not key.table and key.name.lower() in aliases:
                found.extend((aliases[key.name.lower()], key))
            else:
                found.append(key)
        return found

    def _require(self, keys: Sequence[exp.Expr], rows: _Rows, clause: str, node: exp.Expr) -> None:
        named = {key.name.lower() for key in keys if isinstance(key, exp.Column)}
        missing = [name for name in rows.all if name not in named]
        if missing:
            self.refuse(f"{clause} without {', '.join(missing)}", node)

    def _handed_on(self, select: exp.Select, rows: _Rows) -> _Rows:
        """What the columns of the window are called in the query's own rows."""
        names: dict[str, str] = {}
        for one in select.expressions:
            plain = one.unalias()
            if isinstance(plain, exp.Star) or (isinstance(plain, exp.Column) and isinstance(plain.this, exp.Star)):
                names = {**{name: name for name in rows.all}, **names}
            elif isinstance(plain, exp.Column) and plain.name.lower() in rows.all:
                names.setdefault(plain.name.lower(), one.alias_or_name.lower())
        missing = [name for name in rows.all if name not in names]
        if missing:
            self.refuse(f"SELECT without {', '.join(missing)}", select.expressions[0])
        return _Rows((names[rows.bounds[0]], names[rows.bounds[1]]), tuple(names[name] for name in rows.by))

    def refuse(self, what: str, node: exp.Expr) -> NoReturn:
        """Raises UsageError, pointing at what is in the way."""
        start, stop = span(node)
        if (start, stop) == (0, 1):
            start, stop = place_of(self.text, what)
        message = f"{what} looks at rows of several windows, or loses which one: the query cannot run incrementally"
        raise UsageError(pointed(message, self.text, start, stop))


def _is_windowed(node: exp.Expr) -> bool:
    """Whether an aggregate is that of a window function."""
    return any(isinstance(one, exp.Window) for one in _ancestors(node))


def _ancestors(node: exp.Expr) -> Iterator[exp.Expr]:
    parent = node.parent
    while parent is not None and not isinstance(parent, exp.Select):
        yield parent
        parent = parent.parent
