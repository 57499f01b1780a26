"""What a step of a job by windows has to read: the event times of its new files say which windows they touch and how far the
watermark comes, and the bounds of all files which of them may hold rows of those windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

import polars as pl

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError
from lakeflow.job import Mode
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.changes import read_removed
from lakeflow.lake.read import Split, read, splits_at
from lakeflow.lake.schema import require_columns
from lakeflow.lake.time_bounds import TimeBounds, require_time
from lakeflow.progress import JobProgress
from lakeflow.runner.window_frames import frame_of, view_schema
from lakeflow.runner.window_sessions import Sessions
from lakeflow.runner.windows import END, START, TIME, Grid, Range, View, Watermarks, in_windows, late_in_all, moments, ranges_of
from lakeflow.window import Emit, Late, Session, Windowed

if TYPE_CHECKING:
    from lakeflow.runner.plan import JobPlan, Source, Step

STATE: Final = "windows"
"""Under which name a job's progress keeps its watermarks."""
ALWAYS: Final = -(1 << 62)
"""Before every moment that there is."""
_PARTITION: Final = "__partition"
WINDOWS_AT_ONCE: Final = 64 * 1024
"""Windows that wait to be held against those that are known."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """What came with a step: its new rows, of which `late` came too late for all of their windows and `untimed` have no time.

    `windows` are those whose rows in the target go (START, END; a session's key before them; None: of none or all). `letters`
    are the splits whose late rows become dead letters, with the watermark that they met.
    """

    rows: int
    late: int = 0
    untimed: int = 0
    windows: pl.DataFrame | None = None
    letters: tuple[tuple[Split, int | None], ...] = ()
    is_empty: bool = False


def arrived(plan: JobPlan, step: Step, progress: str | None, declared: Mapping[str, TableSpec]) -> Step:
    """The step with what it reads in place of what is new, and with its watermarks in the progress that it ends with.

    Raises UnknownName and SchemaMismatch for columns that windows cannot be of, JobFailed as `view_schema` does.
    """
    windowed = plan.job.windowed
    assert windowed is not None, "the caller looked"
    if len(step.reads) != 1:
        read_tables = ", ".join(source.name for source in step.reads)
        raise DeclarationError(
            f"{plan.job.origin}: job {plan.job.name!r} works by windows and reads {read_tables}; make all but one an lf.Lookup"
        )
    [source] = step.reads
    table, window = source.table, windowed.window
    require_time(table, window.column)
    if isinstance(window, Session):
        require_columns(window.by, arrow_schema(table), source.name)
    view_schema(table, View(window))
    end = JobProgress.loads(step.end, source.name)
    if isinstance(window, Session):
        view, splits, came = _of_sessions(plan, source, window, end)
    else:
        marks = Watermarks() if plan.mode is Mode.SNAPSHOT else _watermarks(progress, source.name)
        news = _News(source, windowed, window, declared.get(source.name), marks)
        news.read(needs_windows=plan.mode is Mode.INCREMENTAL and windowed.emit is Emit.UPDATE)
        if windowed.waits:
            position = end.of(source.name)
            assert position is not None, "a step ends somewhere"
            news.settle(whole=position.path is None)
            end = replace(end, state={**end.state, STATE: news.marks.state()})
        view, splits, came = _of_grid(plan, source, news, end)
    return replace(step, reads=(replace(source, splits=splits, view=view),), end=end.dumps(), arrived=came)


def _watermarks(progress: str | None, table: str) -> Watermarks:
    return Watermarks.of_state(JobProgress.loads(progress, table).state.get(STATE))


@dataclass(slots=True)
class _News:
    """The event times of a step's new files. `marks` are the watermarks, first as the step starts."""

    source: Source
    windowed: Windowed
    window: Grid
    declared: TableSpec | None
    marks: Watermarks
    before: dict[int, int | None] = field(default_factory=dict)
    start: int | None = None
    late: int = 0
    untimed: int = 0
    letters: list[tuple[Split, int | None]] = field(default_factory=list)
    windows: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema={START: pl.Int64, END: pl.Int64}))
    waiting: list[pl.DataFrame] = field(default_factory=list)

    @property
    def delay(self) -> int:
        """In microseconds: the job's own, or that of the table's WATERMARK for this column."""
        if self.windowed.delay is not None:
            return self.windowed.delay
        said = self.declared.watermark if self.declared else None
        if said is None or said.column != self.window.column:
            return 0
        return round(said.delay.total_seconds() * 1_000_000)

    @property
    def partition(self) -> tuple[str, ...]:
        """The columns with the partition of the topic, where the table has one, and the topic."""
        there = arrow_schema(self.source.table).names
        known = self.declared.metadata if self.declared else ()
        found = {one.key: one.column.name for one in known if one.column.name in there}
        return tuple(found[key] for key in ("topic", "partition") if key in found) if "partition" in found else ()

    def read(self, needs_windows: bool) -> None:
        """Read the event times, and of a table with partitions those too, a row group at a time."""
        self.start = self.marks.value
        if not (needs_windows or self.windowed.waits):
            return
        for split in self.source.splits:
            if self.windowed.waits:
                self.marks = self.marks.at(split.sequence, self.delay, self.windowed.idle)
                self.before[split.sequence] = self.marks.value
            self._read(split, needs_windows)
        for batch in read_removed(self.source.table, self.source.removed, [self.window.column]):
            self._touch(frame_of(batch).select(moments(self.window.column).alias(TIME)), None)
        self._gather()

    def settle(self, whole: bool) -> None:
        """The end of the step; `whole` where it is the end of a commit."""
        if whole:
            self.marks = self.marks.settled(self.delay, self.windowed.idle)

    def _read(self, split: Split, needs_windows: bool) -> None:
        passed, left = self.before.get(split.sequence), self.late + self.untimed
        columns = self.partition if self.windowed.waits else ()
        parts = [pl.col(name).cast(pl.String).fill_null("") for name in columns] or [pl.lit("")]
        part = pl.concat_str(parts, separator="/")
        for batch in read(self.source.table, [split], [self.window.column, *columns]):
            rows = frame_of(batch).select(moments(self.window.column).alias(TIME), part.alias(_PARTITION))
            self.untimed += rows[TIME].null_count()
            if self.windowed.waits:
                self.late += int(late_in_all(rows, self.window, passed).sum())
                greatest = rows.drop_nulls(TIME).group_by(_PARTITION).agg(pl.col(TIME).max())
                self.marks = self.marks.saw({str(part): int(time) for part, time in greatest.rows()})
            if needs_windows:
                self._touch(rows, passed)
        if self.windowed.late is Late.DEAD_LETTER and self.late + self.untimed > left:
            self.letters.append((split, passed))

    def _touch(self, rows: pl.DataFrame, passed: int | None) -> None:
        """The windows of rows are to be made anew, but those that the watermark `passed` by the lateness."""
        found = in_windows(rows.select(pl.col(TIME).unique()), self.window).select(START, END).unique()
        if passed is not None:
            found = found.filter(pl.col(END) + self.window.lateness > passed)
        self.waiting.append(found)
        if sum(one.height for one in self.waiting) > max(WINDOWS_AT_ONCE, self.windows.height):
            self._gather()

    def _gather(self) -> None:
        self.windows = pl.concat([self.windows, *self.waiting]).unique()
        self.waiting.clear()


