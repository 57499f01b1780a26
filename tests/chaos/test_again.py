"""Processes that make a job anew and are killed: readers see the old rows or the new ones, and no chunk is done twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.lake.branch import head_of
from lakeflow.lake.catalog import Lake
from lakeflow.runner.backfill_ledger import Done
from lakeflow.runner.project import Project
from tests import lakes
from tests.integration.commands import Commands, project

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")]
DAYS = 8
SETTINGS = """
[run]
max_files = 1
"""
JOB = """
import time
import lakeflow as lf
import polars as pl


@lf.job(target="gold.late")
def late(rows=lf.Read("bronze.flights")):
    time.sleep({seconds})
    return rows.with_columns(pl.lit({version}).alias("version"))
"""
ROWS = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us"))])


@pytest.fixture
def made(tmp_path: Path) -> Commands:
    """A file of two rows a day; the job has read all of them, and has been changed since."""
    commands = project(tmp_path / "shop", SETTINGS, "", JOB.format(seconds=0, version=1))
    lake = lake_of(commands)
    lake.ensure(TableSpec("bronze.flights", ROWS))
    for day in range(DAYS):
        times = [datetime(2013, 1, 1 + day) + timedelta(hours=hour) for hour in (1, 13)]
        lakes.append(lake, pa.table({"id": [day, 100 + day], "at": times}, schema=ROWS), name="bronze.flights")
    Project.open(commands.folder, environ={}).run("late")
    (commands.folder / "jobs" / "jobs.py").write_text(JOB.format(seconds=0.3, version=2), encoding="utf-8")
    return commands


def lake_of(commands: Commands) -> Lake:
    return Project.open(commands.folder, environ={}).lake


def versions(lake: Lake) -> Counter[int]:
    return Counter(lake.table("gold.late").scan().to_arrow().column("version").to_pylist())


def wait_until(holds: Callable[[], bool], *processes: subprocess.Popen[str]) -> None:
    """Wait for a state, for as long as the processes that are to bring it run."""
    while not holds():
        if any(process.poll() is not None for process in processes):
            assert holds(), [process.communicate() for process in processes]
            return
        time.sleep(0.05)


def end(process: subprocess.Popen[str]) -> None:
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, (out, err)


def test_two_processes_share_a_backfill_of_which_one_is_killed(made: Commands) -> None:
    asked = ("run", "late", "--from", "2013-01-02", "--to", "2013-01-08", "--chunk", "1d")
    lake, commits = lake_of(made), Project.open(made.folder, environ={}).commits

    def done() -> int:
        return Done.loads(commits.progress("gold.late", "backfill.late")).count

    first = made.start(*asked)
    wait_until(lambda: done() >= 1, first)
    second = made.start(*asked)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    end(second)
    assert versions(lake) == {1: 4, 2: 12}
    facts = [one.summary.additional_properties for one in lake.table("gold.late").metadata.snapshots if one.summary]
    chunks = [(one["lakeflow.backfill"], one["lakeflow.backfill-chunk"]) for one in facts if "lakeflow.backfill" in one]
    assert sorted(chunks) == [("1", f"{chunk} of 6") for chunk in range(1, 7)]


def test_readers_of_a_refresh_that_is_killed_see_the_old_rows_or_the_new(made: Commands) -> None:
    lake, seen = lake_of(made), [1]

    def look() -> None:
        counted = versions(lake)
        assert len(counted) == 1, counted
        [(version, rows)] = counted.items()
        assert rows == 2 * DAYS
        assert version >= seen[-1]
        seen.append(version)

    def has_begun() -> bool:
        look()
        return head_of(lake.table("gold.late"), "lakeflow_refresh_late") is not None

    first = made.start("run", "late", "--full-refresh")
    wait_until(has_begun, first)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert set(seen) == {1}
    second = made.start("run", "late", "--full-refresh")
    while second.poll() is None:
        look()
    end(second)
    look()
    assert set(seen) == {1, 2}
    assert "lakeflow_refresh_late" not in lake.table("gold.late").metadata.refs
