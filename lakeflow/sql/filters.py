"""Filters on the tables of a SELECT with several LATERALs go below the first of them.

DuckDB puts a filter below one LATERAL, not below two that follow each other: the first model of a chain would be asked for rows
that WHERE drops. So what WHERE says of one table alone is said within that table too, where it drops the same rows; where it
stands is left as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from sqlglot import exp

from lakeflow.sql.rewrite import Sites

VOLATILE = frozenset({"random", "uuid", "uuidv4", "uuidv7", "gen_random_uuid", "nextval", "now"})
"""Functions that may give another value the second time."""

Columns = Callable[[exp.Expr], Sequence[str]]
"""The columns of a source of rows of the tree."""


def filter_first(tree: exp.Expr, sites: Sites, columns: Columns) -> None:
    """Rewrite every SELECT of the tree that needs it, in place."""
    for select in list(tree.find_all(exp.Select)):
        joins, where = select.args.get("joins") or [], select.args.get("where")
        laterals = [join for join in joins if isinstance(join.this, exp.Lateral)]
        if where is None or len(laterals) < 2 or _keeps_all(joins) or any(one.args.get("db") for one in _columns_in(select)):
            continue
        sources = list(_sources(select))
        alone = len(sources) == 1 and len(sources) + len(laterals) == len(joins) + 1
        for source in sources:
            known = {name.lower() for name in columns(source)} if alone else set()
            said = [part for part in _parts(where.this) if _is_about(part, source, known) and _is_steady(part, sites)]
            if said:
                _filter(source, said)


def _keeps_all(joins: Sequence[exp.Join]) -> bool:
    """Whether a join gives rows that a source does not have."""
    return any(join.side in ("RIGHT", "FULL") for join in joins)


def _sources(select: exp.Select) -> Iterator[exp.Expr]:
    """The tables and subqueries of FROM and of joins that drop rows without a partner."""
    first = select.args.get("from_")
    found = [first.this] if first is not None else []
    inner = (join for join in select.args.get("joins") or [] if not join.side and join.kind in ("", "INNER", "CROSS"))
    found += [join.this for join in inner]
    for source in found:
        if isinstance(source, exp.Table | exp.Subquery) and not source.args.get("sample") and not source.args.get("pivots"):
            yield source


def _parts(condition: exp.Expr) -> Iterator[exp.Expr]:
    if isinstance(condition, exp.And):
        yield from _parts(condition.left)
        yield from _parts(condition.right)
    elif isinstance(condition, exp.Paren):
        yield from _parts(condition.this)
    else:
        yield condition


def _columns_in(node: exp.Expr) -> Iterator[exp.Column]:
    yield from node.find_all(exp.Column)


def _is_about(part: exp.Expr, source: exp.Expr, known: set[str]) -> bool:
    """Whether a condition is about the columns of one source alone; `known` are those that need no table before them."""
    name = source.alias_or_name.lower()
    columns = list(_columns_in(part))
    return bool(columns) and all(
        column.table.lower() == name if column.table else column.name.lower() in known for column in columns
    )


def _is_steady(part: exp.Expr, sites: Sites) -> bool:
    """Whether a condition gives the same answer twice, and asks no model."""
    if part.find(exp.Query, exp.Window, exp.Rand, exp.Uuid, exp.Star) is not None:
        return False
    called = part.find_all(exp.Anonymous)
    return not any(sites.of(node) is not None or node.name.lower() in VOLATILE for node in called)


def _filter(source: exp.Expr, said: Sequence[exp.Expr]) -> None:
    name = exp.to_identifier(source.alias_or_name, quoted=True)
    inner = source.copy()
    if not inner.alias:
        inner.set("alias", exp.TableAlias(this=name.copy()))
    chosen = exp.select("*").from_(inner).where(*[part.copy() for part in said])
    source.replace(exp.Subquery(this=chosen, alias=exp.TableAlias(this=name)))
