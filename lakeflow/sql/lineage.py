"""Which column of which table a column of a query is, unchanged, by way of subqueries, WITH and model calls. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from lakeflow.sql.flink import AiCall, Argument, TableArgument
from lakeflow.sql.query import is_function, names_cte, table_name


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table, its name in small letters."""

    table: str
    column: str


def sources_of(select: exp.Select) -> list[exp.Expr]:
    """The sources of rows of a SELECT, in the order in which it names them."""
    first = select.args.get("from_")
    joined = [join.this for join in select.args.get("joins") or []]
    return [*([] if first is None else [first.this]), *joined, *(select.args.get("laterals") or [])]


def origin_of(text: str, column: exp.Column, select: exp.Select) -> TableColumn | None:
    """Where a column in an expression of the SELECT comes from; None where it is computed, or is written without the name of
    its source beside several."""
    sources = sources_of(select)
    named = column.table.lower()
    if named:
        sources = [one for one in sources if str(one.alias_or_name).lower() == named]
    return origin_within(text, sources[0], column.name, select) if len(sources) == 1 else None


def origin_within(text: str, source: exp.Expr, name: str, around: exp.Expr) -> TableColumn | None:
    """Where the column that a source of rows gives as `name` comes from. `around` is the query that it is read in."""
    inner: exp.Expr | None
    if _renames(source) or source.args.get("version") is not None:
        return None
    match source:
        case exp.Table() | exp.Lateral() if isinstance(source.this, AiCall):
            return _of_call(text, source.this, name, around)
        case exp.Table() if is_function(source):
            return None
        case exp.Table() if names_cte(source):
            inner = _cte(source)
        case exp.Table():
            return TableColumn(table_name(text, source), name.lower())
        case exp.Subquery():
            inner = source.unnest()
        case _:
            inner = None
    return _of_select(text, inner, name) if isinstance(inner, exp.Select) else None


def _of_select(text: str, select: exp.Select, name: str) -> TableColumn | None:
    for projection in select.expressions:
        if not projection.is_star and projection.alias_or_name.lower() == name.lower():
            column = projection.unalias()
            return origin_of(text, column, select) if isinstance(column, exp.Column) else None
    stars = [one for one in select.expressions if one.is_star]
    sources = sources_of(select)
    if len(stars) != 1 or len(sources) != 1 or is_partial(stars[0]):
        return None
    return origin_within(text, sources[0], name, select)


def is_partial(star: exp.Expr) -> bool:
    """Whether a star leaves columns out, or gives some other values or names."""
    inner = star.this if isinstance(star, exp.Column) else star
    return any(inner.args.get(part) for part in ("except_", "replace", "rename"))


def _renames(source: exp.Expr) -> bool:
    """Whether the alias of a source of rows, or of a common table expression, names its columns anew."""
    alias = source.args.get("alias")
    return isinstance(alias, exp.TableAlias) and bool(alias.args.get("columns"))


def _of_call(text: str, call: AiCall, name: str, around: exp.Expr) -> TableColumn | None:
    """Calls of models put columns behind those of their rows."""
    tables = (one.this for one in call.expressions if isinstance(one, Argument) and isinstance(one.this, TableArgument))
    first = next(tables, None)
    return None if first is None else origin_within(text, first.this, name, around)


def _cte(table: exp.Table) -> exp.Expr | None:
    """The query of a common table expression, the nearest around the table."""
    around = table.parent
    while around is not None:
        named = around.args.get("with_")
        if isinstance(named, exp.With):
            for cte in named.expressions:
                if cte.alias.lower() == table.name.lower():
                    query: exp.Expr = cte.this
                    return None if _renames(cte) else query
        around = around.parent
    return None
