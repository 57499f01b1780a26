"""Whatever a job's rows are, however they are cut and wherever runs die: a job with expectations ends in the same table in both
modes, each row is in the target, left out or a dead letter, and main never shows what must not be there.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import count
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

import lakeflow as lf
from lakeflow.declare import TableSpec
from lakeflow.errors import ExpectationFailed
from lakeflow.job import Caps, Job
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.runner.engines import Threads
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.jobs import FLIGHTS, World, flights, open_world

SHARE = settings(
    max_examples=max(5, settings().max_examples // 12),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
NUMBERS = count()
Row = tuple[int, str | None, float | None]

ROW = st.tuples(st.integers(0, 4), st.sampled_from(["AA", "UA", None]), st.sampled_from([-1.0, 0.0, 2.0, None]))
DYING = st.builds(
    Plan,
    st.sampled_from([Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES]),
    st.sampled_from([0, 0, 1, 2, 3]),
)
RUN = st.tuples(st.builds(Caps, st.none() | st.integers(1, 2)), DYING | st.none())
WAVES = st.lists(st.tuples(st.lists(ROW, min_size=1, max_size=4), st.lists(RUN, max_size=2)), min_size=1, max_size=4)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tmp_path_factory.mktemp("lake"))


def job_of(number: int, key: str | None) -> Job:
    expect = [
        lf.not_null("carrier", on_violation="dead_letter"),
        lf.in_range("delay", 0, on_violation="drop"),
        lf.satisfies("delay < 2", name="short"),
        lf.one_of("carrier", ["AA", "UA"], on_violation="fail"),
        lf.satisfies("min(delay) >= 0", on_violation="fail"),
    ]

    @lf.job(target=f"gold.t{number}", expect=expect, key=key or ())
    def checked(rows: pl.LazyFrame = lf.Read(f"bronze.t{number}")) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows

    return checked


def expected_rows(rows: list[Row], key: str | None) -> Counter[Row]:
    """What must stay, by plain Python: those with a carrier and no negative delay; of a key the last of them."""
    kept = [row for row in rows if row[1] is not None and not (row[2] is not None and row[2] < 0)]
    return Counter({row[0]: row for row in kept}.values() if key else kept)


def letters(world: World, table: str) -> Counter[Any]:
    if not world.lake.exists(DEAD_LETTERS):
        return Counter()
    found = lakes.query(world.table(DEAD_LETTERS), f"""SELECT value FROM rows WHERE "table" = '{table}'""")
    return Counter(tuple(json.loads(value).values()) for (value,) in found)


@pytest.mark.parametrize("key", [None, "id"])
@SHARE
@given(waves=WAVES)
def test_each_row_is_where_it_belongs_once(world: World, key: str | None, waves: list[Any]) -> None:
    number, crashes = next(NUMBERS), Crashes()
    job, source, target = job_of(number, key), f"bronze.t{number}", f"gold.t{number}"
    world.lake.ensure(TableSpec(source, FLIGHTS))
    rows: list[Row] = []
    for wave, runs in [*waves, ([(9, "AA", 0.0)], [(Caps(), None)])]:
        world.append(flights(*wave), source)
        rows += wave
        for caps, crash in runs:
            world.caps, world.engine = caps, Threads(1)
            with crashes.survived(crash, world.lake):
                world.run(job)
    assert world.run(job) is None
    assert Counter(lakes.query(world.table(target))) == expected_rows(rows, key)
    assert letters(world, target) == Counter(row for row in rows if row[1] is None)
    assert list(world.table(target).metadata.refs) == ["main"]
    world.run(job, "snapshot", into=f"check.t{number}")
    assert Counter(lakes.query(world.table(f"check.t{number}"))) == expected_rows(rows, key)
    event(f"crashes: {min(crashes.happened, 3)}")


@SHARE
@given(waves=st.lists(st.lists(ROW, min_size=1, max_size=3), min_size=1, max_size=4))
def test_main_never_shows_what_must_not_be_there(world: World, waves: list[list[Row]]) -> None:
    """One batch a wave; from the first one on that violates, main stands still."""
    number = next(NUMBERS)

    @lf.job(
        target=f"gold.t{number}",
        max_files=1,
        expect=[lf.not_null("carrier", on_violation="fail"), lf.unique("id", on_violation="fail")],
    )
    def strict(rows: pl.LazyFrame = lf.Read(f"bronze.t{number}")) -> pl.LazyFrame:  # type: ignore[assignment]
        return rows

    world.caps = Caps()
    shown: list[Row] = []
    broken = False
    for wave in waves:
        world.append(flights(*wave), f"bronze.t{number}")
        ids = [row[0] for row in (*shown, *wave)]
        broken = broken or any(row[1] is None for row in wave) or len(set(ids)) < len(ids)
        if broken:
            with pytest.raises(ExpectationFailed):
                world.run(strict)
        else:
            world.run(strict)
            shown += wave
        assert Counter(lakes.query(world.table(f"gold.t{number}"))) == Counter(shown)
    event(f"broken: {broken}")
