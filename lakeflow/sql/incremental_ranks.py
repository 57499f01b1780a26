"""The first rows of each key, kept as they are: deduplication and top-n. Pure.

    SELECT .. FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) AS rn FROM t) WHERE rn <= 3
    SELECT .. FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC) = 1

The first n of what was kept and what is new are the first n of all, as long as rows are only added. Rows that ORDER BY does not
tell apart are ordered by all of their columns, in the order of the SELECT, so that the same ones stay however the rows came.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlglot import exp

from lakeflow.sql.flink import AiCall
from lakeflow.sql.incremental import called
from lakeflow.sql.incremental_keys import (
    ASIDE,
    STEP,
    Column,
    Incremental,
    Keyed,
    aggregates_in,
    both,
    kept,
    plain,
    refusal,
    refuse_aside,
    require_rows,
    written,
)
from lakeflow.sql.relations import name_text

RANKS: Final = frozenset({"row_number", "rank", "dense_rank"})
KEY: Final = "key__{}"
ORDER: Final = "order__{}"
UNNAMED: Final = "rank__"


@dataclass(frozen=True, slots=True)
class Ranked:
    """Rows by their rank within their key. `new` gives the columns of the rows, then keys, then what they are ordered by.

    `orders` are what stands in ORDER BY, over the kept columns. `name` is that of the rank, which stands before the column
    `place` of the rows (None: behind all). `outer` is the query over the ranked rows, `shown` the names, among what it
    selects, of the columns that tell the keys apart.
    """

    new: str
    function: str
    keys: int
    orders: tuple[str, ...]
    bound_rank: int
    name: str
    place: int | None
    outer: str
    shown: tuple[str, ...]

    def bound(self, columns: Sequence[Column], outputs: Sequence[str]) -> Incremental:
        keys = tuple(KEY.format(number + 1) for number in range(self.keys))
        rows = [column.name for column in columns][: len(columns) - len(keys) - len(self.orders)]
        names, rank = ", ".join(name_text(column.name) for column in columns), self._rank(keys, rows)
        first = f"QUALIFY {rank} <= {self.bound_rank}"
        new = f"SELECT {names} FROM ({self.new}) AS given {first}"
        within = f"OVER (PARTITION BY {', '.join(map(name_text, keys))})" if keys else "OVER ()"
        merge = f"WITH {both(columns)} SELECT {names}, max({name_text(STEP)}) {within} AS {name_text(STEP)} FROM parts {first}"
        place = len(rows) if self.place is None else self.place
        given = [*map(name_text, rows[:place]), f"{rank} AS {name_text(self.name)}", *map(name_text, rows[place:])]
        finish = f"WITH {kept(columns)}, ranked AS (SELECT {', '.join(given)} FROM kept) {self.outer}"
        return Incremental(new, merge, finish, tuple(columns), keys, self._places(outputs))

    def _rank(self, keys: Sequence[str], rows: Sequence[str]) -> str:
        """The rank, over the kept columns."""
        partition = f"PARTITION BY {', '.join(map(name_text, keys))} " if keys else ""
        ties = list(map(name_text, rows)) if self.function == "row_number" else []
        return f"{self.function}() OVER ({partition}ORDER BY {', '.join([*self.orders, *ties])})"

    def _places(self, outputs: Sequence[str]) -> tuple[int, ...]:
        lower = [name.lower() for name in outputs]
        return tuple(lower.index(name.lower()) for name in self.shown)


def ranked(text: str, select: exp.Select) -> Keyed | None:
    """The query by ranks; None where it is of another form. Raises UsageError, pointing at what is in the way."""
    parts = _qualified(select) or _nested(select)
    if parts is None:
        return None
    inner, outer, alias = parts
    places = [place for place, node in enumerate(inner.expressions) if _window_of(node) is not None]
    if len(places) != 1:
        return None
    rank = inner.expressions[places[0]]
    window, name = _window_of(rank), rank.alias_or_name
    assert window is not None, "the place of one"
    most = _bound(outer, name)
    if most is None:
        return None
    _check(text, inner, outer, window)
    stars = any(isinstance(node, exp.Star) or node.is_star for node in inner.expressions)
    if stars and places[0] != len(inner.expressions) - 1:
        raise refusal(text, "a rank before *", rank)
    return _ranked(text, inner, outer, window, alias, Ranked("", "", 0, (), most, name, None if stars else places[0], "", ()))


def _ranked(text: str, inner: exp.Select, outer: exp.Select, window: exp.Window, alias: str | None, form: Ranked) -> Keyed:
    rows = [node for node in inner.expressions if _window_of(node) is None]
    partition = list(window.args.get("partition_by") or [])
    ordered = list(window.args["order"].expressions)
    source = inner.copy()
    keys = [exp.alias_(key.copy(), KEY.format(number + 1), quoted=True) for number, key in enumerate(partition)]
    by = [exp.alias_(one.this.copy(), ORDER.format(number + 1), quoted=True) for number, one in enumerate(ordered)]
    source.set("expressions", [*(row.copy() for row in rows), *keys, *by])
    require_rows(text, source)
    shown = tuple(_shown(text, key, rows, outer) for key in partition)
    over = outer.copy()
    over.set("with_", None)
    table = exp.Table(this=exp.to_identifier("ranked"), alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    over.set("from_", exp.From(this=table if alias else exp.Table(this=exp.to_identifier("ranked"))))
    orders = []
    for number, one in enumerate(ordered):
        order = one.copy()
        order.set("this", exp.column(ORDER.format(number + 1), quoted=True))
        orders.append(written(text, order))
    return replace(
        form,
        new=written(text, source),
        function=called(window.this),
        keys=len(partition),
        orders=tuple(orders),
        outer=written(text, over),
        shown=shown,
    )


def _qualified(select: exp.Select) -> tuple[exp.Select, exp.Select, str | None] | None:
    """A SELECT with QUALIFY as one over the ranked rows."""
    qualify = select.args.get("qualify")
    if qualify is None:
        return None
    inner, condition = select.copy(), qualify.this.copy()
    inner.set("qualify", None)
    for clause in ASIDE:
        inner.set(clause, None)
    held = exp.Paren(this=condition)
    windows = list(held.find_all(exp.Window))
    outer = exp.Select()
    stars: exp.Expr = exp.Star()
    if len(windows) == 1:
        windows[0].replace(exp.column(UNNAMED, quoted=True))
        inner.append("expressions", exp.alias_(windows[0].copy(), UNNAMED, quoted=True))
        stars = exp.Star(except_=[exp.column(UNNAMED, quoted=True)])
    outer.set("expressions", [stars])
    outer.set("where", exp.Where(this=held.this))
    for clause in ASIDE:
        outer.set(clause, select.args.get(clause))
    return inner, outer, None


def _nested(select: exp.Select) -> tuple[exp.Select, exp.Select, str | None] | None:
    """A SELECT over a subquery, or over the last of its common table expressions, that ranks."""
    first, named = select.args.get("from_"), select.args.get("with_")
    if first is None or select.args.get("joins") or select.args.get("laterals") or select.args.get("group"):
        return None
    source = first.this
    if isinstance(source, exp.Subquery) and isinstance(source.this, exp.Select):
        inner = source.this.copy()
        if named is not None and inner.args.get("with_") is None:
            inner.set("with_", named.copy())
        return inner, select, source.alias or None
    ctes = named.expressions if named is not None else []
    if named is None or not ctes or named.args.get("recursive"):
        return None
    if not isinstance(source, exp.Table) or source.args.get("db"):
        return None
    last = ctes[-1]
    if source.name.lower() != last.alias.lower() or not isinstance(last.this, exp.Select) or last.args["alias"].columns:
        return None
    inner = last.this.copy()
    if len(ctes) > 1 and inner.args.get("with_") is None:
        inner.set("with_", exp.With(expressions=[cte.copy() for cte in ctes[:-1]]))
    return inner, select, source.alias or source.name


def _window_of(node: exp.Expr) -> exp.Window | None:
    inside = node.this if isinstance(node, exp.Alias) else node
    return inside if isinstance(inside, exp.Window) and called(inside.this) in RANKS else None


def _conditions(node: exp.Expr) -> Iterator[exp.Expr]:
    while isinstance(node, exp.Paren):
        node = node.this
    if isinstance(node, exp.And):
        yield from _conditions(node.this)
        yield from _conditions(node.expression)
    else:
        yield node


def _bound(outer: exp.Select, name: str) -> int | None:
    """The greatest rank that the query can want; None where nothing bounds it."""
    where = outer.args.get("where")
    found = []
    for one in _conditions(where.this) if where is not None else ():
        left, right = one.args.get("this"), one.args.get("expression")
        if isinstance(left, exp.Literal):
            turned: dict[type[exp.Expr], type[exp.Expr]] = {exp.GTE: exp.LTE, exp.GT: exp.LT, exp.EQ: exp.EQ}
            flipped = turned.get(type(one))
            one, left, right = (flipped() if flipped else one), right, left
        is_rank = isinstance(left, exp.Column) and left.name.lower() == name.lower()
        if not is_rank or not isinstance(right, exp.Literal) or not str(right.this).isdigit():
            continue
        if isinstance(one, exp.LTE | exp.EQ):
            found.append(int(right.this))
        elif isinstance(one, exp.LT):
            found.append(int(right.this) - 1)
    return min(found) if found else None


def _check(text: str, inner: exp.Select, outer: exp.Select, window: exp.Window) -> None:
    """Refuse what looks at more rows than those that are kept."""
    refuse_aside(text, outer)
    refuse_aside(text, inner)
    for query in (inner, outer):
        for part in ("group", "having", "distinct", "qualify"):
            if (found := query.args.get(part)) is not None:
                raise refusal(text, f"{part.upper()} beside a rank", found)
    if window.args.get("order") is None:
        raise refusal(text, "a rank without ORDER BY, which any rows may have,", window)
    for node in [*outer.expressions, *([outer.args["where"].this] if outer.args.get("where") else [])]:
        for one in node.walk():
            if isinstance(one, exp.Query | AiCall | exp.Window):
                raise refusal(text, "a subquery, a window or a call of a model over ranked rows", one)
        if aggregates_in(node):
            raise refusal(text, "an aggregate over ranked rows", node)


def _shown(text: str, key: exp.Expr, rows: Sequence[exp.Expr], outer: exp.Select) -> str:
    """The name under which the query selects what its rank is partitioned by."""
    within = None
    for row in rows:
        inside = row.this if isinstance(row, exp.Alias) else row
        if plain(inside) == plain(key):
            within = row.alias_or_name
    if within is None and isinstance(key, exp.Column) and any(row.is_star for row in rows):
        within = key.name
    for one in outer.expressions if within is not None else ():
        if one.is_star and not one.args.get("rename") and within is not None:
            return within
        inside = one.this if isinstance(one, exp.Alias) else one
        if isinstance(inside, exp.Column) and inside.name.lower() == str(within).lower():
            return str(one.alias_or_name)
    raise refusal(text, "a rank by a key that is not among the selected columns, which tell the target's rows apart,", key)
