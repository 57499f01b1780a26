"""What a run of a job by windows would touch, told before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.runner.window_plan import WindowsTouched, windows_touched
from tests.jobs import SOURCE, TARGET, World

ZERO = datetime(2026, 1, 1, tzinfo=UTC)


def came(world: World, *minutes: int) -> None:
    world.append(pa.table({"at": pa.array([ZERO + timedelta(minutes=one) for one in minutes], pa.timestamp("us", "UTC"))}))


def touched(world: World, window: Any, mode: str | None = None, **said: Any) -> WindowsTouched | None:
    def count(rows: Any = lf.Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.group_by("window_start", "window_end").len()
        return frame

    return windows_touched(world.plan(lf.job(target=TARGET, window=window, **said)(count), mode))


@pytest.mark.parametrize(
    ("window", "windows"),
    [
        (lf.Tumble("at", "10m"), 3),
        (lf.Tumble("at", "10m", offset="5m"), 4),
        (lf.Hop("at", "10m", "5m"), 7),
        (lf.Cumulate("at", "5m", "10m"), 6),
        (lf.Session("at", "10m"), None),
    ],
)
def test_windows_are_counted_by_the_bounds_of_the_new_files(world: World, window: Any, windows: int | None) -> None:
    came(world, 1, 27)
    came(world, 2)
    found = touched(world, window)
    assert found is not None
    assert (found.windows, found.files) == (windows, 2)
    assert found.bytes is not None
    assert found.bytes > 0


def test_a_window_that_several_files_touch_counts_once(world: World) -> None:
    came(world, 0)
    came(world, 59)
    came(world, 300)
    found = touched(world, lf.Tumble("at", "1h"))
    assert found is not None
    assert (found.windows, found.files) == (2, 3)


def test_nothing_new_touches_nothing_and_a_snapshot_is_not_asked(world: World) -> None:
    came(world, 0)
    assert touched(world, lf.Tumble("at", "1h"), "snapshot") is None
    done = lf.job(target=TARGET, window=lf.Tumble("at", "1h"))
    job = done(_same)
    world.run(job)
    assert windows_touched(world.plan(job)) == WindowsTouched(0, 0, 0)


def test_windows_that_wait_for_the_watermark_are_known_as_they_are_written(world: World) -> None:
    came(world, 0)
    assert touched(world, lf.Tumble("at", "1h"), emit="append") == WindowsTouched(None, None, None)


def _same(rows: Any = lf.Read(SOURCE)) -> pl.LazyFrame:
    frame: pl.LazyFrame = rows
    return frame
