"""Jobs that keep earlier rows by key: two commits a step, and what becomes of a run between them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import Fenced, SchemaMismatch, SourceChanged, Terminal
from lakeflow.job import Job
from lakeflow.lake.commit import Committer
from lakeflow.runner.execute import run_job
from lakeflow.runner.keyed import Kept, state_table
from tests.crashes import Crashes, Plan, Where
from tests.jobs import TARGET, World, flights, open_world

QUERY = "SELECT carrier, count(*) AS n, sum(id) AS total FROM bronze.flights GROUP BY carrier"
STATE = "lakeflow.state_made"


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = open_world(tmp_path)
    found.append(flights((1, "UA", 1.0), (2, "AA", 2.0)))
    return found


def sums(world: World, query: str = QUERY) -> Job:
    return world.sql_job(f"INSERT INTO {TARGET} {query};")


def counts(world: World) -> list[tuple[object, ...]]:
    return [row[:2] for row in world.rows()]


def kept(world: World) -> Kept:
    found = Kept.loads(Committer(world.lake).progress(STATE, "state.made"))
    assert found is not None
    return found


def test_a_run_reads_new_rows_alone_and_changes_their_groups_alone(world: World) -> None:
    world.run(sums(world))
    world.append(flights((3, "UA", None), (4, None, None)))
    done = world.run(sums(world))
    assert done is not None
    assert (done.counts.read, done.counts.written) == (2, 2)
    assert counts(world) == [("AA", 1), ("UA", 2), (None, 1)]
    assert [(row[0], row[1], row[-1]) for row in world.rows(STATE)] == [("AA", 1, 1), ("UA", 2, 2), (None, 1, 2)]
    assert world.run(sums(world)) is None


def test_a_run_that_died_between_its_commits_is_finished_from_what_it_kept(world: World) -> None:
    world.run(sums(world))
    world.append(flights((3, "UA", None)))
    crashes = Crashes()
    with crashes.survived(Plan(Where.AFTER_COMMIT, 0), world.lake):
        world.run(sums(world))
    assert (crashes.happened, kept(world).step, counts(world)) == (1, 2, [("AA", 1), ("UA", 1)])
    plan = world.plan(sums(world))
    assert [step.reads for step in plan.steps] == [()]
    done = world.carry_out(plan)
    assert done is not None
    assert (done.counts.read, done.counts.written) == (1, 1)
    assert counts(world) == [("AA", 1), ("UA", 2)]
    assert (kept(world).step, world.run(sums(world))) == (2, None)


def test_a_snapshot_run_that_died_between_its_commits_is_finished_too(world: World) -> None:
    world.run(sums(world))
    world.append(flights((3, "UA", None)))
    with Crashes().survived(Plan(Where.AFTER_COMMIT, 0), world.lake):
        world.run(sums(world), "snapshot")
    assert kept(world).whole
    world.append(flights((4, "UA", None)))
    done = world.run(sums(world))
    assert done is not None
    assert (len(done.snapshots), done.counts.read) == (2, 4)
    assert counts(world) == [("AA", 1), ("UA", 3)]


def test_one_that_wakes_up_after_another_finished_its_step_is_fenced(world: World) -> None:
    late = run_job(world.plan(sums(world)), world.runtime())
    world.run(sums(world))
    with pytest.raises(Fenced):
        next(late)
    world.append(flights((3, "UA", None)))
    late = run_job(world.plan(sums(world)), world.runtime())
    with Crashes().survived(Plan(Where.AFTER_COMMIT, 0), world.lake):
        world.run(sums(world))
    with pytest.raises(Fenced):
        next(late)
    world.run(sums(world))
    assert counts(world) == [("AA", 1), ("UA", 2)]
    world.append(flights((4, "UA", None)))
    late = run_job(world.plan(sums(world)), world.runtime())
    world.run(sums(world))
    world.append(flights((5, "UA", None)))
    world.run(sums(world))
    with pytest.raises(Fenced):
        next(late)


def test_one_that_is_two_steps_behind_leaves_what_is_kept_as_it_is(world: World) -> None:
    late = run_job(world.plan(sums(world)), world.runtime())
    world.run(sums(world))
    world.append(flights((3, "UA", None)))
    world.run(sums(world))
    before = kept(world)
    with pytest.raises(Fenced):
        next(late)
    assert kept(world) == before
    world.append(flights((4, "AA", None)))
    world.run(sums(world))
    assert counts(world) == [("AA", 2), ("UA", 2)]


def test_a_snapshot_run_keeps_what_incremental_ones_go_on_from(world: World) -> None:
    world.run(sums(world), "snapshot")
    world.append(flights((3, "UA", None)))
    done = world.run(sums(world))
    assert done is not None
    assert done.counts.read == 1
    assert counts(world) == [("AA", 1), ("UA", 2)]


def test_a_target_made_anew_begins_anew(world: World) -> None:
    world.run(sums(world))
    world.lake.drop(TARGET)
    done = world.run(sums(world))
    assert done is not None
    assert (done.counts.read, counts(world)) == (2, [("AA", 1), ("UA", 1)])
    assert kept(world).step == 2


def test_what_is_kept_for_another_query_is_refused_until_a_snapshot_run(world: World) -> None:
    world.run(sums(world))
    changed = sums(world, "SELECT carrier, count(*) AS n, max(id) AS total FROM bronze.flights GROUP BY carrier")
    with pytest.raises(SourceChanged, match="its query is another") as refused:
        world.plan(changed)
    assert refused.value.next_step == "lakeflow run made --mode snapshot, which reads the tables whole and goes on from there"
    world.run(changed, "snapshot")
    world.append(flights((3, "UA", None)))
    world.run(changed)
    assert world.rows() == [("AA", 1, 2), ("UA", 2, 3)]


def test_a_state_table_that_is_gone_or_astray_is_refused(world: World) -> None:
    world.run(sums(world))
    world.lake.drop(STATE)
    with pytest.raises(SourceChanged, match=f"{STATE}, which keeps what it must know of earlier rows, holds nothing"):
        world.plan(sums(world))
    world.run(sums(world), "snapshot")
    first = world.table().current_snapshot()
    assert first is not None
    for number in (3, 4):
        world.append(flights((number, "UA", None)))
        world.run(sums(world))
    world.table().manage_snapshots().rollback_to_snapshot(first.snapshot_id).commit()
    with pytest.raises(SourceChanged, match="are not after the same step"):
        world.plan(sums(world))


def test_a_target_with_another_key_than_the_groups_is_refused(world: World) -> None:
    columns = pa.schema([("carrier", pa.string()), ("n", pa.int64()), ("total", pa.int64())])
    world.declared = {TARGET: TableSpec(TARGET, columns, primary_key=("n",))}
    with pytest.raises(SchemaMismatch, match=r"a row for each carrier, and gold.late has the PRIMARY KEY \(n\)"):
        world.run(sums(world))
    world.declared = {TARGET: TableSpec(TARGET, columns, primary_key=("carrier",))}
    world.run(sums(world), into="gold.aside")
    assert world.rows("gold.aside") == [("AA", 1, 2), ("UA", 1, 1)]


def test_another_target_has_a_state_table_of_its_own(world: World) -> None:
    job = sums(world)
    world.run(job)
    world.run(job, into="gold.aside")
    assert world.rows("gold.aside") == world.rows()
    assert state_table(job, TARGET) == STATE
    assert world.rows(state_table(job, "gold.aside")) == world.rows(STATE)


def test_a_column_that_no_table_holds_cannot_be_kept(world: World) -> None:
    with pytest.raises(Terminal, match=r"lakeflow.state_made: column .max__1. has the type month_day_nano_interval"):
        world.run(sums(world, "SELECT carrier, epoch(max(id * INTERVAL '1' DAY)) AS n FROM bronze.flights GROUP BY carrier"))
