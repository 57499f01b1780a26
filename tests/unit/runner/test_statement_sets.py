"""The jobs of a statement set: one scan of what they have in common, and all else each by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakeflow.job import Caps, Job
from lakeflow.lake.read import snapshot_at, splits_at
from lakeflow.models.registry import ModelSet
from lakeflow.runner import execute
from lakeflow.runner.engines import Threads
from lakeflow.runner.graph import Node, nodes_of
from lakeflow.runner.plan import Request
from lakeflow.runner.shared_scan import SharedScan
from lakeflow.runner.sql_jobs import jobs_of
from lakeflow.runner.statement_sets import Member, run_together, together
from lakeflow.sql.parse import parse_jobs
from lakeflow.sql.relations import ArrowRelation, ParquetRelation
from tests import lakes
from tests.failing import Failing, spec_of
from tests.jobs import SOURCE, World, flights

LATE = f"INSERT INTO gold.late SELECT id, delay FROM {SOURCE} WHERE delay > 0"
NAMES = f"INSERT INTO gold.names SELECT lower(carrier) AS carrier, id FROM {SOURCE}"
TWICE = f"INSERT INTO gold.twice SELECT id FROM {SOURCE} UNION ALL SELECT -id FROM {SOURCE}"
ROWS = [(1, "UA", 5.0), (2, "AA", -1.0), (3, None, 2.0)]


def jobs_in(world: World, *inserts: str) -> list[Job]:
    path = Path("jobs/split.sql")
    return list(jobs_of(parse_jobs(f"BEGIN STATEMENT SET; {'; '.join(inserts)}; END;", path), path, world.declared))


def run(world: World, jobs: list[Job]) -> list[Member]:
    """How each job ended, in their order."""
    members = {id(member): member for member in run_together([world.plan(job) for job in jobs], world.runtime())}
    return list(members.values())


def tables(world: World) -> dict[str, list[tuple[Any, ...]]]:
    return {name: world.rows(f"gold.{name}") for name in ("late", "names", "twice")}


@pytest.mark.parametrize("workers", [1, 2])
def test_each_file_is_read_from_the_table_once(world: World, monkeypatch: pytest.MonkeyPatch, workers: int) -> None:
    """The source's files are gone as soon as the first job has read them; the others get their rows all the same."""
    monkeypatch.setattr(execute, "TASK_BYTES", 1)
    world.engine = Threads(workers)
    world.append(flights(*ROWS[:2]))
    world.append(flights(*ROWS[2:]))
    paths = [lakes.path_of(path) for path in lakes.live_paths(world.table(SOURCE))]
    steps = run_together([world.plan(job) for job in jobs_in(world, LATE, NAMES, TWICE)], world.runtime())
    assert next(steps).done is not None
    for path in paths:
        path.unlink()
    members = {id(member): member for member in steps}
    assert [member.error for member in members.values()] == [None] * 3
    assert tables(world) == {
        "late": [(1, 5.0), (3, 2.0)],
        "names": [("aa", 2), ("ua", 1), (None, 3)],
        "twice": [(-3,), (-2,), (-1,), (1,), (2,), (3,)],
    }


def test_a_job_that_is_behind_catches_up_by_itself(world: World) -> None:
    jobs = jobs_in(world, LATE, NAMES, TWICE)
    world.append(flights(*ROWS[:1]))
    world.run(jobs[0])
    world.append(flights(*ROWS[1:]))
    counts = [member.done.counts.read for member in run(world, jobs) if member.done is not None]
    assert counts == [2, 3, 3]
    assert world.rows("gold.late") == [(1, 5.0), (3, 2.0)]
    assert len({world.progress(job, job.target) for job in jobs}) == 1
    assert [member.done for member in run(world, jobs)] == [None] * 3


def test_caps_cut_each_job_and_every_turn_is_kept_alone(world: World) -> None:
    for row in ROWS:
        world.append(flights(row))
    world.caps = Caps(files=1)
    members = run(world, jobs_in(world, LATE, NAMES))
    assert [len(member.done.snapshots) for member in members if member.done] == [3, 3]
    assert world.rows("gold.names") == [("aa", 2), ("ua", 1), (None, 3)]


def test_one_that_fails_leaves_the_others_as_they_are(world: World) -> None:
    world.append(flights(*ROWS))
    wrong = f"INSERT INTO gold.wrong SELECT CAST(carrier AS INT) AS carrier FROM {SOURCE}"
    failed, fine = run(world, jobs_in(world, wrong, LATE))
    assert "Could not convert string 'UA'" in str(failed.error)
    assert failed.done is None
    assert fine.error is None
    assert world.rows("gold.late") == [(1, 5.0), (3, 2.0)]


