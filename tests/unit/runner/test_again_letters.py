"""Dead letters and expectations of what is made anew: rows that are left out are told once for each time they are read."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from lakeflow.errors import ExpectationFailed
from lakeflow.expect import Expectation, OnViolation, in_range
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.lost import LostRow
from lakeflow.runner.backfill import BackfillRun, plan_backfill, run_backfill
from lakeflow.runner.backfill_commits import ChunkCommits, ChunkLetters, ChunkOf
from lakeflow.runner.backfill_range import Asked
from lakeflow.runner.refresh import Refresh
from lakeflow.runner.window_step import TooLate as Why
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.jobs import SOURCE, TARGET, World, flights, open_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = replace(open_world(tmp_path), caps=Caps(files=1))
    for number in range(3):
        made.append(flights((number, "AA", 1.0 * number), (10 + number, "UA", 5.0)))
    return made


def at_most(most: float, then: str = "dead_letter") -> Expectation:
    return in_range("delay", None, most, on_violation=then)


def judged(expectation: Expectation, add: int = 0) -> Job:
    @job(target=TARGET, name="late", expect=[expectation])
    def late(rows: pl.LazyFrame = Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows.select("id", pl.col("delay") + add)

    return late


def backfill(world: World, running: Job, *range_: str | None) -> BackfillRun | None:
    commits = Committer(world.lake)
    plan = plan_backfill(running, Asked(*range_), world.lake, commits, None)
    last = deque(run_backfill(plan, world.runtime()), maxlen=1)
    return last[0] if last else None


def letters(world: World) -> list[tuple[str, int]]:
    table = world.table(DEAD_LETTERS).scan().to_arrow()
    return sorted(zip(table.column("value").to_pylist(), table.column("offset").to_pylist(), strict=True))


def test_a_backfill_leaves_letters_of_its_own(world: World) -> None:
    world.run(judged(at_most(4)))
    assert len(letters(world)) == 3
    done = backfill(world, judged(at_most(4)), "id=10", "id=12", "1")
    assert done is not None
    assert (done.counts.read, done.counts.written, done.counts.dead_lettered) == (2, 0, 2)
    left = letters(world)
    assert len(left) == 5
    assert len({offset for _, offset in left}) == 5
    assert world.run(judged(at_most(4))) is None


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_chunk_that_is_taken_again_leaves_none_twice(world: World, number: int) -> None:
    world.run(judged(at_most(4)))
    crashes = Crashes()
    with crashes.survived(Plan(Where.AFTER_COMMIT, number), world.lake):
        backfill(world, judged(at_most(4)), "id=10", "id=12")
    backfill(world, judged(at_most(4)), "id=10", "id=12")
    # A process that dies after its last commit has nothing left to do: whoever asks again asks for a new backfill.
    finished = number >= 4
    assert len(letters(world)) == (7 if finished else 5)


def test_a_full_refresh_leaves_letters_and_one_after_it_too(world: World) -> None:
    world.run(judged(at_most(4)))
    for times in (2, 3):
        refresh = Refresh(judged(at_most(4)), world.lake, Committer(world.lake), world.runtime())
        *_, last = refresh.run()
        assert last.counts.dead_lettered == 3
        assert len(letters(world)) == 3 * times
    assert world.rows() == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_a_letter_of_the_first_step_alone_is_left_again_by_the_next_refresh(world: World) -> None:
    running = judged(at_most(4))
    first = lakes.written(world.table(SOURCE), flights((30, "B6", 9.0)))
    Committer(world.lake).commit(Change(SOURCE, first, replace_all=True))
    world.append(flights((31, "B6", 1.0)))
    world.run(running)
    for times in (2, 3):
        list(Refresh(running, world.lake, Committer(world.lake), world.runtime()).run())
        assert len(letters(world)) == times


def test_letters_of_chunks_that_are_carried_out_side_by_side_have_numbers_of_their_own(world: World) -> None:
    running = judged(at_most(4))
    world.run(running)
    commits, target = Committer(world.lake), world.table()
    chunks = [ChunkOf(1, 2, chunk, commits.progress(TARGET, running.writer) or "") for chunk in (0, 1)]
    sides = [
        ChunkLetters(running, target, one, world.lake, ChunkCommits(commits, world.lake, running, one), 1 << 20)
        for one in chunks
    ]
    parts = [one.part() for one in sides]
    for part in parts:
        part.keep([LostRow(None, b"key", b"row", Why("late", "it is"))])
    for side, part in zip(sides, parts, strict=True):
        side.land(part.finish())
    assert len({offset for _, offset in letters(world)}) == 3 + 2


def test_rows_that_must_hold_keep_a_chunk_off_the_table_and_a_refresh_off_its_place(world: World) -> None:
    must = str(OnViolation.FAIL)
    world.run(judged(at_most(9, must)))
    before = world.rows()
    with pytest.raises(ExpectationFailed):
        backfill(world, judged(at_most(9, must), add=5), "id=10", "id=11")
    with pytest.raises(ExpectationFailed):
        list(Refresh(judged(at_most(9, must), add=5), world.lake, Committer(world.lake), world.runtime()).run())
    assert world.rows() == before
    backfill(world, judged(at_most(9, must), add=1), "id=10", "id=11")
    assert (10, 6.0) in world.rows()
    list(Refresh(judged(at_most(9, must), add=2), world.lake, Committer(world.lake), world.runtime()).run())
    assert [delay for _, delay in world.rows()] == [2.0, 3.0, 4.0, 7.0, 7.0, 7.0]
