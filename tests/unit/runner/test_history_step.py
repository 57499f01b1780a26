"""Steps into a target that keeps every version: what opens and closes one, what stays untouched, and what is refused."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import TableSpec
from lakeflow.errors import Fenced, SchemaMismatch
from lakeflow.job import Job
from lakeflow.lake.commit import Change, Committed, Committer
from lakeflow.runner.history_step import idle_table
from tests.jobs import SOURCE, TARGET, World, open_world
from tests.lakes import append, live_paths

SCHEMA = pa.schema([("region", pa.string()), ("id", pa.int64()), ("name", pa.string()), ("updated_at", pa.timestamp("us"))])
DAYS = [datetime(2024, 1, day) for day in range(1, 10)]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return open_world(tmp_path)


@lf.job(target=TARGET, key=["region", "id"], history=lf.History("since", "until", by="updated_at"))
def customers(said: pl.LazyFrame = lf.Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
    return said


def said(*rows: tuple[str, int, str | None, datetime | None]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def versions(world: World, name: str = TARGET) -> list[tuple[Any, ...]]:
    return world.rows(name, order="region, id, since")


def test_a_changed_row_closes_the_version_before_and_an_unchanged_one_makes_none(world: World) -> None:
    world.append(said(("eu", 1, "ann", DAYS[0]), ("us", 1, "bob", DAYS[0])))
    world.run(customers)
    before = live_paths(world.table())
    world.append(said(("eu", 1, "ann", DAYS[1]), ("us", 1, "bob", DAYS[2])))
    run = world.run(customers)
    assert live_paths(world.table()) == before
    assert run is not None
    assert (run.counts.read, run.counts.written) == (2, 2)
    world.append(said(("us", 1, "rob", DAYS[3])))
    world.run(customers)
    assert versions(world) == [
        ("eu", 1, "ann", DAYS[0], None),
        ("us", 1, "bob", DAYS[0], DAYS[3]),
        ("us", 1, "rob", DAYS[3], None),
    ]


def test_a_late_row_goes_where_it_belongs_and_makes_what_was_idle_count(world: World) -> None:
    for row in (("eu", 1, "a", DAYS[0]), ("eu", 1, "a", DAYS[4]), ("eu", 1, "b", DAYS[6]), ("eu", 1, "x", DAYS[2])):
        world.append(said(row))
        world.run(customers)
    assert [row[2:] for row in versions(world)] == [
        ("a", DAYS[0], DAYS[2]),
        ("x", DAYS[2], DAYS[4]),
        ("a", DAYS[4], DAYS[6]),
        ("b", DAYS[6], None),
    ]


def test_only_files_whose_versions_change_are_written_anew(world: World) -> None:
    for number in range(4):
        world.append(said(*((region, number, "old", DAYS[0]) for region in ("eu", "us"))))
        world.run(customers)
    before = set(live_paths(world.table()))
    world.append(said(("eu", 2, "new", DAYS[1])))
    world.run(customers)
    assert len(before - set(live_paths(world.table()))) == 1
    assert len(versions(world)) == 9
    summary = world.table().current_snapshot().summary.additional_properties  # type: ignore[union-attr]
    assert (summary["lakeflow.versions-opened"], summary["lakeflow.versions-changed"]) == ("1", "1")


def test_where_another_commit_comes_first_versions_are_made_of_what_it_left(world: World) -> None:
    world.append(said(("eu", 1, "ann", DAYS[0])))
    world.run(customers)
    world.append(said(("eu", 1, "eve", DAYS[5])))
    seen: list[str] = []

    class Rival:
        def commit(self, change: Change) -> Committed:
            seen.append(change.table)
            if seen.count(TARGET) == 1 and change.table == TARGET:
                row = pa.table({"region": ["us"], "id": [7], "name": ["by hand"], "since": [DAYS[0]]})
                append(world.lake, row.set_column(3, "since", pa.array([DAYS[0]], pa.timestamp("us"))), name=TARGET)
            return Committer(world.lake).commit(change)

        def progress(self, table: str, writer: str) -> str | None:
            return Committer(world.lake).progress(table, writer)

    world.commits = Rival()
    world.run(customers)
    assert seen.count(TARGET) == 2
    assert [row[2:] for row in versions(world)] == [
        ("ann", DAYS[0], DAYS[5]),
        ("eve", DAYS[5], None),
        ("by hand", DAYS[0], None),
    ]


def test_a_second_process_with_the_same_job_is_fenced_and_touches_neither_table(world: World) -> None:
    world.append(said(("eu", 1, "ann", DAYS[0])))
    stale = world.plan(customers)
    world.append(said(("eu", 1, "ann", DAYS[1])))
    world.run(customers)
    with pytest.raises(Fenced):
        world.carry_out(stale)
    assert len(versions(world)) == 1
    assert world.table(idle_table(TARGET)).scan().to_arrow().num_rows == 1


def test_a_target_made_anew_begins_without_the_statements_of_the_one_before(world: World) -> None:
    world.append(said(("eu", 1, "ann", DAYS[0]), ("eu", 1, "ann", DAYS[3])))
    world.run(customers)
    idle = world.table(idle_table(TARGET))
    assert idle.scan().to_arrow().num_rows == 1
    world.lake.drop(TARGET)
    world.lake.drop(SOURCE)
    world.append(said(("eu", 1, "ann", DAYS[0]), ("eu", 1, "bob", DAYS[1])))
    world.run(customers)
    assert [row[2:] for row in versions(world)] == [("ann", DAYS[0], DAYS[1]), ("bob", DAYS[1], None)]


def test_a_query_gives_all_columns_but_those_that_are_kept(world: World) -> None:
    columns = [
        *list(SCHEMA)[:3],
        pa.field("since", pa.timestamp("us")),
        pa.field("until", pa.timestamp("us")),
        pa.field("now", pa.bool_()),
    ]
    options = {
        "history": "scd2",
        "history.valid_from": "since",
        "history.valid_to": "until",
        "history.current": "now",
        "history.deleted": "gone",
    }
    spec = TableSpec(TARGET, pa.schema(columns), options, primary_key=("region", "id"))
    world.declared = {TARGET: spec}
    job = world.sql_job(f"INSERT INTO {TARGET} SELECT region, id, upper(name), updated_at, name IS NULL FROM {SOURCE}")
    world.append(said(("eu", 1, "ann", DAYS[0]), ("eu", 2, "bob", DAYS[0])))
    world.run(job)
    world.append(said(("eu", 1, "eve", DAYS[1]), ("eu", 2, None, DAYS[2])))
    world.run(job)
    wanted = [
        ("eu", 1, "ANN", DAYS[0], DAYS[1], False),
        ("eu", 1, "EVE", DAYS[1], None, True),
        ("eu", 2, "BOB", DAYS[0], DAYS[2], False),
    ]
    assert versions(world) == wanted
    world.append(said(("eu", 2, "zed", DAYS[1])))
    world.run(job)
    wanted[2:] = [("eu", 2, "BOB", DAYS[0], DAYS[1], False), ("eu", 2, "ZED", DAYS[1], DAYS[2], False)]
    assert versions(world) == wanted
    world.run(job, "snapshot")
    assert versions(world) == wanted


def test_a_snapshot_job_adds_what_the_table_says_now_to_what_it_said(world: World) -> None:
    @lf.job(target=TARGET, mode="snapshot", key="id", history=lf.History(by="updated_at"))
    def state_of_now(rows: pl.LazyFrame = lf.Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.select("id", "name", "updated_at").unique("id", keep="last", maintain_order=True)

    for row in (("eu", 1, "ann", DAYS[0]), ("eu", 1, "ann", DAYS[1]), ("eu", 1, "eve", DAYS[2])):
        world.append(said(row))
        for _ in range(2):
            world.run(state_of_now)
    held = world.rows(order="valid_from")
    assert held == [(1, "ann", DAYS[0], DAYS[2]), (1, "eve", DAYS[2], None)]
    assert world.table(idle_table(TARGET)).scan().to_arrow().num_rows == 1


def job_of(**columns: pl.Expr) -> Job:
    @lf.job(target=TARGET, key="id", history=lf.History(by="updated_at", deleted="gone"))
    def made(rows: pl.LazyFrame = lf.Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.select("id", **columns)

    return made


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"gone": pl.lit(False)}, r"gives no column 'updated_at', which its history names as by; it gives: id, gone"),
        ({"updated_at": pl.col("updated_at")}, "gives no column 'gone', which its history names as deleted"),
        ({"updated_at": pl.lit(1.5), "gone": pl.lit(False)}, "column 'updated_at' is double, and says from when"),
        (
            {"updated_at": pl.col("updated_at"), "gone": pl.lit(False), "valid_to": pl.lit(1)},
            "gives the column 'valid_to', which its history fills",
        ),
        ({"updated_at": pl.lit(None, pl.Datetime("us")), "gone": pl.lit(False)}, "'valid_from' is null"),
    ],
)
def test_rows_that_say_no_moment_are_refused_by_name(world: World, columns: dict[str, pl.Expr], message: str) -> None:
    world.append(said(("eu", 1, "ann", DAYS[0])))
    with pytest.raises(SchemaMismatch, match=message):
        world.run(job_of(**columns))


def test_a_null_in_the_key_is_refused(world: World) -> None:
    world.append(said(("eu", None, "ann", DAYS[0])))  # type: ignore[arg-type]
    with pytest.raises(SchemaMismatch, match="key column 'id'"):
        world.run(customers)
