"""Jobs by key over tables whose rows change and go: the target is what a snapshot run would make of what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow import Session, Tumble
from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, JobFailed, SourceChanged, UsageError
from lakeflow.job import Caps, Job, Lookup, OnChange, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.read import Split, splits_at
from lakeflow.lake.write import DataWriter
from lakeflow.progress import JobProgress
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.sql.parse import parse_jobs
from tests.jobs import FLIGHTS, SOURCE, TARGET, World, flights, open_world
from tests.lakes import path_of, written

Flight = tuple[int, str | None, float | None]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = open_world(tmp_path)
    world.append(flights((1, "AA", 1.0), (2, "UA", 2.0)))
    world.append(flights((3, "AA", 3.0)))
    return world


def latest(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
    """The delays above nothing, by flight."""
    frame: pl.LazyFrame = rows.filter(pl.col("delay") > 0)
    return frame


FOLLOWING = job(target=TARGET, key="id", on_change="recompute")(latest)


def upsert(world: World, rows: Sequence[Flight] = (), gone: Sequence[int] = ()) -> None:
    """What an upserting landing does: rows in place of those with their id, and ids that go, in one commit."""
    table = world.table(SOURCE)
    merge = KeyedMerge(table, ["id"])
    merge.write(flights(*rows))
    merge.delete(pa.table({"id": pa.array(gone, pa.int64())}))
    merged = merge.merge(DataWriter(table))
    merge.close()
    Committer(world.lake).commit(Change(SOURCE, merged.add, merged.remove, base=merged.base))


def take_away(world: World, which: Callable[[Split], bool], *rows: Flight) -> None:
    """One commit that removes files whole and adds a file of rows, if any."""
    table = world.table(SOURCE)
    head = table.current_snapshot()
    assert head is not None
    gone = tuple(split.task.file for split in splits_at(table, head) if which(split))
    come = written(table, flights(*rows)) if rows else ()
    Committer(world.lake).commit(Change(SOURCE, come, gone, base=head.snapshot_id))


def check(world: World, running: Job = FOLLOWING) -> None:
    """The target against one snapshot run into an empty table."""
    world.run(running, "snapshot", into="check.t")
    assert world.rows() == world.rows("check.t")
    assert world.run(running) is None


def test_rows_that_were_updated_and_deleted_are_followed(world: World) -> None:
    world.run(FOLLOWING)
    upsert(world, [(1, "AA", 9.0)], [3])
    world.run(FOLLOWING)
    assert world.rows() == [(1, "AA", 9.0), (2, "UA", 2.0)]
    check(world)


def test_a_row_that_the_job_no_longer_lets_through_goes(world: World) -> None:
    world.run(FOLLOWING)
    upsert(world, [(1, "AA", -1.0)])
    world.run(FOLLOWING)
    assert world.rows() == [(2, "UA", 2.0), (3, "AA", 3.0)]
    check(world)


def test_a_key_whose_last_row_went_gets_the_row_before_it(world: World) -> None:
    """The table has rows of one key in several files: what is left of it elsewhere counts again."""
    world.append(flights((1, "ZZ", 7.0), (4, "ZZ", 4.0)))
    world.run(FOLLOWING)
    assert (1, "ZZ", 7.0) in world.rows()
    take_away(world, lambda split: split.sequence == 3)
    world.run(FOLLOWING)
    assert world.rows() == [(1, "AA", 1.0), (2, "UA", 2.0), (3, "AA", 3.0)]
    check(world)


def test_files_are_followed_from_snapshot_to_snapshot_within_the_caps(world: World) -> None:
    world.caps = Caps(files=1)
    world.run(FOLLOWING)
    upsert(world, [(1, "AA", 9.0)])
    upsert(world, [(5, "UA", 5.0)], [3])
    upsert(world, [(5, "UA", 6.0)])
    done = world.run(FOLLOWING)
    assert done is not None
    assert len(done.snapshots) == 3
    assert world.rows() == [(1, "AA", 9.0), (2, "UA", 2.0), (5, "UA", 6.0)]
    check(world)


def test_a_plan_counts_files_that_came_and_files_that_went(world: World) -> None:
    world.run(FOLLOWING)
    take_away(world, lambda split: True, (8, "AA", 8.0))
    plan = world.plan(FOLLOWING)
    assert (plan.files, plan.files_removed, plan.rows) == (1, 2, 1)


def test_progress_is_a_position_as_of_any_job(world: World) -> None:
    world.run(FOLLOWING)
    upsert(world, [(1, "AA", 9.0)])
    world.run(FOLLOWING)
    position = JobProgress.loads(world.progress(FOLLOWING), SOURCE).of(SOURCE)
    assert position is not None
    assert position.snapshot_id == world.table(SOURCE).metadata.current_snapshot_id


def test_a_query_whose_key_has_another_name_in_its_source(world: World) -> None:
    spec = TableSpec(TARGET, pa.schema([("flight", pa.int64()), ("hours", pa.float64())]), primary_key=("flight",))
    world.declared = {TARGET: spec}
    running = world.sql_job(
        "SET 'lakeflow.on-change' = 'recompute';"
        f"INSERT INTO {TARGET} SELECT f.id AS number, f.delay / 60 FROM {SOURCE} AS f WHERE f.delay > 0;"
    )
    assert (running.on_change, running.key_from) == (OnChange.RECOMPUTE, ("id",))
    world.run(running)
    upsert(world, [(1, "AA", 60.0)], [3])
    world.run(running)
    assert world.rows(order="1") == [(1, 1.0), (2, 2.0 / 60)]
    check(world, running)


def test_by_default_such_changes_are_refused_and_the_choices_named(world: World) -> None:
    refusing = job(target=TARGET, key="id")(latest)
    world.run(refusing)
    upsert(world, [(1, "AA", 9.0)])
    with pytest.raises(SourceChanged, match="is no append but 'overwrite'") as refused:
        world.run(refusing)
    assert "on_change = 'recompute' or 'ignore_deletes'" in str(refused.value.next_step)


def test_an_appending_job_may_pass_over_rows_that_went(world: World) -> None:
    passing = job(target=TARGET, on_change="ignore_deletes")(latest)
    world.run(passing)
    take_away(world, lambda split: split.sequence == 2)
    world.append(flights((4, "AA", 4.0)))
    world.run(passing)
    assert world.rows() == [(1, "AA", 1.0), (2, "UA", 2.0), (3, "AA", 3.0), (4, "AA", 4.0)]
    take_away(world, lambda split: split.sequence == 1, (5, "AA", 5.0))
    with pytest.raises(SourceChanged, match="put 1 files in place of 1 others"):
        world.run(passing)


def test_an_appending_job_cannot_follow() -> None:
    with pytest.raises(DeclarationError, match="job 'latest': on_change = 'recompute' needs a key") as refused:
        job(target=TARGET, on_change="recompute")(latest)
    assert "ignore_deletes" in str(refused.value.next_step)


@pytest.mark.parametrize(
    "how",
    [
        {"window": Session("at", "1h", by="id")},
        {"window": Tumble("at", "1h"), "late": "drop"},
        {"window": Tumble("at", "1h"), "emit": "append"},
    ],
)
def test_what_keeps_sessions_or_a_watermark_cannot_follow(how: dict[str, Any]) -> None:
    with pytest.raises(DeclarationError, match="keeps groups, sessions or a watermark between its runs") as refused:
        job(target=TARGET, on_change="recompute", **how)(latest)
    assert "--mode snapshot" in str(refused.value.next_step)


def test_windows_of_rows_that_came_and_went_are_made_anew(world: World) -> None:
    def busy(rows: Any = Read("bronze.timed")) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.group_by("window_start", "window_end").agg(pl.len().cast(pl.Int64).alias("rows"))
        return frame

    def at(*hours: int) -> pa.Table:
        return pa.table({"at": pa.array([datetime(2026, 1, 1, hour) for hour in hours], pa.timestamp("us"))})

    running = job(target=TARGET, window=Tumble("at", "1h"), on_change="recompute")(busy)
    world.append(at(1, 2), "bronze.timed")
    world.append(at(2, 3), "bronze.timed")
    world.run(running)
    table = world.table("bronze.timed")
    head = table.current_snapshot()
    assert head is not None
    gone = splits_at(table, head)[1].task.file
    Committer(world.lake).commit(Change("bronze.timed", written(table, at(5)), (gone,), base=head.snapshot_id))
    world.run(running)
    assert [(start.hour, rows) for start, _, rows in world.rows(order="window_start")] == [(1, 1), (2, 1), (5, 1)]
    check(world, running)


def test_on_change_is_for_incremental_runs() -> None:
    with pytest.raises(DeclarationError, match="on_change = 'recompute' is for incremental runs"):
        job(target=TARGET, mode="snapshot", key="id", on_change="recompute")(latest)


def test_a_choice_that_is_none_is_refused_with_those_there_are() -> None:
    with pytest.raises(DeclarationError, match=r"on_change of job 'latest' is 'recomput'.*recompute"):
        job(target=TARGET, key="id", on_change="recomput")(latest)


def sql_jobs(text: str, declared: dict[str, TableSpec]) -> list[Job]:
    path = Path("jobs/made.sql")
    return list(jobs_of(parse_jobs(text, path), path, declared))


KEYED = {TARGET: TableSpec(TARGET, FLIGHTS, primary_key=("id",))}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("SET 'lakeflow.on-change' = 'never'; INSERT INTO {t} SELECT * FROM {s};", "on-change of job 'made' is 'never'"),
        (
            "SET 'lakeflow.on-change' = 'recompute'; INSERT INTO {t} SELECT id + 1, carrier, delay FROM {s};",
            "its key column 'id' is computed, or is of a table that is joined",
        ),
        (
            "SET 'lakeflow.on-change' = 'recompute'; INSERT INTO gold.other SELECT id FROM {s};",
            "on_change = 'recompute' needs a key",
        ),
        (
            "SET 'lakeflow.on-change' = 'recompute'; INSERT INTO gold.n SELECT id, count(*) AS n FROM {s} GROUP BY id;",
            "keeps groups, sessions or a watermark between its runs",
        ),
    ],
)
def test_a_query_that_cannot_follow_is_refused_where_it_is_declared(text: str, message: str) -> None:
    with pytest.raises(DeclarationError, match=message):
        sql_jobs(text.format(t=TARGET, s=SOURCE), KEYED)


def test_a_key_that_the_source_lacks_is_refused_before_anything_runs(world: World) -> None:
    def renamed(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.rename({"id": "number"})
        return frame

    with pytest.raises(UsageError, match=f"its key column 'number' is none of {SOURCE}"):
        world.plan(job(target=TARGET, key="number", on_change="recompute")(renamed))


def test_a_key_that_is_computed_under_its_own_name_is_found_out(world: World) -> None:
    def moved(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.with_columns(pl.col("id") + 100)
        return frame

    running = job(target=TARGET, key="id", on_change="recompute")(moved)
    world.run(running)
    upsert(world, [(1, "AA", 9.0)])
    with pytest.raises(JobFailed, match=r"gave 2 keys that no row has which it read, one is \{'id': 10") as refused:
        world.run(running)
    assert "pass id on unchanged" in str(refused.value.next_step)


def test_only_the_last_step_is_lost_where_a_run_is_cut_short(world: World) -> None:
    world.caps = Caps(files=1)
    world.run(FOLLOWING)
    upsert(world, [(1, "AA", 9.0)])
    upsert(world, [], [3])
    plan = world.plan(FOLLOWING)
    asked: list[bool] = []

    def stop() -> bool:
        asked.append(True)
        return len(asked) > 1

    world.carry_out(plan, stop=stop)
    assert world.rows() == [(1, "AA", 9.0), (2, "UA", 2.0), (3, "AA", 3.0)]
    world.run(FOLLOWING)
    assert world.rows() == [(1, "AA", 9.0), (2, "UA", 2.0)]
    check(world)


def test_lookups_are_as_of_the_run(world: World) -> None:
    names = pa.table({"carrier": ["AA", "UA"], "name": ["American", "United"]})
    world.append(names, "dim.carriers")

    def named(rows: Any = Read(SOURCE), carriers: Any = Lookup("dim.carriers")) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.join(carriers, on="carrier", how="left").select("id", "name")
        return frame

    running = job(target=TARGET, key="id", on_change="recompute")(named)
    world.run(running)
    upsert(world, [(1, "UA", 9.0)], [2])
    world.run(running)
    assert world.rows() == [(1, "United"), (3, "American")]
    check(world, running)


def test_a_file_that_went_and_was_deleted_is_told(world: World) -> None:
    world.run(FOLLOWING)
    table = world.table(SOURCE)
    before = splits_at(table, table.current_snapshot())
    upsert(world, [(1, "AA", 9.0)])
    path_of(before[0].path).unlink()
    with pytest.raises(SourceChanged, match=rf"a file that table {SOURCE} had when it was last read is gone") as refused:
        world.run(FOLLOWING)
    assert "--mode snapshot" in str(refused.value.next_step)
    world.run(FOLLOWING, "snapshot")
    assert world.run(FOLLOWING) is None
    assert (1, "AA", 9.0) in world.rows()


def test_a_renamed_table_is_read_on(world: World) -> None:
    world.run(FOLLOWING)
    upsert(world, [(1, "AA", 9.0)])
    world.lake.catalog.rename_table(SOURCE, "bronze.renamed")

    def late(rows: Any = Read("bronze.renamed")) -> pl.LazyFrame:
        return latest(rows)

    again = job(target=TARGET, key="id", on_change="recompute", name="latest")(late)
    assert world.plan(again).rows == 2
    world.run(again)
    assert world.rows() == [(1, "AA", 9.0), (2, "UA", 2.0), (3, "AA", 3.0)]


def test_a_key_of_another_type_than_its_source_is_refused(world: World) -> None:
    def texts(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.with_columns(pl.col("id").cast(pl.String))
        return frame

    running = job(target=TARGET, key="id", on_change="recompute")(texts)
    world.run(running)
    upsert(world, [(1, "AA", 9.0)])
    with pytest.raises(JobFailed, match=f"its key is of another type than the columns id of {SOURCE}"):
        world.run(running)
