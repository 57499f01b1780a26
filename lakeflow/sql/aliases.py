"""Names that a SELECT gives to what it asks a model, and uses again: `SELECT AI_COMPLETE('m', a) AS reply, reply ->> '$.x'`.

DuckDB lets a name stand for the expression behind it, but not where that has side effects, as calls have so that they are not
made twice. So the expression is put where the name stands; hoist.py then sees two equal calls, and has them asked once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import duckdb
from sqlglot import exp

from lakeflow.sql.binding import Binder
from lakeflow.sql.duckdb_errors import message_of
from lakeflow.sql.flink import Flink
from lakeflow.sql.rewrite import Sites

REFUSED: Final = re.compile(r'Alias "+(?P<name>.+?)"+ referenced - but the expression has side effects')


def inline_asked(tree: exp.Expr, sites: Sites, binder: Binder) -> None:
    """Put expressions that ask in place of their names, wherever DuckDB says that it would have to. A column of the same name
    goes before: then DuckDB says nothing."""
    while used := {alias.alias.lower() for alias, _ in _used(tree, sites)}:
        try:
            binder.columns(tree.sql(dialect=Flink))
        except duckdb.BinderException as error:
            refused = REFUSED.search(message_of(error))
            name = refused["name"].lower() if refused else ""
        else:
            return
        if name not in used:
            return
        for alias, reference in list(_used(tree, sites)):
            if alias.alias.lower() == name:
                reference.replace(exp.paren(alias.this.copy()))


def _used(tree: exp.Expr, sites: Sites) -> Iterator[tuple[exp.Alias, exp.Column]]:
    """What a SELECT names, where that asks, and each place of the same SELECT where the name stands by itself."""
    for select in tree.find_all(exp.Select):
        asking = {one.alias.lower(): one for one in select.expressions if isinstance(one, exp.Alias) and _asks(one, sites)}
        for column in select.find_all(exp.Column) if asking else ():
            alias = asking.get(column.name.lower())
            if alias is None or column.table or column.find_ancestor(exp.Select) is not select:
                continue
            if column.find_ancestor(exp.Alias) is not alias and not _stands_for_result(column, select):
                yield alias, column


def _asks(alias: exp.Alias, sites: Sites) -> bool:
    return any(sites.of(node) is not None for node in alias.find_all(exp.Anonymous))


def _stands_for_result(column: exp.Column, select: exp.Select) -> bool:
    """Whether a name stands where it means the column that comes out: in ORDER BY and GROUP BY."""
    around: exp.Expr = column
    while around.parent is not None and around.parent is not select:
        around = around.parent
    return around.arg_key in ("order", "group", "from_", "joins", "laterals")
