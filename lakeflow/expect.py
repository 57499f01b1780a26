"""What must hold of the rows that a job writes, and of the table that they make, as plain values.

    @lf.job(target="gold.delays", expect=[lf.not_null("carrier"), lf.in_range("delay", -60, 2000, on_violation="drop")])
    def delays(flights=lf.Read("bronze.flights")): ...

A kind of rows is held against each row, by itself: what violates it can be left out. A kind of tables is held against what a
batch makes of the table; there is no row to leave out. As with CHECK in SQL, null meets whatever can say nothing of it: only
`not_null` minds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from lakeflow.errors import DeclarationError, did_you_mean

Value = bool | int | float | Decimal | str | date | datetime
"""What a column is held against."""


class OnViolation(StrEnum):
    """What becomes of a violation: it is told; its row is left out and counted, or becomes a dead letter; the batch stays on
    a branch, and the job fails."""

    WARN = "warn"
    DROP = "drop"
    DEAD_LETTER = "dead_letter"
    FAIL = "fail"

    @property
    def leaves_out(self) -> bool:
        """Whether the row does not get to the table."""
        return self in (OnViolation.DROP, OnViolation.DEAD_LETTER)


@dataclass(frozen=True, slots=True)
class NotNull:
    """The column holds a value."""

    column: str


@dataclass(frozen=True, slots=True)
class InRange:
    """The column's value is `low` or more and `high` or less; None: no bound."""

    column: str
    low: Value | None
    high: Value | None


@dataclass(frozen=True, slots=True)
class OneOf:
    """The column's value is one of these."""

    column: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class References:
    """The column's value stands in `other`, a column of `table`, as that is at the start of the run."""

    column: str
    table: str
    other: str


@dataclass(frozen=True, slots=True)
class Satisfies:
    """A condition in SQL. One without aggregates is of rows, such as `delay >= 0`; one of aggregates, such as `count(*) > 0`,
    of the table."""

    condition: str


@dataclass(frozen=True, slots=True)
class Unique:
    """No two rows of the table have the same values in these columns; a row with a null in them is like no other."""

    columns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fresh:
    """The newest value of the column, a time, is at most `within` old as the batch is checked."""

    column: str
    within: timedelta


@dataclass(frozen=True, slots=True)
class RowCount:
    """How many rows the batch brings. `deviation` of 0.5: at the most half as many more or fewer than the mean of the job's
    last `runs` commits that the table still shows; the first one passes."""

    at_least: int | None = None
    at_most: int | None = None
    deviation: float | None = None
    runs: int = 5


@dataclass(frozen=True, slots=True)
class NoRows:
    """A query that gives the violations; the job's target stands in it for the table that the batch makes."""

    query: str


RowKind = NotNull | InRange | OneOf | References
TableKind = Unique | Fresh | RowCount | NoRows
Kind = RowKind | TableKind | Satisfies


@dataclass(frozen=True, slots=True)
class Expectation:
    """One of the above under a name of its own, and what becomes of what violates it."""

    name: str
    kind: Kind
    on_violation: OnViolation = OnViolation.WARN


@dataclass(frozen=True, slots=True)
class Finding:
    """How an expectation fared in a run: how many rows (of a table: facts) violate it, and a few of them as JSON."""

    expectation: Expectation
    violations: int = 0
    sample: tuple[str, ...] = field(default=(), repr=False)


def together(found: Sequence[Finding], more: Sequence[Finding]) -> tuple[Finding, ...]:
    """How expectations fared in two parts of a run, one after the other."""
    before = {one.expectation.name: one.violations for one in found}
    return tuple(replace(one, violations=one.violations + before.get(one.expectation.name, 0)) for one in more)


def not_null(column: str, *, on_violation: str = "warn", name: str | None = None) -> Expectation:
    """`column` holds no null."""
    return _made(NotNull(column), name or f"not_null({column})", on_violation)


def in_range(
    column: str, low: Value | None = None, high: Value | None = None, *, on_violation: str = "warn", name: str | None = None
) -> Expectation:
    """`column` is from `low` to `high`, both among what is valid; None is no bound. Raises DeclarationError for none."""
    label = name or f"in_range({column}, {low!r}, {high!r})"
    if low is None and high is None:
        raise DeclarationError(f"expectation {label!r} has neither a low nor a high bound; valid: in_range('delay', -60, 2000)")
    for bound in (low, high):
        if bound is not None:
            _check_value(bound, label)
    if low is not None and high is not None:
        try:
            empty = low > high  # type: ignore[operator]  # what cannot be compared is told below
        except TypeError as error:
            raise DeclarationError(
                f"expectation {label!r}: a range from {_typed(low)} to {_typed(high)}; valid: two bounds of one type"
            ) from error
        if empty:
            raise DeclarationError(f"expectation {label!r}: no value is from {low!r} to {high!r}")
    return _made(InRange(column, low, high), label, on_violation)


def one_of(column: str, values: Sequence[Value], *, on_violation: str = "warn", name: str | None = None) -> Expectation:
    """`column` is one of `values`. Raises DeclarationError where there are none."""
    label = name or f"one_of({column})"
    if isinstance(values, str) or not values:
        raise DeclarationError(f"expectation {label!r}: the values are {values!r}; valid: a list with one value at the least")
    for value in values:
        _check_value(value, label)
    return _made(OneOf(column, tuple(values)), label, on_violation)


