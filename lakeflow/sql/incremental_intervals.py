"""Joins of two tables that both bring new rows, within a bound on their times: query -> values. Pure.

    FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '1' HOUR AND a.ts + INTERVAL '10' MINUTE

Such a join is bilinear: the pairs of all rows are those of new rows of the one with all rows of the other that have been
read, and of those that were read before with what is new. So the query runs over new rows of one table and known rows of the
other, and may do with the pairs what it may do with rows (incremental.py). The bound and the equalities say which known rows
can meet new ones, and the query itself says which do: what is found here may be too wide, never too narrow.

Each table is read once. The bound may be spelt in any way that is linear in the two times: BETWEEN, comparisons either way
round, a difference of the times, in ON and, of an inner join, in WHERE.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.calls_windows import UNITS
from lakeflow.sql.compiled import TableRead
from lakeflow.sql.incremental import Judge
from lakeflow.sql.lineage import TableColumn, is_partial, origin_of, origin_within, sources_of
from lakeflow.sql.query import names_cte, span, table_name
from lakeflow.sql.tokens import pointed
from lakeflow.within import How, Within

HOW_TO_WRITE: Final = (
    "a join of two such tables needs an equality and a bound on the times of both, each column with its table's name: "
    "ON {left}.key = {right}.key AND {right}.time BETWEEN {left}.time - INTERVAL '1' HOUR AND {left}.time + INTERVAL '1' HOUR; "
    "a table that is looked up says FOR SYSTEM_TIME AS OF PROCTIME()"
)
_SECOND_JOB: Final = "over a join of two tables that both bring new rows: write a second job over what the first has joined"


@dataclass(frozen=True, slots=True)
class JoinQuery:
    """A query over two tables, and how it joins them: of a LEFT or RIGHT JOIN the table whose rows all stay comes first."""

    tables: tuple[str, str]
    within: Within


@dataclass(frozen=True, slots=True)
class _JoinJudge(Judge):
    """A judge that lets two tables meet, and notes where."""

    found: list[exp.Join] = field(default_factory=list)

    def _meets(self, join: exp.Expr, source: exp.Expr) -> bool:
        side, method, kind = (str(join.args.get(part) or "").upper() for part in ("side", "method", "kind"))
        if not isinstance(join, exp.Join) or not isinstance(join.parent, exp.Select):
            self._refuse("a second table that is not joined by JOIN", source)
        elif method or kind in ("SEMI", "ANTI") or side not in ("", "LEFT", "RIGHT"):
            words = " ".join(filter(None, (method, side, kind)))
            self._refuse(f"{words} JOIN of two tables that both bring new rows", source)
        else:
            self.unordered.append(join)
            self.found.append(join)
        return True


def join_query(text: str, tree: exp.Expr, reads: Sequence[TableRead]) -> JoinQuery | None:
    """The join of a query over several tables; None where their rows meet in UNION ALL alone.

    Raises UsageError, pointing into the text, where rows of one table would miss those of another.
    """
    judge, refused = _JoinJudge(text), None
    try:
        judge.moves(tree, {})
    except UsageError as error:
        refused = error
    if not judge.found:
        if refused is None:
            return None
        raise _second_table(text, reads, str(refused.message) if "JOIN of two" in refused.message else None)
    plain = [read for read in reads if read.at is None]
    if len({read.name for read in plain}) > 2 or len(judge.found) > 1:
        raise _too_many(text, plain)
    _refuse_second_readings(text, tree, plain)
    found = _Join(text, tree, judge.found[0], plain).query()
    if refused is not None:
        raise UsageError(f"{refused.message}\n{_SECOND_JOB}")
    return found


def _second_table(text: str, reads: Sequence[TableRead], why: str | None) -> UsageError:
    if why is not None:
        return UsageError(why)
    plain = [read for read in reads if read.at is None]
    other = next(read for read in plain if read.name != plain[0].name)
    message = (
        f"{other.name} is a second table beside {plain[0].name}: new rows of the one would miss old rows of the other; "
        + HOW_TO_WRITE.format(left="a", right="b")
    )
    return UsageError(pointed(message, text, other.start, other.stop))


def _too_many(text: str, plain: Sequence[TableRead]) -> UsageError:
    names = list(dict.fromkeys(read.name for read in plain))
    third = next(read for read in plain if read.name == names[-1])
    message = (
        f"{third.name} is a table too many: new rows of {len(names)} tables ({', '.join(names)}) meet, and a join within a "
        "bound is of two; write two jobs, of which the second joins what the first has made"
    )
    return UsageError(pointed(message, text, third.start, third.stop))


def _refuse_second_readings(text: str, tree: exp.Expr, plain: Sequence[TableRead]) -> None:
    """A table that is read twice, by its name or by that of a common table expression, would meet itself."""
    again = [
        (read.name, read.start, read.stop)
        for place, read in enumerate(plain)
        if read.name in {one.name for one in plain[:place]}
    ]
    named = [table for table in tree.find_all(exp.Table) if isinstance(table.this, exp.Identifier) and names_cte(table)]
    known: set[int] = set()
    for table in named:
        for query in _ctes(table):
            if id(query) in known and _tables(text, query):
                again.append((table.name, *span(table)))
            known.add(id(query))
    if again:
        name, start, stop = again[-1]
        raise UsageError(pointed(f"{name} is read twice, and a join within a bound reads each table once", text, start, stop))


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
class _Bound:
    """From when to when the time of the second table is, counted from that of the first; None: nothing says."""

    low: int | None = None
    high: int | None = None


class _Join:
    """One join of two tables within the query `tree`."""

    def __init__(self, text: str, tree: exp.Expr, join: exp.Join, plain: Sequence[TableRead]) -> None:
        self._text, self._tree, self._join = text, tree, join
        select = join.parent
        assert isinstance(select, exp.Select), "the judge looked"
        self._select = select
        right = next(read.name for read in plain if read.name in _tables(text, join.this))
        left = next(read.name for read in plain if read.name != right)
        self._side = str(join.args.get("side") or "").upper()
        self._tables = (right, left) if self._side == "RIGHT" else (left, right)
        self._pairs: list[tuple[str, str]] = []
        self._bounds: dict[tuple[str, str], _Bound] = {}
        self._strange: list[exp.Expr] = []

    def query(self) -> JoinQuery:
        """What the conditions say. Raises UsageError where that is not enough."""
        for condition in self._conditions():
            self._take(condition)
        self._take_using()
        times, bound = self._bound()
        if not self._pairs:
            raise self._refusal(f"{self._tables[1]} is joined to {self._tables[0]} by no equality of columns")
        low, high = bound
        if high < low:
            raise self._refusal(
                f"the bound on the times of {self._tables[0]} and {self._tables[1]} ends before it begins, and nothing meets"
            )
        within = Within(
            left_on=[one for one, _ in self._pairs],
            right_on=[other for _, other in self._pairs],
            times=times,
            before=timedelta(microseconds=-low),
            after=timedelta(microseconds=high),
            how=How.LEFT if self._side else How.INNER,
        )
        if not within.keeps:
            return JoinQuery(self._tables, within)
        outputs = [self._handed_on(column) for column in within.group]
        return JoinQuery(self._tables, within.over(within.left_on, within.right_on, times, outputs))

    def _conditions(self) -> Iterator[exp.Expr]:
        where = self._select.args.get("where")
        found = [self._join.args.get("on"), None if self._side or where is None else where.this]
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
        if set(found) == set(self._tables) and (pair := (found[self._tables[0]], found[self._tables[1]])) not in self._pairs:
            self._pairs.append(pair)

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
        bound = self._bounds.setdefault((first, second), _Bound())
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
                self._strange.append(node)
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
        self._strange.append(node)
        return None

    def _bound(self) -> tuple[tuple[str, str], tuple[int, int]]:
        """The times that are bound on both sides, and how. Raises UsageError where none are."""
        for times, bound in self._bounds.items():
            if bound.low is not None and bound.high is not None:
                return times, (bound.low, bound.high)
        raise self._unbound()

    def _unbound(self) -> UsageError:
        left, right = self._tables
        if self._strange:
            written = ", ".join(dict.fromkeys(one.sql() for one in self._strange))
            return self._refusal(
                f"the bound of {right} on {left} is written with {written}, and is of INTERVALs of one length ({_UNITS})"
            )
        for (first, second), bound in self._bounds.items():
            end = "latest" if bound.high is None else "earliest"
            return self._refusal(f"{right} joined to {left} says no {end} moment of {second}, counted from {first}")
        return self._refusal(f"{right} is a second table beside {left}: new rows of the one would miss old rows of the other")

    def _handed_on(self, column: str) -> str:
        """The name, in small letters, by which the query gives a column of the first table."""
        select = self._tree.unnest() if isinstance(self._tree, exp.Subquery) else self._tree
        wanted = TableColumn(self._tables[0], column)
        if isinstance(select, exp.Select):
            for place, one in enumerate(select.expressions):
                if one.is_star:
                    if place == 0 and self._in_star(one, wanted, select):
                        return wanted.column
                    break
                plain = one.unalias()
                if isinstance(plain, exp.Column) and origin_of(self._text, plain, select) == wanted:
                    return str(one.alias_or_name).lower()
        raise self._refusal(
            f"rows of {self._tables[0]} without a match stand until it comes, and are found again by {column}, which SELECT "
            "does not give: name it unchanged, before any *",
            advice="",
        )

    def _in_star(self, star: exp.Expr, wanted: TableColumn, select: exp.Select) -> bool:
        """Whether a star, which comes first, gives the column under its own name, before any other of that name."""
        if is_partial(star):
            return False
        sources = sources_of(select)
        named = star.table.lower() if isinstance(star, exp.Column) else ""
        chosen = [one for one in sources if not named or str(one.alias_or_name).lower() == named][:1]
        return any(origin_within(self._text, one, wanted.column, select) == wanted for one in chosen)

    def _refusal(self, message: str, advice: str = f"; {HOW_TO_WRITE}") -> UsageError:
        """The error that points at what is joined."""
        left, right = (name.rpartition(".")[2] for name in self._tables)
        start, stop = span(self._join.this)
        return UsageError(pointed(message + advice.format(left=left, right=right), self._text, start, stop))


_UNITS: Final = ", ".join(unit for unit in UNITS if unit.endswith("S"))


def _tables(text: str, source: exp.Expr) -> set[str]:
    """The tables that a source of rows is made of, by way of common table expressions too."""
    found: set[str] = set()
    pending = [source]
    while pending:
        for table in pending.pop().find_all(exp.Table):
            if not isinstance(table.this, exp.Identifier):
                continue
            if names_cte(table):
                pending.extend(_ctes(table))
            else:
                found.add(table_name(text, table))
    return found


def _ctes(table: exp.Table) -> Iterator[exp.Expr]:
    around = table.parent
    while around is not None:
        named = around.args.get("with_")
        if isinstance(named, exp.With):
            yield from (cte.this for cte in named.expressions if cte.alias.lower() == table.name.lower())
        around = around.parent
