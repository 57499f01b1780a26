"""A part of what a job has read is made anew: each kind of job, by each kind of range; what is refused."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import JobFailed, UnknownName, UsageError
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Change, Committer, Progress
from lakeflow.runner.backfill import BackfillPlan, BackfillRun, plan_backfill, run_backfill
from lakeflow.runner.backfill_landing import ByKey, ByWindow, InRange
from lakeflow.runner.backfill_ledger import BACKFILLS, Ledger, Worker
from lakeflow.runner.backfill_range import Asked, value_of
from lakeflow.runner.execute import run_job
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.window import Session, Tumble
from tests import lakes
from tests.jobs import SOURCE, TARGET, World, open_world

ROWS = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC")), ("carrier", pa.string()), ("delay", pa.float64())])
JANUARY = datetime(2013, 1, 1, tzinfo=UTC)


def rows(*days: float, first: int = 0, carrier: str = "AA") -> pa.Table:
    """A row a day since the first of January."""
    made = [
        {"id": first + place, "at": JANUARY + timedelta(days=day), "carrier": carrier, "delay": day}
        for place, day in enumerate(days)
    ]
    return pa.Table.from_pylist(made, schema=ROWS)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Three files: of days 0 to 2, 2 to 4, and 1."""
    made = open_world(tmp_path)
    made.append(rows(0, 1, 2.5))
    made.append(rows(2, 3, 4, first=10))
    made.append(rows(1.5, first=20, carrier="UA"))
    return made


def appending(add: float = 0.0) -> Job:
    @job(target=TARGET, name="late")
    def late(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.filter(pl.col("delay") != 4).with_columns(pl.col("delay") + add)

    return late


def planned(world: World, running: Job, start: str | None, end: str | None = None, chunk: str | None = None) -> BackfillPlan:
    return plan_backfill(
        running, Asked(start, end, chunk), world.lake, Committer(world.lake), world.declared.get(SOURCE), ProjectNames(world)
    )


def backfilled(world: World, running: Job, start: str | None, end: str | None = None, chunk: str | None = None) -> BackfillRun:
    [last] = deque(run_backfill(planned(world, running, start, end, chunk), world.runtime()), maxlen=1)
    return last


def found(world: World, column: str = "delay") -> list[Any]:
    return stored(world).sort("id")[column].to_list()


def stored(world: World, table: str = TARGET) -> pl.DataFrame:
    read = pl.from_arrow(world.table(table).scan().to_arrow())
    assert isinstance(read, pl.DataFrame)
    return read


def test_rows_of_a_range_of_time_are_made_anew_and_others_stay(world: World) -> None:
    world.run(appending())
    before = world.progress(appending())
    done = backfilled(world, appending(100), "2013-01-02", "2013-01-03")
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5]
    assert (done.counts.read, done.counts.written, done.of, done.done) == (2, 2, 1, 1)
    assert world.progress(appending()) == before
    assert world.run(appending()) is None  # its own runs go on from where they were


def test_a_range_may_be_open_at_either_end_and_a_row_that_is_no_longer_made_goes(world: World) -> None:
    world.run(appending())

    @job(target=TARGET, name="late")
    def late(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.filter(pl.col("delay") < 3)

    backfilled(world, late, "2013-01-03")
    assert found(world) == [0.0, 1.0, 2.5, 2.0, 1.5]
    backfilled(world, appending(10), None, "2013-01-02")
    assert found(world) == [10.0, 1.0, 2.5, 2.0, 1.5]


def test_each_chunk_is_a_commit_and_says_which_it_is(world: World) -> None:
    world.run(appending())
    commits = world.snapshots()
    done = backfilled(world, appending(100), "2013-01-01", "2013-01-06", "1d")
    assert (done.of, done.done, world.snapshots() - commits) == (5, 5, 5)
    assert found(world) == [100.0, 101.0, 102.5, 102.0, 103.0, 101.5]
    summary = world.table().metadata.snapshots[-1].summary
    assert summary is not None
    assert summary.additional_properties["lakeflow.backfill-chunk"] == "5 of 5"


@pytest.mark.parametrize("chunk", ["2 files", "12h", None])
def test_any_chunks_come_to_the_same(world: World, chunk: str | None) -> None:
    world.run(appending())
    backfilled(world, appending(100), "2013-01-01T12:00", "2013-01-03T12:00:00+00:00", chunk)
    assert found(world) == [0.0, 101.0, 2.5, 102.0, 3.0, 101.5]


def test_files_within_the_range_go_unread_and_others_stay_as_they_are(world: World) -> None:
    world.run(appending())
    before = {task.file.file_path for task in world.table().scan().plan_files()}
    backfilled(world, appending(100), "2013-01-05", "2013-02-01")
    after = {task.file.file_path for task in world.table().scan().plan_files()}
    assert after >= before  # the job leaves out the only row of the range
    backfilled(world, appending(100), "2013-01-04", "2013-02-01")
    after = {task.file.file_path for task in world.table().scan().plan_files()}
    assert len(before - after) == 1


def test_a_range_of_another_column(world: World) -> None:
    world.run(appending())
    backfilled(world, appending(100), "carrier=U", "carrier=V")
    assert found(world) == [0.0, 1.0, 2.5, 2.0, 3.0, 101.5]
    backfilled(world, appending(7), "id=10", "id=11", "5")
    assert found(world) == [0.0, 1.0, 2.5, 9.0, 3.0, 101.5]


def test_rows_that_the_job_has_not_read_are_left_to_its_own_runs(world: World) -> None:
    world.run(appending())
    world.append(rows(1.2, first=30))
    backfilled(world, appending(100), "2013-01-02", "2013-01-03")
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5]
    world.run(appending(100))
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5, 101.2]


