from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.table import FileScanTask
from pyiceberg.typedef import Record

from lakeflow.errors import DeclarationError, SourceChanged, UnknownName, UsageError
from lakeflow.job import Caps, Job, Lookup, Mode, Output, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import Split
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.plan import JobPlan, Request, pack
from tests.jobs import CARRIERS, FLIGHTS, SOURCE, TARGET, World, flights, moment_of
from tests.lakes import written


@job(target=TARGET)
def late(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
    frame: pl.LazyFrame = rows.filter(pl.col("delay") > 0)
    return frame


@job(target=TARGET, mode="snapshot")
def two_tables(rows: Any = Read(SOURCE), others: Any = Read(CARRIERS)) -> pl.LazyFrame:
    frame: pl.LazyFrame = pl.concat([rows, others], how="diagonal")
    return frame


@job(target=TARGET)
def joined(rows: Any = Read(SOURCE), names: Any = Lookup(CARRIERS)) -> pl.LazyFrame:
    frame: pl.LazyFrame = rows.join(names, on="carrier")
    return frame


def capped(**caps: int) -> Job:
    return job(target=TARGET, **caps)(late.function)  # type: ignore[arg-type]


def ids_of(plan: JobPlan) -> list[list[int]]:
    """For each step, how many rows each split holds."""
    return [[split.rows for source in step.reads for split in source.splits] for step in plan.steps]


def filled(world: World, *sizes: int) -> list[int]:
    """A commit of each size; their snapshots."""
    return [world.append(flights(*((row, "AA", 1.0) for row in range(size)))) for size in sizes]


def test_an_incremental_plan_reads_what_was_appended_since_the_targets_progress(world: World) -> None:
    filled(world, 3, 4)
    plan = world.plan(late)
    assert (plan.mode, plan.output, plan.target, plan.start) == (Mode.INCREMENTAL, Output.APPEND, TARGET, None)
    assert ids_of(plan) == [[3, 4]]
    assert (plan.rows, plan.files, plan.is_row_wise) == (7, 2, True)
    world.carry_out(plan)
    assert world.plan(late).steps == ()
    filled(world, 5)
    following = world.plan(late)
    assert (following.start, ids_of(following)) == (plan.steps[-1].end, [[5]])


def test_planning_changes_nothing(world: World) -> None:
    filled(world, 3)
    assert world.plan(late) == world.plan(late)
    assert not world.lake.exists(TARGET)


def test_a_plan_for_a_table_that_holds_nothing_has_no_step(world: World) -> None:
    filled(world, 1)
    world.lake.drop(SOURCE)
    world.append(FLIGHTS.empty_table())
    assert world.plan(late).steps == ()


@pytest.mark.parametrize(
    ("caps", "steps"),
    [
        ({"max_files": 2}, [[3, 4], [5]]),
        ({"max_rows": 7}, [[3, 4], [5]]),
        ({"max_rows": 8}, [[3, 4], [5]]),
        ({"max_rows": 1}, [[3], [4], [5]]),
        ({"max_bytes": 1}, [[3], [4], [5]]),
        ({"max_files": 3, "max_rows": 9}, [[3, 4], [5]]),
    ],
)
def test_a_batch_is_cut_by_files_rows_or_bytes_and_holds_one_file_at_the_least(
    world: World, caps: dict[str, int], steps: list[list[int]]
) -> None:
    filled(world, 3, 4, 5)
    assert ids_of(world.plan(capped(**caps))) == steps


def test_the_caps_of_the_job_go_before_those_of_the_settings_as_a_whole(world: World) -> None:
    filled(world, 3, 4, 5)
    world.caps = Caps(files=1)
    assert ids_of(world.plan(late)) == [[3], [4], [5]]
    assert ids_of(world.plan(capped(max_rows=7))) == [[3, 4], [5]]


def test_each_step_ends_where_the_next_one_begins(world: World) -> None:
    snapshots = filled(world, 3, 4, 5)
    ends = [SnapshotPosition.loads(step.end) for step in world.plan(capped(max_files=1)).steps]
    assert [end.sequence for end in ends if end] == [1, 2, 3]
    assert {end.snapshot_id for end in ends if end} == {snapshots[-1]}


def test_an_append_job_replaces_the_whole_table_in_snapshot_mode(world: World) -> None:
    filled(world, 3, 4)
    world.run(late)
    plan = world.plan(late, "snapshot")
    assert (plan.mode, plan.output, ids_of(plan)) == (Mode.SNAPSHOT, Output.COMPLETE, [[3, 4]])
    assert plan.start is not None


def test_the_caps_do_not_cut_a_snapshot(world: World) -> None:
    filled(world, 3, 4, 5)
    assert ids_of(world.plan(capped(max_files=1), "snapshot")) == [[3, 4, 5]]


def test_a_job_that_updates_does_so_in_both_modes(world: World) -> None:
    filled(world, 3)
    keyed = job(target=TARGET, key="id")(late.function)
    assert [world.plan(keyed, mode).output for mode in ("incremental", "snapshot")] == [Output.UPDATE] * 2
    assert not world.plan(keyed).is_row_wise


def test_a_snapshot_is_read_by_its_id(world: World) -> None:
    first, _ = filled(world, 3, 4)
    plan = world.plan(late, snapshot_id=first)
    assert (plan.mode, ids_of(plan)) == (Mode.SNAPSHOT, [[3]])
    end = SnapshotPosition.loads(plan.steps[0].end)
    assert end is not None
    assert (end.snapshot_id, end.sequence, end.path) == (first, 1, None)


def test_a_snapshot_that_is_not_there_is_refused_with_those_that_are(world: World) -> None:
    [only] = filled(world, 3)
    with pytest.raises(UnknownName, match=str(only)):
        world.plan(late, snapshot_id=1)


def test_a_table_is_read_as_of_a_moment(world: World) -> None:
    first, second = filled(world, 3, 4)
    table = world.table(SOURCE)
    assert ids_of(world.plan(late, as_of=moment_of(table, second))) == [[3, 4]]
    if moment_of(table, second) > moment_of(table, first):
        assert ids_of(world.plan(late, as_of=moment_of(table, first))) == [[3]]
    assert ids_of(world.plan(late, as_of=moment_of(table, first) - timedelta(seconds=1))) == [[]]


@pytest.mark.parametrize("moment", [{"snapshot_id": 1}, {"as_of": datetime(2013, 1, 1)}])
def test_a_moment_goes_with_snapshot_mode_only(moment: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="--mode snapshot"):
        Request(Mode.INCREMENTAL, **moment)  # type: ignore[arg-type]


def test_a_snapshot_and_a_moment_exclude_each_other() -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        Request(snapshot_id=1, as_of=datetime(2013, 1, 1))


def test_two_tables_are_not_read_incrementally(world: World) -> None:
    filled(world, 1)
    with pytest.raises(DeclarationError, match=r"test_plan.py:\d+: job 'two_tables' reads 2 tables incrementally") as caught:
        world.plan(two_tables, "incremental")
    assert isinstance(caught.value, UsageError)


def test_two_incremental_reads_name_both_tables_and_the_way_out(world: World) -> None:
    double = job(target=TARGET)(two_tables.function)
    with pytest.raises(DeclarationError, match=rf"{SOURCE}, {CARRIERS}.*make all but one an lf.Lookup"):
        world.plan(double)


def test_two_tables_are_read_in_one_step_of_a_snapshot(world: World) -> None:
    filled(world, 3)
    world.append(flights((1, "AA", 1.0), (2, "AA", 1.0)), CARRIERS)
    assert ids_of(world.plan(two_tables)) == [[3, 2]]


def test_a_snapshot_id_is_of_one_table(world: World) -> None:
    [snapshot] = filled(world, 3)
    with pytest.raises(UsageError, match="a snapshot id is of one table") as caught:
        world.plan(two_tables, snapshot_id=snapshot)
    assert caught.value.next_step == "lakeflow run two_tables --mode snapshot --as-of TIME"


def test_a_complete_job_does_not_run_incrementally(world: World) -> None:
    filled(world, 1)
    whole = job(target=TARGET, mode="snapshot")(late.function)
    with pytest.raises(UsageError, match="replaces its whole table") as caught:
        world.plan(whole, "incremental")
    assert caught.value.next_step == "lakeflow run late --mode snapshot"


def test_lookups_are_whole_at_the_head_of_their_table(world: World) -> None:
    filled(world, 3)
    world.append(flights((1, "AA", 1.0)), CARRIERS)
    head = world.append(flights((2, "UA", 1.0)), CARRIERS)
    [lookup] = world.plan(joined).lookups
    assert (lookup.parameter, lookup.name, lookup.snapshot_id, lookup.rows) == ("names", CARRIERS, head, 2)


@pytest.mark.parametrize("missing", [SOURCE, CARRIERS])
def test_a_missing_table_is_named(world: World, missing: str) -> None:
    world.append(flights((1, "AA", 1.0)), CARRIERS if missing == SOURCE else SOURCE)
    with pytest.raises(UnknownName, match=rf"unknown table, read by job 'joined' .*'{missing}'"):
        world.plan(joined)


@pytest.mark.parametrize("into", [SOURCE, CARRIERS])
def test_a_job_does_not_write_into_what_it_reads(world: World, into: str) -> None:
    filled(world, 1)
    world.append(flights((1, "AA", 1.0)), CARRIERS)
    with pytest.raises(UsageError, match=f"job 'joined' reads {into}, so it cannot write to it"):
        world.plan(joined, into=into)


def test_into_another_table_goes_by_the_progress_of_that_table(world: World) -> None:
    filled(world, 3)
    world.run(late)
    plan = world.plan(late, into="check.late")
    assert (plan.target, plan.start, ids_of(plan)) == ("check.late", None, [[3]])


def test_a_source_that_was_overwritten_is_refused_with_the_snapshot(world: World) -> None:
    filled(world, 3)
    world.run(late)
    rows = written(world.table(SOURCE), flights((9, "UA", 1.0)))
    overwrite = Committer(world.lake).commit(Change(SOURCE, rows, replace_all=True)).snapshot_id
    with pytest.raises(SourceChanged, match=str(overwrite)) as caught:
        world.plan(late)
    assert "--mode snapshot" in (caught.value.next_step or "")
    world.run(late, "snapshot")
    assert world.plan(late).steps == ()


def test_a_source_that_was_made_anew_is_refused(world: World) -> None:
    filled(world, 3)
    world.run(late)
    world.lake.drop(SOURCE)
    filled(world, 2)
    with pytest.raises(SourceChanged, match=f"table {SOURCE} was dropped and made anew"):
        world.plan(late)
    world.run(late, "snapshot")
    assert len(world.rows()) == 2
    assert world.plan(late).steps == ()


def test_a_target_that_was_dropped_is_filled_from_the_beginning(world: World) -> None:
    filled(world, 3)
    world.run(late)
    world.lake.drop(TARGET)
    assert (world.plan(late).start, ids_of(world.plan(late))) == (None, [[3]])


def a_split(number: int, size: int) -> Split:
    data_file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=f"{number:06d}.parquet",
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=1,
        file_size_in_bytes=size,
    )
    return Split(1, FileScanTask(data_file))