def references(
    column: str, table: str, other: str | None = None, *, on_violation: str = "warn", name: str | None = None
) -> Expectation:
    """Each value of `column` stands in the column `other` (None: of the same name) of `table`, as of the start of the run."""
    label = name or f"references({column}, {table}, {other or column})"
    if table.count(".") != 1:
        raise DeclarationError(f"expectation {label!r}: the table is {table!r}; valid: namespace.table, as 'dim.carriers'")
    return _made(References(column, table, other or column), label, on_violation)


def satisfies(condition: str, *, on_violation: str = "warn", name: str | None = None) -> Expectation:
    """A condition in SQL over the columns of a row, or over aggregates of the whole table."""
    if not condition.strip():
        raise DeclarationError('an expectation\'s condition is empty; valid: lf.satisfies("delay >= 0")')
    return _made(Satisfies(condition), name or condition, on_violation)


def unique(*columns: str, on_violation: str = "warn", name: str | None = None) -> Expectation:
    """No two rows of the table have the same values in `columns`. `on_violation` is warn or fail."""
    if not columns:
        raise DeclarationError('an expectation of unique rows names no column; valid: lf.unique("id")')
    return _of_table(Unique(columns), name or f"unique({', '.join(columns)})", on_violation)


def fresh(column: str, within: str | timedelta, *, on_violation: str = "warn", name: str | None = None) -> Expectation:
    """The newest value of `column` is no older than `within`, such as '2h'. `on_violation` is warn or fail."""
    label = name or f"fresh({column}, {within})"
    return _of_table(Fresh(column, _duration(within, label)), label, on_violation)


def row_count(
    at_least: int | None = None,
    at_most: int | None = None,
    *,
    deviation: float | None = None,
    runs: int = 5,
    on_violation: str = "warn",
    name: str | None = None,
) -> Expectation:
    """How many rows a batch brings; against its last commits with `deviation`, a share. `on_violation` is warn or fail."""
    label = name or "row_count"
    if at_least is None and at_most is None and deviation is None:
        raise DeclarationError(f"expectation {label!r} says nothing; valid: at_least=, at_most=, deviation=0.5")
    if at_least is not None and at_most is not None and at_least > at_most:
        raise DeclarationError(f"expectation {label!r}: no number is at least {at_least} and at most {at_most}")
    if (deviation is not None and not deviation >= 0) or runs < 1:
        raise DeclarationError(f"expectation {label!r}: deviation={deviation!r}, runs={runs!r}; valid: 0 or more, 1 or more")
    return _of_table(RowCount(at_least, at_most, deviation, runs), label, on_violation)


def no_rows(query: str, *, on_violation: str = "warn", name: str) -> Expectation:
    """`query` gives no row. The target's name in it is the table that the batch makes. `on_violation` is warn or fail."""
    return _of_table(NoRows(query), name, on_violation)


def distinct(expectations: Sequence[Expectation], where: str) -> tuple[Expectation, ...]:
    """The expectations, each of which has a name of its own. Raises DeclarationError where two share one, or one is none."""
    seen: set[str] = set()
    for one in expectations:
        if not isinstance(one, Expectation):
            raise DeclarationError(
                f'{where}: expect holds {one!r}; valid: lf.not_null("carrier"), and others of docs/expectations.md'
            )
        if one.name in seen:
            raise DeclarationError(
                f"{where}: two expectations are called {one.name!r}", next_step="give one of them another name"
            )
        seen.add(one.name)
    return tuple(expectations)


def require_facts(name: str, on_violation: OnViolation) -> None:
    """Raises DeclarationError where rows are to be left out for what is no matter of single rows."""
    if on_violation.leaves_out:
        raise DeclarationError(
            f"expectation {name!r} is of the whole table and leaves no row out: {on_violation}; valid: warn, fail"
        )


def _made(kind: Kind, name: str, on_violation: str) -> Expectation:
    if on_violation not in list(OnViolation):
        valid = [str(one) for one in OnViolation]
        raise DeclarationError(f"expectation {name!r}: on_violation is {on_violation!r}{did_you_mean(on_violation, valid)}")
    return Expectation(name, kind, OnViolation(on_violation))


def _of_table(kind: TableKind, name: str, on_violation: str) -> Expectation:
    made = _made(kind, name, on_violation)
    require_facts(name, made.on_violation)
    return made


_VALID = (bool, int, float, Decimal, str, date)


def _check_value(value: object, label: str) -> None:
    if not isinstance(value, _VALID) or (isinstance(value, float) and not math.isfinite(value)):
        raise DeclarationError(f"expectation {label!r} names {_typed(value)}; valid: numbers, texts, dates, times, True, False")


def _typed(value: object) -> str:
    return f"{value!r} ({type(value).__name__})"


_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|min|m|h|d)\s*")


def _duration(text: str | timedelta, label: str) -> timedelta:
    if isinstance(text, timedelta):
        found = text
    else:
        read = _DURATION.fullmatch(text)
        found = timedelta(seconds=float(read[1]) * _SECONDS[read[2]]) if read else timedelta(0)
    if found <= timedelta(0):
        raise DeclarationError(f"expectation {label!r}: {text!r} is no length of time; valid: '30s', '5m', '2h', '1d'")
    return found


def columns_of(kind: Kind) -> tuple[str, ...]:
    """The columns that a kind names by themselves; those within a condition or a query only SQL knows."""
    match kind:
        case NotNull(column) | InRange(column) | OneOf(column) | References(column) | Fresh(column):
            return (column,)
        case Unique(columns):
            return columns
        case RowCount() | NoRows() | Satisfies():
            return ()
