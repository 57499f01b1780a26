"""What is expected of a job's rows and of its target: told, left out, kept as dead letters, or held back on a branch."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, ExpectationFailed, Fenced, JobFailed, LakeflowError, UnknownName
from lakeflow.expect import Expectation, Finding
from lakeflow.job import Caps, Job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.lake.moments import at_ref
from lakeflow.lake.read import read, splits_at
from lakeflow.runner.execute import JobRun
from lakeflow.runner.expected_table import miscounted
from lakeflow.runner.expecting import branch_of
from lakeflow.testing.source import Crash
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.jobs import CARRIERS, NAMES, SOURCE, TARGET, World, flights

Flight = tuple[int, str | None, float | None]
GOOD: Flight = (1, "AA", 1.0)
BAD: Flight = (2, "ZZ", -5.0)


def job_with(*expect: Expectation, **options: Any) -> Job:
    @lf.job(target=TARGET, expect=expect, **options)
    def late(rows: pl.LazyFrame = lf.Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows

    return late


def ran(world: World, job: Job, mode: str | None = None) -> tuple[JobRun | None, dict[str, Finding]]:
    """A run of a job, and what was found, by the expectations' names."""
    done = world.run(job, mode)
    return done, {finding.expectation.name: finding for finding in done.findings} if done else {}


def failed(world: World, job: Job, mode: str | None = None) -> str:
    with pytest.raises(ExpectationFailed) as caught:
        world.run(job, mode)
    return str(caught.value)


def branch_rows(world: World, job: Job) -> list[tuple[Any, ...]]:
    table, snapshot = at_ref(world.table(), branch_of(job))
    return sorted(tuple(row.values()) for batch in read(table, splits_at(table, snapshot)) for row in batch.to_pylist())


def letters(world: World) -> list[Any]:
    found = lakes.query(world.table(DEAD_LETTERS), 'SELECT value, kind, error, model FROM rows ORDER BY "offset"')
    return [(json.loads(value)["id"], kind, error, model) for value, kind, error, model in found]


@pytest.mark.parametrize("key", [(), "id"])
@pytest.mark.parametrize("mode", ["incremental", "snapshot"])
def test_rows_that_violate_are_told_left_out_or_kept_and_all_are_counted(world: World, key: Any, mode: str) -> None:
    world.append(flights(GOOD, BAD, (3, "AA", None), (4, None, 2.0), (5, None, -1.0)))
    job = job_with(
        lf.satisfies("id <> 3"),
        lf.in_range("delay", 0, on_violation="drop"),
        lf.not_null("carrier", on_violation="dead_letter"),
        key=key,
    )
    done, found = ran(world, job, mode)
    assert done is not None
    counts = done.counts
    assert (counts.read, counts.written, counts.skipped, counts.dead_lettered, counts.filtered) == (5, 2, 1, 2, 0)
    assert [row[0] for row in world.rows()] == [1, 3]
    assert sorted(letters(world)) == [
        (place, "expectation", "expectation 'not_null(carrier)' is violated", None) for place in (4, 5)
    ]
    assert {name: finding.violations for name, finding in found.items()} == {
        "id <> 3": 1,
        "in_range(delay, 0, None)": 2,
        "not_null(carrier)": 2,
    }
    assert json.loads(found["id <> 3"].sample[0]) == {"id": 3, "carrier": "AA", "delay": None}


def test_what_is_found_is_summed_over_the_steps_of_a_run(world: World) -> None:
    for number in range(5):
        world.append(flights((number, None, 1.0)))
    world.caps = Caps(files=2)
    _, found = ran(world, job_with(lf.not_null("carrier")))
    assert found["not_null(carrier)"].violations == 5
    assert len(found["not_null(carrier)"].sample) == 3


