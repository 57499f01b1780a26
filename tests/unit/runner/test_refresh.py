"""A job made anew on a branch: readers see the old rows or the new ones, and what may come in between is told."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.declare import PartitionField, TableSpec
from lakeflow.dimension import History
from lakeflow.errors import Fenced, UsageError
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.branch import head_of
from lakeflow.lake.commit import Change, Committer
from lakeflow.runner.execute import JobRun
from lakeflow.runner.refresh import Refresh, refresh_branch
from lakeflow.runner.sql_names import ProjectNames
from tests import lakes
from tests.jobs import SOURCE, TARGET, World, flights, open_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = replace(open_world(tmp_path), caps=Caps(files=1))
    for number in range(3):
        made.append(flights((number, "AA", 1.0 * number), (10 + number, "UA", 2.0)))
    return made


def appending(add: float = 0.0) -> Job:
    @job(target=TARGET, name="late")
    def late(rows: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.select("id", pl.col("delay") + add)

    return replace(late, source=f"{late.source} {add}")


def refresh_of(world: World, running: Job) -> Refresh:
    return Refresh(running, world.lake, Committer(world.lake), world.runtime(), ProjectNames(world))


def refreshed(world: World, running: Job) -> JobRun:
    *_, last = refresh_of(world, running).run()
    return last


def as_snapshot(world: World, running: Job) -> list[tuple[Any, ...]]:
    """What a snapshot run makes of it, in a table of its own."""
    world.run(running, "snapshot", into="gold.reference")
    return world.rows("gold.reference")


def leave(runs: Iterator[JobRun]) -> None:
    """The process that carries them out ends."""
    assert isinstance(runs, Generator)
    runs.close()


def branches(world: World, name: str = TARGET) -> list[str]:
    return sorted(set(world.table(name).metadata.refs) - {"main"})


def test_the_target_is_made_anew_and_the_job_goes_on_from_there(world: World) -> None:
    world.run(appending())
    done = refreshed(world, appending(100))
    assert world.rows() == as_snapshot(world, appending(100))
    assert (done.counts.read, done.counts.written, len(done.snapshots)) == (6, 6, 4)
    assert branches(world) == []
    assert world.run(appending(100)) is None
    world.append(flights((7, "AA", 1.0)))
    world.run(appending(100))
    assert (7, 101.0) in world.rows()
    head = world.table().current_snapshot()
    assert head is not None


def test_readers_see_the_old_rows_until_all_are_there(world: World) -> None:
    world.run(appending())
    old = world.rows()
    seen = []
    for _ in refresh_of(world, appending(100)).run():
        seen.append(world.rows())
    assert seen == [old, old, old, as_snapshot(world, appending(100))]


def test_what_was_stopped_goes_on_where_it_was(world: World) -> None:
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    leave(runs)
    old = world.rows()
    assert refresh_of(world, appending(100)).is_begun
    assert branches(world) == ["lakeflow_refresh_late", "lakeflow_refresh_late.base"]
    done = refreshed(world, appending(100))
    assert done.counts.read == 4
    assert world.rows() == as_snapshot(world, appending(100)) != old


def test_a_job_that_was_changed_meanwhile_begins_anew(world: World) -> None:
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    leave(runs)
    assert refreshed(world, appending(200)).counts.read == 6
    assert world.rows() == as_snapshot(world, appending(200))


def test_a_source_whose_rows_changed_meanwhile_is_read_anew(world: World) -> None:
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    leave(runs)
    table = world.table(SOURCE)
    Committer(world.lake).commit(Change(SOURCE, lakes.written(table, flights((5, "B6", 5.0))), replace_all=True))
    refreshed(world, appending(100))
    assert world.rows() == [(5, 105.0)]


def test_runs_of_the_job_may_go_on_meanwhile(world: World) -> None:
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    world.append(flights((7, "AA", 1.0)))
    world.run(appending())
    list(runs)
    assert world.rows() == as_snapshot(world, appending(100))
    assert world.run(appending(100)) is None


def test_another_writer_keeps_the_branch_off_until_it_is_asked_for_again(world: World) -> None:
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    Committer(world.lake).commit(Change(TARGET, lakes.written(world.table(), pa.table({"id": [99], "delay": [9.0]}))))
    with pytest.raises(Fenced, match=r"has changed while its rows were made anew.*by another writer") as refused:
        list(runs)
    assert "run the same command again" in str(refused.value)
    assert (99, 9.0) in world.rows()
    assert refreshed(world, appending(100)).counts.read == 0
    assert world.rows() == as_snapshot(world, appending(100))


def test_a_second_process_with_the_same_refresh_is_fenced(world: World) -> None:
    world.run(appending())
    first, second = refresh_of(world, appending(100)).run(), refresh_of(world, appending(100)).run()
    next(first)
    next(second)
    with pytest.raises(Fenced):
        list(first)
    list(second)
    assert world.rows() == as_snapshot(world, appending(100))


def test_what_is_abandoned_is_named_by_nothing(world: World) -> None:
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    leave(runs)
    assert refresh_of(world, appending(100)).abandon()
    assert branches(world) == []
    assert len(world.table().metadata.snapshots) == world.snapshots()
    assert len(world.stray_files()) == 1
    assert not refresh_of(world, appending(100)).abandon()


def test_a_target_that_is_not_there_is_made(world: World) -> None:
    assert refreshed(world, appending()).counts.read == 6
    assert len(world.rows()) == 6


def keyed_query(world: World, text: str) -> Job:
    return world.sql_job(f"SET 'pipeline.name' = 'g'; INSERT INTO {TARGET} {text};")


def jobs_of(world: World) -> Iterator[tuple[Job, Job]]:
    """Each kind of job: as it was, and as it is now."""

    def latest(add: int) -> Job:
        @job(target=TARGET, name="latest", key="carrier")
        def made(rows: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
            return rows.with_columns(pl.col("delay") + add)

        return made

    yield latest(0), latest(100)

    def counted(times: int) -> Job:
        @job(target=TARGET, name="counted", by="carrier")
        def made(rows: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
            return rows.group_by("carrier").agg(pl.len().cast(pl.Int64) * times)

        return made

    yield counted(1), counted(100)
    groups = "SELECT carrier, count(*) AS n, {} AS more FROM bronze.flights GROUP BY carrier"
    yield keyed_query(world, groups.format("min(id)")), keyed_query(world, groups.format("max(id)"))
    yield keyed_query(world, groups.format("min(id)")), keyed_query(world, groups.format("min(id)") + " HAVING count(*) > 3")

    def kept(add: int) -> Job:
        @job(target=TARGET, name="kept", key="carrier", history=History("valid_from", "valid_to", by="id"))
        def made(rows: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
            return rows.select("id", "carrier", (pl.col("delay") > 1) if add else pl.col("delay") > 5)

        return made

    yield kept(0), kept(1)


@pytest.mark.parametrize("number", range(5), ids=["key", "by", "groups", "the same groups", "history"])
def test_each_kind_of_job_and_what_it_keeps_between_runs(world: World, number: int) -> None:
    before, now = list(jobs_of(world))[number]
    world.run(before)
    old = world.rows()
    *_, stopped = [ran for ran, _ in zip(refresh_of(world, now).run(), range(2), strict=False)]
    assert len(stopped.snapshots) == 2
    assert world.rows() == old
    refreshed(world, now)
    assert world.rows() == as_snapshot(world, now)
    assert world.run(now) is None
    world.append(flights((1, "AA", 7.0), (30, "B6", 2.0), (31, "B6", 7.0)))
    world.run(now)
    assert world.rows() == as_snapshot(world, now)
    for name in world.lake.names():
        assert not [ref for ref in world.table(name).metadata.refs if ref.startswith("lakeflow_refresh")]


def test_a_query_that_stays_as_it_was_goes_on_with_its_groups_meanwhile(world: World) -> None:
    groups = keyed_query(world, "SELECT carrier, count(*) AS n FROM bronze.flights GROUP BY carrier")
    world.run(groups)
    runs = refresh_of(world, groups).run()
    next(runs)
    world.append(flights((7, "AA", 1.0)))
    world.run(groups)
    assert world.rows() == [("AA", 4), ("UA", 3)]
    list(runs)
    world.append(flights((8, "AA", 1.0)))
    world.run(groups)
    assert world.rows() == [("AA", 5), ("UA", 3)]


def test_what_is_kept_by_key_is_put_in_place_by_who_comes_next_where_a_refresh_died(world: World) -> None:
    groups = keyed_query(world, "SELECT carrier, count(*) AS n FROM bronze.flights GROUP BY carrier")
    world.run(groups)

    class Dies(Refresh):
        def _finish(self) -> None:
            raise KeyboardInterrupt

    dying = Dies(groups, world.lake, Committer(world.lake), world.runtime(), ProjectNames(world))
    world.append(flights((7, "AA", 1.0)))
    with pytest.raises(KeyboardInterrupt):
        list(dying.run())
    assert world.rows() == [("AA", 4), ("UA", 3)]
    with pytest.raises(Exception, match="cannot go on from its last run"):
        world.run(groups)
    list(refresh_of(world, groups).run())
    world.append(flights((8, "AA", 1.0)))
    world.run(groups)
    assert world.rows() == [("AA", 5), ("UA", 3)]


def test_jobs_that_read_everything_are_refused(world: World) -> None:
    @job(target=TARGET, name="all", mode="snapshot")
    def everything(rows: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows

    with pytest.raises(UsageError, match="reads its whole table at each run"):
        refresh_of(world, everything)


def test_a_table_that_holds_the_rows_of_others_is_not_replaced(world: World) -> None:
    world.run(appending())
    another = replace(appending(), name="another")
    with pytest.raises(UsageError, match=r"holds the rows of job\.late"):
        refreshed(world, another)


def test_the_branch_drags_few_snapshots_along(world: World) -> None:
    for number in range(8):
        world.append(flights((100 + number, "AA", 1.0)))
    world.run(appending(), "snapshot")
    runs = refresh_of(world, appending(100)).run()
    for _ in range(10):
        next(runs)
    table = world.table()
    assert head_of(table, refresh_branch(appending())) is not None
    assert len(table.metadata.snapshots) <= 1 + 5
    list(runs)
    assert world.rows() == as_snapshot(world, appending(100))


def test_queries_over_several_tables(world: World) -> None:
    other = "bronze.other"
    world.append(flights((50, "AA", 4.0)), other)
    union = f"SELECT id, delay FROM {SOURCE} UNION ALL SELECT id, delay + {{}} FROM {other}"
    world.run(keyed_query(world, union.format(0)))
    refreshed(world, keyed_query(world, union.format(10)))
    assert (50, 14.0) in world.rows()
    assert len(world.rows()) == 7
    world.append(flights((51, "AA", 4.0)), other)
    world.run(keyed_query(world, union.format(10)))
    assert (51, 14.0) in world.rows()


def test_a_join_within_a_bound(world: World) -> None:
    times = pa.schema([("k", pa.string()), ("at", pa.timestamp("us"))])
    for name, minutes in (("bronze.one", (0, 5)), ("bronze.two", (1, 6))):
        for minute in minutes:
            at = datetime(2013, 1, 1, 0, minute)
            world.append(pa.Table.from_pylist([{"k": "x", "at": at}], schema=times), name)
    text = (
        "SELECT a.at AS one, b.at AS two, {} AS version FROM bronze.one AS a JOIN bronze.two AS b "
        "ON a.k = b.k AND b.at BETWEEN a.at AND a.at + INTERVAL '2' MINUTE"
    )
    world.run(keyed_query(world, text.format(1)))
    refreshed(world, keyed_query(world, text.format(2)))
    assert [row[1:] for row in world.rows()] == [(datetime(2013, 1, 1, 0, 1), 2), (datetime(2013, 1, 1, 0, 6), 2)]
    assert world.run(keyed_query(world, text.format(2))) is None


def test_a_partitioned_target_over_a_catalog_that_knows_standard_requirements_only(world: World) -> None:
    spec = TableSpec(TARGET, pa.schema([("id", pa.int64()), ("delay", pa.float64())]), partitioning=(PartitionField("id"),))
    world = replace(world, lake=lakes.rest_like(world.lake), declared={TARGET: spec})
    world.run(appending())
    runs = refresh_of(world, appending(100)).run()
    next(runs)
    leave(runs)
    refreshed(world, appending(100))
    assert world.rows() == as_snapshot(world, appending(100))
    assert branches(world) == []
