"""Jobs by windows as they run: what they read, what they write in one commit, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import MetadataColumn, PartitionField, TableSpec, Watermark
from lakeflow.errors import DeclarationError, Fenced, JobFailed, SchemaMismatch, UnknownName
from lakeflow.job import Job
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.lake.read import read
from lakeflow.runner.execute import JobRun
from lakeflow.runner.window_plan import windows_touched
from tests import lakes
from tests.jobs import SOURCE, TARGET, World

ZERO = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = pa.schema([("at", pa.timestamp("us", "UTC")), ("x", pa.int64())])
HOUR = lf.Tumble("at", "1h")


def at(minutes: float) -> datetime:
    return ZERO + timedelta(minutes=minutes)


def came(world: World, *minutes: float | None, schema: pa.Schema = ROWS) -> None:
    """A commit of rows; x is the minutes."""
    zone = schema.field("at").type.tz
    times = [None if one is None else at(one) if zone else at(one).replace(tzinfo=None) for one in minutes]
    values = [None if one is None else int(one) for one in minutes]
    world.append(pa.table({"at": times, "x": values}, schema=schema))


def counting(window: Any = HOUR, **said: Any) -> Job:
    def count(rows: Any = lf.Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.group_by("window_start", "window_end").agg(pl.len().cast(pl.Int64).alias("n"))
        return frame

    return lf.job(target=TARGET, window=window, **said)(count)


def counts(world: World, name: str = TARGET) -> dict[float, int]:
    """Rows of each window, by the hour that it begins in."""
    start = int(ZERO.timestamp()) * 10**6
    found = lakes.query(world.table(name), "SELECT epoch_us(window_start), n FROM rows")
    assert len(found) == len({window for window, _ in found})
    return {(window - start) / 3_600_000_000: n for window, n in found}


def facts(world: World) -> dict[str, str]:
    """Of the target's last commit."""
    snapshot = world.table().current_snapshot()
    assert snapshot is not None
    assert snapshot.summary is not None
    return snapshot.summary.additional_properties


def run(world: World, job: Job) -> JobRun:
    done = world.run(job)
    assert done is not None
    return done


def test_rows_that_come_to_a_window_replace_what_it_had(world: World) -> None:
    came(world, 0, 59, 60)
    run(world, counting())
    came(world, 30)
    run(world, counting())
    assert counts(world) == {0: 3, 1: 1}
    assert world.snapshots() == 2
    assert facts(world)["lakeflow.rows-removed"] == "1"


def test_a_run_reads_the_files_of_the_windows_that_it_touches_and_no_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for hour in range(6):
        came(world, hour * 60, hour * 60 + 10)
    run(world, counting())
    came(world, 125)
    opened: list[str] = []
    real = read

    def noted(table: Any, splits: Any, *rest: Any) -> Any:
        opened.extend(split.path for split in splits)
        return real(table, splits, *rest)

    monkeypatch.setattr("lakeflow.runner.window_frames.read", noted)
    planned = world.plan(counting())
    touched = windows_touched(planned)
    assert touched is not None
    assert (touched.windows, touched.files) == (1, 2)
    run(world, counting())
    assert len(opened) == 2
    assert counts(world)[2] == 3


def test_a_straggler_touches_its_own_window_and_not_those_between(world: World) -> None:
    came(world, *range(0, 24 * 60, 60))
    run(world, counting())
    came(world, 5, 23 * 60)
    done = run(world, counting())
    assert (done.counts.read, done.counts.written) == (2, 2)
    assert facts(world)["lakeflow.rows-removed"] == "2"


def test_rows_without_a_time_are_in_no_window_and_counted(world: World) -> None:
    came(world, 0, None, None)
    done = run(world, counting())
    assert (done.counts.read, done.counts.skipped) == (3, 2)
    assert facts(world)["lakeflow.rows-untimed"] == "2"
    came(world, None)
    assert run(world, counting()).counts.skipped == 1
    assert counts(world) == {0: 1}
    assert world.run(counting()) is None, "the progress has moved past a file that has no time at all"


def test_late_rows_are_dropped_and_counted_once_the_lateness_has_passed(world: World) -> None:
    job = counting(lf.Tumble("at", "1h", lateness="10m"), late="drop", delay="5m")
    came(world, 0, 74)
    run(world, job)
    came(world, 1)
    assert run(world, job).counts.skipped == 0, "the watermark, 69, has passed the end by 9 minutes"
    came(world, 75)
    run(world, job)
    came(world, 2, 76)
    assert run(world, job).counts.skipped == 1
    assert counts(world) == {0: 2, 1: 3}
    assert facts(world)["lakeflow.rows-late"] == "1"
    came(world, 3)
    assert run(world, job).counts.skipped == 1
    assert counts(world) == {0: 2, 1: 3}, "what was dropped once does not come with the next late row"