def test_values_that_are_referred_to_are_those_at_the_start_of_the_run(world: World) -> None:
    world.append(pa.Table.from_pylist([{"carrier": "AA", "name": "American"}], schema=NAMES), CARRIERS)
    world.append(flights(GOOD, BAD, (3, None, 1.0)))
    ran(world, job_with(lf.references("carrier", CARRIERS, on_violation="drop")))
    assert [row[0] for row in world.rows()] == [1, 3]


def test_expectations_of_the_target_hold_for_the_job_that_writes_it(world: World) -> None:
    world.append(flights(GOOD, BAD))
    world.declared = {
        TARGET: TableSpec(
            TARGET, world.table(SOURCE).schema().as_arrow(), expectations=(lf.in_range("delay", 0, on_violation="drop"),)
        )
    }
    ran(world, job_with(lf.not_null("id")))
    assert [row[0] for row in world.rows()] == [1]


@pytest.mark.parametrize(
    ("expectation", "rows", "violations"),
    [
        (lf.unique("carrier"), [GOOD, (2, "AA", 1.0), (3, None, 1.0), (4, None, 1.0)], 1),
        (lf.unique("carrier", "delay"), [GOOD, (2, "AA", 2.0)], 0),
        (lf.satisfies("count(*) > 2"), [GOOD, BAD], 1),
        (lf.satisfies("min(delay) >= 0"), [GOOD], 0),
        (lf.no_rows(f"SELECT id FROM {TARGET} WHERE delay < 0", name="n"), [GOOD, BAD, (3, "AA", -1.0)], 2),
        (lf.no_rows(f"SELECT * FROM {TARGET} JOIN {SOURCE} USING (id) WHERE false", name="n"), [GOOD], 0),
        (lf.row_count(2), [GOOD], 1),
        (lf.row_count(1, 1), [GOOD], 0),
    ],
)
def test_what_is_expected_of_the_table_is_looked_at_as_the_batch_makes_it(
    world: World, expectation: Expectation, rows: list[Flight], violations: int
) -> None:
    world.append(flights(*rows))
    _, found = ran(world, job_with(expectation))
    assert found[expectation.name].violations == violations
    assert len(world.rows()) == len(rows), "what is only told changes nothing"


def test_a_value_that_an_earlier_batch_brought_is_not_unique_any_more(world: World) -> None:
    job = job_with(lf.unique("id"))
    world.append(flights(GOOD))
    assert ran(world, job)[1]["unique(id)"].violations == 0
    world.append(flights(GOOD, (7, "AA", 1.0)))
    assert ran(world, job)[1]["unique(id)"].violations == 1
    world.append(flights((8, "AA", 1.0)))
    assert ran(world, job)[1]["unique(id)"].violations == 0, "of earlier batches nothing is told again"


def test_a_table_is_stale_by_its_newest_row(world: World) -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("us", "UTC"))])

    @lf.job(target=TARGET, expect=[lf.fresh("at", "1h")])
    def copied(rows: pl.LazyFrame = lf.Read("bronze.events")) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows

    def append(age: timedelta) -> int:
        rows = [{"id": 1, "at": datetime.now(UTC) - age}]
        world.append(pa.Table.from_pylist(rows, schema=schema), "bronze.events")
        return ran(world, copied)[1]["fresh(at, 1h)"].violations

    assert append(timedelta(hours=2)) == 1
    assert append(timedelta(minutes=1)) == 0
    assert append(timedelta(hours=2)) == 0, "an old row beside new ones"


def test_rows_are_counted_against_the_commits_before(world: World) -> None:
    job = job_with(lf.row_count(deviation=0.5))
    found = []
    for rows in ([GOOD] * 4, [GOOD] * 6, [GOOD]):
        world.append(flights(*rows))
        found.append(ran(world, job)[1]["row_count"].violations)
    assert found == [0, 0, 1]


