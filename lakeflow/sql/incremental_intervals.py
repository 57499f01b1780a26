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
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from sqlglot import exp

from lakeflow.errors import UsageError
from lakeflow.sql.calls_windows import UNITS
from lakeflow.sql.compiled import TableRead
from lakeflow.sql.incremental import Judge
from lakeflow.sql.incremental_bounds import Conditions
from lakeflow.sql.lineage import TableColumn, is_partial, origin_of, origin_within, sources_of
from lakeflow.sql.query import names_cte, span, table_name
from lakeflow.sql.tokens import pointed
from lakeflow.within import How, Within

HOW_TO_WRITE: Final = (
    "a join of two such tables needs an equality and a bound on the times of both, each column with its table's name: "
    "ON {left}.key = {right}.key AND {right}.time BETWEEN {left}.time - INTERVAL '1' HOUR AND {left}.time + INTERVAL '1' HOUR; "
    "a table that is looked up says FOR SYSTEM_TIME AS OF PROCTIME()"
)
_PAIRS_ALONE: Final = (
    "it is over LEFT JOIN, whose rows without a match go when it comes; over JOIN groups and ranks are kept by key"
)


@dataclass(frozen=True, slots=True)
class JoinQuery:
    """A query over two tables, and how it joins them: of a LEFT or RIGHT JOIN the table whose rows all stay comes first.

    `is_keyed` tells that it goes on by what it keeps of the pairs by key.
    """

    tables: tuple[str, str]
    within: Within
    is_keyed: bool = False


@dataclass(frozen=True, slots=True)
class JoinJudge(Judge):
    """A judge that lets two tables meet, and notes where."""

    found: list[exp.Join] = field(default_factory=list)

    def _meets(self, join: exp.Expr, source: exp.Expr) -> bool:
        side, method, kind = (str(join.args.get(part) or "").upper() for part in ("side", "method", "kind"))
        select = join.parent
        if not isinstance(join, exp.Join) or not isinstance(select, exp.Select):
            self._refuse("a second table that is not joined by JOIN", source)
        elif any(_tables(self.text, source) & _tables(self.text, one) for one in sources_of(select) if one is not source):
            self._refuse("a join of a table with itself", source)
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
    judge, refused = JoinJudge(text), None
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
    return found if refused is None else _by_key(text, found, refused)


def _by_key(text: str, found: JoinQuery, refused: UsageError) -> JoinQuery:
    """A query that looks at several pairs, which can go on by key: pairs come and stay. Raises UsageError where it cannot."""
    from lakeflow.sql.keyed import keyed_query

    if found.within.keeps:
        raise UsageError(f"{refused.message}\n{_PAIRS_ALONE}")
    if keyed_query(text) is None:
        raise refused
    return replace(found, is_keyed=True)


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


class _Join:
    """One join of two tables within the query `tree`."""

    def __init__(self, text: str, tree: exp.Expr, join: exp.Join, plain: Sequence[TableRead]) -> None:
        self._text, self._tree, self._join = text, tree, join
        right = next(read.name for read in plain if read.name in _tables(text, join.this))
        left = next(read.name for read in plain if read.name != right)
        self._side = str(join.args.get("side") or "").upper()
        self._tables = (right, left) if self._side == "RIGHT" else (left, right)
        self._said = Conditions(text, join, self._tables)

    def query(self) -> JoinQuery:
        """What the conditions say. Raises UsageError where that is not enough."""
        times, bound = self._bound()
        if not self._said.pairs:
            raise self._refusal(f"{self._tables[1]} is joined to {self._tables[0]} by no equality of columns")
        low, high = bound
        if high < low:
            raise self._refusal(
                f"the bound on the times of {self._tables[0]} and {self._tables[1]} ends before it begins, and nothing meets"
            )
        within = Within(
            left_on=[one for one, _ in self._said.pairs],
            right_on=[other for _, other in self._said.pairs],
            times=times,
            before=timedelta(microseconds=-low),
            after=timedelta(microseconds=high),
            how=How.LEFT if self._side else How.INNER,
        )
        if not within.keeps:
            return JoinQuery(self._tables, within)
        outputs = [self._handed_on(column) for column in within.group]
        return JoinQuery(self._tables, within.over(within.left_on, within.right_on, times, outputs))

    def _bound(self) -> tuple[tuple[str, str], tuple[int, int]]:
        """The times that are bound on both sides, and how. Raises UsageError where none are."""
        for times, bound in self._said.bounds.items():
            if bound.low is not None and bound.high is not None:
                return times, (bound.low, bound.high)
        raise self._unbound()

    def _unbound(self) -> UsageError:
        left, right = self._tables
        if self._said.strange:
            written = ", ".join(dict.fromkeys(one.sql() for one in self._said.strange))
            return self._refusal(
                f"the bound of {right} on {left} is written with {written}, and is of INTERVALs of one length ({_UNITS})"
            )
        for (first, second), bound in self._said.bounds.items():
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
            if not isinstance(table.this, exp.Identifier) or table.args.get("version") is not None:
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
