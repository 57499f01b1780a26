"""The sessions that new rows are in: those rows may put old sessions together, and those have rows in files further away."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.read import Split, read
from lakeflow.lake.time_bounds import TimeBounds
from lakeflow.runner.frames import polars_schema
from lakeflow.runner.window_frames import frame_of
from lakeflow.runner.windows import END, START, TIME, in_sessions, merged_sessions, moments, of_keys, ranges_of
from lakeflow.window import Session

SPANS_AT_ONCE = 256 * 1024
"""Spans that wait to be put together."""
_LOW, _HIGH = "__low", "__high"


class Sessions:
    """Sessions of a table by key, found by reading its key and time columns. Memory holds those of the keys in question."""

    def __init__(self, table: Table, session: Session) -> None:
        self._table = table
        self._session = session
        self._bounds = TimeBounds(table, session.column)
        self._new = pl.DataFrame()
        self._old: pl.DataFrame | None = None

    def begin(self, splits: Sequence[Split]) -> int:
        """Take the new rows; how many of them have no time."""
        self._new, untimed = spans_in(self._table, splits, self._session)
        return untimed

    def grow(self, splits: Sequence[Split]) -> None:
        """Take of the old files what belongs to the sessions of the new rows: files are read as long as sessions reach them."""
        left = list(splits)
        while left and not self._new.is_empty():
            ranges = ranges_of(self._touched(), around=self._session.gap + 1)  # a row at the gap's end belongs to them
            near = [split for split in left if self._bounds.may_hold(split.task.file, ranges)]
            if not near:
                return
            taken = {split.path for split in near}
            left = [split for split in left if split.path not in taken]
            spans, _ = spans_in(self._table, near, self._session, self._new)
            self._old = spans if self._old is None else merged_sessions(pl.concat([self._old, spans]), self._session)

    def found(self) -> pl.DataFrame:
        """The sessions that new rows are in: key columns, START, and END, the first moment behind them."""
        return self._touched().with_columns(pl.col(END) + self._session.gap)

    def before(self) -> pl.DataFrame:
        """These sessions, and those that the target may hold in their place: what they were before the new rows."""
        found = self.found()
        if self._old is None:
            return found
        old = self._old.with_columns(pl.col(END) + self._session.gap)
        return pl.concat([found, _within(old, found, self._session)]).unique()

    def _touched(self) -> pl.DataFrame:
        """All spans put together, of which those are kept that a new one is in."""
        if self._old is None:
            return self._new
        merged = merged_sessions(pl.concat([self._new, self._old]), self._session)
        return _around(merged, self._new, self._session)


def _within(inner: pl.DataFrame, outer: pl.DataFrame, session: Session) -> pl.DataFrame:
    """The spans of `inner` that begin in one of `outer` of their key."""
    timed = inner.select(*session.by, pl.col(START).alias(TIME), pl.col(START).alias(_LOW), pl.col(END).alias(_HIGH))
    kept = in_sessions(timed, session, outer)
    return kept.select(*session.by, pl.col(_LOW).alias(START), pl.col(_HIGH).alias(END))


def _around(merged: pl.DataFrame, new: pl.DataFrame, session: Session) -> pl.DataFrame:
    """The spans of `merged` in which one of `new` begins."""
    outer = merged.with_columns(pl.col(END) + 1)
    placed = in_sessions(new.select(*session.by, pl.col(START).alias(TIME)), session, outer)
    return placed.select(*session.by, START, pl.col(END) - 1).unique()


def spans_in(
    table: Table, splits: Sequence[Split], session: Session, keys: pl.DataFrame | None = None
) -> tuple[pl.DataFrame, int]:
    """The spans of time that rows of the files take, by key (with `keys`: these alone), and how many rows have no time."""
    by = list(session.by)
    done: pl.DataFrame | None = None
    waiting: list[pl.DataFrame] = []
    untimed = count = 0
    for batch in read(table, splits, [*by, session.column]):
        rows = frame_of(batch).select(*by, moments(session.column).alias(START)).with_columns(pl.col(START).alias(END))
        untimed += rows[START].null_count()
        rows = rows.drop_nulls(START)
        waiting.append(merged_sessions(rows if keys is None else of_keys(rows, keys, by), session))
        count += waiting[-1].height
        if count > SPANS_AT_ONCE or done is None:
            done, waiting, count = merged_sessions(pl.concat([*([done] if done is not None else []), *waiting]), session), [], 0
    if done is None:
        done = _empty(table, session)
    return merged_sessions(pl.concat([done, *waiting]), session), untimed


def _empty(table: Table, session: Session) -> pl.DataFrame:
    schema = polars_schema(arrow_schema(table))
    return pl.DataFrame(schema={**{name: schema[name] for name in session.by}, START: pl.Int64, END: pl.Int64})
