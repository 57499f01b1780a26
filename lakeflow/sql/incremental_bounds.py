"""What the conditions of a join say of the columns and times of its two tables. Pure.

Conditions are taken in one by one: an equality of a column of each is a pair of the join, and what is linear in one time of
each, such as `b.ts - a.ts <= INTERVAL '1' HOUR`, bounds the one by the other. What says neither is the query's own affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from sqlglot import exp

from lakeflow.sql.calls_windows import UNITS
from lakeflow.sql.lineage import TableColumn, origin_of, origin_within, sources_of


@dataclass(frozen=True, slots=True)
class _Linear:
    """Times added up: how often each column, and a length in microseconds."""

    columns: dict[TableColumn, int]
    length: int = 0

    def plus(self, other: _Linear, sign: int = 1) -> _Linear:
        found = dict(self.columns)
        for column, times in other.columns.items():
            found[column] = found.get(column, 0) + sign * times
        return _Linear({column: times for column, times in found.items() if times}, self.length + sign * other.length)


@dataclass(slots=True)
class Bound:
    """From when to when the time of the second table is, counted from that of the first; None: nothing says."""

    low: int | None = None
    high: int | None = None


class Conditions:
    """The conditions of a join within a SELECT, of two `tables`, the first first.

    `pairs` are columns that are equal, `bounds` the times, each pair of them by what is known of it, `strange` are numbers and
    INTERVALs that a condition was to be bound by and that are of no one length.
    """

    def __init__(self, text: str, join: exp.Join, tables: tuple[str, str]) -> None:
        self._text, self._join, self._tables = text, join, tables
        select = join.parent
        assert isinstance(select, exp.Select), "a join stands in a SELECT"
        self._select = select
        self.pairs: list[tuple[str, str]] = []
        self.bounds: dict[tuple[str, str], Bound] = {}
        self.strange: list[exp.Expr] = []
        for condition in self._conditions():
            self._take(condition)
        self._take_using()

    def _conditions(self) -> Iterator[exp.Expr]:
        where = self._select.args.get("where")
        found = [self._join.args.get("on"), None if self._join.args.get("side") or where is None else where.this]
        pending = [one for one in found if one is not None]
        while pending:
            one = pending.pop(0)
            if isinstance(one, exp.And):
                pending[:0] = [one.this, one.expression]
            elif isinstance(one, exp.Paren):
                pending.insert(0, one.this)
            else:
                yield one

    def _take(self, condition: exp.Expr) -> None:
        match condition:
            case exp.Between() if not condition.args.get("symmetric"):
                self._compare(condition.args["low"], condition.this)
                self._compare(condition.this, condition.args["high"])
            case exp.LT() | exp.LTE():
                self._compare(condition.this, condition.expression)
            case exp.GT() | exp.GTE():
                self._compare(condition.expression, condition.this)
            case exp.EQ():
                self._equal(condition.this, condition.expression)
            case _:  # the query says it, and no bound can be told from it
                pass

    def _take_using(self) -> None:
        before = [source for source in sources_of(self._select) if source is not self._join.this]
        for name in self._join.args.get("using") or []:
            left = next(
                filter(self._is_ours, (origin_within(self._text, one, name.name, self._select) for one in before)), None
            )
            right = origin_within(self._text, self._join.this, name.name, self._select)
            if left is not None and right is not None:
                self._pair(left, right)

    def _is_ours(self, column: TableColumn | None) -> bool:
        return column is not None and column.table in self._tables

    def _equal(self, one: exp.Expr, other: exp.Expr) -> None:
        left, right = self._column(one), self._column(other)
        if left is not None and right is not None:
            self._pair(left, right)
        else:
            self._compare(one, other)
            self._compare(other, one)

    def _pair(self, one: TableColumn, other: TableColumn) -> None:
        """Take in that two columns are equal, if they are one of each table."""
        found = {one.table: one.column, other.table: other.column}
        if set(found) == set(self._tables) and (pair := (found[self._tables[0]], found[self._tables[1]])) not in self.pairs:
            self.pairs.append(pair)

    def _compare(self, less: exp.Expr, more: exp.Expr) -> None:
        """Take in that the one is not more than the other."""
        low, high = self._linear(less), self._linear(more)
        if low is None or high is None:
            return
        found = low.plus(high, -1)  # not more than nothing
        columns = {column.table: (column.column, times) for column, times in found.columns.items()}
        if len(found.columns) != 2 or set(columns) != set(self._tables):
            return
        (first, negative), (second, times) = (columns[table] for table in self._tables)
        if negative != -times or abs(times) != 1:
            return
        bound = self.bounds.setdefault((first, second), Bound())
        if times == 1:
            bound.high = -found.length if bound.high is None else min(bound.high, -found.length)
        else:
            bound.low = found.length if bound.low is None else max(bound.low, found.length)

    def _column(self, node: exp.Expr) -> TableColumn | None:
        plain = node.unnest() if isinstance(node, exp.Paren) else node
        found = origin_of(self._text, plain, self._select) if isinstance(plain, exp.Column) else None
        return found if self._is_ours(found) else None

    def _linear(self, node: exp.Expr) -> _Linear | None:
        match node:
            case exp.Paren():
                return self._linear(node.this)
            case exp.Column():
                column = self._column(node)
                return None if column is None else _Linear({column: 1})
            case exp.Add() | exp.Sub():
                one, other = self._linear(node.this), self._linear(node.expression)
                if one is None or other is None:
                    return None
                return one.plus(other, 1 if isinstance(node, exp.Add) else -1)
            case exp.Neg():
                inner = self._linear(node.this)
                return None if inner is None else _Linear({}).plus(inner, -1)
            case exp.Interval():
                return self._interval(node)
            case exp.Literal():
                self.strange.append(node)
                return None
            case _:
                return None

    def _interval(self, node: exp.Interval) -> _Linear | None:
        unit = node.unit.name.upper() if isinstance(node.unit, exp.Var) else ""
        if unit in UNITS and isinstance(node.this, exp.Literal):
            try:
                return _Linear({}, float(node.this.this) * UNITS[unit] // timedelta(microseconds=1))
            except (ValueError, OverflowError):
                pass
        self.strange.append(node)
        return None
