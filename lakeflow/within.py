"""A join of two tables within a bound on their times, as a plain value, for jobs of which both tables bring new rows.

    Within("order_id", times=("ordered_at", "shipped_at"), after="4h")       shipped up to four hours behind the order
    Within("flight", times="at", before="1h", after="10m", how="left")       flights without such a row too

A row of the first table meets the rows of the second that are equal to it in the columns of the join and whose time is from
`before` ahead of its own up to `after` behind it, both moments included. So a new row of the one can only meet rows of the
other out of a known part of time, and no more of the other table is read. Null keys and null times meet nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lakeflow.errors import DeclarationError, UsageError, did_you_mean
from lakeflow.window import Length, microseconds

if TYPE_CHECKING:
    import polars as pl

ROW: Final = "__lakeflow_row"
TIME: Final = "__lakeflow_time"
EXAMPLE: Final = 'lf.Within("order_id", times=("ordered_at", "shipped_at"), after="4h")'


class How(StrEnum):
    """Which rows a join gives: pairs alone, or rows of the first table without a match too."""

    INNER = "inner"
    LEFT = "left"


@dataclass(frozen=True, slots=True, init=False)
class Within:
    """How two tables are joined. `before` and `after` are kept in microseconds; one may be less than nothing, their sum not.

    `outputs` are, of a query, the names in small letters of those of its columns that have the first table's columns of the
    join and its time, in the order of `group`. Raises UsageError for what makes no join.
    """

    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    left_time: str
    right_time: str
    before: int
    after: int
    how: How
    outputs: tuple[str, ...]

    def __init__(
        self,
        on: str | Sequence[str] = (),
        *,
        times: str | tuple[str, str],
        before: Length = "0s",
        after: Length = "0s",
        how: str = "inner",
        left_on: str | Sequence[str] = (),
        right_on: str | Sequence[str] = (),
        outputs: Sequence[str] = (),
    ) -> None:
        shared = _names(on)
        left, right = (*shared, *_names(left_on)), (*shared, *_names(right_on))
        if not left or len(left) != len(right):
            raise UsageError(
                f"Within joins by {', '.join(left) or 'no column'} of the first table and {', '.join(right) or 'no column'} of "
                f"the second; valid: as many of the one as of the other, one at the least: {EXAMPLE}"
            )
        pair = (times, times) if isinstance(times, str) else tuple(times)
        if len(pair) != 2 or not all(isinstance(name, str) and name for name in pair):
            raise UsageError(f"times of Within is {times!r}; valid: a column of both tables, or a pair of columns: {EXAMPLE}")
        if how not in list(How):
            raise UsageError(f"how of Within is {how!r}{did_you_mean(how, map(str, How))}")
        ahead, behind = _length(before, "before"), _length(after, "after")
        if ahead + behind < 0:
            raise UsageError(
                f"Within: from {moment_text(-ahead)} to {moment_text(behind)} is no time: it ends before it begins; valid: "
                "after is not less than -before"
            )
        fields = (left, right, *pair, ahead, behind, How(how), tuple(outputs))
        for name, value in zip(self.__slots__, fields, strict=True):
            object.__setattr__(self, name, value)

    def over(
        self, left_on: Sequence[str], right_on: Sequence[str], times: tuple[str, str], outputs: Sequence[str] = ()
    ) -> Within:
        """The same join over columns that are called so."""
        before, after = timedelta(microseconds=self.before), timedelta(microseconds=self.after)
        how, given = self.how, outputs or self.outputs
        return Within(left_on=left_on, right_on=right_on, times=times, before=before, after=after, how=how, outputs=given)

    @property
    def keeps(self) -> bool:
        """Whether rows of the first table without a match are given too, which a match that comes later takes away."""
        return self.how is How.LEFT

    @property
    def group(self) -> tuple[str, ...]:
        """The columns of the first table by whose values its rows go and come again together."""
        return tuple(dict.fromkeys((*self.left_on, self.left_time)))

    def __str__(self) -> str:
        bound = f"{self.right_time} from {moment_text(-self.before)} to {moment_text(self.after)} of {self.left_time}"
        pairs = zip(self.left_on, self.right_on, strict=True)
        return f"by {', '.join(one if one == other else f'{one} = {other}' for one, other in pairs)}, {bound}"

    def join(self, left: pl.LazyFrame, right: pl.LazyFrame, suffix: str = "_right") -> pl.LazyFrame:
        """The join, in Polars: all columns of `left`, then those of `right` but its columns of the join; one that `left` has
        too gets the suffix."""
        import polars as pl

        rows = left.with_row_index(ROW)
        timed = right.with_columns(pl.col(self.right_time).alias(TIME))
        behind = pl.col(TIME) - pl.col(self.left_time)
        meets = behind.is_between(timedelta(microseconds=-self.before), timedelta(microseconds=self.after))
        pairs = rows.join(
            timed, left_on=list(self.left_on), right_on=list(self.right_on), how="inner", suffix=suffix, coalesce=True
        )
        pairs = pairs.filter(meets).drop(TIME)
        if self.keeps:
            pairs = pl.concat([pairs, rows.join(pairs.select(ROW), on=ROW, how="anti")], how="diagonal")
        return pairs.drop(ROW)


def _names(given: str | Sequence[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    if not all(isinstance(name, str) and name for name in names):
        raise UsageError(f"Within joins by {given!r}; valid: a column, or several")
    return names


def _length(length: object, what: str) -> int:
    if not isinstance(length, str | timedelta):
        raise UsageError(f"{what} of Within is {length!r}; valid: a length of time such as '10m' or '1h30m', or a timedelta")
    return microseconds(length, f"{what} of Within")


def moment_text(length: int) -> str:
    """A length in microseconds, with its sign: +0:10:00."""
    return f"{'-' if length < 0 else '+'}{timedelta(microseconds=abs(length))}"


def no_recompute(label: str) -> DeclarationError:
    """What a join cannot do where rows of its tables were changed or removed."""
    return DeclarationError(
        f"{label}: a join within a bound keeps what it made of rows that are gone; valid: 'fail', 'ignore_deletes'",
        next_step="say on_change = 'fail', and run the job with --mode snapshot after such changes, or 'ignore_deletes'",
    )


def check_within(within: object, reads: Sequence[str], others: Sequence[str], label: str) -> None:
    """What a job in Python says of a join: that it reads two tables, `reads`, and says nothing, `others`, that does not go with
    it. Raises DeclarationError; `label` is the job's place and name."""
    if within is None:
        return
    if not isinstance(within, Within):
        raise DeclarationError(f"{label}: within is {within!r}; valid: {EXAMPLE}")
    if len(set(reads)) != 2 or len(reads) != 2:
        raise DeclarationError(
            f"{label} joins within a bound, which is of two tables, and reads {', '.join(reads) or 'none'}",
            next_step="give it two parameters = lf.Read(..), the first table first; what is looked up is an lf.Lookup. Three "
            "tables are two jobs: the second reads what the first has joined",
        )
    if others:
        raise DeclarationError(f"{label} joins within a bound, and has {', '.join(others)} too, which do not go with within=")