def test_of_a_commit_that_the_job_has_read_in_part_only_what_it_has_read(world: World) -> None:
    world = replace(world, caps=Caps(files=1))
    world.run(appending())
    table = world.table(SOURCE)
    files = (*lakes.written(table, rows(1.2, first=30)), *lakes.written(table, rows(1.3, first=31)))
    Committer(world.lake).commit(Change(SOURCE, files))
    steps = run_job(world.plan(appending()), world.runtime())
    next(steps)
    assert isinstance(steps, Generator)
    steps.close()
    backfilled(world, appending(100), "2013-01-02", "2013-01-03")
    assert len(found(world)) == 7
    world.run(appending(100))
    assert sorted(found(world)) == [0.0, 2.0, 2.5, 3.0, 101.0, 101.2, 101.3, 101.5]


def test_where_the_job_reads_on_while_a_chunk_is_computed_the_chunk_is_computed_anew(world: World) -> None:
    world.run(appending())
    came: list[bool] = []

    @job(target=TARGET, name="late")
    def late(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        if not came:
            came.append(True)
            world.append(rows(1.2, first=30))
            world.run(appending(50))
        return flights.filter(pl.col("delay") != 4).with_columns(pl.col("delay") + 100)

    before = len(world.stray_files())
    backfilled(world, late, "2013-01-02", "2013-01-03")
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5, 101.2]
    assert len(world.stray_files()) - before <= 3  # those of the files that were put in place of others


def test_a_row_of_another_range_fails_the_job(world: World) -> None:
    @job(target=TARGET, name="late")
    def late(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.with_columns(pl.col("at") + timedelta(hours=15))

    world.run(late)
    before = stored(world)
    with pytest.raises(JobFailed, match=r"range of at, and gave one with at = 2013-01-03"):
        backfilled(world, late, "2013-01-02", "2013-01-03")
    assert stored(world).equals(before)


def test_a_query_whose_target_calls_the_column_otherwise(world: World) -> None:
    text = 'SELECT id, "at" AS moment, delay + {add} AS delay FROM bronze.flights WHERE delay <> 4'
    world.run(world.sql_job(f"SET 'pipeline.name' = 'q'; INSERT INTO {TARGET} {text.format(add=0)};"))
    anew = world.sql_job(f"SET 'pipeline.name' = 'q'; INSERT INTO {TARGET} {text.format(add=100)};")
    assert planned(world, anew, "2013-01-02", "2013-01-03").landing == InRange("moment")
    backfilled(world, anew, "2013-01-02", "2013-01-03", "6h")
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5]


