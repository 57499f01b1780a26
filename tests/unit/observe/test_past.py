"""The newest runs out of files, the last one first, and no more files than needed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakeflow.config import settings_of
from lakeflow.errors import UsageError
from lakeflow.lake.catalog import Lake
from lakeflow.lake.commit import Committer
from lakeflow.observe.past import Row, last_runs, newest, recent_runs
from lakeflow.observe.runs import RUNS, Run, RunLog
from tests import lakes

BEGIN = datetime(2013, 1, 1, tzinfo=UTC)


def row(minute: int, name: str = "a") -> Row:
    return {"name": name, "ended_at": BEGIN + timedelta(minutes=minute)}


def minutes(rows: list[Row]) -> list[int]:
    return [int((one["ended_at"] - BEGIN).total_seconds()) // 60 for one in rows]


def test_newest_stops_at_the_file_that_fills_it() -> None:
    read: list[int] = []

    def files() -> Iterator[list[Row]]:
        for number, rows in enumerate([[row(9)], [row(7), row(8)], [row(6)], [row(5)]]):
            read.append(number)
            yield rows

    assert minutes(newest(files(), 2, lambda one: True)) == [9, 8]
    assert read == [0, 1]


def test_newest_keeps_only_what_is_wanted() -> None:
    files = [[row(3, "b")], [row(2), row(1, "b")], [row(0)]]
    assert minutes(newest(files, 5, lambda one: bool(one["name"] == "b"))) == [3, 1]
    assert newest([], 5, lambda one: True) == []


def test_runs_that_ended_at_once_do_not_compare_rows() -> None:
    assert minutes(newest([[row(1), row(1), row(1)]], 2, lambda one: True)) == [1, 1]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return lakes.open_lake(tmp_path)


def record(lake: Lake, tmp_path: Path, name: str, *, fails: bool = False) -> None:
    log = RunLog(lake, Committer(lake), settings_of({}, tmp_path, None, {}))
    try:
        with log.recorded(Run("job", name, "a.b", "incremental")):
            if fails:
                raise UsageError("on purpose")
    except UsageError:
        assert fails


def test_recent_runs_of_a_lake(lake: Lake, tmp_path: Path) -> None:
    assert recent_runs(lake, last=5) == []
    for name, fails in (("a", False), ("b", True), ("a", True), ("c", False)):
        record(lake, tmp_path, name, fails=fails)
    assert [run["name"] for run in recent_runs(lake, last=3)] == ["c", "a", "b"]
    assert [run["name"] for run in recent_runs(lake, last=5, failed=True)] == ["a", "b"]
    assert [run["status"] for run in recent_runs(lake, last=5, name="a")] == ["failed", "done"]
    found = last_runs(lake, ["a", "b", "never"])
    assert {name: run["status"] for name, run in found.items()} == {"a": "failed", "b": "failed"}


def test_runs_are_a_table_like_any_other(lake: Lake, tmp_path: Path) -> None:
    record(lake, tmp_path, "a")
    assert lakes.query(lake.table(RUNS), "SELECT name, kind, status FROM rows") == [("a", "job", "done")]
