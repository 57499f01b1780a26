"""Which files and row groups may hold moments of given ranges."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.manifest import DataFile

from lakeflow.declare import PartitionField
from lakeflow.errors import SchemaMismatch, UnknownName
from lakeflow.lake.catalog import Lake
from lakeflow.lake.time_bounds import HOUR, TimeBounds, overlaps, require_time
from lakeflow.lake.write import DataWriter
from tests.lakes import made, open_lake, path_of, written

ROWS = pa.schema([("at", pa.timestamp("us", "UTC")), ("x", pa.int64())])
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return open_lake(tmp_path)


def rows(*hours: float | None) -> pa.Table:
    times = [None if hour is None else EPOCH + timedelta(hours=hour) for hour in hours]
    return pa.table({"at": times, "x": list(range(len(hours)))}, schema=ROWS)


def without_bounds(data_file: DataFile) -> DataFile:
    for bounds in (data_file.lower_bounds, data_file.upper_bounds):
        bounds.clear()
    return data_file


@pytest.mark.parametrize(
    ("span", "ranges", "meets"),
    [
        ((0, 5), [(5, 6)], True),
        ((0, 5), [(6, 7)], False),
        ((6, 9), [(0, 6)], False),
        ((5, 9), [(0, 6)], True),
        ((7, 7), [(0, 5), (6, 8)], True),
        ((5, 5), [(0, 5), (6, 8)], False),
        ((0, 100), [(40, 41), (50, 51)], True),
        ((0, 1), [], False),
    ],
)
def test_a_span_meets_a_range_that_shares_a_moment(
    span: tuple[int, int], ranges: Sequence[tuple[int, int]], meets: bool
) -> None:
    assert overlaps(span, ranges) is meets


def test_a_file_holds_moments_between_its_bounds(lake: Lake) -> None:
    table = made(lake, ROWS)
    [data_file] = written(table, rows(3, 1, None))
    bounds = TimeBounds(table, "at")
    assert bounds.span(data_file) == (HOUR, 3 * HOUR)
    assert bounds.may_hold(data_file, [(0, HOUR), (2 * HOUR, 2 * HOUR + 1)])
    assert not bounds.may_hold(data_file, [(0, HOUR), (3 * HOUR + 1, 9 * HOUR)])


def test_a_file_without_any_moment_holds_none_and_one_without_bounds_may_hold_all(lake: Lake) -> None:
    table = made(lake, ROWS)
    bounds = TimeBounds(table, "at")
    [empty], [unknown] = written(table, rows(None, None)), written(table, rows(1))
    assert not bounds.may_hold(empty, [(0, 1 << 60)])
    assert bounds.span(without_bounds(unknown)) is None
    assert bounds.may_hold(unknown, [(0, 1)])
    assert not bounds.may_hold(unknown, [])


@pytest.mark.parametrize(("transform", "hours"), [("day", (24, 48)), ("hour", (30, 31))])
def test_a_partition_tells_where_bounds_do_not(lake: Lake, transform: str, hours: tuple[int, int]) -> None:
    table = made(lake, ROWS, [PartitionField("at", transform)])
    [data_file] = written(table, rows(30.5))
    low, high = hours
    assert TimeBounds(table, "at").span(without_bounds(data_file)) == (low * HOUR, high * HOUR - 1)


def test_row_groups_are_told_apart_by_the_footer(lake: Lake) -> None:
    table = made(lake, ROWS)
    writer = DataWriter(table, buffer_bytes=1)
    for hour in (1, 5, 9):
        writer.write(rows(hour, hour + 1))
    [data_file] = writer.finish()
    with pq.ParquetFile(path_of(data_file)) as file:
        bounds = TimeBounds(table, "at")
        assert bounds.row_groups(file, [(5 * HOUR, 6 * HOUR)]) == (1,)
        assert bounds.row_groups(file, [(2 * HOUR, 3 * HOUR), (10 * HOUR, 11 * HOUR)]) == (0, 2)


def test_windows_are_of_a_column_of_time(lake: Lake) -> None:
    table = made(lake, ROWS)
    assert require_time(table, "at").type == pa.timestamp("us", "UTC")
    with pytest.raises(SchemaMismatch, match=r"column 'x' of table bronze\.flights is int64"):
        require_time(table, "x")
    with pytest.raises(UnknownName, match=r"column of bronze\.flights 'when'"):
        require_time(table, "when")