def keyed(add: float = 0.0, least: float = -1) -> Job:
    @job(target=TARGET, name="latest", key="carrier")
    def latest(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.filter(pl.col("delay") > least).with_columns(pl.col("delay") + add)

    return latest


def delays(world: World) -> list[float]:
    return stored(world)["delay"].sort().to_list()


def test_of_a_job_by_key_whole_keys_are_made_anew_by_their_last_row_wherever_it_is(world: World) -> None:
    world.run(keyed())
    assert delays(world) == [1.5, 4.0]
    done = backfilled(world, keyed(100), "2013-01-01", "2013-01-02")  # of AA, whose last row is of another day
    assert delays(world) == [1.5, 104.0]
    assert done.counts.read == 1
    backfilled(world, keyed(100, least=2), "2013-01-02", "2013-01-03")
    assert delays(world) == [104.0]  # no row of UA is made any more


def test_of_a_query_by_key_too(world: World) -> None:
    spec = TableSpec(TARGET, pa.schema([("who", pa.string()), ("delay", pa.float64())]), primary_key=("who",))
    world = replace(world, declared={TARGET: spec})

    def query(add: int) -> Job:
        return world.sql_job(
            f"SET 'pipeline.name' = 'q'; INSERT INTO {TARGET} SELECT carrier, delay + {add} FROM bronze.flights;"
        )

    world.run(query(0))
    assert planned(world, query(0), "2013-01-01").landing == ByKey(("carrier",))
    backfilled(world, query(100), "2013-01-02", "2013-01-02T01:00", "1")
    assert sorted(world.rows()) == [("AA", 104.0), ("UA", 1.5)]


def test_of_a_job_by_whole_keys_and_by_commits(world: World) -> None:
    def counted(times: int) -> Job:
        @job(target=TARGET, name="counted", by="carrier")
        def made(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
            return flights.group_by("carrier").agg(pl.len().cast(pl.Int64) * times)

        return made

    world.run(counted(1))
    first, _, third = (snapshot.snapshot_id for snapshot in world.table(SOURCE).metadata.snapshots)
    assert sorted(world.rows()) == [("AA", 6), ("UA", 1)]
    backfilled(world, counted(10), f"snapshot={first}", f"snapshot={third}", "1")
    assert sorted(world.rows()) == [("AA", 60), ("UA", 10)]
    backfilled(world, counted(100), None, f"snapshot={first}")
    assert sorted(world.rows()) == [("AA", 600), ("UA", 10)]


def windowed(times: int, window: Any = Tumble("at", "1d"), **more: Any) -> Job:
    @job(target=TARGET, name="daily", window=window, **more)
    def daily(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.group_by("window_start", "window_end").agg((pl.len().cast(pl.Int64) * times).alias("id"))

    return daily


def test_of_a_job_by_windows_those_that_rows_of_the_range_are_in(world: World) -> None:
    world.run(windowed(1))
    assert planned(world, windowed(1), "2013-01-02T23:00").landing == ByWindow()
    backfilled(world, windowed(100), "2013-01-02T12:00", "2013-01-03T01:00")
    assert stored(world).sort("window_start")["id"].to_list() == [1, 200, 200, 1, 1]


def test_several_rows_that_a_query_by_windows_makes(world: World) -> None:
    def query(times: int) -> Job:
        return world.sql_job(
            f"SET 'pipeline.name' = 'w'; INSERT INTO {TARGET} SELECT window_start, window_end, carrier, "
            f"count(*) * {times} AS n FROM TUMBLE(TABLE bronze.flights, DESCRIPTOR(at), INTERVAL '1' DAY) "
            "GROUP BY window_start, window_end, carrier;"
        )

    world.run(query(1))
    backfilled(world, query(100), "2013-01-02", "2013-01-03", "6h")
    assert stored(world)["n"].sort().to_list() == [1, 1, 1, 2, 100, 100]


def refusals() -> Iterator[Any]:
    yield pytest.param(windowed(1, Session("at", "1h")), r"by sessions", id="sessions")
    yield pytest.param(windowed(1, late="drop"), r"closes windows by a watermark", id="a watermark")

    @job(target=TARGET, name="computed", key="who")
    def computed(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.select(pl.col("carrier").str.to_lowercase().alias("who"), "delay")

    yield pytest.param(computed, r"merges by who, which it does not pass on of bronze.flights", id="a computed key")

    @job(target=TARGET, name="without")
    def without(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights.select("id", "delay")

    yield pytest.param(without, r"passes no column on that is at of bronze.flights", id="no such column")


@pytest.mark.parametrize(("running", "why"), list(refusals()))
def test_jobs_of_which_no_part_is_made_anew_are_told_what_to_do(world: World, running: Job, why: str) -> None:
    world.run(running)
    with pytest.raises(UsageError, match=why) as refused:
        planned(world, running, "2013-01-02")
    assert "--full-refresh" in str(refused.value)


def test_a_job_by_key_in_sql_and_one_that_reads_everything_are_refused(world: World) -> None:
    groups = world.sql_job(f"INSERT INTO {TARGET} SELECT carrier, count(*) AS n FROM bronze.flights GROUP BY carrier;")
    world.run(groups)
    with pytest.raises(UsageError, match="keeps groups or ranks") as refused:
        planned(world, groups, "2013-01-02")
    assert "--full-refresh" in str(refused.value)

    @job(target="gold.all", mode="snapshot")
    def everything(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return flights

    with pytest.raises(UsageError, match="reads its whole table at each run"):
        planned(world, everything, "2013-01-02")


@pytest.mark.parametrize(
    ("start", "end", "chunk", "why"),
    [
        ("2013-01-03", "2013-01-03", None, "nothing is at 2013-01-03 or behind it and before 2013-01-03"),
        ("soon", None, None, "'soon' is no value of column 'at'"),
        ("id=1", "carrier=B", None, "--from is of id, and --to of carrier"),
        ("delay=1", None, None, "column 'delay' is double, of which no range is taken"),
        ("wheels=1", None, None, "unknown column of bronze.flights 'wheels'"),
        ("2013-01-01", None, "often", "--chunk is 'often'"),
        ("2013-01-01", None, "0", "0 files"),
        ("2013-01-01", None, "1s", "makes 100. chunks"),
        ("id=1", None, "1d", "is int64 and no time"),
        ("snapshot=abc", None, None, "names no snapshot"),
        ("snapshot=²", None, None, "names no snapshot"),
        ("=2013-01-01", None, None, "'=2013-01-01' names no column"),
        ("snapshot=1", None, None, "unknown snapshot of bronze.flights '1'"),
    ],
)
def test_ranges_that_mean_nothing_are_refused(world: World, start: str, end: str | None, chunk: str | None, why: str) -> None:
    world.run(appending())
    with pytest.raises((UsageError, UnknownName), match=why):
        planned(world, appending(), start, end, chunk)


@pytest.mark.parametrize("text", ["2013-01-01T06:00", "2013-01-01T00:00+01:00"])
def test_a_date_begins_with_its_day(text: str) -> None:
    assert value_of("2013-01-01", pa.date32(), "day") == value_of("2013-01-01T01:00+01:00", pa.date32(), "day") == 15_706
    with pytest.raises(UsageError, match=r"is no value of column 'day', which is date32\[day\]: it is within a day, in UTC"):
        value_of(text, pa.date32(), "day")


def test_an_appending_job_is_refused_by_commits_and_one_that_has_not_run_has_nothing(world: World) -> None:
    with pytest.raises(UsageError, match=r"has not written gold\.late yet"):
        planned(world, appending(), "2013-01-02")
    world.run(appending())
    with pytest.raises(UsageError, match="does not tell which rows came of which snapshots"):
        planned(world, appending(), f"snapshot={world.table(SOURCE).metadata.snapshots[0].snapshot_id}")


def test_what_was_stopped_goes_on_and_what_is_done_is_not_done_again(world: World) -> None:
    world.run(appending())
    plan = planned(world, appending(100), "2013-01-01", "2013-01-06", "1d")
    seen: list[BackfillRun] = []
    for one in run_backfill(plan, world.runtime(), stop=lambda: len(seen) == 2):
        seen.append(one)
    assert (seen[-1].done, seen[-1].of) == (2, 5)
    assert found(world) == [100.0, 101.0, 2.5, 2.0, 3.0, 101.5]
    again = planned(world, appending(100), "2013-01-01", "2013-01-06", "1d")
    assert (again.goes_on, [one.is_done for one in again.chunks]) == (1, [True, True, False, False, False])
    last = backfilled(world, appending(100), "2013-01-01", "2013-01-06", "1d")
    assert (len(last.snapshots), last.done, last.number) == (3, 5, 1)
    assert planned(world, appending(100), "2013-01-01", "2013-01-06", "1d").goes_on is None  # it would begin anew


def test_a_job_that_was_changed_in_between_begins_anew(world: World) -> None:
    world.run(appending())
    plan = planned(world, appending(100), "2013-01-01", "2013-01-06", "1d")
    next(iter(run_backfill(plan, world.runtime())))
    changed = replace(appending(200), source="another")
    assert planned(world, changed, "2013-01-01", "2013-01-06", "1d").goes_on is None
    assert backfilled(world, changed, "2013-01-01", "2013-01-06", "1d").number == 2
    assert found(world) == [200.0, 201.0, 202.5, 202.0, 203.0, 201.5]


def test_a_chunk_of_a_process_that_lives_is_waited_for_and_one_of_a_dead_is_taken_over(world: World) -> None:
    world.run(appending())
    plan = planned(world, appending(100), "2013-01-01", "2013-01-06", "1d")
    commits = Committer(world.lake)
    elsewhere = Ledger(appending(100), world.lake, commits, worker=Worker("elsewhere", 1, "x"))
    first = elsewhere.begin(elsewhere.claims(), plan.what, "", [one.within for one in plan.chunks], plan.kind)
    assert elsewhere.next_chunk(first, lambda: False) == 0
    dead = Ledger(appending(100), world.lake, commits, worker=Worker(pid=2**22 + 1))
    assert dead.next_chunk(first, lambda: False) == 1
    slept: list[float] = []
    runs = run_backfill(plan, world.runtime(), stop=lambda: bool(slept), sleep=slept.append)
    assert [one.done for one in runs] == [1, 2, 3, 4]  # the one of the dead among them
    assert slept
    clock = iter([0.0, *range(1000, 2000, 200)])
    mine = Ledger(appending(100), world.lake, commits, sleep=slept.append, clock=lambda: next(clock))
    assert mine.next_chunk(first, lambda: False) == 0  # nobody has heard of it for too long


def test_of_two_processes_with_one_chunk_the_second_to_commit_leaves_nothing(world: World) -> None:
    world.run(appending())
    plan = planned(world, appending(100), "2013-01-01", "2013-01-06")

    def overtaken() -> Job:
        done: list[bool] = []

        @job(target=TARGET, name="late")
        def late(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
            if not done:
                done.append(True)
                deque(run_backfill(plan, world.runtime(), worker=Worker(nonce="second")), maxlen=0)
            return flights.filter(pl.col("delay") != 4).with_columns(pl.col("delay") + 300)

        return late

    slow = replace(plan, plan=replace(plan.plan, job=overtaken()))
    assert list(run_backfill(slow, world.runtime())) == []
    assert found(world) == [100.0, 101.0, 102.5, 102.0, 103.0, 101.5]


def test_another_backfill_of_the_job_fences_the_one_before_it(world: World) -> None:
    world.run(appending())
    runs = run_backfill(planned(world, appending(100), "2013-01-01", "2013-01-06", "1d"), world.runtime())
    next(runs)
    backfilled(world, appending(7), "2013-01-01", "2013-01-02")
    with pytest.raises(Exception, match=r"another process moved the progress of backfill\.late"):
        next(runs)
    assert found(world)[:2] == [7.0, 1.0]


def test_the_chunks_are_a_table(world: World) -> None:
    world.run(appending())
    backfilled(world, appending(100), "2013-01-01", "2013-01-03", "1d")
    told = stored(world, BACKFILLS).sort("chunk").select("chunk", "column", "low", "high").rows()
    assert told == [
        (0, "at", "2013-01-01T00:00:00+00:00", "2013-01-02T00:00:00+00:00"),
        (1, "at", "2013-01-02T00:00:00+00:00", "2013-01-03T00:00:00+00:00"),
    ]


def test_rows_of_others_may_come_to_the_target_meanwhile(world: World) -> None:
    world.run(appending())
    world.lake.table(TARGET)
    commits = Committer(world.lake)
    came: list[bool] = []

    @job(target=TARGET, name="late")
    def late(flights: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        if not came:
            came.append(True)
            commits.commit(Change(TARGET, progress=Progress("other", None, "1")))
        return flights.filter(pl.col("delay") != 4).with_columns(pl.col("delay") + 100)

    backfilled(world, late, "2013-01-02", "2013-01-03")
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5]


def test_a_source_that_was_compacted_since_is_read_as_it_was(world: World) -> None:
    world = replace(world, caps=Caps(files=1))
    world.run(appending())
    backfilled(world, appending(100), "2013-01-02", "2013-01-03")
    assert found(world) == [0.0, 101.0, 2.5, 2.0, 3.0, 101.5]
