"""Aggregates as parts that are kept and put together: count(*) of new rows and count(*) of those before are summed. Pure.

A part is a column: what makes it of rows, and what makes one of the parts of the same group (two at the most: what was
kept, and what is new). `final` is the aggregate over the parts. An aggregate whose result depends on the order of rows, or on
all values at once, has no such parts and is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.relations import name_text

SAME: Final = frozenset({"min", "max", "bit_and", "bit_or", "bit_xor", "product"})
"""Aggregates that put their own results together."""

SPREAD: Final = {
    "var_pop": "{m2} / nullif({n}, 0)",
    "var_samp": "CASE WHEN {n} > 1 THEN {m2} / ({n} - 1) END",
    "stddev_pop": "sqrt({m2} / nullif({n}, 0))",
    "stddev_samp": "CASE WHEN {n} > 1 THEN sqrt({m2} / ({n} - 1)) END",
}
"""Of the count n, and of m2, the sum of squared distances from the mean."""

ALIASES: Final = {
    "variance": "var_samp",
    "stddev": "stddev_samp",
    "mean": "avg",
    "argmax": "arg_max",
    "argmin": "arg_min",
    "max_by": "arg_max",
    "min_by": "arg_min",
    "countif": "count_if",
    "logical_and": "bool_and",
    "logical_or": "bool_or",
    "listagg": "string_agg",
}

ORDERED: Final = frozenset(
    {"first", "last", "any_value", "arbitrary", "list", "array_agg", "string_agg", "group_concat", "listagg"}
    | {"arg_max_null", "arg_min_null", "first_value", "last_value"}
)
"""Aggregates whose result depends on the order in which rows come."""

KNOWN: Final = ("count", "count_if", "sum", "avg", "bool_and", "bool_or", "arg_min", "arg_max", *sorted(SAME), *SPREAD)


@dataclass(frozen=True, slots=True)
class Part:
    """A column that is kept: `new` makes it of rows, `merge` of the column itself over the rows of a group."""

    name: str
    new: str
    merge: str


@dataclass(frozen=True, slots=True)
class Parts:
    """What is kept of an aggregate, and the aggregate over that."""

    columns: tuple[Part, ...]
    final: str


def parts_of(name: str, call: exp.Expr, condition: exp.Expr | None, number: int, text_of: Callable[[exp.Expr], str]) -> Parts:
    """The parts of the `number`th aggregate of a query: a call of `name`, in lower case, as DuckDB has it.

    `condition` is what its FILTER says, `text_of` writes an expression. Raises UsageError for one that has no parts.
    """
    name = ALIASES.get(name, name)
    arguments = _arguments(call)
    where = "" if condition is None else f" FILTER (WHERE ({text_of(condition)}))"
    distinct = [one for one in arguments if isinstance(one, exp.Distinct)]
    if distinct and name not in ("min", "max", "bool_and", "bool_or"):
        return _distinct(name, distinct[0], where, number, text_of)
    if any(one.find(exp.Order) for one in arguments):
        raise UsageError(f"{name.upper()} with an ORDER BY of its own has no parts that could be kept")
    given = [text_of(one.expressions[0] if isinstance(one, exp.Distinct) else one) for one in arguments]
    if name in ("arg_min", "arg_max") and len(given) == 2:
        return _best(name, given[0], given[1], where, number)
    if len(given) > 1 or (not given and name != "count"):
        raise UsageError(f"{name.upper()} of {len(given)} arguments has no parts that could be kept")
    return _simple(name, given[0] if given else "*", where, number)


def _simple(name: str, value: str, where: str, number: int) -> Parts:
    column = f"{name}__{number}"
    shown = name_text(column)
    if name in ("count", "count_if"):
        return Parts((Part(column, f"{name}({value}){where}", f"sum({shown})"),), shown)
    if name in ("bool_and", "bool_or", "sum") or name in SAME:
        return Parts((Part(column, f"{name}({value}){where}", f"{name}({shown})"),), shown)
    if name == "avg":
        total, count = f"sum__{number}", f"count__{number}"
        parts = (
            Part(total, f"sum({value}){where}", f"sum({name_text(total)})"),
            Part(count, f"count({value}){where}", f"sum({name_text(count)})"),
        )
        return Parts(parts, f"CAST({name_text(total)} AS DOUBLE) / CAST(nullif({name_text(count)}, 0) AS DOUBLE)")
    if name in SPREAD:
        return _spread(name, value, where, number)
    if name in ORDERED:
        raise UsageError(
            f"{name.upper()} depends on the order in which rows come; "
            "arg_min(value, order) and arg_max(value, order) say which is meant"
        )
    raise UsageError(f"{name.upper()} cannot be put together from parts; valid: {', '.join(KNOWN)}, count(DISTINCT ..)")


def _spread(name: str, value: str, where: str, number: int) -> Parts:
    """Count, mean and sum of squared distances, put together by Chan's formula.

    (Chan, Golub, LeVeque: Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.) It is for two
    parts, so the product of the counts of those that are not empty is that of both.
    """
    n, mean, m2 = (f"{part}__{number}" for part in ("count", "mean", "m2"))
    filled = f"FILTER (WHERE {name_text(n)} > 0)"
    apart = (
        f"CASE WHEN count(*) {filled} = 2 THEN pow(max({name_text(mean)}) - min({name_text(mean)}), 2) "
        f"* product({name_text(n)}) {filled} / sum({name_text(n)}) ELSE 0 END"
    )
    columns = (
        Part(n, f"count({value}){where}", f"sum({name_text(n)})"),
        Part(
            mean,
            f"CAST(avg({value}){where} AS DOUBLE)",
            f"CASE WHEN count(*) = 1 THEN max({name_text(mean)}) "
            f"ELSE sum({name_text(n)} * {name_text(mean)}) / CAST(nullif(sum({name_text(n)}), 0) AS DOUBLE) END",
        ),
        Part(m2, f"CAST(var_pop({value}){where} * count({value}){where} AS DOUBLE)", f"sum({name_text(m2)}) + {apart}"),
    )
    return Parts(columns, SPREAD[name].format(n=name_text(n), m2=name_text(m2)))


def _best(name: str, value: str, order: str, where: str, number: int) -> Parts:
    """The value of the greatest or smallest order, both in one column. Of rows of the same order it is the greatest or smallest
    value, so that no order of the rows decides. Rows where either is null count for nothing, as in DuckDB."""
    column = f"{name}__{number}"
    chosen = "max" if name == "arg_max" else "min"
    known = f"({order}) IS NOT NULL AND ({value}) IS NOT NULL"
    known = f"{where.removesuffix(')')} AND {known})" if where else f" FILTER (WHERE {known})"
    new = f'{chosen}(struct_pack("order" := {order}, "value" := {value})){known}'
    return Parts((Part(column, new, f"{chosen}({name_text(column)})"),), f'{name_text(column)}."value"')


def _distinct(name: str, distinct: exp.Distinct, where: str, number: int, text_of: Callable[[exp.Expr], str]) -> Parts:
    """The set of the values, as a list."""
    if name != "count" or len(distinct.expressions) != 1:
        raise UsageError(f"{name.upper()}(DISTINCT ..) has no parts that could be kept; valid: COUNT(DISTINCT one value)")
    column = f"values__{number}"
    shown, value = name_text(column), text_of(distinct.expressions[0])
    known = f"{where.removesuffix(')')} AND ({value}) IS NOT NULL)" if where else f" FILTER (WHERE ({value}) IS NOT NULL)"
    merge = f"list_distinct(flatten(list({shown}) FILTER (WHERE {shown} IS NOT NULL)))"
    return Parts((Part(column, f"list(DISTINCT {value}){known}", merge),), f"coalesce(len({shown}), 0)")


def _arguments(call: exp.Expr) -> list[exp.Expr]:
    if isinstance(call, exp.Anonymous):
        return list(call.expressions)
    given = [call.this] if isinstance(call.this, exp.Expr) else []
    others = [call.args.get("expression"), *(call.args.get("expressions") or []), call.args.get("count")]
    return [*given, *(one for one in others if isinstance(one, exp.Expr))]
