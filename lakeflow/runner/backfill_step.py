"""One chunk of a backfill as a step of its job: what is read for it, and how its rows land. One commit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, assert_never

import polars as pl
import pyarrow as pa

from lakeflow.errors import JobFailed
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.history import check_readable_from
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.ranges import RangeReplacement, ValueRange, count_within, read_within, splits_within
from lakeflow.lake.read import Split, read, snapshot_at, splits_at
from lakeflow.lake.schema import fit
from lakeflow.lake.time_bounds import TimeBounds, require_time
from lakeflow.lake.touch import Touching, frame
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.backfill_landing import ByKey, ByWindow, InRange, Landing
from lakeflow.runner.backfill_range import Range
from lakeflow.runner.by_step import put_keys
from lakeflow.runner.execute import RunCounts
from lakeflow.runner.plan import Source
from lakeflow.runner.window_frames import frame_of, view_schema
from lakeflow.runner.window_read import Arrived
from lakeflow.runner.window_step import window_step
from lakeflow.runner.windows import END, START, TIME, View, in_windows, moments, ranges_of
from lakeflow.window import Session

if TYPE_CHECKING:
    from lakeflow.runner.execute import _Work

WINDOWS_AT_ONCE = 64 * 1024


def read_so_far(table: Table, position: SnapshotPosition) -> tuple[Split, ...]:
    """The files that a job at `position` has read, as far as the table still has their rows, in the order of their commits.

    Raises SourceChanged where that can no longer be told.
    """
    snapshot = table.snapshot_by_id(position.snapshot_id)
    if snapshot is None or position.table_uuid != str(table.metadata.table_uuid):
        check_readable_from(table.metadata, position, ".".join(table.name()))
        snapshot = table.current_snapshot()
    return tuple(split for split in splits_at(table, snapshot) if position.covers(split.sequence, split.path))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a range: all in `splits` that are `within` it, None: all of them."""

    table: Table
    splits: tuple[Split, ...]
    within: ValueRange | None

    def read(self, columns: list[str]) -> Iterator[pa.RecordBatch]:
        """These columns of them, in their order."""
        if self.within is None:
            return read(self.table, self.splits, columns)
        return read_within(self.table, self.splits, self.within, columns)

    @property
    def count(self) -> int:
        if self.within is None:
            return sum(split.rows for split in self.splits)
        return count_within(self.table, self.splits, self.within)


def rows_of(table: Table, known: tuple[Split, ...], within: Range) -> Rows:
    """The rows of a range among those that the job has read. Raises UnknownName where the snapshot of commits has expired."""
    if isinstance(within, ValueRange):
        return Rows(table, splits_within(table, known, within), within)
    there = splits_at(table, snapshot_at(table, snapshot_id=within.snapshot_id))
    return Rows(table, tuple(split for split in there if within.after < split.sequence <= within.upto), None)


def backfill_step(work: _Work, known: tuple[Split, ...], within: Range, landing: Landing) -> tuple[int, RunCounts]:
    """Carry a chunk out: its snapshot, and its counts. The one source of the step is made of `known`.

    Raises JobFailed where the job gives rows of another range, key or window, and what commits raise.
    """
    [source] = work.step.reads
    rows = rows_of(source.table, known, within)
    match landing:
        case InRange():
            return _in_range(work, source, rows, landing.of(within))
        case ByKey(columns):
            return _by_key(work, source, known, rows, columns)
        case ByWindow():
            return _by_window(work, source, known, rows)
        case _:
            assert_never(landing)


def _in_range(work: _Work, source: Source, rows: Rows, into: ValueRange) -> tuple[int, RunCounts]:
    replacement, lost = RangeReplacement(work.target, into, work.runtime.spool), work.letters.part()
    reads = (replace(source, splits=rows.splits, within=rows.within),)
    work.body.prepare()
    with closing(replacement):
        try:
            for chunk in work.chunks(reads, lost):
                replacement.write(_checked(work, chunk, into))
            counts = RunCounts(rows.count, replacement.rows, lost.dead_lettered, lost.skipped)
            work.letters.land(lost.finish())
            snapshot, _ = land(replacement, work.target, work.writer, work.commit, counts.summary())
        except BaseException:
            lost.abort()
            raise
        return snapshot, counts


