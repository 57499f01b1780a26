"""Joins within a bound: what a step reads, what it leaves in the target, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import PartitionField, TableSpec
from lakeflow.errors import DeclarationError, Fenced, JobFailed, SchemaMismatch, SourceChanged, UnknownName, UsageError
from lakeflow.job import Caps, Job, Output
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.registry import ModelSet
from lakeflow.runner.interval_plan import met
from lakeflow.runner.interval_read import meeting
from lakeflow.runner.plan import JobPlan
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.failing import Failing, spec_of
from tests.jobs import World

ONE, OTHER, TARGET = "bronze.one", "bronze.other", "gold.joined"
ZERO = datetime(2026, 1, 1)
ROWS = pa.schema([("k", pa.string()), ("at", pa.timestamp("us")), ("v", pa.float64())])
BOUND = "a.k = b.k AND b.at BETWEEN a.at - INTERVAL '1' MINUTE AND a.at + INTERVAL '10' MINUTE"

Row = tuple[str | None, int | None, float]


def rows(*given: Row) -> pa.Table:
    """Key, minutes behind ZERO, value."""
    at = (None if minutes is None else ZERO + timedelta(minutes=minutes) for _, minutes, _ in given)
    named = [{"k": k, "at": moment, "v": v} for (k, _, v), moment in zip(given, at, strict=True)]
    return pa.Table.from_pylist(named, schema=ROWS)


def inner(world: World, select: str = "a.k, a.v, b.v AS w", more: str = "") -> Job:
    return world.sql_job(f"INSERT INTO {TARGET} SELECT {select} FROM {ONE} AS a JOIN {OTHER} AS b ON {BOUND} {more};")


def left(world: World) -> Job:
    return world.sql_job(f"INSERT INTO {TARGET} SELECT a.k, a.at, a.v, b.v AS w FROM {ONE} a LEFT JOIN {OTHER} b ON {BOUND};")


def stocked(world: World) -> World:
    world.append(rows(("x", 0, 1.0), ("y", 0, 2.0)), ONE)
    world.append(rows(("x", 5, 3.0)), OTHER)
    return world


def test_each_step_reads_new_rows_of_one_table_and_the_run_goes_on_from_there(world: World) -> None:
    world = stocked(world)
    world.caps = Caps(files=1)
    world.append(rows(("y", 5, 4.0)), OTHER)
    job = inner(world)
    new = [[source.name for source in step.reads if source.splits] for step in world.plan(job).steps]
    assert new == [[OTHER], [ONE]]  # with nothing to meet, both files of the other are passed at once
    ran = world.run(job)
    assert ran is not None
    assert (ran.counts.read, ran.counts.written) == (4, 2)
    assert world.rows(TARGET) == [("x", 1.0, 3.0), ("y", 2.0, 4.0)]
    kept = json.loads(world.progress(job, TARGET) or "")
    assert (sorted(kept["tables"]), kept["state"]) == ([ONE, OTHER], {"joined": [ONE, OTHER]})
    assert world.run(job) is None
    world.append(rows(("x", -4, 5.0), ("x", -7, 6.0)), ONE)  # late: the one meets what is there, the other nothing
    ran = world.run(job)
    assert ran is not None
    assert (ran.counts.read, ran.counts.written, ran.counts.filtered) == (2, 1, 1)
    assert world.rows(TARGET) == [("x", 1.0, 3.0), ("x", 5.0, 3.0), ("y", 2.0, 4.0)]
    for minute in (8, 9):
        world.append(rows(("x", minute, 1.0)), ONE)
        world.append(rows(("x", minute, 1.0)), OTHER)
    new = [[source.name for source in step.reads if source.splits] for step in world.plan(job).steps]
    assert new == [[OTHER], [OTHER], [ONE], [ONE]]


def test_a_table_that_is_empty_first_is_joined_once_it_has_rows(world: World) -> None:
    world.append(rows(("x", 0, 1.0)), ONE)
    world.lake.ensure(TableSpec(OTHER, ROWS))
    job = inner(world)
    world.run(job)
    assert world.rows(TARGET) == []
    world.append(rows(("x", 10, 2.0)), OTHER)
    world.run(job)
    assert world.rows(TARGET) == [("x", 1.0, 2.0)]


def test_a_snapshot_run_is_gone_on_from_and_a_query_may_write_columns_large(world: World) -> None:
    job = stocked(world).sql_job(
        f"INSERT INTO {TARGET} SELECT A.K, A.AT, B.V FROM {ONE} AS A LEFT JOIN {OTHER} AS B ON {BOUND.replace('a.k', 'a.K')};"
    )
    world.run(job, "snapshot")
    assert world.run(job) is None
    world.append(rows(("y", 1, 7.0)), OTHER)
    world.run(job)
    assert [(k, v) for k, _, v in world.rows(TARGET)] == [("x", 3.0), ("y", 7.0)]


def test_rows_without_a_match_stand_until_it_comes(world: World) -> None:
    job = left(stocked(world))
    world.append(rows((None, 0, 8.0), ("y", None, 9.0)), ONE)
    world.run(job)
    alone: list[tuple[Any, ...]] = [("y", None, 9.0, None), (None, ZERO, 8.0, None)]
    assert world.rows(TARGET) == [("x", ZERO, 1.0, 3.0), ("y", ZERO, 2.0, None), *alone]
    world.append(rows(("y", 10, 4.0), ("y", 11, 5.0), ("x", 11, 5.0)), OTHER)
    ran = world.run(job)
    assert ran is not None
    assert (ran.counts.read, ran.counts.written) == (3, 1)
    assert world.rows(TARGET) == [("x", ZERO, 1.0, 3.0), ("y", ZERO, 2.0, 4.0), *alone]


@pytest.fixture
def wide(world: World) -> World:
    """Twelve hours on both sides, a file each, partitioned by nothing; the target is up to date."""
    for table in (ONE, OTHER):
        world.lake.ensure(TableSpec(table, ROWS))
        for hour in range(12):
            world.append(rows(("x", 60 * hour, float(hour)), ("y", 60 * hour, float(hour))), table)
    return world


def reads_of(plan: JobPlan) -> list[tuple[int, int]]:
    """For each step how many files of the two tables it reads."""
    return [(len(first.splits), len(second.splits)) for first, second in (meeting(step).reads for step in plan.steps)]


@pytest.mark.parametrize("kind", ["inner", "left"])
def test_the_files_that_are_read_follow_the_change(wide: World, kind: str) -> None:
    job = inner(wide) if kind == "inner" else left(wide)
    wide.run(job)
    wide.append(rows(("x", 60 * 7 + 3, 1.0)), ONE)
    assert reads_of(wide.plan(job)) == [(1, 0)]  # three minutes behind a row of the other, and the bound is one
    wide.append(rows(("x", 60 * 4 + 3, 1.0)), OTHER)
    wide.append(rows(("x", 60 * 10 - 1, 2.0)), OTHER)
    plan = wide.plan(job)
    # New rows of the other meet two files of the first. Where rows of that come again, so does what they met before.
    assert reads_of(plan) == ([(2, 2), (1, 0)] if kind == "inner" else [(2, 4), (1, 0)])
    found = met(plan)
    assert found is not None
    assert found.bound == "by k, at from -0:01:00 to +0:10:00 of at"
    assert found.files == (2 if kind == "inner" else 4)
    ran = wide.run(job)
    assert ran is not None
    assert ran.counts.read == 3
    wide.append(rows(("z", 60 * 4, 1.0)), OTHER)  # a key that no known row has
    assert reads_of(wide.plan(job)) == ([(0, 1)] if kind == "inner" else [(0, 0)])


def test_partitions_tell_of_times_where_statistics_do_not(world: World) -> None:
    for table in (ONE, OTHER):
        world.lake.ensure(TableSpec(table, ROWS, partitioning=(PartitionField("at", "day"),)))
    world.append(rows(("x", 0, 1.0), ("x", 60 * 24 * 3, 2.0), ("x", 60 * 24 * 5, 3.0)), ONE)
    job = inner(world)
    world.run(job)
    world.append(rows(("x", 60 * 24 * 3 + 1, 9.0)), OTHER)
    assert reads_of(world.plan(job)) == [(1, 1)]
    world.run(job)
    assert world.rows(TARGET) == [("x", 2.0, 9.0)]


def test_a_function_is_given_both_tables(world: World) -> None:
    within = lf.Within("k", times="at", before="1m", after="10m")

    @lf.job(target=TARGET, within=within)
    def joined(one: Any = lf.Read(ONE), other: Any = lf.Read(OTHER), names: Any = lf.Lookup("dim.names")) -> pl.LazyFrame:
        return within.join(one, other).join(names, on="k", how="left").select("k", "v", "v_right", "name")

    world.append(pa.table({"k": ["x"], "name": ["Ex"]}), "dim.names")
    stocked(world).run(joined)
    world.append(rows(("x", 6, 4.0)), OTHER)
    world.run(joined)
    assert world.rows(TARGET) == [("x", 1.0, 3.0, "Ex"), ("x", 1.0, 4.0, "Ex")]


def test_a_function_that_changes_what_rows_are_found_by_is_refused(world: World) -> None:
    within = lf.Within("k", times="at", after="10m", how="left")

    @lf.job(target=TARGET, within=within)
    def joined(one: Any = lf.Read(ONE), other: Any = lf.Read(OTHER)) -> pl.LazyFrame:
        return within.join(one, other).select(pl.col("k").str.to_uppercase(), "at", "v")

    with pytest.raises(JobFailed, match="keeps rows of the first table without a match, by k, at, and gave a row"):
        stocked(world).run(joined)
    assert world.rows(TARGET) == []

    @lf.job(target="gold.less", within=within)
    def less(one: Any = lf.Read(ONE), other: Any = lf.Read(OTHER)) -> pl.LazyFrame:
        return within.join(one, other).select("k", "v")

    with pytest.raises(UnknownName, match="column of the rows of job 'less' 'at'"):
        world.run(less)
    assert not world.lake.exists("gold.less")


ASKED = "CROSS JOIN LATERAL TABLE(ML_PREDICT('failing', b.v)) AS p"


def test_models_are_asked_about_pairs_and_the_step_that_left_letters_comes_first(world: World) -> None:
    """The last commit of the step of the first table dies: its letters have landed. Then the other table gets rows."""
    world.models = ModelSet([spec_of("failing", on_error="dead_letter")], lambda spec: Failing(spec, lambda x: x < 0))
    world.append(rows(("x", 0, 1.0)), ONE)
    world.append(rows(("x", 1, 2.0), ("y", 1, -3.0), ("y", 2, 4.0)), OTHER)
    job, crashes = inner(world, "a.k, p.y", ASKED), Crashes()
    world.run(job)
    world.append(rows(("y", 0, 1.0)), ONE)
    with crashes.survived(Plan(Where.BEFORE_COMMIT, 2), world.lake):
        world.run(job)
    assert crashes.happened == 1
    world.append(rows(("x", 3, -5.0), ("x", 4, 6.0)), OTHER)
    assert [bool(step.reads[0].splits) for step in world.plan(job).steps] == [True, False]
    world.run(job)
    assert world.rows(TARGET) == [("x", 4.0), ("x", 12.0), ("y", 8.0)]
    assert world.table(DEAD_LETTERS).scan().to_arrow().num_rows == 2


def test_groups_of_pairs_are_kept_by_key_whatever_dies(world: World) -> None:
    """The second commit of a step dies: what is kept is a step ahead, and the next run makes rows of it alone."""
    grouped = f"INSERT INTO {TARGET} SELECT a.k, count(*) AS n, CAST(sum(b.v) AS DOUBLE) AS w FROM {ONE} AS a JOIN {OTHER} AS b"
    job, crashes = stocked(world).sql_job(f"{grouped} ON {BOUND} GROUP BY a.k;"), Crashes()
    world.run(job)
    assert world.rows(TARGET) == [("x", 1, 3.0)]
    world.append(rows(("x", 6, 4.0), ("y", 6, 5.0), ("y", 20, 6.0)), OTHER)
    world.append(rows(("x", 1, 1.0)), ONE)
    with crashes.survived(Plan(Where.BEFORE_COMMIT, 1), world.lake):
        world.run(job)
    assert crashes.happened == 1
    plan = world.plan(job)
    assert [len(step.reads) for step in plan.steps] == [0, 2]
    assert met(plan) is not None
    world.carry_out(plan)
    assert world.rows(TARGET) == [("x", 4, 14.0), ("y", 1, 5.0)]
    world.run(job, "snapshot", into="gold.whole")
    assert world.rows("gold.whole") == world.rows(TARGET)


def removed(world: World, table: str) -> None:
    """The first file of a table goes."""
    [first, *_] = world.table(table).scan().plan_files()
    head = world.table(table).metadata.current_snapshot_id
    Committer(world.lake).commit(Change(table, (), (first.file,), base=head))


def test_rows_that_went_are_answered_as_on_change_says(world: World) -> None:
    job = inner(stocked(world))
    world.run(job)
    removed(world, ONE)
    world.append(rows(("x", 6, 4.0), ("z", 0, 1.0)), OTHER)
    world.append(rows(("z", 0, 1.0)), ONE)
    with pytest.raises(SourceChanged, match=ONE):
        world.run(job)
    passing = world.sql_job(
        f"SET 'lakeflow.on-change' = 'ignore_deletes'; SET 'pipeline.name' = '{job.name}'; "
        f"INSERT INTO {TARGET} SELECT a.k, a.v, b.v AS w FROM {ONE} AS a JOIN {OTHER} AS b ON {BOUND};"
    )
    world.run(passing)
    assert world.rows(TARGET) == [("x", 1.0, 3.0), ("z", 1.0, 1.0)]
    with pytest.raises(DeclarationError, match="keeps what it made of rows that are gone; valid: 'fail', 'ignore_deletes'"):
        world.sql_job(
            f"SET 'lakeflow.on-change' = 'recompute'; INSERT INTO {TARGET} SELECT a.k FROM {ONE} a JOIN {OTHER} b ON {BOUND};"
        )


def test_known_rows_are_read_of_the_head_and_snapshots_may_have_expired(world: World) -> None:
    job = inner(stocked(world))
    world.run(job)
    for minute in (6, 7):
        for table in (ONE, OTHER):
            lakes.append(world.lake, rows(("x", minute, float(minute))), keep=2, name=table)
    assert len(world.table(ONE).metadata.snapshots) == len(world.table(OTHER).metadata.snapshots) == 2
    world.run(job)
    assert world.rows(TARGET, "v, w") == [
        ("x", v, w) for v, w in ((1, 3), (1, 6), (1, 7), (6, 3), (6, 6), (6, 7), (7, 6), (7, 7))
    ]


def test_of_two_processes_with_the_same_job_one_is_fenced(world: World) -> None:
    job = inner(stocked(world))
    world.run(job)
    world.append(rows(("x", 6, 4.0)), OTHER)
    world.append(rows(("x", 1, 2.0)), ONE)
    behind = world.plan(job)
    world.run(job)
    with pytest.raises(Fenced):
        world.carry_out(behind)
    assert world.rows(TARGET) == [("x", 1.0, 3.0), ("x", 1.0, 4.0), ("x", 2.0, 3.0), ("x", 2.0, 4.0)]


def test_a_table_that_was_made_anew_is_refused(world: World) -> None:
    job = inner(stocked(world))
    world.run(job)
    world.lake.drop(OTHER)
    world.append(rows(("x", 6, 4.0)), OTHER)
    with pytest.raises(SourceChanged, match=OTHER):
        world.run(job)


def test_a_job_that_read_one_table_alone_goes_on_with_the_other(world: World) -> None:
    alone = stocked(world).sql_job(f"INSERT INTO {TARGET} SELECT k, v, v AS w FROM {ONE};")
    world.run(alone)
    world.run(replace(inner(world), name=alone.name))
    assert world.rows(TARGET) == [("x", 1.0, 1.0), ("x", 1.0, 3.0), ("y", 2.0, 2.0)]


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        (
            {"at": pa.date32()},
            SchemaMismatch,
            "on column 'at' of bronze.one, which is date32.*valid: a column of type TIMESTAMP.6.",
        ),
        ({"v": pa.float64()}, UsageError, "unknown column 'k'"),
        ({"k": pa.list_(pa.string())}, (SchemaMismatch, UsageError), "by column 'k' of bronze.one, which is .*list"),
    ],
)
def test_columns_that_make_no_join_are_refused(
    world: World, columns: dict[str, pa.DataType], error: type[Exception] | tuple[type[Exception], ...], message: str
) -> None:
    schema = pa.schema([field if (kind := columns.get(field.name)) is None else field.with_type(kind) for field in ROWS])
    if "v" in columns:
        schema = schema.remove(schema.get_field_index("k"))
    world.lake.ensure(TableSpec(ONE, schema))
    world.append(rows(("x", 5, 3.0)), OTHER)
    with pytest.raises(error, match=message):
        world.plan(inner(world))


@pytest.mark.parametrize(
    ("times", "error", "message"), [(("at", "when"), UnknownName, "'when'"), ("v", SchemaMismatch, "which is double")]
)
def test_columns_of_a_function_are_looked_for_in_its_tables(
    world: World, times: str | tuple[str, str], error: type[Exception], message: str
) -> None:
    within = lf.Within("k", times=times, after="1m")

    @lf.job(target=TARGET, within=within)
    def joined(one: Any = lf.Read(ONE), other: Any = lf.Read(OTHER)) -> pl.LazyFrame:
        return within.join(one, other)

    with pytest.raises(error, match=message):
        stocked(world).plan(joined)


def test_a_target_with_a_key_is_refused(world: World) -> None:
    stocked(world)
    world.declared = {TARGET: TableSpec(TARGET, pa.schema([("k", pa.string())]), primary_key=("k",))}
    with pytest.raises(DeclarationError, match=r"has a PRIMARY KEY, of which the last row stands, .* by a join of two tables"):
        world.plan(inner(world, "a.k"))


def test_a_snapshot_job_needs_no_bound(world: World) -> None:
    job = stocked(world).sql_job(f"INSERT OVERWRITE {TARGET} SELECT a.k FROM {ONE} a JOIN {OTHER} b ON {BOUND};")
    assert (job.within, job.output) == (None, Output.COMPLETE)
    world.run(job)
    assert world.rows(TARGET) == [("x",)]


def test_keys_of_other_types_meet_as_the_query_has_it(world: World) -> None:
    """Texts of numbers: files are chosen by time alone."""
    world.append(rows(("1", 0, 1.0), ("2", 0, 2.0)), ONE)
    schema = pa.schema([("k", pa.int64()), ("at", pa.timestamp("us")), ("v", pa.float64())])
    numbers: Sequence[dict[str, Any]] = [{"k": 1, "at": ZERO, "v": 7.0}]
    world.append(pa.Table.from_pylist(numbers, schema=schema), OTHER)
    job = left(world)
    world.run(job)
    world.append(pa.Table.from_pylist([{"k": 2, "at": ZERO, "v": 8.0}], schema=schema), OTHER)
    world.run(job)
    assert [(k, w) for k, _, _, w in world.rows(TARGET)] == [("1", 7.0), ("2", 8.0)]
