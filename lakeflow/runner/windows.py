"""Which windows rows fall in, which a change touches, and how far the watermark is. Pure.

Moments are microseconds since 1970-01-01 00:00 UTC; a TIMESTAMP without a zone counts as if it were UTC. Frames of windows have
the columns START and END, and for sessions the key's before them. Null keys are a key like another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, assert_never

import polars as pl

from lakeflow.errors import Terminal
from lakeflow.window import Cumulate, Hop, Session, Tumble, Window

START: Final = "__window_start"
END: Final = "__window_end"
TIME: Final = "__time"
_KEY: Final = "__key"
_PLACE: Final = "__place"
MOST_RANGES: Final = 64
"""Of the time that is read again; between further ones the smallest pauses are read too."""

Grid = Tumble | Hop | Cumulate
Range = tuple[int, int]
"""From a moment up to another, which is not in it."""


def moments(column: str) -> pl.Expr:
    """A column of time in microseconds."""
    return pl.col(column).to_physical().cast(pl.Int64)


def in_windows(rows: pl.DataFrame, window: Grid) -> pl.DataFrame:
    """The rows, each once in every window that holds its TIME, in their order. Those without a time are left out."""
    timed = rows.filter(pl.col(TIME).is_not_null())
    time = pl.col(TIME)
    match window:
        case Tumble(_, size, _, offset):
            placed = timed.with_columns(_floor(size, offset).alias(START))
            return placed.with_columns((pl.col(START) + size).alias(END))
        case Hop(_, size, slide, _, offset):
            starts = pl.int_ranges(_floor(slide, offset), time - size, -slide)
            placed = timed.with_columns(starts.alias(START)).explode(START)
            return placed.with_columns((pl.col(START) + size).alias(END))
        case Cumulate(_, step, size, _, offset):
            placed = timed.with_columns(_floor(size, offset).alias(START))
            start = pl.col(START)
            ends = pl.int_ranges(start + ((time - start) // step + 1) * step, start + size + 1, step)
            return placed.with_columns(ends.alias(END)).explode(END)
        case _:
            assert_never(window)


def _floor(length: int, offset: int) -> pl.Expr:
    """The last multiple of `length`, counted from `offset`, that is not behind TIME; before 1970 too."""
    return (pl.col(TIME) - offset) // length * length + offset


def merged_sessions(spans: pl.DataFrame, session: Session) -> pl.DataFrame:
    """Spans of event time of one key each (key columns, START, END: first and last moment) put together where no more than the
    gap is between them. Spans of spans are the spans of all rows, in any grouping."""
    by = [f"{_KEY}{place}" for place in range(len(session.by))] or [_KEY]
    named = spans.rename(dict(zip(session.by, by, strict=True))) if session.by else spans.with_columns(pl.lit(0).alias(_KEY))
    ordered = named.sort([*by, START])
    before = pl.col(END).cum_max().over(by).shift(1).over(by)
    begun = (before.is_null() | (pl.col(START) - before > session.gap)).cast(pl.Int64).cum_sum().alias(_PLACE)
    merged = ordered.with_columns(begun).group_by([*by, _PLACE], maintain_order=True)
    spans = merged.agg(pl.col(START).min(), pl.col(END).max())
    return spans.select(*(pl.col(name).alias(key) for key, name in zip(session.by, by, strict=False)), START, END)


def in_sessions(rows: pl.DataFrame, session: Session, sessions: pl.DataFrame) -> pl.DataFrame:
    """The rows whose TIME lies in one of the sessions of their key (END: the first moment behind it), in their order."""
    by = list(session.by)
    keys = sessions.select(by).unique(maintain_order=True).with_row_index(_KEY) if by else None
    known = sessions.with_columns(pl.lit(0, pl.UInt32).alias(_KEY)) if keys is None else _keyed(sessions, keys, by)
    timed = rows.filter(pl.col(TIME).is_not_null()).with_row_index(_PLACE)
    placed = timed.with_columns(pl.lit(0, pl.UInt32).alias(_KEY)) if keys is None else _keyed(timed, keys, by)
    found = placed.sort(TIME).join_asof(
        known.select(_KEY, START, END).sort(START),
        left_on=TIME,
        right_on=START,
        by=_KEY,
        coalesce=False,
        check_sortedness=False,
    )
    return found.filter(pl.col(TIME) < pl.col(END)).sort(_PLACE).drop(_KEY, _PLACE)


def _keyed(rows: pl.DataFrame, keys: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    return rows.join(keys, on=by, how="inner", nulls_equal=True)


def of_keys(rows: pl.DataFrame, keys: pl.DataFrame, by: Sequence[str]) -> pl.DataFrame:
    """The rows of the keys; without key columns, all."""
    return rows.join(keys.select(by).unique(), on=list(by), how="semi", nulls_equal=True) if by else rows


def among(rows: pl.DataFrame, windows: pl.DataFrame, by: Sequence[str] = ()) -> pl.DataFrame:
    """The rows whose window is one of `windows`, in their order."""
    return rows.join(windows, on=[*by, START, END], how="semi", nulls_equal=True, maintain_order="left")


def ranges_of(windows: pl.DataFrame, around: int = 0, most: int = MOST_RANGES) -> tuple[Range, ...]:
    """The time that windows take, `around` before and behind them too, as `most` ranges at the most, ascending."""
    if windows.is_empty():
        return ()
    bounds = windows.select(low=pl.col(START) - around, high=pl.col(END) + around).sort("low")
    before = pl.col("high").cum_max().shift(1)
    pauses = bounds.with_columns((pl.col("low") - before).alias("pause"))
    wide = pauses["pause"].drop_nulls().top_k(most - 1).min() if pauses.height >= most else None
    least = max(1, wide if isinstance(wide, int) else 1)
    begun = (pl.col("pause").is_null() | (pl.col("pause") >= least)).cast(pl.Int64).cum_sum().alias("place")
    joined = pauses.with_columns(begun).group_by("place", maintain_order=True).agg(pl.col("low").min(), pl.col("high").max())
    found = [(int(low), int(high)) for _, low, high in joined.rows()]
    return tuple(found) if len(found) <= most else tuple(_closed(found, most))


def _closed(ranges: Sequence[Range], most: int) -> Sequence[Range]:
    """Of pauses that are alike, as many are closed as must be: the last ranges become one."""
    return [*ranges[: most - 1], (ranges[most - 1][0], ranges[-1][1])]


@dataclass(frozen=True, slots=True)
class Watermarks:
    """How far event time has come in a source, as of its commits: it moves between them and not within.

    `value` is the watermark as the commit `sequence` came, None before there was one. `seen` is the greatest event time of each
    partition, `stood` the greatest of all as the partition last brought rows, `brought` those that did so in this commit.
    """

    value: int | None = None
    sequence: int | None = None
    seen: Mapping[str, int] = field(default_factory=dict)
    stood: Mapping[str, int] = field(default_factory=dict)
    brought: frozenset[str] = frozenset()

    def at(self, sequence: int, delay: int, idle: int) -> Watermarks:
        """The watermarks as the commit `sequence` comes."""
        return self if sequence == self.sequence else replace(self.settled(delay, idle), sequence=sequence)

    def saw(self, greatest: Mapping[str, int]) -> Watermarks:
        """The watermarks once rows of the commit were read: by partition the greatest event time of them."""
        seen = {**self.seen, **{part: max(time, self.seen.get(part, time)) for part, time in greatest.items()}}
        return replace(self, seen=seen, brought=self.brought | greatest.keys())

    def settled(self, delay: int, idle: int) -> Watermarks:
        """The watermarks once the commit was read whole: the least of partitions that are not idle, never less than before."""
        if not self.seen:
            return self
        top = max(self.seen.values())
        stood = {**self.stood, **dict.fromkeys(self.brought, top)}
        least = min(time for part, time in self.seen.items() if top - stood[part] <= idle) - delay
        value = least if self.value is None else max(self.value, least)
        return replace(self, value=value, stood=stood, brought=frozenset())

    def state(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "watermark": self.value,
            "sequence": self.sequence,
            "seen": dict(self.seen),
            "stood": dict(self.stood),
            "brought": sorted(self.brought),
        }

    @staticmethod
    def of_state(state: Any) -> Watermarks:
        """The inverse of `state`; None is the very beginning. Raises Terminal where it is of another form."""
        if state is None:
            return Watermarks()
        try:
            seen, stood = ({str(k): int(v) for k, v in state[name].items()} for name in ("seen", "stood"))
            return Watermarks(state["watermark"], state["sequence"], seen, stood, frozenset(state["brought"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Terminal(f"watermarks in a job's progress are not readable: {str(state)[:200]!r}") from error


@dataclass(frozen=True, slots=True)
class View:
    """The rows of a source that a job by windows is shown: each once in every window that is one of `windows` (None: any; of
    sessions, those that the rows at hand make), and whose end is behind `after` and not behind `until`.

    `before` has the watermark as of each commit whose rows may have come too late: they are not shown in windows which it had
    passed by the lateness. `ranges` is the time in which there may be such rows; None: all.
    """

    window: Window
    windows: pl.DataFrame | None = None
    after: int | None = None
    until: int | None = None
    before: Mapping[int, int | None] = field(default_factory=dict)
    ranges: tuple[Range, ...] | None = None

    def placed(self, rows: pl.DataFrame, sequence: int) -> pl.DataFrame:
        """The rows of one commit with START and END, in their order. TIME must be among the columns."""
        window = self.window
        if isinstance(window, Session):
            return in_sessions(rows, window, self._sessions(rows, window) if self.windows is None else self.windows)
        placed = in_windows(self._near(rows), window)
        passed = self.before.get(sequence)
        if passed is not None:
            placed = placed.filter(pl.col(END) + window.lateness > passed)
        if self.after is not None:
            placed = placed.filter(pl.col(END) > self.after)
        if self.until is not None:
            placed = placed.filter(pl.col(END) <= self.until)
        return placed if self.windows is None else among(placed, self.windows)

    def _sessions(self, rows: pl.DataFrame, session: Session) -> pl.DataFrame:
        """The sessions that rows at hand make by themselves."""
        timed = rows.drop_nulls(TIME).select(*session.by, pl.col(TIME).alias(START), pl.col(TIME).alias(END))
        return merged_sessions(timed, session).with_columns(pl.col(END) + session.gap)

    def _near(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows within the ranges' bounds."""
        if not self.ranges:
            return rows
        return rows.filter(pl.col(TIME).is_between(self.ranges[0][0], self.ranges[-1][1]))


def late_in_all(rows: pl.DataFrame, window: Grid, passed: int | None) -> pl.Series:
    """For each row whether the watermark had passed all of its windows by the lateness. Rows without a time are not late."""
    if passed is None:
        return pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True)
    last = _last_end(window)
    return rows.select((last + window.lateness <= passed).fill_null(False)).to_series()


def _last_end(window: Grid) -> pl.Expr:
    """The end of the last window that TIME is in."""
    match window:
        case Tumble(_, size, _, offset) | Cumulate(_, _, size, _, offset):
            return _floor(size, offset) + size
        case Hop(_, size, slide, _, offset):
            return _floor(slide, offset) + size
        case _:
            assert_never(window)