def _of_grid(plan: JobPlan, source: Source, news: _News, end: JobProgress) -> tuple[View, tuple[Split, ...], Arrived]:
    windowed, window = news.windowed, news.window
    came = Arrived(source.rows, news.late, news.untimed, letters=tuple(news.letters))
    if windowed.emit is Emit.APPEND:
        until = ALWAYS if news.marks.value is None else news.marks.value - window.lateness
        after = None if news.start is None else news.start - window.lateness
        view = View(window, None, after, until, news.before)
        since = ALWAYS if after is None else after
        ranges: tuple[Range, ...] = ((max(ALWAYS, since - window.size), until),) if until > since else ()
    elif plan.mode is Mode.SNAPSHOT:
        return View(window, before=news.before), source.splits, came
    else:
        view = View(window, news.windows, before=news.before)
        ranges = ranges_of(news.windows)
        came = replace(came, windows=news.windows)
    splits = tuple(_held(source.table, _known(plan, source, end), view, ranges))
    return replace(view, ranges=ranges), splits, replace(came, is_empty=not splits)


def _known(plan: JobPlan, source: Source, end: JobProgress) -> tuple[Split, ...]:
    """All files that have been read once the step is done, as of its end, in the order of their commits."""
    if plan.mode is Mode.SNAPSHOT:
        return source.splits
    position = end.of(source.name)
    assert position is not None, "a step ends somewhere"
    snapshot = source.table.snapshot_by_id(position.snapshot_id)
    return tuple(split for split in splits_at(source.table, snapshot) if position.covers(split.sequence, split.path))


def _held(table: Table, splits: Sequence[Split], view: View, ranges: Sequence[tuple[int, int]]) -> Iterator[Split]:
    bounds = TimeBounds(table, view.window.column)
    return (split for split in splits if bounds.may_hold(split.task.file, ranges))


def _of_sessions(plan: JobPlan, source: Source, window: Session, end: JobProgress) -> tuple[View, tuple[Split, ...], Arrived]:
    """The sessions that the new rows are in, as all rows of their keys make them, and those that they were before."""
    known, new = _known(plan, source, end), {split.path for split in source.splits}
    sessions = Sessions(source.table, window)
    untimed = sessions.begin(source.splits)
    if plan.mode is Mode.INCREMENTAL:
        sessions.grow([split for split in known if split.path not in new])
    found = sessions.found()
    ranges = ranges_of(found)
    view = View(window, found, ranges=ranges)
    splits = tuple(_held(source.table, known, view, ranges))
    gone = sessions.before() if plan.mode is Mode.INCREMENTAL else None
    return view, splits, Arrived(source.rows, 0, untimed, gone, is_empty=not splits)
