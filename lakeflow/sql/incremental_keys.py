"""Queries that go on from what was kept of earlier rows, a group at a time: GROUP BY, DISTINCT, aggregates of the whole. Pure.

Such a query becomes three. The first makes of new rows what is kept of them: a row a group, of keys and parts of aggregates
(partials.py). The second puts that and what was kept of the same groups before together. The third makes of what is kept the
rows of the query. Ranked rows (the first n of each key) are kept themselves; incremental_ranks.py is about them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.flink import AiCall, Flink
from lakeflow.sql.incremental import called, is_aggregate, place_of
from lakeflow.sql.incremental_intervals import JoinJudge
from lakeflow.sql.partials import Part, Parts, parts_of
from lakeflow.sql.query import span
from lakeflow.sql.relations import name_text
from lakeflow.sql.tokens import pointed

NEW: Final = "step.new"
STATE: Final = "step.state"
KEPT: Final = "step.kept"
"""The views that the second and the third query read: what is new, what was kept, what is kept now."""

STEP: Final = "lakeflow_step"
"""The column of what is kept with the number of the step that last touched the row's group."""

ASIDE: Final = {"order": "ORDER BY", "limit": "LIMIT", "offset": "OFFSET", "sample": "TABLESAMPLE", "windows": "WINDOW"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of what is kept, with the name that DuckDB has for its type."""

    name: str
    type: str

    @property
    def typed(self) -> str:
        """The column with its own type, whatever it was stored as."""
        return f"CAST({name_text(self.name)} AS {self.type}) AS {name_text(self.name)}"


@dataclass(frozen=True, slots=True)
class Incremental:
    """A query by keys, ready to be run.

    `new` reads the query's tables, `merge` NEW and STATE, `finish` KEPT. All but `finish`, which gives the query's columns,
    give `columns`, and `merge` the STEP of each row's group behind them. `keys` are the names of the keys among them, `places`
    where each key stands among the query's columns.
    """

    new: str
    merge: str
    finish: str
    columns: tuple[Column, ...]
    keys: tuple[str, ...]
    places: tuple[int, ...]


class Keyed(Protocol):
    """A query that can go on by keys. `new` reads its tables; what DuckDB says of its columns makes it complete."""

    @property
    def new(self) -> str: ...

    def bound(self, columns: Sequence[Column], outputs: Sequence[str]) -> Incremental:
        """With the columns of `new` and the names of those of the query. Raises UsageError where its keys cannot be told."""
        ...


@dataclass(frozen=True, slots=True)
class Grouped:
    """Aggregates by keys: each of `keys` stands at its place in `places`. `final` is what the query selects of what is kept."""

    new: str
    keys: tuple[str, ...]
    places: tuple[int, ...]
    parts: tuple[Part, ...]
    final: str

    def bound(self, columns: Sequence[Column], outputs: Sequence[str]) -> Incremental:
        types = {column.name: column.type for column in columns}
        merged = [f"CAST({part.merge} AS {types[part.name]}) AS {name_text(part.name)}" for part in self.parts]
        shown = ", ".join([*map(name_text, self.keys), *merged])
        groups = f" GROUP BY {', '.join(map(name_text, self.keys))}" if self.keys else ""
        merge = f"WITH {both(columns)} SELECT {shown}, max({name_text(STEP)}) AS {name_text(STEP)} FROM parts{groups}"
        finish = f"WITH {kept(columns)} {self.final}"
        return Incremental(self.new, merge, finish, tuple(columns), self.keys, self.places)


@dataclass(frozen=True, slots=True)
class Distinct:
    """SELECT DISTINCT: every column is a key, and nothing else is kept."""

    new: str

    def bound(self, columns: Sequence[Column], outputs: Sequence[str]) -> Incremental:
        names = [column.name for column in columns]
        shown = ", ".join(map(name_text, names))
        merge = f"WITH {both(columns)} SELECT {shown}, max({name_text(STEP)}) AS {name_text(STEP)} FROM parts GROUP BY {shown}"
        finish = f"WITH {kept(columns)} SELECT {shown} FROM kept"
        return Incremental(self.new, merge, finish, tuple(columns), tuple(names), tuple(range(len(names))))


def both(columns: Sequence[Column]) -> str:
    """A common table expression `parts`: what is new and what was kept, each with the number of its step."""
    typed = ", ".join([*(column.typed for column in columns), name_text(STEP)])
    return f"parts AS (SELECT {typed} FROM {_view(NEW)} UNION ALL SELECT {typed} FROM {_view(STATE)})"


def kept(columns: Sequence[Column]) -> str:
    """A common table expression `kept`: what is kept, with its own types."""
    return f"kept AS (SELECT {', '.join(column.typed for column in columns)} FROM {_view(KEPT)})"


def _view(view: str) -> str:
    return ".".join(map(name_text, view.split(".")))


def grouped(text: str, select: exp.Select) -> Keyed | None:
    """The query by groups; None where it has neither groups nor aggregates. Raises UsageError, pointing at what is wrong."""
    groups, distinct = select.args.get("group"), select.args.get("distinct")
    calls = [call for node in _selected(select) for call in aggregates_in(node)]
    if groups is None and not calls and distinct is None:
        return None
    refuse_aside(text, select)
    if distinct is not None:
        if groups is not None or calls or distinct.args.get("on"):
            raise refusal(text, "DISTINCT of groups, or ON some columns,", distinct)
        return _distinct(text, select)
    keys = _keys(text, select, groups) if groups is not None else ()
    return _Grouping(text, select, tuple(keys)).made()


def _distinct(text: str, select: exp.Select) -> Distinct:
    source = select.copy()
    source.set("distinct", None)
    require_rows(text, source)
    return Distinct(written(text, select))


@dataclass(frozen=True, slots=True)
class _Key:
    """A group column: which of the selected columns it is."""

    place: int
    expression: exp.Expr
    name: str


class _Grouping:
    """A query by groups as it is taken apart."""

    def __init__(self, text: str, select: exp.Select, keys: tuple[_Key, ...]) -> None:
        self._text = text
        self._select = select
        self._keys = keys
        self._parts: dict[str, Part] = {}
        self._finals: dict[str, str] = {}

    def made(self) -> Grouped:
        finals = [self._final(node) for node in self._select.expressions]
        having = self._select.args.get("having")
        condition = f" WHERE {written(self._text, self._replaced(having.this))}" if having is not None else ""
        self._require_source()
        return Grouped(
            self._new(),
            tuple(key.name for key in self._keys),
            tuple(key.place for key in self._keys),
            tuple(self._parts.values()),
            f"SELECT {', '.join(finals)} FROM kept{condition}",
        )

    def _new(self) -> str:
        """The groups of new rows, with the parts of aggregates; by what is selected, whatever GROUP BY calls it."""
        query = self._select.copy()
        keys = [exp.alias_(key.expression.copy(), key.name, quoted=True) for key in self._keys]
        parts = [exp.Var(this=f"{part.new} AS {name_text(part.name)}") for part in self._parts.values()]
        query.set("expressions", [*keys, *parts])
        query.set("having", None)
        numbers = [exp.Literal.number(number + 1) for number in range(len(keys))]
        query.set("group", exp.Group(expressions=numbers) if numbers else None)
        return written(self._text, query)

    def _require_source(self) -> None:
        """That the rows which are grouped can be computed a row at a time."""
        source = self._select.copy()
        given = [one.copy() for node in _selected(self._select) for call in aggregates_in(node) for one in _given(call)]
        source.set("expressions", [*(key.expression.copy() for key in self._keys), *given] or [exp.Literal.number(1)])
        for clause in ("group", "having"):
            source.set(clause, None)
        require_rows(self._text, source)

    def _final(self, node: exp.Expr) -> str:
        """A selected column, over what is kept."""
        if isinstance(node, exp.Star) or (node.find(exp.Star) and not aggregates_in(node)):
            raise refusal(self._text, "* beside groups", node)
        inside = node.this if isinstance(node, exp.Alias) else node
        shown = written(self._text, self._replaced(inside))
        name = node.alias_or_name
        return f"{shown} AS {name_text(name)}" if name else shown

    def _replaced(self, node: exp.Expr) -> exp.Expr:
        """Aggregates become what is made of their parts, group columns the columns of what is kept."""
        held = exp.Paren(this=node.copy())
        for call in aggregates_in(held):
            call.replace(exp.Var(this=f"({self._aggregate(call)})"))
        for found in [one for one in held.walk(bfs=True, prune=self._is_closed) if self._is_key(one)]:
            found.replace(exp.column(self._key_of(found).name, quoted=True))
        aliases = {one.alias.lower() for one in self._select.expressions if isinstance(one, exp.Alias)}
        names = {key.name.lower() for key in self._keys}
        for one in held.walk():
            if isinstance(one, exp.Query | AiCall | exp.Window):
                raise refusal(self._text, "a subquery, a window or a call of a model over groups", one)
            if isinstance(one, exp.Column) and one.name.lower() not in aliases | names:
                raise refusal(self._text, f"column {one.name!r} beside groups", one)
        condition: exp.Expr = held.this
        return condition

    def _key_of(self, node: exp.Expr) -> _Key:
        return next(key for key in self._keys if plain(key.expression) == plain(node))

    def _is_closed(self, node: exp.Expr) -> bool:
        """Whether nothing within it is replaced."""
        return isinstance(node, exp.Query | AiCall | exp.Window) or self._is_key(node)

    def _is_key(self, node: exp.Expr) -> bool:
        if isinstance(node, exp.Paren | exp.Identifier | exp.Var | exp.Query | exp.Window):
            return False
        return any(plain(key.expression) == plain(node) for key in self._keys)

    def _aggregate(self, call: exp.Expr) -> str:
        """The aggregate over what is kept. One that is there twice is kept once."""
        known = plain(call)
        if known not in self._finals:
            inner, condition = _unfiltered(call)
            try:
                found = parts_of(called(inner), inner, condition, len(self._finals) + 1, self._text_of)
            except UsageError as error:
                raise refusal(self._text, error.message, call, "") from error
            self._finals[known] = self._kept(found)
        return self._finals[known]

    def _kept(self, found: Parts) -> str:
        """Keep the parts, each of which is there once, as the sum that is that of an average too; what is made of them."""
        final, names = found.final, {part.new: part.name for part in self._parts.values()}
        for part in found.columns:
            if part.new not in names:
                self._parts[part.name] = part
        for part in found.columns:
            known = names.get(part.new, part.name)
            final = final.replace(name_text(part.name), name_text(known))
            self._parts = {
                name: replace(one, merge=one.merge.replace(name_text(part.name), name_text(known)))
                for name, one in self._parts.items()
            }
        return final

    def _text_of(self, node: exp.Expr) -> str:
        return written(self._text, node)


def _selected(select: exp.Select) -> Iterable[exp.Expr]:
    having = select.args.get("having")
    return [*select.expressions, *([having.this] if having is not None else [])]


def _keys(text: str, select: exp.Select, groups: exp.Group) -> Iterable[_Key]:
    for kind in ("rollup", "cube", "grouping_sets", "totals"):
        if groups.args.get(kind):
            raise refusal(text, "several sets of groups (ROLLUP, CUBE, GROUPING SETS)", groups)
    if groups.args.get("all"):
        places = [place for place, node in enumerate(select.expressions) if not aggregates_in(node)]
    else:
        places = [_place(text, select, node) for node in groups.expressions]
    taken: set[str] = set()
    for place in dict.fromkeys(places):
        node = select.expressions[place]
        name = node.alias_or_name or f"key_{place + 1}"
        if name.lower() in taken:
            raise refusal(text, f"two columns of the name {name!r}", node)
        taken.add(name.lower())
        yield _Key(place, node.this if isinstance(node, exp.Alias) else node, name)


def _place(text: str, select: exp.Select, node: exp.Expr) -> int:
    """Which of the selected columns a part of GROUP BY is: by number, by name, or as the same expression."""
    if isinstance(node, exp.Rollup | exp.Cube | exp.GroupingSets):
        raise refusal(text, "several sets of groups (ROLLUP, CUBE, GROUPING SETS)", node)
    columns = select.expressions
    if isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit():
        place = int(node.this) - 1
        if 0 <= place < len(columns):
            return place
    for place, one in enumerate(columns):
        if plain(one.this if isinstance(one, exp.Alias) else one) == plain(node):
            return place
    for place, one in enumerate(columns):
        is_name = isinstance(node, exp.Column) and not node.table and isinstance(one, exp.Alias)
        if is_name and one.alias.lower() == node.name.lower() and not _mentions(one.this, node.name):
            return place
    raise refusal(
        text, f"a group by {node.sql(dialect=Flink)}, which is not among the selected columns that tell groups apart,", node
    )


def _mentions(node: exp.Expr, name: str) -> bool:
    return any(column.name.lower() == name.lower() for column in node.find_all(exp.Column))


def aggregates_in(node: exp.Expr) -> list[exp.Expr]:
    """The aggregates of an expression, each with its FILTER; those within queries of its own left out."""
    found: list[exp.Expr] = []
    pending = [node]
    while pending:
        one = pending.pop(0)
        if isinstance(one, exp.Query | exp.Window):
            continue
        if is_aggregate(_unfiltered(one)[0]):
            found.append(one)
        else:
            pending.extend(one.iter_expressions())
    return found


def _unfiltered(node: exp.Expr) -> tuple[exp.Expr, exp.Expr | None]:
    """An aggregate without its FILTER, and what that says."""
    condition = None
    if isinstance(node, exp.Filter):
        condition, node = node.expression.this, node.this
    if isinstance(node, exp.IgnoreNulls) and isinstance(node.this, exp.AnyValue):  # as the reader has any_value(x)
        node = node.this
    return node, condition


def _given(call: exp.Expr) -> Iterable[exp.Expr]:
    """What an aggregate is of, and its condition."""
    inner, condition = _unfiltered(call)
    for one in inner.iter_expressions():
        yield from one.expressions if isinstance(one, exp.Distinct) else ([] if isinstance(one, exp.Star) else [one])
    if condition is not None:
        yield condition


def plain(node: exp.Expr) -> str:
    """An expression as text in which names are told apart neither by case nor by the table before them."""
    copied = node.copy()
    for column in copied.find_all(exp.Column):
        for part in ("table", "db", "catalog"):
            column.set(part, None)
    for identifier in copied.find_all(exp.Identifier):
        identifier.set("this", str(identifier.this).lower())
        identifier.set("quoted", True)
    for call in list(copied.find_all(AiCall)):
        shown = exp.Var(this=f"{call.this}@{call.meta['start']}")
        if call is copied:
            return str(shown.this)
        call.replace(shown)
    return str(copied.sql(dialect=Flink, comments=False))


def written(text: str, node: exp.Expr) -> str:
    """A part of the query as text that can be read again. lakeflow's own forms stand as they were written."""
    held = exp.Paren(this=node.copy())
    for call in [one for one in held.find_all(AiCall) if one.find_ancestor(AiCall) is None]:
        call.replace(exp.Var(this=text[call.meta["start"] : call.meta["end"] + 1]))
    for version in list(held.find_all(exp.Version)):
        kind = "VERSION" if version.name == "VERSION" else "SYSTEM_TIME"
        version.replace(exp.Var(this=f"FOR {kind} AS OF {version.expression.sql(dialect=Flink)}"))
    return str(held.this.sql(dialect=Flink, comments=False))


def require_rows(text: str, source: exp.Expr) -> None:
    """Raises UsageError where rows that are to be kept by key cannot be computed a row at a time, or bring no new ones."""
    if not JoinJudge(text).moves(source, {}):
        raise refusal(text, "a query that reads no new rows", source)


def refuse_aside(text: str, select: exp.Select) -> None:
    """Refuse the clauses that look at all rows of the result."""
    for part, clause in ASIDE.items():
        if found := select.args.get(part):
            raise refusal(text, clause, found[0] if isinstance(found, list) else found, " needs rows that came before")


def refusal(text: str, what: str, node: exp.Expr, why: str = " cannot be kept by key") -> UsageError:
    """The error that says what keeps a query from running by key, pointing at it."""
    start, stop = span(node)
    message = f"{what}{why}: the query cannot run incrementally"
    if (start, stop) == (0, 1):
        start, stop = place_of(text, what)
    return UsageError(pointed(message, text, start, stop))