def test_the_mean_is_of_the_newest_commits_and_includes_its_bounds() -> None:
    kind = lf.row_count(deviation=0.5, runs=2).kind
    assert isinstance(kind, lf.expect.RowCount)
    assert miscounted(kind, 15, [10, 10, 900]) == {}
    assert miscounted(kind, 16, [10, 10, 900])["mean"] == 10
    assert miscounted(kind, 16, []) == {}


MUST = lf.in_range("delay", 0, on_violation="fail")


@pytest.mark.parametrize("key", [(), "id"])
@pytest.mark.parametrize("mode", ["incremental", "snapshot"])
def test_a_batch_that_is_not_as_it_must_be_stays_on_a_branch(world: World, key: Any, mode: str) -> None:
    job = job_with(MUST, key=key)
    world.append(flights(GOOD))
    world.run(job, mode)
    before, progress = world.table().current_snapshot(), world.progress(job)
    world.append(flights(BAD))
    message = failed(world, job, mode)
    assert "expectation 'in_range(delay, 0, None)' is violated 1 time, as in {\"id\": 2" in message
    assert "FOR VERSION AS OF 'lakeflow_audit_late'" in message
    assert (world.table().current_snapshot(), world.progress(job)) == (before, progress)
    assert world.rows() == [GOOD]
    assert branch_rows(world, job) == [GOOD, BAD]


def test_the_first_batch_of_a_table_may_stay_on_a_branch(world: World) -> None:
    job = job_with(MUST)
    world.append(flights(BAD))
    failed(world, job)
    assert (world.rows(), world.progress(job), branch_rows(world, job)) == ([], None, [BAD])
    world.append(flights((3, "AA", -7.0)))
    failed(world, job)
    assert branch_rows(world, job) == [BAD, (3, "AA", -7.0)], "the branch is this run's"
    world.run(job_with())
    assert len(world.rows()) == 2


def test_once_the_job_is_mended_the_branch_goes_and_main_has_the_batch_once(world: World) -> None:
    world.append(flights(GOOD))
    world.run(job_with(MUST))
    world.append(flights(BAD))
    failed(world, job_with(MUST))
    mended = job_with(lf.in_range("delay", -10, on_violation="fail"))
    world.run(mended)
    assert world.rows() == [GOOD, BAD]
    assert list(world.table().metadata.refs) == ["main"]
    assert len(world.table().metadata.snapshots) == 2
    assert world.run(mended) is None


def test_a_published_commit_is_a_snapshot_like_any_other(world: World) -> None:
    world.append(flights(GOOD))
    world.run(job_with(MUST))
    world.append(flights((2, "AA", 2.0)))
    world.run(job_with(MUST))
    table = world.table()
    newest, first = table.metadata.snapshots[1], table.metadata.snapshots[0]
    assert (table.metadata.current_snapshot_id, newest.parent_snapshot_id) == (newest.snapshot_id, first.snapshot_id)
    properties = table.metadata.properties
    assert properties["lakeflow.progress.job.late"] == world.progress(job_with())
    assert int(properties["lakeflow.progress-sequence.job.late"]) == newest.sequence_number


def other_commit(world: World, *rows: Flight) -> None:
    lakes.append(world.lake, flights(*rows), name=TARGET)


