from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

from lakeflow.declare import Origin, PartitionField, TableSpec
from lakeflow.errors import (
    CommitConflict,
    Fenced,
    JobFailed,
    LakeflowError,
    SchemaMismatch,
    SourceChanged,
    UnknownName,
    UsageError,
)
from lakeflow.job import Caps, Job, Lookup, Read, job
from lakeflow.lake.catalog import Table, arrow_schema
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.read import Split
from lakeflow.models.predict import ml_predict
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.progress import SnapshotPosition
from lakeflow.runner import bodies, execute, frames, lookups
from lakeflow.runner.engines import Threads
from lakeflow.runner.execute import RunCounts, run_job
from lakeflow.runner.lookups import Lookups
from lakeflow.testing.provider import EchoProvider
from tests.jobs import CARRIERS, FLIGHTS, NAMES, SOURCE, TARGET, World, flights
from tests.lakes import stored_files, written

Transform = Callable[..., Any]


@job(target=TARGET)
def late(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
    kept: pl.LazyFrame = rows.filter(pl.col("delay") > 0).select("id", "delay")
    return kept


@job(target=TARGET)
def named(rows: Any = Read(SOURCE), names: Any = Lookup(CARRIERS)) -> pl.LazyFrame:
    joined: pl.LazyFrame = rows.join(names, on="carrier", how="left").select("id", "name")
    return joined


@job(target=TARGET, key="id")
def last_delay(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
    kept: pl.LazyFrame = rows.select("id", "delay")
    return kept


def doing(transform: Transform, **declaration: Any) -> Job:
    """A job over SOURCE that does `transform` to its rows."""

    def transformed(rows: Any = Read(SOURCE)) -> Any:
        return transform(rows)

    return job(target=TARGET, name="transformed", **declaration)(transformed)


def carriers(**names: str) -> pa.Table:
    return pa.Table.from_pylist([{"carrier": code, "name": name} for code, name in names.items()], schema=NAMES)


# What a run does to the target


def test_an_append_job_adds_the_rows_of_what_came(world: World) -> None:
    world.append(flights((1, "AA", 5.0), (2, "AA", -1.0)))
    run = world.run(late)
    assert run is not None
    assert world.rows() == [(1, 5.0)]
    assert (run.counts, run.counts.filtered) == (RunCounts(read=2, written=1), 1)
    world.append(flights((3, "UA", 7.0)))
    following = world.run(late)
    assert following is not None
    assert (world.rows(), following.counts) == ([(1, 5.0), (3, 7.0)], RunCounts(1, 1))


def test_a_run_with_nothing_new_commits_nothing(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.run(late)
    assert world.run(late) is None
    assert world.snapshots() == 1


def test_an_update_job_replaces_the_row_of_each_key_and_the_last_one_wins(world: World) -> None:
    world.append(flights((1, "AA", 5.0), (2, "AA", 1.0), (1, "AA", 6.0)))
    world.run(last_delay)
    assert world.rows() == [(1, 6.0), (2, 1.0)]
    world.append(flights((3, "AA", 9.0), (2, "AA", None)))
    run = world.run(last_delay)
    assert run is not None
    assert world.rows() == [(1, 6.0), (2, None), (3, 9.0)]
    summary = world.table().current_snapshot()
    assert summary is not None
    assert summary.summary is not None
    facts = summary.summary.additional_properties
    assert (facts["lakeflow.rows-inserted"], facts["lakeflow.rows-updated"]) == ("1", "1")


def test_a_snapshot_run_replaces_all_that_was_there_in_one_commit(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.run(late)
    world.append(flights((2, "AA", 5.0)))
    world.append(pa.table({"id": [99], "delay": [9.9]}), TARGET)
    run = world.run(late, "snapshot")
    assert run is not None
    assert world.rows() == [(1, 5.0), (2, 5.0)]
    assert len(run.snapshots) == 1
    assert world.run(late) is None


def test_after_a_snapshot_run_of_an_older_moment_the_rest_is_read_incrementally(world: World) -> None:
    first = world.append(flights((1, "AA", 5.0)))
    world.append(flights((2, "AA", 5.0)))
    world.run(late)
    world.run(late, snapshot_id=first)
    assert world.rows() == [(1, 5.0)]
    world.run(late)
    assert world.rows() == [(1, 5.0), (2, 5.0)]


def test_into_another_table_leaves_the_target_alone_and_goes_on_by_its_own_progress(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.run(late, into="check.late")
    assert not world.lake.exists(TARGET)
    assert world.run(late, into="check.late") is None
    world.append(flights((2, "AA", 5.0)))
    world.run(late, into="check.late")
    assert world.rows("check.late") == [(1, 5.0), (2, 5.0)]
    world.run(late)
    assert world.rows() == [(1, 5.0), (2, 5.0)]


def test_a_snapshot_run_into_another_table_twice_is_the_same_table(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    for _ in range(2):
        world.run(late, "snapshot", into="check.late")
    assert world.rows("check.late") == [(1, 5.0)]


def test_a_job_that_keeps_no_row_still_moves_its_progress(world: World) -> None:
    world.append(flights((1, "AA", -5.0)))
    run = world.run(late)
    assert run is not None
    assert (world.rows(), run.counts) == ([], RunCounts(1, 0))
    assert world.progress(late) == run.end
    assert world.run(late) is None


@pytest.mark.parametrize("mode", ["incremental", "snapshot"])
def test_an_update_that_keeps_no_row_still_moves_its_progress(world: World, mode: str) -> None:
    world.append(flights((1, "AA", -5.0)))
    none = doing(lambda rows: rows.filter(pl.col("delay") > 0), key="id")
    run = world.run(none, mode)
    assert run is not None
    assert (world.rows(), world.progress(none)) == ([], run.end)


def test_a_snapshot_of_a_table_that_holds_nothing_empties_the_target(world: World) -> None:
    world.append(flights())
    world.append(pa.table({"id": [99], "delay": [9.9]}), TARGET)
    run = world.run(late, "snapshot")
    assert run is not None
    assert (world.rows(), run.counts) == ([], RunCounts())


def test_with_nothing_to_read_the_target_is_made_for_those_who_read_it(world: World) -> None:
    world.lake.ensure(TableSpec(SOURCE, FLIGHTS))
    assert world.run(late) is None
    assert arrow_schema(world.table()).names == ["id", "delay"]
    assert world.progress(late) is None
    reader = job(target="gold.further")(lambda_job("further"))
    assert world.run(reader) is None
    assert world.lake.exists("gold.further")


def lambda_job(name: str) -> Callable[..., pl.LazyFrame]:
    def function(rows: Any = Read(TARGET)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows
        return frame

    function.__name__ = name
    return function


def test_each_commit_tells_its_counts(world: World) -> None:
    world.append(flights((1, "AA", 5.0), (2, "AA", -1.0)))
    world.run(late)
    head = world.table().current_snapshot()
    assert head is not None
    assert head.summary is not None
    facts = head.summary.additional_properties
    assert (facts["lakeflow.rows-read"], facts["lakeflow.rows-written"]) == ("2", "1")


# Steps


def three_waves(world: World) -> None:
    world.caps = Caps(files=1)
    for number in (1, 2, 3):
        world.append(flights((number, "AA", float(number)), (number * 10, "AA", -1.0)))


def test_each_step_is_a_commit_and_is_told_as_it_lands(world: World) -> None:
    three_waves(world)
    plan = world.plan(late)
    told = []
    for done in run_job(plan, world.runtime()):
        told.append((done.counts, done.end, len(world.rows())))
    assert told == [(RunCounts(2 * n, n), plan.steps[n - 1].end, n) for n in (1, 2, 3)]
    assert world.snapshots() == 3


def test_stopping_between_steps_keeps_what_was_committed(world: World) -> None:
    three_waves(world)
    done = world.carry_out(world.plan(late), stop=lambda: world.lake.exists(TARGET) and world.rows() == [(1, 1.0)])
    assert done is not None
    assert (len(done.snapshots), world.rows()) == (1, [(1, 1.0)])
    world.run(late)
    assert world.rows() == [(1, 1.0), (2, 2.0), (3, 3.0)]


def test_rows_are_told_as_they_are_read(world: World) -> None:
    three_waves(world)
    told: list[int] = []
    world.carry_out(world.plan(late), on_rows=told.append)
    assert sum(told) == 6


def test_a_step_that_fails_leaves_those_before_it(world: World) -> None:
    three_waves(world)

    def second_fails(delays: pl.Series) -> pl.Series:
        if delays[0] == 2.0:
            raise ValueError("no twos")
        return delays

    failing = doing(lambda rows: rows.with_columns(pl.col("delay").map_batches(second_fails, return_dtype=pl.Float64)))
    with pytest.raises(JobFailed, match="no twos"):
        world.run(failing)
    assert [row[0] for row in world.rows()] == [1, 10]
    assert world.stray_files() == set()


# Lookups


def test_lookups_are_those_of_the_start_of_the_run(world: World) -> None:
    three_waves(world)
    world.append(carriers(AA="American"), CARRIERS)
    for done in run_job(world.plan(named), world.runtime()):
        if len(done.snapshots) == 1:
            world.append(carriers(AA="Twice"), CARRIERS)
    assert {row[1] for row in world.rows()} == {"American"}
    assert len(world.rows()) == 6


@pytest.mark.parametrize("room", [0, 1 << 20])
@pytest.mark.parametrize("workers", [1, 2])
def test_lookups_give_the_same_whether_kept_or_read_by_each_part(
    world: World, monkeypatch: pytest.MonkeyPatch, room: int, workers: int
) -> None:
    monkeypatch.setattr(lookups, "KEPT_LOOKUP_BYTES", room)
    monkeypatch.setattr(execute, "TASK_BYTES", 1)
    world.engine = Threads(workers)
    for number in range(4):
        world.append(flights((number, "AA" if number % 2 else "UA", 1.0)))
    world.append(carriers(AA="American"), CARRIERS)
    world.append(carriers(UA="United"), CARRIERS)
    world.run(named)
    assert world.rows() == [(0, "United"), (1, "American"), (2, "United"), (3, "American")]


def test_a_kept_lookup_is_read_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    original = frames.read_up_to

    def reading(table: Table, splits: Sequence[Split], most_bytes: int) -> pl.DataFrame | None:
        reads.append(table.name()[-1])
        return original(table, splits, most_bytes)

    monkeypatch.setattr(lookups, "read_up_to", reading)
    three_waves(world)
    world.append(carriers(AA="American"), CARRIERS)
    world.run(named)
    assert reads == ["carriers"]


def test_lookups_share_the_room(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.append(carriers(AA="American" * 10), CARRIERS)
    world.append(flights((1, "AA", 1.0)))

    @job(target=TARGET)
    def both(rows: Any = Read(SOURCE), a: Any = Lookup(CARRIERS), b: Any = Lookup(CARRIERS)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows
        return frame

    plan = world.plan(both)
    size = plan.lookups[0].bytes
    found = Lookups(plan.lookups, size + 20).frames()
    frames = {name: frame for name, frame in found.items() if isinstance(frame, pl.LazyFrame)}
    kept = [name for name, frame in frames.items() if "PYTHON SCAN" not in frame.explain()]
    assert kept == ["a"]


def test_a_lookup_that_cannot_be_read_is_an_error_of_the_tree(world: World) -> None:
    world.append(flights((1, "AA", 1.0)))
    world.append(carriers(AA="American"), CARRIERS)
    plan = world.plan(named)
    for file in stored_files(world.table(CARRIERS)):
        file.unlink()
    with pytest.raises(LakeflowError, match=CARRIERS):
        world.carry_out(plan)


# The target


def test_a_target_that_is_missing_is_made_of_the_jobs_columns(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.run(late)
    assert arrow_schema(world.table()).types == [pa.int64(), pa.float64()]


def declared(world: World, *columns: tuple[str, pa.DataType], **more: Any) -> None:
    spec = TableSpec(TARGET, pa.schema(columns), origin=Origin(None, 4), **more)
    world.declared = {TARGET: spec}


def test_a_declared_target_is_made_as_declared(world: World) -> None:
    declared(
        world,
        ("delay", pa.float64()),
        ("id", pa.int64()),
        ("note", pa.string()),
        partitioning=(PartitionField("id", "bucket", 2),),
        comment="late flights",
    )
    world.append(flights((1, "AA", 5.0), (2, "AA", 6.0)))
    world.run(late)
    table = world.table()
    assert [str(field.transform) for field in table.spec().fields] == ["bucket[2]"]
    assert table.properties["comment"] == "late flights"
    assert world.rows() == [(5.0, 1, None), (6.0, 2, None)]


def test_into_another_table_is_made_as_the_target_is_declared(world: World) -> None:
    declared(world, ("id", pa.int64()), ("delay", pa.float64()), ("note", pa.string()))
    world.append(flights((1, "AA", 5.0)))
    world.run(late, into="check.late")
    assert arrow_schema(world.table("check.late")).names == ["id", "delay", "note"]


@pytest.mark.parametrize("rows", [flights((1, "AA", 5.0)), flights((1, "AA", -5.0)), flights()])
def test_a_job_that_does_not_fit_a_declared_target_makes_none(world: World, rows: pa.Table) -> None:
    declared(world, ("id", pa.int64()), ("delay", pa.string()))
    world.append(rows)
    with pytest.raises(SchemaMismatch, match=r"column 'delay' of table gold.late is string and the rows bring double"):
        world.run(late)
    assert not world.lake.exists(TARGET)


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ([("id", pa.int64())], "table gold.late has no column 'delay'; it has: id"),
        (
            [("id", pa.string()), ("delay", pa.float64())],
            "column 'id' of table gold.late is large_string and the rows bring int64",
        ),
    ],
)
def test_rows_that_do_not_fit_the_target_are_refused_before_any_is_read(
    world: World, columns: list[tuple[str, pa.DataType]], said: str
) -> None:
    world.lake.ensure(TableSpec(TARGET, pa.schema(columns)))
    world.append(flights((1, "AA", 5.0)))
    told: list[int] = []
    with pytest.raises(SchemaMismatch, match=said):
        world.carry_out(world.plan(late), on_rows=told.append)
    assert told == []
    assert (world.snapshots(), world.stray_files()) == (0, set())


def test_a_required_column_that_the_job_lacks_is_refused(world: World) -> None:
    world.lake.ensure(TableSpec(TARGET, pa.schema([("id", pa.int64()), pa.field("at", pa.date32(), nullable=False)])))
    world.append(flights((1, "AA", 5.0)))
    with pytest.raises(SchemaMismatch, match=r"'at' of table gold.late is required"):
        world.run(doing(lambda rows: rows.select("id")))


def test_a_null_in_a_required_column_leaves_nothing_behind(world: World) -> None:
    world.lake.ensure(TableSpec(TARGET, pa.schema([("id", pa.int64()), pa.field("delay", pa.float64(), nullable=False)])))
    world.append(flights((1, "AA", 5.0)))
    world.append(flights((2, "AA", None)))
    with pytest.raises(SchemaMismatch, match=r"'delay' of table gold.late is required"):
        world.run(last_delay_append())
    assert (world.snapshots(), world.stray_files()) == (0, set())


def last_delay_append() -> Job:
    return doing(lambda rows: rows.select("id", "delay"))


def test_a_key_that_the_rows_lack_is_refused_before_the_target_is_made(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    with pytest.raises(UnknownName, match="the rows of job 'transformed' 'idd'; did you mean 'id'"):
        world.run(doing(lambda rows: rows, key="idd"))
    assert not world.lake.exists(TARGET)


def test_a_null_key_is_refused_and_leaves_nothing_behind(world: World) -> None:
    world.append(pa.concat_tables([flights((1, "AA", 5.0)), FLIGHTS.empty_table(), null_id()]))
    with pytest.raises(SchemaMismatch, match="key column 'id'"):
        world.run(last_delay)
    assert (world.snapshots(), world.stray_files()) == (0, set())


def null_id() -> pa.Table:
    return pa.Table.from_pylist([{"id": None, "carrier": "AA", "delay": 1.0}], schema=FLIGHTS)


# What a job may do wrong


def boom(*_: Any) -> Any:
    raise ValueError("the users own words")


WRONG: dict[str, tuple[Transform, str]] = {
    "raises": (boom, "ValueError: the users own words"),
    "unknown column": (lambda rows: rows.filter(pl.col("dleay") > 0), "dleay"),
    "raises as rows come": (
        lambda rows: rows.with_columns(pl.col("delay").map_batches(boom, return_dtype=pl.Float64)),
        "ValueError: the users own words",
    ),
    "raises as elements come": (
        lambda rows: rows.with_columns(pl.col("delay").map_elements(boom, return_dtype=pl.Float64)),
        "ValueError: the users own words",
    ),
    "cast that fails": (lambda rows: rows.with_columns(pl.col("carrier").cast(pl.Int64).cast(pl.String)), "conversion"),
    "panics": (lambda rows: panicking(), "PanicException: the end"),
}


def panicking() -> pl.LazyFrame:
    raise pl.exceptions.PanicException("the end")


@pytest.mark.parametrize("kind", ["append", "update", "complete"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_a_job_does_wrong_is_named_with_the_job_and_nothing_is_left(world: World, wrong: str, kind: str) -> None:
    transform, said = WRONG[wrong]
    world.append(pa.table({"id": [99], "carrier": ["x"], "delay": [9.9]}), TARGET)
    before = world.snapshots()
    for number in range(3):
        world.append(flights((number, "AA", 1.0)))
    failing = doing(transform, **{"append": {}, "update": {"key": "id"}, "complete": {"mode": "snapshot"}}[kind])
    with pytest.raises(JobFailed) as caught:
        world.run(failing)
    assert caught.value.message.startswith("job 'transformed' (")
    assert "test_execute.py:" in caught.value.message
    assert said in caught.value.message
    assert caught.value.__cause__ is not None
    assert caught.value.next_step == "mend the job, then: lakeflow run transformed"
    assert (world.snapshots(), world.stray_files(), world.progress(failing)) == (before, set(), None)


@pytest.mark.parametrize("returned", [pl.DataFrame({"id": [1]}), None, "rows"])
def test_a_job_must_return_a_lazyframe(world: World, returned: object) -> None:
    world.append(flights((1, "AA", 1.0)))
    with pytest.raises(JobFailed, match=rf"returned {type(returned).__name__}; it must return a polars LazyFrame") as caught:
        world.run(doing(lambda rows: returned))
    assert caught.value.next_step is not None
    assert not world.lake.exists(TARGET)


def test_errors_of_lakeflow_that_a_job_raises_come_out_as_themselves(world: World) -> None:
    world.append(flights((1, "AA", 1.0)))
    with pytest.raises(UnknownName, match="unknown model 'nope'"):
        world.run(doing(lambda rows: ml_predict(rows, "nope", ["delay"])))


class Killed(BaseException):
    """As a signal would end it."""


@pytest.mark.parametrize("kind", ["append", "update", "complete"])
@pytest.mark.parametrize("error", [Killed(), KeyboardInterrupt()])
def test_a_run_that_is_interrupted_leaves_nothing_visible_and_no_files(world: World, kind: str, error: BaseException) -> None:
    def ends(delays: pl.Series) -> pl.Series:
        if (delays == 3.0).any():
            raise error
        return delays

    for number in range(5):
        world.append(flights((number, "AA", float(number))))
    killed = doing(
        lambda rows: rows.with_columns(pl.col("delay").map_batches(ends, return_dtype=pl.Float64)),
        **{"append": {}, "update": {"key": "id"}, "complete": {"mode": "snapshot"}}[kind],
    )
    with pytest.raises(type(error)):
        world.run(killed)
    assert (world.snapshots(), world.stray_files()) == (0, set())


# Parts


def test_a_row_wise_job_gives_the_same_with_any_number_of_workers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "TASK_BYTES", 1)
    for number in range(7):
        world.append(flights(*((number * 10 + place, "AA", float(place) - 1) for place in range(4))))
    found = []
    for workers in (1, 2):
        world.engine = Threads(workers)
        run = world.run(late, "snapshot", into=f"check.by_{workers}")
        assert run is not None
        found.append((world.rows(f"check.by_{workers}"), run.counts))
    assert found[0] == found[1]
    assert found[0][1] == RunCounts(28, 14)


def test_a_job_that_is_not_row_wise_sees_all_rows_at_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "TASK_BYTES", 1)
    world.engine = Threads(2)
    for number in range(3):
        world.append(flights((number, "AA", 1.0)))
    world.run(doing(lambda rows: rows.select(count=pl.len()), mode="snapshot"))
    assert world.rows() == [(3,)]


def test_parts_that_ended_beside_the_one_that_failed_leave_no_files(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execute, "TASK_BYTES", 1)
    world.engine = EndsBeforeTheFirstFails()
    for number in range(3):
        world.append(flights((number, "AA", float(number))))

    def fails(delays: pl.Series) -> pl.Series:
        if delays[0] == 0.0:
            raise ValueError("the first")
        return delays

    with pytest.raises(JobFailed, match="the first"):
        world.run(doing(lambda rows: rows.with_columns(pl.col("delay").map_batches(fails, return_dtype=pl.Float64))))
    assert (world.snapshots(), world.stray_files()) == (0, set())


class EndsBeforeTheFirstFails:
    """An engine whose later tasks have ended when the first one fails, and nobody was handed their results."""

    def map(self, work: Any, tasks: Any) -> Any:
        for task in reversed(tasks):
            work(task)
        yield


def scored(rows: pl.LazyFrame) -> pl.LazyFrame:
    return ml_predict(rows, "echo", ["delay"]).select("id", "score")


@pytest.mark.parametrize("workers", [1, 2])
def test_models_are_found_by_every_worker(world: World, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    monkeypatch.setattr(execute, "TASK_BYTES", 1)
    spec = ModelSpec("echo", "echo", Task.REGRESSION, pa.schema([("x", pa.float64())]), pa.schema([("score", pa.float64())]))
    world.models = ModelSet([spec], EchoProvider)
    world.engine = Threads(workers)
    for number in range(6):
        world.append(flights((number, "AA", float(number))))
    world.run(doing(scored))
    answers = world.models.get("echo").predict(pa.RecordBatch.from_pydict({"x": [float(n) for n in range(6)]}, spec.input))
    assert world.rows() == list(enumerate(answers.column("score").to_pylist()))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_fails_as_rows_come_is_its_own_error(world: World, workers: int) -> None:
    spec = ModelSpec("echo", "echo", Task.REGRESSION, pa.schema([("x", pa.float64())]), pa.schema([("score", pa.float64())]))
    error = UnknownName("thing", "x", ["y"], left_behind="all", next_step="do this")
    world.models = ModelSet([spec], lambda spec: EchoProvider(spec, fail_at=0, error=error))
    world.engine = Threads(workers)
    world.append(flights((1, "AA", 1.0)))
    with pytest.raises(UnknownName) as caught:
        world.run(doing(scored))
    assert caught.value is error


# Others at the same time


@pytest.mark.parametrize("running", [late, last_delay])
def test_of_two_runs_that_started_at_once_the_second_is_fenced_and_leaves_nothing(world: World, running: Job) -> None:
    world.append(flights((1, "AA", 5.0)))
    first, second = world.plan(running), world.plan(running)
    world.carry_out(first)
    with pytest.raises(Fenced, match=rf"job\.{running.name} in table {TARGET}"):
        world.carry_out(second)
    assert (world.rows(), world.snapshots(), world.stray_files()) == ([(1, 5.0)], 1, set())
    assert world.run(running) is None


def test_a_target_dropped_after_the_plan_was_made_is_fenced(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.run(late)
    world.append(flights((2, "AA", 5.0)))
    plan = world.plan(late)
    world.lake.drop(TARGET)
    with pytest.raises(Fenced):
        world.carry_out(plan)
    world.run(late)
    assert world.rows() == [(1, 5.0), (2, 5.0)]


class Meanwhile:
    """Commits of the real protocol, with something done by others before each."""

    def __init__(self, world: World, *events: Callable[[], object]) -> None:
        self._inner = Committer(world.lake)
        self._events = list(events)

    def commit(self, change: Change) -> Committed:
        if self._events:
            self._events.pop(0)()
        return self._inner.commit(change)

    def progress(self, table: str, writer: str) -> str | None:
        return self._inner.progress(table, writer)


@pytest.mark.parametrize("running", [late, last_delay])
def test_a_target_made_anew_while_its_first_rows_are_written_is_refused(world: World, running: Job) -> None:
    world.append(flights((1, "AA", 5.0)))

    def made_anew() -> None:
        world.lake.drop(TARGET)
        world.lake.ensure(TableSpec(TARGET, pa.schema([("delay", pa.float64()), ("id", pa.int64())])))

    world.commits = Meanwhile(world, made_anew)
    with pytest.raises(SourceChanged, match=f"table {TARGET} was dropped and made anew"):
        world.run(running)
    assert world.rows() == []


def test_a_complete_run_replaces_what_others_append_meanwhile(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.commits = Meanwhile(world, lambda: world.append(pa.table({"id": [99], "delay": [9.9]}), TARGET))
    world.run(late, "snapshot")
    assert world.rows() == [(1, 5.0)]


def test_an_append_keeps_what_others_append_meanwhile(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.commits = Meanwhile(world, lambda: world.append(pa.table({"id": [99], "delay": [9.9]}), TARGET))
    world.run(late)
    assert world.rows() == [(1, 5.0), (99, 9.9)]


def test_a_merge_is_done_again_into_what_others_left_meanwhile(world: World) -> None:
    world.append(flights((1, "AA", 5.0), (2, "AA", 6.0)))
    world.run(last_delay)
    world.append(flights((1, "AA", 7.0)))
    told: list[int] = []
    world.commits = Meanwhile(world, lambda: world.append(pa.table({"id": [1, 99], "delay": [0.0, 9.9]}), TARGET))
    world.carry_out(world.plan(last_delay), on_rows=told.append)
    assert world.rows() == [(1, 7.0), (2, 6.0), (99, 9.9)]
    assert told == [1]
    assert world.stray_files().isdisjoint(newest_strays(world))


def newest_strays(world: World) -> set[Any]:
    """Stray files that no snapshot of the table ever showed."""
    table = world.table()
    shown = {task.file.file_path for s in table.snapshots() for task in table.scan(snapshot_id=s.snapshot_id).plan_files()}
    return {file for file in world.stray_files() if not any(path.endswith(file.name) for path in shown)}


def test_a_merge_that_others_always_overtake_gives_up_and_says_so(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.run(last_delay)
    world.append(flights((1, "AA", 7.0)))
    busy = [lambda: world.append(pa.table({"id": [99], "delay": [9.9]}), TARGET)] * 10
    world.commits = Meanwhile(world, *busy)
    with pytest.raises(CommitConflict):
        world.run(last_delay)
    assert newest_strays(world) == set()
    world.commits = None
    world.run(last_delay)
    assert (1, 7.0) in world.rows()


@pytest.mark.parametrize("error", [SchemaMismatch("no"), Killed()])
def test_a_merge_that_fails_leaves_no_files(world: World, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    world.append(flights((1, "AA", 5.0), (2, "AA", 6.0)))
    world.run(last_delay)
    world.append(flights((1, "AA", 7.0)))

    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(KeyedMerge, "_last_rows", fails)
    run = run_job(world.plan(last_delay), replace(world.runtime(), buffer_bytes=1))
    with pytest.raises(type(error)):
        next(run)
    assert world.stray_files() == set()
    assert world.rows() == [(1, 5.0), (2, 6.0)]


def test_a_merge_writes_files_of_the_size_that_is_set(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "CHUNK_ROWS", 1000)
    world.append(flights(*((number, "AA", float(number)) for number in range(20_000))))
    plan = world.plan(last_delay)
    for _ in run_job(plan, replace(world.runtime(), target_file_bytes=1, buffer_bytes=1 << 14)):
        pass
    assert len(list(world.table().scan().plan_files())) > 1
    assert len(world.rows()) == 20_000


def test_the_spool_of_a_merge_is_gone_after_the_run(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spool))
    world.append(flights((1, "AA", 5.0)))
    world.run(doing(lambda rows: rows.select("id", "delay"), key="id"))
    world.append(flights((1, "AA", 6.0)))
    with pytest.raises(JobFailed):
        world.run(doing(lambda rows: WRONG["raises as rows come"][0](rows.select("id", "delay")), key="id"))
    assert list(spool.iterdir()) == []


def test_the_source_may_grow_while_a_run_reads_it(world: World) -> None:
    three_waves(world)
    for _ in run_job(world.plan(late), world.runtime()):
        world.append(flights((len(world.rows(SOURCE)) + 100, "AA", 1.0)))
    assert [row[0] for row in world.rows()] == [1, 2, 3]
    world.run(late)
    assert len(world.rows()) == 6


def test_the_position_after_a_run_is_that_of_the_source(world: World) -> None:
    head = world.append(flights((1, "AA", 5.0)))
    run = world.run(late)
    assert run is not None
    position = SnapshotPosition.loads(run.end)
    assert position is not None
    assert (position.snapshot_id, position.path) == (head, None)
    assert position.table_uuid == str(world.table(SOURCE).metadata.table_uuid)


def test_a_target_that_was_rolled_back_takes_its_rows_again(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    first = world.run(late)
    world.append(flights((2, "AA", 6.0)))
    world.run(late)
    assert first is not None
    world.table().manage_snapshots().rollback_to_snapshot(first.snapshots[0]).commit()
    assert world.rows() == [(1, 5.0)]
    world.run(late)
    assert world.rows() == [(1, 5.0), (2, 6.0)]


def test_a_keyed_job_as_a_snapshot_drops_the_keys_that_its_source_has_lost(world: World) -> None:
    world.append(flights((1, "AA", 5.0), (2, "UA", 6.0), (1, "AA", 7.0)))
    world.run(last_delay)
    anew = written(world.table(SOURCE), flights((1, "AA", 8.0), (3, "UA", 9.0)))
    Committer(world.lake).commit(Change(SOURCE, anew, replace_all=True))
    world.run(last_delay, "snapshot")
    assert world.rows() == [(1, 8.0), (3, 9.0)]
    world.append(flights((3, "UA", 10.0)))
    world.run(last_delay)
    assert world.rows() == [(1, 8.0), (3, 10.0)]


def test_a_snapshot_run_left_behind_by_another_of_the_same_source_is_fenced(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.append(carriers(AA="old"), CARRIERS)
    world.run(named, "snapshot")
    left_behind = world.plan(named, "snapshot")
    world.append(carriers(UA="more"), CARRIERS)
    world.run(named, "snapshot")
    with pytest.raises(Fenced):
        world.carry_out(left_behind)


def test_a_job_s_one_cap_leaves_the_others_to_the_settings(world: World) -> None:
    for number in range(4):
        world.append(flights((number, "AA", 5.0), (number + 10, "AA", 5.0)))
    world.caps = Caps(rows=2)
    assert len(world.plan(doing(lambda rows: rows, max_files=3)).steps) == 4


def test_a_snapshot_run_does_not_replace_the_rows_of_another_engine(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    world.append(flights((1, "AA", 5.0)), "gold.foreign")
    with pytest.raises(UsageError, match="holds the rows of somebody else"):
        world.run(late, "snapshot", into="gold.foreign")


def leaving(code: int) -> pl.LazyFrame:
    raise SystemExit(code)


def test_a_job_that_exits_has_failed(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    with pytest.raises(JobFailed, match="SystemExit: 0"):
        world.run(doing(lambda rows: leaving(0)))


def test_a_second_signal_ends_the_process_from_within_a_job(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    with pytest.raises(SystemExit):
        world.run(doing(lambda rows: leaving(143)))


def test_rows_without_columns_are_refused(world: World) -> None:
    world.append(flights((1, "AA", 5.0)))
    with pytest.raises(JobFailed, match="rows without columns"):
        world.run(doing(lambda rows: rows.select([])))
