"""Which columns of a query are columns of the table that it reads, unchanged. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from lakeflow.sql.flink import AiCall, Argument, TableArgument, read_query
from lakeflow.sql.query import names_cte


def passed_columns(text: str) -> tuple[tuple[str, str | None], ...] | None:
    """Each column of the query by its place: its name, and which column of the table that stands first in FROM it is.

    None in place of the latter for one that is computed, or comes from what is joined; None for all of it where a `*` stands
    for columns, whose names are the table's own. Raises UsageError where the text is no query.
    """
    tree = read_query(text)
    select = tree.unnest() if isinstance(tree, exp.Subquery) else tree
    if not isinstance(select, exp.Select) or any(one.is_star for one in select.expressions):
        return None
    return tuple((one.alias_or_name, _source_of(one, select)) for one in select.expressions)


def _source_of(projection: exp.Expr, select: exp.Select) -> str | None:
    column = projection.unalias()
    if not isinstance(column, exp.Column):
        return None
    first = select.args.get("from_")
    if first is None:
        return None
    qualifier = column.table.lower()
    joined = {str(one.alias_or_name).lower() for one in _joined(select)}
    if qualifier in joined:
        return None
    return _through(first.this, column.name, select)


def _joined(select: exp.Select) -> Iterator[exp.Expr]:
    yield from (join.this for join in select.args.get("joins") or [])
    yield from select.args.get("laterals") or []


def _through(source: exp.Expr, name: str, around: exp.Select) -> str | None:
    """Which column of the table it is that a source of rows gives as `name`."""
    match source:
        case exp.Table() if isinstance(source.this, AiCall):
            return _through_call(source.this, name, around)
        case exp.Lateral() if isinstance(source.this, AiCall):
            return _through_call(source.this, name, around)
        case exp.Table() if names_cte(source):
            inner = _cte(source.name.lower(), around)
        case exp.Table():
            return name
        case exp.Subquery():
            inner = source.unnest()
        case _:
            inner = None
    if not isinstance(inner, exp.Select):
        return None
    for projection in inner.expressions:
        if projection.alias_or_name.lower() == name.lower():
            return _source_of(projection, inner)
    first = inner.args.get("from_")
    if first is not None and any(one.is_star for one in inner.expressions):
        return _through(first.this, name, inner)
    return None


def _through_call(call: AiCall, name: str, around: exp.Select) -> str | None:
    tables = (one.this for one in call.expressions if isinstance(one, Argument) and isinstance(one.this, TableArgument))
    first = next(tables, None)
    return None if first is None else _through(first.this, name, around)


def _cte(name: str, around: exp.Expr | None) -> exp.Expr | None:
    """The query of a common table expression that is in sight from within a query."""
    while around is not None:
        named = around.args.get("with_")
        if isinstance(named, exp.With):
            for cte in named.expressions:
                if cte.alias.lower() == name:
                    query: exp.Expr = cte.this
                    return query
        around = around.parent
    return None