def test_a_delay_is_that_of_the_declaration_where_the_job_says_none(world: World) -> None:
    world.declared = {SOURCE: TableSpec(SOURCE, ROWS, watermark=Watermark("at", timedelta(minutes=5)))}
    job = counting(late="drop")
    came(world, 0, 64)
    run(world, job)
    came(world, 1)
    assert run(world, job).counts.skipped == 0
    came(world, 65)
    run(world, job)
    came(world, 2)
    assert run(world, job).counts.skipped == 1


def test_a_partition_that_is_behind_holds_the_watermark_until_it_is_idle(world: World) -> None:
    schema = pa.schema([*ROWS, pa.field("part", pa.int32())])
    metadata = (MetadataColumn(schema.field("part"), "partition"),)
    world.declared = {SOURCE: TableSpec(SOURCE, schema, metadata=metadata)}
    job = counting(late="drop", idle="30m")

    def parts(*rows: tuple[float, int]) -> int:
        world.append(pa.table({"at": [at(one) for one, _ in rows], "x": [0] * len(rows), "part": [p for _, p in rows]}, schema))
        return run(world, job).counts.skipped

    assert parts((90, 0), (10, 1)) == 0
    assert parts((11, 1), (91, 0)) == 0, "partition 1 is at 10"
    assert parts((122, 0)) == 0
    assert parts((12, 1)) == 1, "partition 1 has brought nothing while the other went on by 31 minutes"


def test_windows_are_written_once_as_the_watermark_passes(world: World) -> None:
    job = counting(lf.Tumble("at", "1h", lateness="10m"), emit="append")
    came(world, 0, 69)
    run(world, job)
    assert counts(world) == {}
    came(world, 1, 70)
    run(world, job)
    assert counts(world) == {0: 2}
    came(world, 2, 200)
    done = run(world, job)
    assert (done.counts.skipped, counts(world)) == (1, {0: 2, 1: 2})
    assert world.run(job, "snapshot", into="gold.whole") is not None
    assert counts(world, "gold.whole") == counts(world)


def test_incremental_runs_go_on_from_the_watermark_of_a_snapshot_run(world: World) -> None:
    job = counting(late="drop")
    came(world, 0, 60)
    run(world, job)
    came(world, 1, 61)
    assert world.run(job, "snapshot") is not None
    assert counts(world) == {0: 1, 1: 2}
    came(world, 2, 62)
    assert run(world, job).counts.skipped == 1
    assert counts(world) == {0: 1, 1: 3}


def test_late_rows_become_dead_letters_with_what_they_hold(world: World) -> None:
    job = counting(late="dead_letter")
    came(world, 0, 60)
    run(world, job)
    came(world, 1, None)
    done = run(world, job)
    assert (done.counts.dead_lettered, done.counts.skipped) == (2, 0)
    letters = lakes.query(world.table(DEAD_LETTERS), "SELECT kind, value, error, model FROM rows ORDER BY kind")
    assert [kind for kind, *_ in letters] == ["late", "untimed"]
    assert letters[0][1] == b'{"at": "2026-01-01 00:01:00+00:00", "x": 1}'
    assert "the watermark, at 2026-01-01 01:00:00+00:00, had passed the row's windows" in letters[0][2]
    assert "the row has no at" in letters[1][2]
    assert letters[0][3] is None


def test_windows_of_a_timestamp_without_a_zone_are_counted_as_if_it_were_utc(world: World) -> None:
    naive = pa.schema([("at", pa.timestamp("us")), ("x", pa.int64())])
    came(world, 0, 61, schema=naive)
    run(world, counting())
    assert counts(world) == {0: 1, 1: 1}
    assert str(world.table().schema().find_type("window_start")) == "timestamp"
    came(world, 62, schema=naive)
    run(world, counting())
    assert counts(world) == {0: 1, 1: 2}


def test_a_target_that_is_partitioned_by_its_windows_is_replaced_in_its_partitions(world: World) -> None:
    schema = pa.schema([(name, pa.timestamp("us", "UTC")) for name in ("window_start", "window_end")] + [("n", pa.int64())])
    world.declared = {TARGET: TableSpec(TARGET, schema, partitioning=(PartitionField("window_start", "day"),))}
    came(world, 0, 60 * 24)
    run(world, counting())
    came(world, 1)
    run(world, counting())
    assert counts(world) == {0: 2, 24: 1}


def test_sessions_that_a_row_puts_together_are_replaced_by_one(world: World) -> None:
    job = counting(lf.Session("at", "10m"))
    came(world, 0, 15, 60)
    run(world, job)
    assert counts(world) == {0: 1, 0.25: 1, 1: 1}
    came(world, 8)
    run(world, job)
    assert counts(world) == {0: 3, 1: 1}
    assert facts(world)["lakeflow.rows-removed"] == "2"


