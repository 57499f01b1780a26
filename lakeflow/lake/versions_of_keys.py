"""Versions of keys out of what was stated of them: slowly changing dimensions of type 2. Pure.

A statement is a row that says from when its values are valid, or that its key ceased then: such a one is valid until the moment
from which it is valid. Of several of one key and moment the last stands. In the order of their moments, a statement that
says what the one before says makes no version; any other ends the version before, and begins one unless its key ceased.
A statement that makes no version is kept elsewhere: one that comes late, between, can make it count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

_PLACE: Final = "__place"
_GONE: Final = "__gone"
_ALIKE: Final = "__alike"


@dataclass(frozen=True, slots=True)
class Names:
    """The columns of a table of versions: `values` are those that are neither key, `since`, `until` nor `current`."""

    key: tuple[str, ...]
    values: tuple[str, ...]
    since: str
    until: str
    current: str | None = None

    @property
    def version(self) -> list[str]:
        """By which a version is known."""
        return [*self.key, self.since]


def statements_of(versions: pl.DataFrame, names: Names) -> pl.DataFrame:
    """What must have been stated for these versions: each of them, and an end where none follows at once."""
    starts = versions.with_columns(pl.lit(None, versions.schema[names.until]).alias(names.until))
    ended = versions.filter(pl.col(names.until).is_not_null())
    ends = ended.join(versions, left_on=[*names.key, names.until], right_on=names.version, how="anti")
    return pl.concat([starts, ends.with_columns(pl.col(names.until).alias(names.since))])


@dataclass(frozen=True, slots=True)
class Judged:
    """Versions, and the statements that make none, by their places in what was judged."""

    versions: pl.DataFrame
    idle: pl.Series


def judged(statements: pl.DataFrame, names: Names) -> Judged:
    """The versions that the statements, in the order they came, make of each key."""
    ordered = statements.with_row_index(_PLACE).sort(names.version, maintain_order=True)
    ordered = ordered.unique(names.version, keep="last", maintain_order=True)
    ordered = ordered.with_columns((pl.col(names.until) == pl.col(names.since)).fill_null(False).alias(_GONE))
    same_key = pl.all_horizontal(_as_before(names.key)).fill_null(False) & (pl.int_range(pl.len()) > 0)
    same_values = pl.all_horizontal([pl.lit(True), *_as_before(names.values)])
    alike = (
        pl.when(pl.col(_GONE))
        .then(~same_key | pl.col(_GONE).shift(1))
        .otherwise(same_key & ~pl.col(_GONE).shift(1) & same_values)
    )
    ordered = ordered.with_columns(alike.fill_null(False).alias(_ALIKE))
    starts = ordered.filter(~pl.col(_ALIKE))
    next_same = pl.all_horizontal([pl.col(name).shift(-1).eq_missing(pl.col(name)) for name in names.key])
    until = pl.when(next_same & (pl.int_range(pl.len()) < pl.len() - 1)).then(pl.col(names.since).shift(-1))
    versions = starts.with_columns(until.alias(names.until)).filter(~pl.col(_GONE))
    if names.current is not None:
        versions = versions.with_columns(pl.col(names.until).is_null().alias(names.current))
    return Judged(versions.select(statements.columns), ordered.filter(pl.col(_ALIKE))[_PLACE])


def _as_before(columns: Sequence[str]) -> list[pl.Expr]:
    return [pl.col(name).eq_missing(pl.col(name).shift(1)) for name in columns]


@dataclass(frozen=True, slots=True)
class Difference:
    """What turns a table of versions into another: those that go, by key and moment, those that come, and how many of these
    are of a moment that had none."""

    gone: pl.DataFrame
    come: pl.DataFrame
    opened: int


def difference(before: pl.DataFrame, after: pl.DataFrame, names: Names) -> Difference:
    """What must be written for `after` where `before` stands. A version that is there twice goes and comes once."""
    mark = pl.lit(True).alias(_ALIKE)
    others = [names.until, *names.values]
    compared = after.with_row_index(_PLACE).join(
        before.with_columns((pl.len().over(names.version) == 1).alias(_ALIKE)),
        on=names.version,
        how="inner",
        suffix="__before",
    )
    equal = pl.all_horizontal([pl.col(_ALIKE), *(pl.col(name).eq_missing(pl.col(f"{name}__before")) for name in others)])
    stays = compared.filter(equal)
    gone = before.select(names.version).unique().join(stays, on=names.version, how="anti")
    come = after.join(stays, on=names.version, how="anti")
    opened = come.join(before.with_columns(mark), on=names.version, how="anti").height
    return Difference(gone, come, opened)