SIZES = st.lists(st.integers(1, 40), max_size=30)


@given(sizes=SIZES, target=st.integers(1, 60))
def test_packing_keeps_every_split_in_its_order(sizes: list[int], target: int) -> None:
    splits = [a_split(number, size) for number, size in enumerate(sizes)]
    groups = pack(splits, target)
    assert [split.path for group in groups for split in group] == [split.path for split in splits]
    assert all(groups)


@given(sizes=SIZES, target=st.integers(1, 60))
def test_packed_groups_are_within_the_target_and_as_full_as_they_can_be(sizes: list[int], target: int) -> None:
    groups = pack([a_split(number, size) for number, size in enumerate(sizes)], target)
    for number, group in enumerate(groups):
        size = sum(split.bytes for split in group)
        assert size <= target or len(group) == 1
        if number + 1 < len(groups):
            assert size + groups[number + 1][0].bytes > target


def test_packing_looks_at_each_split_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def size(split: Split) -> int:
        looked.append(1)
        return 1

    monkeypatch.setattr(Split, "bytes", property(size))
    splits = [a_split(number, 1) for number in range(500)]
    assert len(pack(splits, 1 << 20)) == 1
    assert len(looked) <= 2 * len(splits)


def renamed(of: Job, name: str) -> Job:
    return replace(of, name=name)


@pytest.mark.parametrize("mode", ["incremental", "snapshot"])
def test_a_job_under_a_new_name_does_not_write_its_rows_again(world: World, mode: str) -> None:
    filled(world, 2)
    world.run(late)
    with pytest.raises(UsageError, match=r"gold\.late holds the rows of job\.late; job 'renamed'") as caught:
        world.plan(renamed(late, "renamed"), mode)
    assert caught.value.next_step is not None
    assert "lakeflow tables drop gold.late --yes" in caught.value.next_step


def test_a_snapshot_run_does_not_replace_what_another_writer_made(world: World) -> None:
    filled(world, 2)
    world.run(late)
    with pytest.raises(UsageError, match="would repeat or replace them"):
        world.plan(renamed(late, "other"), "snapshot", into=TARGET)


def test_a_job_writes_no_table_of_the_system(world: World) -> None:
    filled(world, 2)
    with pytest.raises(UsageError, match="lakeflow's own"):
        world.plan(late, "snapshot", into="lakeflow.runs")