@pytest.mark.parametrize("key", [(), "id"])
def test_what_comes_to_main_meanwhile_is_kept_and_looked_at_too(
    world: World, key: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the branch and its publication another engine appends to main."""
    job = job_with(lf.satisfies("count(*) < 5", on_violation="fail"), key=key)
    world.append(flights(GOOD))
    world.run(job)
    meanwhile(monkeypatch, world, [lambda: other_commit(world, (9, "UA", 1.0))])
    world.append(flights((2, "AA", 2.0)))
    world.run(job)
    assert [row[0] for row in world.rows()] == [1, 2, 9]
    assert list(world.table().metadata.refs) == ["main"]
    meanwhile(monkeypatch, world, [lambda: other_commit(world, (10, "UA", 1.0))])
    world.append(flights((3, "AA", 2.0)))
    assert "count(*) < 5" in failed(world, job)
    assert [row[0] for row in world.rows()] == [1, 2, 9, 10]


def meanwhile(monkeypatch: pytest.MonkeyPatch, world: World, what: Sequence[Callable[[], Any]]) -> None:
    """Before each of the next publications of the target's branch, in turn, something happens."""
    catalog, left = world.lake.catalog, list(what)
    commit_table = type(catalog).commit_table.__get__(catalog)

    def commit(table: Any, requirements: Any, updates: Any) -> Any:
        refs = [update.ref_name for update in updates if update.action == "remove-snapshot-ref"]
        if left and table.name()[0] == "gold" and updates[0].action == "set-snapshot-ref" and refs:
            left.pop(0)()
        return commit_table(table, requirements, updates)

    monkeypatch.setattr(catalog, "commit_table", commit)


def test_of_two_runs_that_publish_at_once_one_is_fenced(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_with(MUST)
    world.append(flights(GOOD))
    plan = world.plan(job)
    meanwhile(monkeypatch, world, [lambda: world.carry_out(plan)])
    with pytest.raises(Fenced):
        world.carry_out(plan)
    assert world.rows() == [GOOD]
    assert list(world.table().metadata.refs) == ["main"]
    assert world.stray_files() == set()


def test_a_catalog_that_speaks_json_publishes_too(world: World) -> None:
    world.append(flights(GOOD))
    world.lake = lakes.rest_like(world.lake)
    job = job_with(MUST)
    world.run(job)
    world.append(flights(BAD))
    failed(world, job)
    world.run(job_with(lf.not_null("id", on_violation="fail")))
    assert world.rows() == [GOOD, BAD]
    assert list(world.table().metadata.refs) == ["main"]


@pytest.mark.parametrize(
    ("key", "where", "number"),
    [
        ((), Where.BEFORE_COMMIT, 0),
        ((), Where.AFTER_COMMIT, 0),
        ((), Where.BEFORE_COMMIT, 2),
        ((), Where.AFTER_COMMIT, 2),
        ("id", Where.AFTER_COMMIT, 1),
        ("id", Where.AFTER_COMMIT, 2),
    ],
)
def test_wherever_a_run_dies_the_next_lands_each_row_and_letter_once(world: World, key: Any, where: Where, number: int) -> None:
    """The catalog is asked for the letters, for the branch and for main; after one is as before the next."""
    job = job_with(MUST, lf.not_null("carrier", on_violation="dead_letter"), key=key)
    world.append(flights(GOOD))
    world.run(job)
    world.append(flights((2, "AA", 2.0), (3, None, 3.0)))
    crashes = Crashes()
    with crashes.survived(Plan(where, number), world.lake):
        world.run(job)
    assert crashes.happened == 1
    world.run(job)
    assert world.run(job) is None
    assert [row[0] for row in world.rows()] == [1, 2]
    assert [place for place, *_ in letters(world)] == [3]
    assert list(world.table().metadata.refs) == ["main"]


def test_expired_snapshots_do_not_make_a_published_commit_forgotten(world: World) -> None:
    world.commits = Committer(world.lake, keep_snapshots=2)
    job = job_with(MUST)
    for number in range(4):
        world.append(flights((number, "AA", 1.0)))
        world.run(job)
    for number in range(3):
        Committer(world.lake, keep_snapshots=2)
        lakes.append(world.lake, flights((10 + number, "AA", 1.0)), name=TARGET, keep=2)
    assert world.run(job) is None
    assert len(world.rows()) == 7


@pytest.mark.parametrize(
    ("expectation", "kind", "said"),
    [
        (
            lf.not_null("carier"),
            UnknownName,
            "expectation 'not_null(carier)': unknown column of gold.late 'carier'; did you mean 'carrier'",
        ),
        (lf.satisfies("delai > 0"), UnknownName, "did you mean 'delay'"),
        (lf.in_range("carrier", 0, 9), DeclarationError, "column 'carrier' is of type string, and 0 is a int; valid: a text"),
        (lf.one_of("id", ["a"]), DeclarationError, "valid: a number"),
        (lf.references("carrier", "dim.nothing"), UnknownName, "unknown table 'dim.nothing'"),
        (lf.references("carrier", SOURCE, "code"), UnknownName, "unknown column of bronze.flights 'code'"),
        (lf.fresh("delay", "1h"), DeclarationError, "valid: TIMESTAMP"),
        (lf.satisfies("count(*) > 1", on_violation="drop"), DeclarationError, "leaves no row out: drop"),
        (lf.satisfies("delay >"), LakeflowError, "syntax error"),
        (lf.no_rows("SELECT * FROM gold.nothing", name="n"), UnknownName, "'gold.nothing'"),
    ],
)
def test_an_expectation_that_the_target_cannot_have_is_told_before_anything_is_made(
    world: World, expectation: Expectation, kind: type[LakeflowError], said: str
) -> None:
    world.append(flights(GOOD))
    with pytest.raises(kind) as caught:
        world.run(job_with(expectation))
    assert said in str(caught.value)
    assert "job 'late', expectation" in str(caught.value)
    assert not world.lake.exists(TARGET)


def test_what_fails_is_told_to_whoever_records_the_run(world: World) -> None:
    world.append(flights(BAD))
    with pytest.raises(ExpectationFailed) as caught:
        world.run(job_with(lf.not_null("id"), MUST))
    assert [finding.violations for finding in caught.value.findings] == [0, 1]


def test_a_crash_in_the_audit_leaves_main_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_with(MUST)
    world.append(flights(GOOD))

    def die() -> None:
        raise Crash("before it is published")

    meanwhile(monkeypatch, world, [die])
    with pytest.raises(Crash):
        world.run(job)
    assert world.rows() == []
    world.run(job)
    assert world.rows() == [GOOD]


SUMS = f"CREATE TABLE {TARGET} ({{0}}) AS SELECT carrier, sum(delay) AS total FROM {SOURCE} GROUP BY carrier;"


def test_rows_of_a_job_that_goes_on_by_key_are_held_against_it_too(world: World) -> None:
    job = world.sql_job(SUMS.format("CONSTRAINT some EXPECT (total > 0) ON VIOLATION DROP ROW"))
    world.append(flights(GOOD, BAD))
    world.run(job)
    assert world.rows() == [("AA", 1.0)]
    world.append(flights((3, "ZZ", 9.0), (4, "AA", -2.0)))
    done, found = ran(world, job)
    assert world.rows() == [("ZZ", 4.0)]
    assert done is not None
    assert found["some"].violations == 1


def test_a_batch_of_a_job_that_goes_on_by_key_may_stay_on_a_branch(world: World) -> None:
    job = world.sql_job(SUMS.format("CONSTRAINT some CHECK (total > 0)"))
    world.append(flights(GOOD))
    world.run(job)
    world.append(flights(BAD))
    assert "expectation 'some' is violated" in failed(world, job)
    assert world.rows() == [("AA", 1.0)]
    world.append(flights((3, "ZZ", 9.0)))
    assert "expectation 'some' is violated" in failed(world, job), "what is kept goes to the target in its order"
    mended = world.sql_job(SUMS.format("CONSTRAINT some CHECK (total > -100)"))
    world.run(mended)
    assert world.rows() == [("AA", 1.0), ("ZZ", 4.0)]


def test_a_row_that_is_made_of_several_has_no_dead_letter(world: World) -> None:
    world.append(flights(GOOD))
    with pytest.raises(DeclarationError, match="made of several has no dead letter; valid: warn, drop, fail"):
        world.run(world.sql_job(SUMS.format("CONSTRAINT some EXPECT (total > 0) ON VIOLATION DEAD LETTER")))


def test_rows_that_are_read_again_behind_removed_ones_get_no_second_letter(world: World) -> None:
    """Of flight 1 there are rows in three files; the newest goes, and what is left of it counts again."""
    job = job_with(lf.not_null("carrier", on_violation="dead_letter"), key="id", on_change="recompute")
    for row in ((1, "AA", 1.0), (1, None, 2.0), (1, "ZZ", 3.0)):
        world.append(flights(row))
    world.run(job)
    assert (world.rows(), [place for place, *_ in letters(world)]) == ([(1, "ZZ", 3.0)], [1])
    table = world.table(SOURCE)
    head = table.current_snapshot()
    assert head is not None
    gone = tuple(split.task.file for split in splits_at(table, head) if split.sequence == 3)
    Committer(world.lake).commit(Change(SOURCE, (), gone, base=head.snapshot_id))
    done, found = ran(world, job)
    assert world.rows() == [(1, "AA", 1.0)]
    assert [place for place, *_ in letters(world)] == [1]
    assert found["not_null(carrier)"].violations == 0
    assert done is not None
    assert done.counts.dead_lettered == 0


def test_a_batch_that_comes_second_leaves_no_branch_behind(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rival, an earlier text of the job, expects nothing and so goes by no branch."""
    world.append(flights(GOOD))
    world.run(job_with())
    world.append(flights((2, "AA", 2.0)))
    plan, rival = world.plan(job_with(MUST)), world.plan(job_with())
    meanwhile(monkeypatch, world, [lambda: world.carry_out(rival)])
    with pytest.raises(Fenced):
        world.carry_out(plan)
    assert [row[0] for row in world.rows()] == [1, 2]
    assert list(world.table().metadata.refs) == ["main"]


def test_a_condition_that_a_row_has_no_answer_to_fails_the_job(world: World) -> None:
    world.append(flights(GOOD))
    with pytest.raises(
        JobFailed, match=r"an expectation of gold\.late cannot be worked out: Could not convert string 'AA'"
    ) as caught:
        world.run(job_with(lf.satisfies("CAST(carrier AS INT) > 0")))
    assert "TRY_CAST" in str(caught.value)
    assert world.rows() == []


def test_rows_of_a_job_by_windows_are_held_against_it_as_their_windows_change(world: World) -> None:
    schema = pa.schema([("at", pa.timestamp("us", "UTC")), ("x", pa.int64())])
    expect = [lf.satisfies("n < 3", on_violation="drop", name="few"), lf.unique("window_start", on_violation="fail")]

    @lf.job(target=TARGET, window=lf.Tumble("at", "1h"), expect=expect)
    def counted(rows: pl.LazyFrame = lf.Read("bronze.events")) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.group_by("window_start", "window_end").agg(pl.len().cast(pl.Int64).alias("n"))

    def come(*hours: int) -> dict[str, Finding]:
        times = [datetime(2026, 1, 1, hour, tzinfo=UTC) for hour in hours]
        world.append(pa.table({"at": times, "x": [1] * len(hours)}, schema=schema), "bronze.events")
        return ran(world, counted)[1]

    assert come(0, 0, 5)["few"].violations == 0
    assert lakes.query(world.table(), "SELECT n FROM rows ORDER BY window_start") == [(2,), (1,)]
    assert come(0)["few"].violations == 1
    assert lakes.query(world.table(), "SELECT n FROM rows") == [(1,)], "the window that is too full now has no row any more"
    assert list(world.table().metadata.refs) == ["main"]


def test_neither_has_a_row_of_a_whole_key(world: World) -> None:
    world.append(flights(GOOD))
    job = job_with(lf.not_null("carrier", on_violation="dead_letter"), by=["id"])
    with pytest.raises(DeclarationError, match="made of several has no dead letter"):
        world.run(job)
