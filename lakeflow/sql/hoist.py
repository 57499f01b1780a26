"""Equal calls within one SELECT are asked once: the call becomes a column of a LATERAL behind FROM, which each of them reads.

So is a call within a window, which DuckDB orders by nothing that it calls.

Only where one of them is asked for every row anyway: nothing is taken out of a branch of CASE, COALESCE, AND or OR that a row
may not reach. Calls over aggregates, windows, subqueries and names given in the same SELECT stay where they are; so do those
of a grouped SELECT, but for those within its aggregates and its WHERE, and those that only rows ask for that pass a subquery.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp, parse_one

from lakeflow.sql.flink import Flink
from lakeflow.sql.rewrite import Sites


def ask_once(tree: exp.Expr, sites: Sites) -> None:
    """Rewrite every SELECT of the tree in place."""
    for select in list(tree.find_all(exp.Select)):
        while (equal := _equal(select, sites)) is not None:
            _hoist(select, equal)


def _equal(select: exp.Select, sites: Sites) -> Sequence[exp.Expr] | None:
    """Calls of the SELECT that are equal and may be asked once, inner ones first."""
    if select.args.get("from_") is None or any(_hides_columns(one) for one in select.expressions):
        return None
    groups: dict[str, list[exp.Expr]] = {}
    for node in select.find_all(exp.Anonymous):
        site = sites.of(node)
        if site is not None and node.find_ancestor(exp.Select) is select and not _in_source(node, select):
            groups.setdefault(f"{site.asks}({', '.join(map(_spelled, node.expressions))})", []).append(node)
    wanted = [
        nodes for nodes in groups.values() if len(nodes) > 1 or nodes[0].find_ancestor(exp.Window, exp.Select) is not select
    ]
    found = [nodes for nodes in wanted if _may_be_one(nodes, select)]
    return min(found, key=lambda nodes: len(list(nodes[0].walk())), default=None)


def _hoist(select: exp.Select, equal: Sequence[exp.Expr]) -> None:
    name = f"__{equal[0].name.lower()}"
    inner = f"SELECT UNNEST([{equal[0].sql(dialect=Flink)}]) AS {name}"
    lateral = exp.Lateral(this=exp.Subquery(this=parse_one(inner, read=Flink)), alias=exp.TableAlias(this=f"{name}_asked"))
    for node in equal:
        node.replace(exp.column(name))
    select.append("joins", exp.Join(this=lateral))
    for star in [one for one in select.expressions if isinstance(one, exp.Star)]:
        star.append("except_", exp.to_identifier(name))


def _hides_columns(projection: exp.Expr) -> bool:
    """Whether a projection takes columns by pattern, which a new one might match."""
    return projection.find(exp.Columns) is not None


def _in_source(node: exp.Expr, select: exp.Select) -> bool:
    """Whether a node stands in FROM or a JOIN, before whose end nothing can be asked."""
    while node.parent is not None and node.parent is not select:
        node = node.parent
    return node.arg_key in ("from_", "joins", "laterals", "with_")


def _spelled(argument: exp.Expr) -> str:
    """An argument as text, in which names that differ by case alone are one."""
    copy = argument.copy()
    for identifier in copy.find_all(exp.Identifier):
        identifier.set("this", identifier.name.lower())
        identifier.set("quoted", True)
    return str(copy.sql(dialect=Flink))


def _may_be_one(nodes: Sequence[exp.Expr], select: exp.Select) -> bool:
    call = nodes[0]
    if call.find(exp.AggFunc, exp.Window, exp.Subquery, exp.Select, exp.Lambda) or any(
        node.find_ancestor(exp.Lambda, exp.Select) is not select for node in nodes
    ):
        return False
    bare = {column.name.lower() for column in call.find_all(exp.Column) if not column.table}
    given = {one.alias.lower() for one in select.expressions if isinstance(one, exp.Alias) and not _same_name(one)}
    if _filters_late(select) and not any(_in_where(node, select) for node in nodes):
        return False
    if bare & given or not any(_for_every_row(node, select) for node in nodes):
        return False
    aggregates = (one for one in select.find_all(exp.AggFunc) if not isinstance(one.parent, exp.Window))
    grouped = select.args.get("group") or any(one.find_ancestor(exp.Select) is select for one in aggregates)
    return not grouped or all(_before_grouping(node, select) for node in nodes)


def _filters_late(select: exp.Select) -> bool:
    """Whether rows are dropped by what DuckDB cannot put below a LATERAL: asking behind it is then the cheaper way."""
    where = select.args.get("where")
    return where is not None and where.find(exp.Query) is not None


def _in_where(node: exp.Expr, select: exp.Select) -> bool:
    around: exp.Expr | None = node
    while around is not None and around.parent is not select:
        around = around.parent
    return around is not None and around.arg_key == "where"


def _same_name(alias: exp.Alias) -> bool:
    return isinstance(alias.this, exp.Column) and alias.this.name.lower() == alias.alias.lower()


def _before_grouping(node: exp.Expr, select: exp.Select) -> bool:
    around: exp.Expr | None = node
    while around is not None and around is not select:
        if isinstance(around, exp.AggFunc) or (around.parent is select and around.arg_key == "where"):
            return True
        around = around.parent
    return False


def _for_every_row(node: exp.Expr, select: exp.Select) -> bool:
    """Whether every row that the SELECT keeps reaches the call."""
    inside, around = node, node.parent
    while around is not None and around is not select:
        key = inside.arg_key
        match around:
            case exp.Case() if key == "default" or (key == "ifs" and inside is not around.args["ifs"][0]):
                return False
            case exp.If() if key in ("true", "false"):
                return False
            case exp.Coalesce() if key == "expressions":
                return False
            case exp.Or() if key == "expression":
                return False
            case exp.And() if key == "expression" and not _is_filter(around):
                return False
            case exp.Filter() | exp.Nullif() | exp.Anonymous() if key == "expression":
                return False
            case _:
                inside, around = around, around.parent
    return True


def _is_filter(node: exp.Expr) -> bool:
    """Whether an AND stands at the top of WHERE, where each of its parts is a filter of its own."""
    while isinstance(node.parent, exp.And | exp.Paren):
        node = node.parent
    return isinstance(node.parent, exp.Where)
