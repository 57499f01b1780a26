"""Rows that models leave without an answer: skipped, or dead letters that land once wherever the run dies."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.errors import Fenced, JobFailed, ModelError, Terminal
from lakeflow.job import Caps, Job
from lakeflow.lake.commit import Committer
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec
from lakeflow.runner import letters
from lakeflow.runner.letters import Kept, StepLetters
from lakeflow.testing.source import Crash
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.failing import Failing, Strict, spec_of
from tests.jobs import TARGET, World

ROWS = pa.schema([("id", pa.int64()), ("x", pa.float64())])
BAD = {3.0, 5.0}


def is_bad(x: float) -> bool:
    return x in BAD


@lf.job(target=TARGET)
def scored(rows: pl.LazyFrame = lf.Read("bronze.rows")) -> pl.LazyFrame:  # type: ignore[assignment]
    return lf.ml_predict(rows, "m", ["x"])


@lf.job(target=TARGET, key="id")
def merged(rows: pl.LazyFrame = lf.Read("bronze.rows")) -> pl.LazyFrame:  # type: ignore[assignment]
    return lf.ml_predict(rows, "m", ["x"])


def modelled(world: World, fails: Callable[[float], bool] = is_bad, **options: str) -> Failing:
    """The world with a model `m` of such options; what answers in it."""
    spec = spec_of(**{"on_error": "dead_letter", **options})
    model = Failing(spec, fails)
    world.models = ModelSet([spec], lambda _: model)
    return model


def append(world: World, *values: float) -> None:
    table = pa.table({"id": [int(x) for x in values], "x": values}, schema=ROWS)
    world.append(table, "bronze.rows")


def kept(world: World, what: str = "value") -> list[Any]:
    if not world.lake.exists(DEAD_LETTERS):
        return []
    found = lakes.query(world.lake.table(DEAD_LETTERS), f'SELECT {what} FROM rows ORDER BY "offset"')
    return [json.loads(value)["x"] if what == "value" else value for (value,) in found]


def written(world: World) -> list[float]:
    return [row[1] for row in world.rows()]


@pytest.mark.parametrize("job", [scored, merged])
@pytest.mark.parametrize("mode", ["incremental", "snapshot"])
def test_one_bad_row_never_loses_the_others(world: World, job: Job, mode: str) -> None:
    modelled(world)
    append(world, 1, 2, 3, 4, 5)
    done = world.run(job, mode)
    assert done is not None
    assert (done.counts.read, done.counts.written, done.counts.dead_lettered, done.counts.filtered) == (5, 3, 2, 0)
    assert written(world) == [1, 2, 4]
    assert sorted(kept(world)) == [3, 5]
    head = world.table().current_snapshot()
    assert head is not None
    assert head.summary is not None
    assert head.summary.additional_properties["lakeflow.rows-dead-lettered"] == "2"


def test_a_letter_tells_the_row_and_why_it_has_no_answer(world: World) -> None:
    modelled(world)
    append(world, 3)
    world.run(scored)
    columns = '"table", topic, "partition", "offset", kind, error, model, octet_length("key")'
    [row] = lakes.query(world.lake.table(DEAD_LETTERS), f"SELECT {columns} FROM rows")
    assert row == (TARGET, "#job.scored", 0, 0, "refused", "no 3.0", "m", 32)


def test_skipped_rows_are_counted_and_kept_nowhere(world: World) -> None:
    modelled(world, on_error="skip")
    append(world, 1, 3, 4)
    done = world.run(scored)
    assert done is not None
    assert (done.counts.written, done.counts.skipped, done.counts.dead_lettered, done.counts.filtered) == (2, 1, 0, 0)
    assert kept(world) == []


def test_what_the_job_filters_is_counted_apart(world: World) -> None:
    @lf.job(target=TARGET)
    def few(rows: pl.LazyFrame = lf.Read("bronze.rows")) -> pl.LazyFrame:  # type: ignore[assignment]
        return lf.ml_predict(rows, "m", ["x"]).filter(pl.col("id") > 1)

    model = modelled(world)
    append(world, 1, 2, 3)
    done = world.run(few)
    assert done is not None
    assert (done.counts.written, done.counts.dead_lettered, done.counts.filtered) == (1, 1, 1)
    assert model.asked[1.0] == 0, "the filter stands below the model"


def test_a_local_model_that_tells_nothing_is_asked_in_halves(world: World) -> None:
    spec = spec_of(on_error="dead_letter")
    model = Strict(spec, is_bad)
    world.models = ModelSet([spec], lambda _: model)
    append(world, *range(64))
    done = world.run(scored)
    assert done is not None
    assert (done.counts.written, done.counts.dead_lettered) == (62, 2)
    assert kept(world, "kind") == ["misfit", "misfit"]
    assert model.calls < 32, "far from one by one"


def fails_by_turns() -> Callable[[float], bool]:
    """Bad rows fail when they are asked first, good ones ever after: the worst that another try can be told."""
    seen: set[float] = set()

    def fails(x: float) -> bool:
        again = x in seen
        seen.add(x)
        return (x in BAD) != again

    return fails


DEATHS = [Plan(where, number) for where in (Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.FILES) for number in range(4)]


@pytest.mark.parametrize("job", [scored, merged])
@pytest.mark.parametrize("death", DEATHS, ids=str)
def test_no_row_gets_both_a_letter_and_a_row_nor_neither(world: World, job: Job, death: Plan) -> None:
    fails = fails_by_turns()
    modelled(world, fails)
    append(world, 1, 2, 3, 4)
    trap = Crashes()
    with trap.survived(death, world.lake):
        world.run(job)
    append(world, 5, 6)
    modelled(world, fails)
    world.run(job)
    assert sorted([*written(world), *kept(world)]) == [1, 2, 3, 4, 5, 6]


def test_every_death_of_those_happens(world: World) -> None:
    """Table of letters, letters, and rows: the deaths above are at each of these commits, before it and after."""
    modelled(world)
    append(world, 1, 3)
    trap = Crashes()
    for plan in (Plan(Where.BEFORE_COMMIT, 0), Plan(Where.AFTER_COMMIT, 1)):
        with trap.survived(plan, world.lake):
            world.run(scored)
    assert trap.happened == 2


def dies_behind_the_letters(world: World, job: Job = scored, mode: str | None = None) -> None:
    """A run whose letters land and whose rows do not."""
    land = StepLetters.land

    def land_and_die(step: StepLetters, files: Sequence[Any]) -> None:
        land(step, files)
        raise Crash("behind the letters")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepLetters, "land", land_and_die)
        with pytest.raises(Crash):
            world.run(job, mode)


def test_a_step_whose_letters_landed_is_taken_again_as_it_was_cut(world: World) -> None:
    world.caps = Caps(files=2)
    modelled(world)
    append(world, 1, 3)
    append(world, 2)
    append(world, 4)
    dies_behind_the_letters(world)
    world.caps = Caps(files=1)
    model = modelled(world, lambda x: False)
    assert [step.reads[0].rows for step in world.plan(scored).steps] == [3, 1]
    done = world.run(scored)
    assert done is not None
    assert (done.counts.read, done.counts.written, done.counts.dead_lettered) == (4, 3, 1)
    assert model.asked[3.0] == 0, "what has a letter is not asked again"
    assert kept(world) == [3.0]


@pytest.mark.parametrize("job", [scored, merged])
def test_a_snapshot_run_that_died_behind_its_letters_is_taken_again_and_the_next_one_asks_anew(world: World, job: Job) -> None:
    modelled(world)
    append(world, 1, 3)
    dies_behind_the_letters(world, job, "snapshot")
    append(world, 5)
    model = modelled(world)
    done = world.run(job, "snapshot")
    assert done is not None
    assert (done.counts.read, done.counts.written, done.counts.dead_lettered) == (3, 1, 2)
    assert model.asked[3.0] == 0
    assert kept(world) == [3.0, 5.0]
    world.run(job, "snapshot")
    assert model.asked[3.0] == 1
    assert kept(world) == [3.0, 5.0, 3.0, 5.0], "each snapshot run leaves letters of its own"


def test_equal_rows_are_told_apart_by_how_many_they_are(world: World) -> None:
    turns = iter([True, False, True])
    modelled(world, lambda x: next(turns))
    append(world, 3, 3, 3)
    dies_behind_the_letters(world)
    assert kept(world) == [3.0, 3.0]
    modelled(world, lambda x: False)
    done = world.run(scored)
    assert done is not None
    assert (done.counts.written, done.counts.dead_lettered) == (1, 2)
    assert kept(world) == [3.0, 3.0]


def test_the_letters_of_a_step_that_landed_hold_back_nothing_later(world: World) -> None:
    modelled(world)
    append(world, 3)
    world.run(scored)
    append(world, 3)
    model = modelled(world, lambda x: False)
    world.run(scored)
    assert model.asked[3.0] == 1
    assert written(world) == [3.0]


def test_a_target_made_anew_begins_anew(world: World) -> None:
    modelled(world)
    append(world, 1, 3)
    dies_behind_the_letters(world)
    world.lake.drop(TARGET)
    modelled(world)
    done = world.run(scored)
    assert done is not None
    assert (done.counts.written, done.counts.dead_lettered) == (1, 1)
    places = kept(world, '"offset"')
    assert len(places) == len(set(places)) == 2


def test_of_two_runs_of_a_job_one_leaves_no_letters(world: World) -> None:
    modelled(world)
    append(world, 1, 3)
    late = world.plan(scored)
    world.run(scored)
    with pytest.raises(Fenced):
        world.carry_out(late)
    assert kept(world) == [3.0]
    assert written(world) == [1.0]
    assert lakes.stored_files(world.lake.table(DEAD_LETTERS)) == {
        lakes.path_of(path) for path in lakes.live_paths(world.lake.table(DEAD_LETTERS))
    }


def test_a_run_that_fails_leaves_no_letters_and_no_files(world: World) -> None:
    @lf.job(target=TARGET)
    def breaks(rows: pl.LazyFrame = lf.Read("bronze.rows")) -> pl.LazyFrame:  # type: ignore[assignment]
        def burst(some: pl.DataFrame) -> pl.DataFrame:
            if some.height:
                raise ValueError("no")
            return some

        return lf.ml_predict(rows, "m", ["x"]).map_batches(burst)

    modelled(world)
    append(world, 1, 3)
    with pytest.raises(JobFailed, match="no"):
        world.run(breaks)
    assert kept(world) == []
    assert not lakes.stored_files(world.lake.table(DEAD_LETTERS))


def test_a_job_that_collects_for_itself_leaves_its_letters_once(world: World) -> None:
    @lf.job(target=TARGET)
    def eager(rows: pl.LazyFrame = lf.Read("bronze.rows")) -> pl.LazyFrame:  # type: ignore[assignment]
        return lf.ml_predict(rows, "m", ["x"]).collect().lazy()

    modelled(world)
    append(world, 1, 3)
    done = world.run(eager)
    assert done is not None
    assert (done.counts.written, done.counts.dead_lettered) == (1, 1)
    assert kept(world) == [3.0]


def test_too_many_letters_are_a_broken_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "MOST_LETTERS", 1)
    modelled(world)
    append(world, 3, 5)
    with pytest.raises(ModelError, match="more than 1 rows of one step have no answer"):
        world.run(scored)


def test_progress_of_letters_is_read_back() -> None:
    one = Kept(None, '{"sequence":1}', 3, 7, 2)
    assert Kept.loads(one.dumps()) == one
    assert Kept.loads(None) is None
    with pytest.raises(Terminal, match="not readable"):
        Kept.loads("{}")


def test_fail_is_the_default_and_nothing_lands(world: World) -> None:
    spec = ModelSpec("m", "fake", spec_of().task, spec_of().input, spec_of().output)
    world.models = ModelSet([spec], lambda _: Failing(spec, is_bad))
    append(world, 1, 3)
    with pytest.raises(ModelError, match=r"model 'm': refused: no 3\.0"):
        world.run(scored)
    assert Committer(world.lake).progress(TARGET, scored.writer) is None
