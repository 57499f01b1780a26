"""Jobs in Python by key: they see all rows of the keys that new rows have, and replace what the target holds of these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lakeflow.errors import DeclarationError, Fenced, JobFailed, UnknownName
from lakeflow.job import Caps, Job, Mode, OnChange, Output, Read, job
from lakeflow.runner.execute import run_job
from tests.crashes import Crashes, Plan, Where
from tests.jobs import SOURCE, TARGET, World, flights, open_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = open_world(tmp_path)
    found.append(flights((1, "UA", 1.0), (2, "AA", 2.0)))
    return found


def ranked() -> Job:
    """Two rows at the most of each carrier, with their place among all of it: nothing that could be kept in parts."""

    def ranks(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        placed = rows.with_columns(pl.col("delay").rank("ordinal", descending=True).over("carrier").alias("place"))
        frame: pl.LazyFrame = placed.with_columns(pl.len().over("carrier").alias("of")).filter(pl.col("place") <= 2)
        return frame.select("carrier", "id", pl.col("place").cast(pl.Int64), pl.col("of").cast(pl.Int64))

    return job(target=TARGET, by="carrier")(ranks)


def test_a_run_makes_the_keys_of_new_rows_anew_and_leaves_the_others(world: World) -> None:
    world.run(ranked())
    aside = world.rows()
    world.append(flights((3, "UA", 5.0), (4, "UA", 3.0)))
    done = world.run(ranked())
    assert done is not None
    assert (done.counts.read, done.counts.written) == (2, 2)
    assert aside == [("AA", 2, 1, 1), ("UA", 1, 1, 1)]
    assert world.rows() == [("AA", 2, 1, 1), ("UA", 3, 1, 3), ("UA", 4, 2, 3)]
    assert world.run(ranked()) is None


def test_any_cutting_gives_what_a_snapshot_gives(world: World) -> None:
    for number in range(3, 9):
        world.append(flights((number, ["UA", None, "AA"][number % 3], float(number * 7 % 5))))
        world.caps = Caps(files=1 + number % 2)
        if number % 3:
            world.run(ranked())
    world.run(ranked())
    world.run(ranked(), "snapshot", into="gold.whole")
    assert world.rows() == world.rows("gold.whole")
    assert len({row[0] for row in world.rows()}) == 3


@pytest.mark.parametrize("where", [Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.FILES])
def test_a_run_that_dies_is_taken_up(world: World, where: Where) -> None:
    world.run(ranked())
    world.append(flights((3, "UA", 5.0)))
    crashes = Crashes()
    with crashes.survived(Plan(where, 0), world.lake):
        world.run(ranked())
    assert crashes.happened == 1
    world.run(ranked())
    assert world.rows() == [("AA", 2, 1, 1), ("UA", 1, 2, 2), ("UA", 3, 1, 2)]


def test_rows_that_were_removed_are_followed_where_that_is_asked_for(world: World) -> None:
    world.append(flights((3, "UA", 5.0), (4, "DL", 5.0)))
    following = replace(ranked(), on_change=OnChange.RECOMPUTE)
    world.run(following)
    world.table(SOURCE).delete("id = 1 or id = 4")
    world.run(following)
    assert world.rows() == [("AA", 2, 1, 1), ("UA", 3, 1, 1)]


def test_rows_that_only_moved_to_other_files_are_not_made_anew(world: World) -> None:
    """One row of a file goes, and the others are written again; those of DL stand in another file too."""
    world.append(flights((3, "DL", 5.0), (4, "WN", None), (5, None, 1.0), (6, "DL", 7.0)))
    world.append(flights((7, "DL", 6.0)))
    seen: list[str | None] = []

    def told(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        def tell(carriers: pl.Series) -> pl.Series:
            seen.extend(carriers)
            return carriers

        frame: pl.LazyFrame = rows.select(pl.col("carrier").map_batches(tell, pl.String(), is_elementwise=True), "id", "delay")
        return frame

    job_by_carrier = job(target=TARGET, by="carrier", on_change="recompute")(told)
    world.run(job_by_carrier)
    for condition, made in (("id = 1", set()), ("id = 6", {"DL"}), ("id = 4", {"DL"}), ("id = 7", {"DL"}), ("id = 3", set())):
        seen.clear()
        world.table(SOURCE).delete(condition)
        world.run(job_by_carrier)
        assert set(seen) == made, condition
        world.run(job_by_carrier, "snapshot", into="gold.whole")
        assert world.rows() == world.rows("gold.whole")


def test_a_changed_value_of_a_key_is_seen_where_its_file_is_written_again(world: World) -> None:
    following = replace(ranked(), on_change=OnChange.RECOMPUTE)
    world.append(flights((3, "DL", 5.0)))
    world.run(following)
    world.table(SOURCE).overwrite(flights((1, "UA", 1.0), (2, "AA", 9.0), (2, "AA", 3.0), (3, "DL", 5.0)))
    world.run(following)
    world.run(following, "snapshot", into="gold.whole")
    assert world.rows() == world.rows("gold.whole")
    assert [row[0] for row in world.rows()] == ["AA", "AA", "DL", "UA"]


def test_rivals_are_fenced(world: World) -> None:
    late = run_job(world.plan(ranked()), world.runtime())
    world.run(ranked())
    with pytest.raises(Fenced):
        next(late)


def test_a_key_that_none_of_the_rows_has_is_refused(world: World) -> None:
    @job(target=TARGET, by=["carrier"])
    def renamed(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.select(pl.col("carrier") + "!", "id")
        return frame

    with pytest.raises(
        JobFailed, match=r"gave a row of a key that none of the rows has which it was given: \{'carrier': '..!'\}"
    ):
        world.run(renamed)


@pytest.mark.parametrize("by", ["carier", "id"])
def test_columns_that_are_not_there_are_named(world: World, by: str) -> None:
    @job(target=TARGET, by=by)
    def carriers(rows: Any = Read(SOURCE)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.select("carrier")
        return frame

    with pytest.raises(UnknownName, match=by):
        world.run(carriers)


@pytest.mark.parametrize("text", ["carrier AS who", "id"])
def test_a_job_that_does_not_pass_its_key_on_leaves_no_table_that_a_mended_one_could_not_write(world: World, text: str) -> None:
    def query(selected: str) -> Job:
        return world.sql_job(f"SET 'lakeflow.by' = 'carrier'; INSERT INTO {TARGET} SELECT {selected} FROM {SOURCE};")

    with pytest.raises(UnknownName, match="column of the rows of job 'made' 'carrier'"):
        world.run(query(text))
    assert not world.lake.exists(TARGET)
    world.run(query("id, carrier"))
    assert world.rows() == [(1, "UA"), (2, "AA")]


def test_what_it_declares() -> None:
    made = ranked()
    assert (made.by, made.mode, made.output, made.is_row_wise) == (("carrier",), Mode.INCREMENTAL, Output.UPDATE, False)
    with pytest.raises(DeclarationError, match="by= says that the rows of whole keys replace others"):
        job(target=TARGET, by="carrier", key="id")(lambda rows=Read(SOURCE): rows)
