"""Jobs by windows through the command line, in Python and in SQL: plan, run, late rows, and the two modes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import lakes
from tests.integration.cli.conftest import Shop

TABLES = """
CREATE TABLE bronze.clicks (
  at TIMESTAMP_LTZ(6), "user" STRING,
  WATERMARK FOR at AS at - INTERVAL '5' MINUTE
) PARTITIONED BY (hour(at));
"""
HOURLY = '''
import lakeflow as lf
import polars as pl

@lf.job(target="gold.hourly", window=lf.Tumble("at", "1h", lateness="10m"), late="drop")
def hourly(clicks=lf.Read("bronze.clicks")):
    """Clicks by hour and user."""
    return clicks.group_by("window_start", "window_end", "user").agg(pl.len().cast(pl.Int64).alias("clicks"))
'''
SESSIONS = """
CREATE TABLE gold.sessions AS
SELECT "user", window_start AS began, window_end AS ended, count(*) AS clicks
FROM SESSION(TABLE bronze.clicks PARTITION BY "user", DESCRIPTOR(at), INTERVAL '30' MINUTE)
GROUP BY "user", window_start, window_end;
"""
CLICKS = pa.schema([("at", pa.timestamp("us", "UTC")), ("user", pa.string())])
ZERO = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop = Shop(tmp_path, capsys)
    for folder in ("tables", "jobs"):
        (tmp_path / folder).mkdir()
    for name, text in (
        ("lakeflow.toml", '[project]\nname = "site"\n'),
        ("tables/site.sql", TABLES),
        ("jobs/hourly.py", HOURLY),
        ("jobs/sessions.sql", SESSIONS),
    ):
        shop.declare(name, text)
    return shop


def clicks(site: Shop, *rows: tuple[int, str]) -> None:
    """Append to bronze.clicks as a landing would: minutes and user."""
    project = site.project
    project.lake.ensure(project.declarations.tables["bronze.clicks"])
    given = [{"at": ZERO + timedelta(minutes=minutes), "user": user} for minutes, user in rows]
    lakes.append(project.lake, pa.Table.from_pylist(given, schema=CLICKS), name="bronze.clicks")


def rows(site: Shop, table: str, start: str) -> set[tuple[int, str, int]]:
    """The minute that each window begins in, user and clicks."""
    found = lakes.query(site.project.lake.table(table), f'SELECT epoch_us("{start}"), "user", clicks FROM rows')
    return {((at // 10**6 - int(ZERO.timestamp())) // 60, user, n) for at, user, n in found}


def by_name(found: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in found}


def test_windows_and_sessions_go_on_from_where_they_were(site: Shop) -> None:
    clicks(site, (0, "ann"), (10, "bob"), (70, "ann"))
    assert {name: one["status"] for name, one in by_name(site.json("run")).items()} == {"hourly": "done", "sessions": "done"}
    clicks(site, (59, "ann"), (95, "ann"))
    planned = by_name(site.json("plan")["jobs"])
    assert (planned["hourly"]["output"], planned["hourly"]["windows"]["windows"]) == ("update", 2)
    assert planned["hourly"]["windows"]["files"] == 4, "one file an hour and commit"
    assert planned["sessions"]["windows"]["windows"] is None
    assert "at most 2 windows, 4 files read for them" in site("plan", "hourly").out
    ran = by_name(site.json("run"))
    assert (ran["hourly"]["read"], ran["hourly"]["written"]) == (2, 3)
    assert rows(site, "gold.hourly", "window_start") == {(0, "ann", 2), (0, "bob", 1), (60, "ann", 2)}
    assert rows(site, "gold.sessions", "began") == {(0, "ann", 1), (10, "bob", 1), (59, "ann", 3)}
    clicks(site, (200, "ann"))
    site.json("run")
    clicks(site, (5, "bob"))
    late = by_name(site.json("run"))
    assert (late["hourly"]["skipped"], late["sessions"]["skipped"]) == (1, 0)
    before = rows(site, "gold.hourly", "window_start"), rows(site, "gold.sessions", "began")
    assert (5, "bob", 2) in before[1]
    site.json("run", "--mode", "snapshot")
    assert (rows(site, "gold.hourly", "window_start"), rows(site, "gold.sessions", "began")) == before


def test_late_rows_that_are_dead_letters_are_listed_by_their_kind(site: Shop) -> None:
    site.declare("jobs/hourly.py", HOURLY.replace('late="drop"', 'late="dead_letter"'))
    clicks(site, (0, "ann"), (200, "bob"))
    site.json("run", "hourly")
    clicks(site, (1, "ann"))
    assert by_name(site.json("run", "hourly"))["hourly"]["dead_lettered"] == 1
    [letter] = site.json("deadletters", "--kind", "late")
    assert (letter["table"], letter["kind"]) == ("gold.hourly", "late")
    assert site.json("deadletters", "--kind", "untimed") == []


IN_SQL = """
SET 'lakeflow.late' = 'dead_letter';
SET 'lakeflow.lateness' = '10m';
SET 'lakeflow.emit' = 'append';
INSERT INTO gold.hourly
SELECT WINDOW_START, window_end, upper("user") AS "user", count(*) AS clicks
FROM TUMBLE(TABLE bronze.clicks, DESCRIPTOR(AT), INTERVAL '1' HOUR) GROUP BY window_start, window_end, "user";
"""


def test_a_query_leaves_late_rows_and_writes_windows_once_they_are_complete(site: Shop) -> None:
    (site.folder / "jobs" / "hourly.py").unlink()
    site.declare("jobs/hourly.sql", IN_SQL)
    clicks(site, (0, "ann"), (10, "ann"), (80, "bob"))
    planned = site("plan", "hourly")
    assert planned.code == 0, planned.err
    assert "scan [bronze.clicks]" in planned.out
    site.json("run", "hourly")
    assert rows(site, "gold.hourly", "window_start") == {(0, "ANN", 2)}, (
        "the watermark is at 75, 10 minutes behind the hour's end"
    )
    assert site.json("plan", "hourly")["jobs"][0]["changed"] == [], "its column is written large, and is the table's own"
    clicks(site, (1, "ann"), (140, "bob"))
    ran = by_name(site.json("run", "hourly"))["hourly"]
    assert (ran["read"], ran["written"], ran["dead_lettered"]) == (2, 1, 1)
    assert rows(site, "gold.hourly", "window_start") == {(0, "ANN", 2), (60, "BOB", 1)}
    [letter] = site.json("deadletters", "--kind", "late")
    assert (letter["table"], letter["kind"]) == ("gold.hourly", "late")
    before = rows(site, "gold.hourly", "window_start")
    site.json("run", "hourly", "--mode", "snapshot")
    assert rows(site, "gold.hourly", "window_start") == before


def test_a_query_that_loses_the_window_is_told_how_to_run(site: Shop) -> None:
    clicks(site, (0, "ann"))
    site.declare("jobs/sessions.sql", SESSIONS.replace("window_end AS ended, ", "").replace(", window_end", ""))
    ran = site("plan", "sessions")
    assert ran.code == 1
    assert "GROUP BY without window_end" in ran.out


def test_a_window_of_a_column_that_is_no_time_fails_with_what_is_valid(site: Shop) -> None:
    clicks(site, (0, "ann"))
    site.declare("jobs/hourly.py", HOURLY.replace('Tumble("at"', 'Tumble("user"'))
    ran = site("run", "hourly")
    assert ran.code == 1
    assert "windows are of a column of type TIMESTAMP or TIMESTAMP_LTZ" in ran.err
