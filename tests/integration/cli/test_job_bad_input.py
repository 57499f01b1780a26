"""What a user may get wrong about windows, keys, lookups, expectations, schedules and clocks: each is refused in words that
name it, with what is valid and what to run next, without a stack trace, and nothing is lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests import lakes
from tests.integration.cli.conftest import Shop

CLICKS = pa.schema([("id", pa.int64()), ("page", pa.string()), ("at", pa.timestamp("us", "UTC"))])
ZERO = datetime(2026, 3, 1, tzinfo=UTC)
ROWS = (
    {"id": 1, "page": "a", "at": ZERO},
    {"id": 2, "page": None, "at": None},
    {"id": 3, "page": "b", "at": ZERO + timedelta(hours=1)},
    {"id": 3, "page": "c", "at": ZERO + timedelta(hours=2)},
)
JOB = """
import lakeflow as lf
import polars as pl

@lf.job(target="gold.made", {said})
def made(clicks=lf.Read("bronze.clicks"){reads}):
    return {body}
"""
BY_WINDOW = 'clicks.group_by("window_start", "window_end").agg(pl.len().alias("n"))'
LOOKUP = ', pages=lf.Lookup("{table}")'
JOINED = 'clicks.join(pages, on="page", how="left")'


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shop:
    shop = Shop(tmp_path, capsys)
    for folder in ("tables", "jobs"):
        (tmp_path / folder).mkdir()
    shop.declare("lakeflow.toml", '[project]\nname = "site"\n')
    add(shop, *ROWS)
    return shop


def add(site: Shop, *rows: dict[str, Any]) -> None:
    lake = site.project.lake
    lakes.made(lake, CLICKS, name="bronze.clicks")
    lakes.append(lake, pa.Table.from_pylist(list(rows), schema=CLICKS), name="bronze.clicks")


def declare(site: Shop, said: str, body: str = 'clicks.select("id")', reads: str = "") -> None:
    site.declare("jobs/made.py", JOB.format(said=said, body=body, reads=reads))


def refused(site: Shop, *verb: str) -> tuple[int, str]:
    """The exit code, and what is said on stderr: no stack trace."""
    ended = site(*verb)
    assert "Traceback" not in ended.out
    return ended.code, ended.err


@pytest.mark.parametrize(
    ("said", "body", "message"),
    [
        ('window=lf.Tumble("page", "1h")', BY_WINDOW, "column 'page' of table bronze.clicks is large_string; windows are of"),
        ('window=lf.Tumble("when", "1h")', BY_WINDOW, "unknown column of bronze.clicks 'when'; valid: at, id, page"),
        ('lateness="10m"', BY_WINDOW, "job 'made' has lateness= and no window that it could be of"),
        ('late="drop"', BY_WINDOW, "job 'made' has late= and no window that it could be of"),
        ('window=lf.Tumble("at", "1h"), lateness="10m"', BY_WINDOW, 'window=lf.Tumble(.., lateness="10m")'),
        (
            'window=lf.Tumble("at", "1 moon")',
            BY_WINDOW,
            "jobs/made.py:5: size of Tumble is '1 moon'; valid: a number and one of",
        ),
        (
            'expect=[lf.not_null("nope")]',
            'clicks.select("id")',
            "expectation 'not_null(nope)': unknown column of gold.made 'nope'",
        ),
        (
            'expect=[lf.satisfies("nope > 3")]',
            'clicks.select("id")',
            "expectation 'nope > 3': unknown column 'nope'; valid: id",
        ),
        (
            'schedule="61 * * * *"',
            'clicks.select("id")',
            "schedule of job 'made' is '61 * * * *': the minute is '61'; valid: 0 to 59",
        ),
        ('schedule="0 6 31 2 *"', 'clicks.select("id")', "schedule of job 'made' is '0 6 31 2 *': the month '2' has no day 31"),
        (
            'freshness="soon"',
            'clicks.select("id")',
            "freshness of job 'made' is 'soon'; valid: a whole number and s, m, h or d",
        ),
    ],
)
def test_what_cannot_be_meant_is_named(site: Shop, said: str, body: str, message: str) -> None:
    declare(site, said, body)
    code, told = refused(site, "run")
    assert code in (1, 2)
    assert message in told
    assert not site.project.lake.exists("gold.made") or not lakes.query(site.project.lake.table("gold.made"))


def test_rows_without_an_event_time_are_counted_and_none_is_lost_for_the_others(site: Shop) -> None:
    declare(site, 'window=lf.Tumble("at", "1h")', BY_WINDOW)
    [row] = site.json("run")
    assert (row["read"], row["written"], row["skipped"]) == (4, 3, 1)


@pytest.mark.parametrize(
    ("said", "told_of"),
    [
        ('key="page"', "key column 'page' of table gold.made holds 1 nulls in the rows to merge"),
        (
            'key="page", history=lf.History("since", "until", by="at")',
            "key column 'page' of table gold.made holds 1 nulls in the rows to merge",
        ),
    ],
)
def test_a_key_that_is_null_is_refused_and_the_run_goes_on_once_it_is_mended(site: Shop, said: str, told_of: str) -> None:
    declare(site, said, 'clicks.select("id", "page", "at")')
    code, told = refused(site, "run")
    assert code == 1
    assert told_of in told
    assert "left behind: the table, as of the last run" in told
    assert "next: filter the nulls out in the job, or choose another key" in told
    declare(site, said, 'clicks.filter(pl.col("page").is_not_null()).select("id", "page", "at")')
    [row] = site.json("run")
    assert (row["read"], row["written"], row["filtered"]) == (4, 3, 1)


def test_a_null_for_a_primary_key_is_refused_with_what_to_do(site: Shop) -> None:
    site.declare("tables/made.sql", "CREATE TABLE gold.made (page STRING, id BIGINT, PRIMARY KEY (page) NOT ENFORCED);")
    site.declare("jobs/made.sql", "INSERT INTO gold.made SELECT page, id FROM bronze.clicks;")
    code, told = refused(site, "run")
    assert code == 1
    assert "column 'page' of table gold.made is required" in told
    assert "row 1 of 4 holds a null" in told
    assert "next: leave out rows without it (page IS NOT NULL), or give them a value" in told
    assert lakes.query(site.project.lake.table("gold.made")) == []


def test_of_a_key_that_comes_twice_in_a_batch_the_last_row_stands(site: Shop) -> None:
    declare(site, 'key="id"', 'clicks.select("id", "page")')
    site.json("run")
    assert sorted(lakes.query(site.project.lake.table("gold.made"))) == [(1, "a"), (2, None), (3, "c")]


def test_a_lookup_that_is_not_there_is_named_and_nothing_is_read(site: Shop) -> None:
    declare(site, 'mode="incremental"', JOINED, LOOKUP.format(table="dim.pags"))
    lakes.made(site.project.lake, pa.schema([("page", pa.string()), ("title", pa.string())]), name="dim.pages")
    code, told = refused(site, "run")
    assert code == 2
    assert "unknown table, read by 'made' (jobs/made.py:5): 'dim.pags'; did you mean 'dim.pages'?" in told
    declare(site, 'mode="incremental"', JOINED, LOOKUP.format(table="dim.pages"))
    [row] = site.json("run")
    assert (row["read"], row["written"]) == (4, 4)


def test_a_lookup_without_rows_finds_nothing(site: Shop) -> None:
    lakes.made(site.project.lake, pa.schema([("page", pa.string()), ("title", pa.string())]), name="dim.pages")
    declare(site, 'mode="incremental"', JOINED, LOOKUP.format(table="dim.pages"))
    site.declare(
        "jobs/asked.sql",
        "INSERT INTO gold.asked SELECT c.id, p.title FROM bronze.clicks AS c "
        "LEFT JOIN dim.pages FOR SYSTEM_TIME AS OF PROCTIME() AS p ON p.page = c.page;",
    )
    assert [row["written"] for row in site.json("run")] == [4, 4]
    lake = site.project.lake
    for table in ("gold.made", "gold.asked"):
        assert set(lakes.query(lake.table(table), "SELECT title FROM rows")) == {(None,)}


def test_two_jobs_that_write_one_table_are_refused_before_either_runs(site: Shop) -> None:
    declare(site, 'mode="incremental"')
    site.declare("jobs/other.sql", "INSERT INTO gold.made SELECT id FROM bronze.clicks;")
    code, told = refused(site, "run")
    assert code == 2
    assert "job 'other' writes gold.made, which job 'made' (jobs/made.py:5) writes already" in told
    assert not site.project.lake.exists("gold.made")


def test_a_table_that_another_job_wrote_is_left_alone(site: Shop) -> None:
    declare(site, 'mode="incremental"')
    site.json("run")
    declare(site, 'name="other"')
    code, told = refused(site, "run")
    assert code == 2
    assert "table gold.made holds the rows of job.made; job 'other' would repeat or replace them" in told
    assert "lakeflow tables drop gold.made" in told
    assert len(lakes.query(site.project.lake.table("gold.made"))) == 4


def test_a_clock_that_was_set_back_loses_no_row_and_repeats_none(site: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    declare(site, 'window=lf.Tumble("at", "1h"), late="drop", delay="1h"', BY_WINDOW)
    site.json("run")
    real = time.time
    monkeypatch.setattr("pyiceberg.table.snapshots.time.time", lambda: real() - 86_400)
    add(site, {"id": 4, "page": "a", "at": ZERO + timedelta(hours=3)}, {"id": 5, "page": "a", "at": ZERO + timedelta(hours=2)})
    add(site, {"id": 6, "page": "a", "at": ZERO})
    [row] = site.json("run")
    assert (row["read"], row["skipped"]) == (3, 1)  # the watermark follows the rows: 6 is late whatever the clock says
    made = site.project.lake.table("gold.made")
    assert sorted(made.metadata.snapshot_log, key=lambda entry: entry.timestamp_ms) == made.metadata.snapshot_log
    assert sorted(lakes.query(made, "SELECT n FROM rows")) == [(1,), (1,), (1,), (2,)]