def test_what_models_are_asked_is_counted_for_the_job_that_asks(world: World) -> None:
    world.models = ModelSet([spec_of("failing")], lambda spec: Failing(spec, lambda x: False))
    for row in ROWS[:2]:
        world.append(flights(row))
    world.caps = Caps(files=1)
    asking = f"INSERT INTO gold.asked SELECT id, ML_PREDICT(MODEL failing, delay) AS x FROM {SOURCE}"
    again = f"INSERT INTO gold.again SELECT id, ML_PREDICT(MODEL failing, delay) AS x FROM {SOURCE} WHERE id = 1"
    members = run(world, jobs_in(world, asking, LATE, again))
    assert [{name: one.rows for name, one in member.asked.items()} for member in members] == [
        {"failing": 2},
        {},
        {"failing": 1},
    ]
    assert [member.used for member in members] == [("failing$1",), (), ("failing$1",)]


def test_only_what_several_want_is_kept_and_gone_with_the_next_turn(world: World, tmp_path: Path) -> None:
    world.append(flights(*ROWS))
    [first, second] = [world.plan(job) for job in jobs_in(world, LATE, NAMES)]
    table = world.table(SOURCE)
    splits = splits_at(table, snapshot_at(table))
    with SharedScan({SOURCE: frozenset({"id", "delay"})}, tmp_path / "spool") as scan:
        scan.turn([first.steps[0]])
        assert isinstance(scan.relation(table, splits), ParquetRelation)
        scan.turn([first.steps[0], second.steps[0]])
        shared = scan.relation(table, splits)
        assert isinstance(shared, ArrowRelation)
        half_read = iter(shared.reader())
        next(half_read)
        del half_read
        found = [shared.reader().read_all() for _ in range(3)]
        assert found[0] == found[1] == found[2]
        assert found[0].column("id").to_pylist() == [1, 2, 3]
        assert pc.all(pc.is_null(found[0].column("carrier"))).as_py()
        assert len(list((tmp_path / "spool").rglob("*.arrow"))) == 1
        assert (scan.rows_read, scan.rows_given) == (6, 12)
        scan.turn([])
        assert not list((tmp_path / "spool").rglob("*.arrow"))
    assert not list((tmp_path / "spool").iterdir())


def named(jobs: list[Job]) -> tuple[Node, ...]:
    return nodes_of(jobs, [])


def test_jobs_of_a_set_run_together_where_nothing_stands_between_them(world: World) -> None:
    chained = "INSERT INTO gold.chained SELECT * FROM gold.late"
    names_now = "gold.names FOR SYSTEM_TIME AS OF PROCTIME() AS n"
    looked_up = f"INSERT INTO gold.looked SELECT o.id FROM {SOURCE} AS o JOIN {names_now} USING (id)"
    late, names, twice, chain, looked = named(jobs_in(world, LATE, NAMES, TWICE, chained, looked_up))
    [alone] = named([world.sql_job(f"INSERT INTO gold.alone SELECT * FROM {SOURCE}")])
    nodes = (late, names, alone, twice, chain, looked)
    assert together(late, nodes, Request(), ()) == (late, names, twice)
    assert together(late, nodes, Request(), {"split.names"}) == (late, twice)
    assert together(twice, nodes, Request(), ()) == (twice, chain, looked)
    assert together(alone, nodes, Request(), ()) == (alone,)
    assert together(late, nodes, Request(snapshot_id=1), ()) == (late,)


@pytest.mark.parametrize(
    "query",
    [
        f"SELECT t.* REPLACE (-id AS id) FROM {SOURCE} AS t",
        f"SELECT CAST(t AS VARCHAR) AS text FROM {SOURCE} AS t",
        f"SELECT id FROM (SELECT * FROM {SOURCE}) WHERE carrier = 'UA'",
    ],
)
def test_every_column_that_a_query_needs_is_there(world: World, query: str) -> None:
    """Whole rows, columns that only a condition names; beside a query that needs none."""
    world.append(flights(*ROWS))
    job, other = jobs_in(world, f"INSERT INTO gold.job {query}", f"INSERT INTO gold.other SELECT 1 AS one FROM {SOURCE}")
    assert [member.error for member in run(world, [job, other])] == [None, None]
    world.run(job, "snapshot", into="gold.alone")
    assert world.rows("gold.job") == world.rows("gold.alone")


def test_rows_of_nested_types_are_shared(world: World) -> None:
    kinds = pa.schema(
        [
            ("id", pa.int64()),
            ("tags", pa.list_(pa.string())),
            ("place", pa.struct([("x", pa.float64())])),
            ("seen", pa.timestamp("us")),
            ("price", pa.decimal128(9, 2)),
            ("unread", pa.map_(pa.string(), pa.int32())),
        ]
    )
    rows = [{"id": 1, "tags": ["a", None], "place": {"x": 1.5}, "seen": 7, "price": 1, "unread": [("k", 1)]}]
    world.append(pa.Table.from_pylist(rows, schema=kinds), "bronze.kinds")
    jobs = jobs_in(
        world,
        "INSERT INTO gold.a SELECT id, tags, place.x AS x, seen, price FROM bronze.kinds",
        "INSERT INTO gold.b SELECT id, len(tags) AS tags FROM bronze.kinds",
    )
    run(world, jobs)
    [(number, tags, x, _, price)] = world.rows("gold.a")
    assert (number, tags, x, str(price)) == (1, ["a", None], 1.5, "1.00")
    assert world.rows("gold.b") == [(1, 2)]
