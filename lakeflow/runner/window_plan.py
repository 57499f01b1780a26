"""What a run of a job by windows would touch, told by the bounds of files alone: no row is read for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import assert_never

import polars as pl

from lakeflow.job import Mode
from lakeflow.lake.read import Split, snapshot_at, splits_at
from lakeflow.lake.time_bounds import Range, TimeBounds
from lakeflow.runner.plan import JobPlan
from lakeflow.runner.windows import END, START, TIME, Grid, in_windows, ranges_of
from lakeflow.window import Cumulate, Emit, Hop, Session, Tumble, Window


@dataclass(frozen=True, slots=True)
class WindowsTouched:
    """The windows that a run touches and the files that it reads for them, as many at the most. None: nothing tells.

    Files are read once a step that touches windows of theirs; here each counts once.
    """

    windows: int | None
    files: int | None
    bytes: int | None


def windows_touched(plan: JobPlan) -> WindowsTouched | None:
    """For an incremental run of a job by windows; None for any other. Raises as `require_time` does."""
    windowed = plan.job.windowed
    if windowed is None or plan.mode is not Mode.INCREMENTAL:
        return None
    sources = [step.reads[0] for step in plan.steps]
    if not sources:
        return WindowsTouched(0, 0, 0)
    table, window = sources[0].table, windowed.window
    bounds = TimeBounds(table, window.column)
    spans = [bounds.span(split.task.file) for source in sources for split in source.splits]
    known = [span for span in spans if span is not None]
    if len(known) < len(spans) or windowed.emit is Emit.APPEND:
        return WindowsTouched(None, None, None)
    ranges = _ranges(known, window)
    read = [split for split in splits_at(table, snapshot_at(table)) if bounds.may_hold(split.task.file, ranges)]
    windows = None if isinstance(window, Session) else sum(_count(end - start, window) for start, end in ranges)
    return WindowsTouched(windows, *_size(read))


def _size(splits: Sequence[Split]) -> tuple[int, int]:
    return len(splits), sum(split.bytes for split in splits)


def _merged(spans: Sequence[Range]) -> tuple[Range, ...]:
    """Spans, their last moment included, put together where they meet."""
    return tuple((low, high - 1) for low, high in ranges_of(_frame([(low, high + 1) for low, high in spans])))


def _ranges(spans: Sequence[Range], window: Window) -> tuple[Range, ...]:
    """The time that the windows over spans take."""
    if isinstance(window, Session):
        return ranges_of(_frame([(low, high + 1) for low, high in spans]), around=window.gap + 1)
    return ranges_of(_frame([_reach(low, high, window) for low, high in _merged(spans)]))


def _frame(ranges: Sequence[Range]) -> pl.DataFrame:
    return pl.DataFrame(ranges, schema={START: pl.Int64, END: pl.Int64}, orient="row")


def _reach(low: int, high: int, window: Grid) -> Range:
    """From the start of the first window that meets the span to the end of the last."""
    placed = in_windows(pl.DataFrame({TIME: [low, high]}), window)
    return min(placed[START].to_list()), max(placed[END].to_list())


def _count(length: int, window: Grid) -> int:
    """The windows in a time that begins and ends with one."""
    match window:
        case Tumble():
            return length // window.size
        case Hop():
            return (length - window.size) // window.slide + 1
        case Cumulate():
            return length // window.size * (window.size // window.step)
        case _:
            assert_never(window)
