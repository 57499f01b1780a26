"""A step of a job by windows: its rows take the place of what the target holds of the windows that the step touched, or are
added once those are complete, in one commit with the progress.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import polars as pl
import pyarrow as pa

from lakeflow.job import Output
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.commit import Change
from lakeflow.lake.on_base import land
from lakeflow.lake.read import read
from lakeflow.lake.replace import GroupReplacement
from lakeflow.models.lost import LostRow, row_text
from lakeflow.runner.execute import RunCounts
from lakeflow.runner.letters import PartLetters
from lakeflow.runner.window_frames import frame_of
from lakeflow.runner.window_read import Arrived
from lakeflow.runner.window_rows import not_a_window, rows_outside
from lakeflow.runner.windows import END, START, TIME, Grid, late_in_all, moments
from lakeflow.window import LATE, UNTIMED, Late, Session, Windowed

if TYPE_CHECKING:
    from lakeflow.runner.execute import _Work

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TooLate:
    """Why a row is in no window."""

    kind: str
    message: str


def window_step(work: _Work) -> tuple[int, RunCounts]:
    """Carry out a step whose `arrived` is set; the snapshot that it made, and what it counts."""
    came, windowed = work.step.arrived, work.plan.job.windowed
    assert came is not None, "the caller looked"
    assert windowed is not None, "the caller looked"
    if work.plan.compiled is not None:
        windowed = windowed.named(work.plan.compiled.columns.names, work.body.schema(work.step.reads).names)
    work.body.prepare()
    lost = work.letters.part()
    try:
        _leave_late(work, came, windowed, lost)
        if work.plan.output is Output.UPDATE:
            return _replace(work, came, windowed, lost)
        return _add(work, came, lost)
    except BaseException:
        lost.abort()
        raise


def _add(work: _Work, came: Arrived, lost: PartLetters) -> tuple[int, RunCounts]:
    """Add windows that are complete; or replace all there is, by all windows."""
    writer = work.writer()
    try:
        for chunk in _chunks(work, came, lost):
            writer.write(chunk)
        counts = _counted(work, came, writer.rows, lost)
        files = writer.finish()
        work.letters.land(lost.finish())
    except BaseException:
        writer.abort()
        raise
    replaces = work.plan.output is Output.COMPLETE
    return work.commit(Change(work.plan.target, files, replace_all=replaces, summary=_summary(counts, came))), counts


def _replace(work: _Work, came: Arrived, windowed: Windowed, lost: PartLetters) -> tuple[int, RunCounts]:
    """Replace windows. Where another writer's commit comes first, the same rows are put into what it left."""
    assert came.windows is not None, "an update is of windows"
    replacement = GroupReplacement(work.target, windowed.columns.all, work.runtime.spool)
    try:
        if not came.windows.is_empty():
            replacement.replace(_groups(work, came.windows, windowed))
        for chunk in _chunks(work, came, lost):
            replacement.write(_checked(work, chunk, came.windows, windowed))
        counts = _counted(work, came, replacement.rows, lost)
        work.letters.land(lost.finish())
        snapshot, _ = land(replacement, work.target, work.writer, work.commit, _summary(counts, came))
        return snapshot, counts
    finally:
        replacement.close()


def _chunks(work: _Work, came: Arrived, lost: PartLetters) -> Iterator[pa.Table]:
    if not came.is_empty:
        yield from work.chunks(work.step.reads, lost)


def _counted(work: _Work, came: Arrived, written: int, lost: PartLetters) -> RunCounts:
    kept = work.plan.job.windowed is not None and work.plan.job.windowed.late is Late.DEAD_LETTER
    return RunCounts(came.rows, written, lost.dead_lettered, lost.skipped + (0 if kept else came.late + came.untimed))


def _summary(counts: RunCounts, came: Arrived) -> Mapping[str, str]:
    return {**counts.summary(), "lakeflow.rows-late": str(came.late), "lakeflow.rows-untimed": str(came.untimed)}


def _groups(work: _Work, windows: pl.DataFrame, windowed: Windowed) -> pa.Table:
    """Windows as values of the target's columns."""
    [source] = work.step.reads
    zone = arrow_schema(source.table).field(windowed.window.column).type.tz
    time, columns = pl.Datetime("us", "UTC" if zone else None), windowed.columns
    named = windows.select(
        *(pl.col(own).alias(name) for own, name in zip(windowed.by, columns.by, strict=True)),
        pl.col(START).cast(time).alias(columns.start),
        pl.col(END).cast(time).alias(columns.end),
    )
    return named.to_arrow()


def _checked(work: _Work, rows: pa.Table, windows: pl.DataFrame, windowed: Windowed) -> pa.Table:
    """Rows of the step's windows. Raises JobFailed for others."""
    others = rows_outside(rows, windows, windowed)
    if others.num_rows:
        [other] = others.select(list(windowed.columns.all)).slice(0, 1).to_pylist()
        raise not_a_window(work.plan.job, f"a row of it is of another: {other}")
    return rows


def _leave_late(work: _Work, came: Arrived, windowed: Windowed, lost: PartLetters) -> None:
    """New rows that come too late, and those without a time, become dead letters."""
    if not came.letters or isinstance(windowed.window, Session):
        return
    window: Grid = windowed.window
    [source] = work.step.reads
    for split, passed in came.letters:
        for batch in read(source.table, [split]):
            rows = frame_of(batch)
            timed = rows.select(moments(window.column).alias(TIME))
            late = late_in_all(timed, window, passed)
            said = f"the watermark, at {_moment(passed)}, had passed the row's windows by the lateness as it came"
            _leave(rows.filter(late), TooLate(LATE, said), lost)
            untimed = TooLate(UNTIMED, f"the row has no {window.column}, and so is in no window")
            _leave(rows.filter(timed[TIME].is_null()), untimed, lost)


def _moment(passed: int | None) -> str:
    return "nowhere" if passed is None else f"{EPOCH + timedelta(microseconds=passed)}"


def _leave(rows: pl.DataFrame, why: TooLate, lost: PartLetters) -> None:
    texts = [row_text(row) for row in rows.iter_rows(named=True)]
    keys = [hashlib.sha256(why.kind.encode() + text).digest() for text in texts]
    held = lost.held(keys)
    left = [LostRow(None, key, text, why) for key, text, there in zip(keys, texts, held, strict=True) if not there]
    if left:
        lost.keep(left)