def test_a_second_process_with_the_same_job_is_fenced(world: World) -> None:
    came(world, 0)
    job = counting()
    first, second = world.plan(job), world.plan(job)
    assert world.carry_out(first) is not None
    with pytest.raises(Fenced):
        world.carry_out(second)
    assert counts(world) == {0: 1}


def refused(world: World, job: Job, kind: type[Exception]) -> str:
    came(world, 0)
    with pytest.raises(kind) as error:
        world.run(job)
    return str(error.value)


def test_a_window_on_a_column_that_is_not_there_is_refused(world: World) -> None:
    assert "event_time" in refused(world, counting(lf.Tumble("event_time", "1h")), UnknownName)


def test_a_window_on_what_is_no_time_is_refused(world: World) -> None:
    said = refused(world, counting(lf.Tumble("x", "1h")), SchemaMismatch)
    assert "column 'x' of table bronze.flights is int64; windows are of a column of type TIMESTAMP" in said


def test_a_second_table_is_refused_in_either_mode(world: World) -> None:
    came(world, 0)
    world.append(pa.table({"at": [at(0)]}), "bronze.others")

    def both(rows: Any = lf.Read(SOURCE), others: Any = lf.Read("bronze.others")) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows
        return frame

    with pytest.raises(DeclarationError, match=r"works by windows and reads bronze\.flights, bronze\.others"):
        world.run(lf.job(target=TARGET, window=HOUR, mode="snapshot")(both))
    with pytest.raises(DeclarationError, match="reads 2 tables incrementally"):
        world.run(lf.job(target=TARGET, window=HOUR)(both))


def test_partitions_of_several_topics_are_told_apart(world: World) -> None:
    schema = pa.schema([*ROWS, ("part", pa.int32()), ("topic", pa.string())])
    metadata = (MetadataColumn(schema.field("part"), "partition"), MetadataColumn(schema.field("topic"), "topic"))
    world.declared = {SOURCE: TableSpec(SOURCE, schema, metadata=metadata)}
    job = counting(late="drop", idle="1d")
    world.append(pa.table({"at": [at(90), at(10)], "x": [0, 0], "part": [0, 0], "topic": ["a", "b"]}, schema))
    run(world, job)
    world.append(pa.table({"at": [at(11)], "x": [0], "part": [0], "topic": ["b"]}, schema))
    assert run(world, job).counts.skipped == 0


def test_sessions_by_a_column_that_is_not_there_are_refused(world: World) -> None:
    assert "user" in refused(world, counting(lf.Session("at", "1h", by="user")), UnknownName)


def making(frame: Any) -> Job:
    def made(rows: Any = lf.Read(SOURCE)) -> pl.LazyFrame:
        result: pl.LazyFrame = frame(rows)
        return result

    return lf.job(target=TARGET, window=HOUR)(made)


def test_rows_without_the_windows_columns_are_refused(world: World) -> None:
    said = refused(world, making(lambda rows: rows.select("window_start", "x")), UnknownName)
    assert "window_end" in said


def test_rows_of_windows_that_were_not_given_are_refused(world: World) -> None:
    moved = making(lambda rows: rows.with_columns(pl.col("window_start", "window_end") + pl.duration(hours=1)))
    said = refused(world, moved, JobFailed)
    assert "replaces the windows that it was given, and a row of it is of another" in said
    assert world.progress(moved) is None


def test_windows_that_are_no_times_any_more_are_refused(world: World) -> None:
    texts = making(lambda rows: rows.with_columns(pl.col("window_start").cast(pl.String)))
    assert "column 'window_start' of its rows is large_string, and no TIMESTAMP" in refused(world, texts, JobFailed)


def test_a_table_with_a_column_window_start_of_its_own_is_refused(world: World) -> None:
    world.append(pa.table({"at": [at(0)], "window_start": [1]}))
    with pytest.raises(JobFailed, match="has a column 'window_start' already"):
        world.run(counting())


def test_a_key_without_the_window_is_refused(world: World) -> None:
    times = pa.timestamp("us", "UTC")
    schema = pa.schema([("window_start", times), ("window_end", times), ("n", pa.int64())])
    world.declared = {TARGET: TableSpec(TARGET, schema, primary_key=("window_start",))}
    came(world, 0)
    hourly = f"TUMBLE(TABLE {SOURCE}, DESCRIPTOR(at), INTERVAL '1' HOUR)"
    text = f"SELECT window_start, window_end, count(*) FROM {hourly} GROUP BY 1, 2"
    with pytest.raises(DeclarationError, match="its PRIMARY KEY, window_start, lacks window_end"):
        world.run(world.sql_job(f"INSERT INTO {TARGET} {text};"))


def test_a_frame_of_windows_counts_its_rows_without_any_column(world: World) -> None:
    came(world, 0, 1)
    job = making(
        lambda rows: rows.select("window_start", "window_end").unique().join(rows.select(pl.len().alias("n")), how="cross")
    )
    run(world, job)
    assert counts(world) == {0: 2}