def _checked(work: _Work, chunk: pa.Table, into: ValueRange) -> pa.Table:
    """The rows as the target has them. Raises JobFailed for one that is not in the range."""
    rows = fit(chunk, arrow_schema(work.target), work.plan.target)
    column = frame(rows.select([into.column]))
    others = column.filter(~into.rows())
    if not others.is_empty():
        raise JobFailed(
            f"job {work.plan.job.name!r} ({work.plan.job.origin}) is given rows of a range of {into.column}, and gave one with "
            f"{into.column} = {others.item(0, 0)}, which is not in it",
            left_behind=f"{work.plan.target}, as of the last chunk that was committed",
            next_step=f"pass {into.column} on unchanged, or lakeflow run {work.plan.job.name} --full-refresh",
        )
    return rows


def _by_key(
    work: _Work, source: Source, known: tuple[Split, ...], rows: Rows, columns: tuple[str, ...]
) -> tuple[int, RunCounts]:
    """All rows of the keys that rows of the range have, whenever they came: the last of a key may be outside of it."""
    found = [frame(arrow_schema(source.table).empty_table().select(list(columns)))]
    for batch in rows.read(list(columns)):
        found.append(frame(pa.Table.from_batches([batch])).unique())
    keys = pl.concat(found).unique()
    merges = not work.plan.job.by
    keys = keys.drop_nulls() if merges else keys
    touching = Touching(source.table, columns, keys, nulls_equal=True)
    held = tuple(touched.split for touched in touching.among(known)) if not keys.is_empty() else ()
    source = replace(source, splits=held, keys=keys)
    snapshot, counts = _merge(work, source, columns) if merges else put_keys(work, source)
    return snapshot, replace(counts, read=rows.count)


def _merge(work: _Work, source: Source, columns: tuple[str, ...]) -> tuple[int, RunCounts]:
    """What the job makes of whole keys replaces the rows of these keys; a key of which it makes none goes."""
    job, keys = work.plan.job, source.keys
    assert keys is not None, "a source of keys"
    into = arrow_schema(work.target)
    schema = pa.schema([into.field(column).with_nullable(True) for column in job.key])
    named = keys.to_arrow().rename_columns(list(job.key))
    given = fit(named, schema, work.plan.target)
    merge, lost = KeyedMerge(work.target, job.key, work.runtime.spool), work.letters.part()
    work.body.prepare()
    with closing(merge):
        try:
            merge.delete(given)
            for chunk in work.chunks((source,), lost) if not keys.is_empty() else ():
                merge.write(_of_keys(work, fit(chunk, into, work.plan.target), frame(given), columns))
            counts = RunCounts(0, merge.rows, lost.dead_lettered, lost.skipped)
            work.letters.land(lost.finish())
            snapshot, _ = land(merge, work.target, work.writer, work.commit, counts.summary())
        except BaseException:
            lost.abort()
            raise
        return snapshot, counts


def _of_keys(work: _Work, rows: pa.Table, given: pl.DataFrame, columns: tuple[str, ...]) -> pa.Table:
    job = work.plan.job
    strange = frame(rows.select(list(job.key))).join(given, on=list(job.key), how="anti", nulls_equal=True)
    if not strange.is_empty():
        raise JobFailed(
            f"job {job.name!r} ({job.origin}) gave a row of a key that none of the rows has which it was given: "
            f"{strange.row(0, named=True)}",
            left_behind=f"{work.plan.target}, as of the last chunk that was committed",
            next_step=f"pass {', '.join(columns)} on unchanged, or lakeflow run {job.name} --full-refresh",
        )
    return rows


def _by_window(work: _Work, source: Source, known: tuple[Split, ...], rows: Rows) -> tuple[int, RunCounts]:
    """All rows of the windows that rows of the range are in."""
    windowed = work.plan.job.windowed
    assert windowed is not None, "the caller looked"
    window = windowed.window
    assert not isinstance(window, Session), "refused before"
    require_time(source.table, window.column)
    view_schema(source.table, View(window))
    windows = pl.DataFrame(schema={START: pl.Int64, END: pl.Int64})
    waiting: list[pl.DataFrame] = []
    for batch in rows.read([window.column]):
        times = frame_of(batch).select(moments(window.column).alias(TIME)).unique()
        waiting.append(in_windows(times, window).select(START, END).unique())
        if sum(one.height for one in waiting) > max(WINDOWS_AT_ONCE, windows.height):
            windows, waiting = pl.concat([windows, *waiting]).unique(), []
    windows = pl.concat([windows, *waiting]).unique()
    ranges, bounds = ranges_of(windows), TimeBounds(source.table, window.column)
    splits = tuple(split for split in known if bounds.may_hold(split.task.file, ranges))
    view = View(window, windows, ranges=ranges)
    came = Arrived(rows.count, windows=windows, is_empty=not splits)
    step = replace(work.step, reads=(replace(source, splits=splits, view=view),), arrived=came)
    return window_step(replace(work, step=step))
