"""What a query keeps by key ends as the query over everything does: over any cutting, whatever dies and is compacted."""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from lakeflow.errors import Fenced
from lakeflow.job import Caps, Job, Read, job
from lakeflow.lake.commit import Committer
from lakeflow.lake.compact import compact, plan_compaction
from lakeflow.lake.compact_plan import Readers, Sizes
from lakeflow.progress import SnapshotPosition
from lakeflow.runner.engines import Threads
from lakeflow.runner.execute import run_job
from tests.crashes import Plan, Where
from tests.jobs import World, open_world
from tests.lakes import query
from tests.property.test_incremental_equals_snapshot import CAPS, FILE, RunJob, Scene, Wave, in_a_row

EXAMPLES = int(os.environ.get("LAKEFLOW_KEYED_EXAMPLES", "6"))
SHARE = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

GROUPS = (
    "SELECT carrier, count(*) AS n, count(delay) AS known, sum(id) AS total, min(delay) AS low, max(delay) AS high, "
    "round(avg(delay), 9) AS mean, sum(id) // 2 AS half FROM {source} GROUP BY carrier",
    "SELECT id % 3 AS third, carrier, count(*) FILTER (WHERE delay > 0 OR delay IS NULL) AS late, bool_or(delay > 1) AS far, "
    "bit_xor(id) AS mark FROM {source} GROUP BY third, carrier HAVING count(*) < 4",
    "SELECT round(var_pop(delay), 9) AS v, carrier, round(stddev_samp(id), 9) AS s, count(DISTINCT delay) AS delays "
    "FROM {source} WHERE id > 0 GROUP BY 2",
    "SELECT count(*) AS n, sum(delay) AS total, max(id) - min(id) AS width FROM {source} WHERE carrier <> 'ZZ'",
    "SELECT DISTINCT carrier, delay FROM {source}",
    "WITH chosen AS (SELECT *, delay * 2 AS twice FROM {source} WHERE id <> 4) "
    "SELECT max(twice) AS most, delay FROM chosen GROUP BY ALL",
)
"""Each of them is its own reference."""

RANKS = (
    (
        "SELECT id, carrier, delay FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY carrier ORDER BY delay DESC) AS rn "
        "FROM {source}) WHERE rn <= 2",
        "SELECT id, carrier, delay FROM rows "
        "QUALIFY row_number() OVER (PARTITION BY carrier ORDER BY delay DESC, id, carrier) <= 2",
    ),
    (
        "WITH r AS (SELECT id AS number, carrier, ROW_NUMBER() OVER (PARTITION BY id ORDER BY carrier) AS rn FROM {source} "
        "WHERE delay IS NOT NULL) SELECT number, carrier FROM r WHERE 1 = rn AND carrier <> 'UA'",
        "SELECT id, carrier FROM (SELECT id, carrier, row_number() OVER (PARTITION BY id ORDER BY carrier) AS rn FROM rows "
        "WHERE delay IS NOT NULL) WHERE rn = 1 AND carrier <> 'UA'",
    ),
    (
        "SELECT carrier, id, rank() OVER (PARTITION BY carrier ORDER BY id) AS place FROM {source} QUALIFY place < 3",
        "SELECT carrier, id, rank() OVER (PARTITION BY carrier ORDER BY id) AS place FROM rows QUALIFY place < 3",
    ),
    (
        "SELECT carrier, max_by(id, delay) AS worst, arg_min(id, delay) FILTER (WHERE id > 1) AS best "
        "FROM {source} GROUP BY carrier",
        "SELECT carrier, max({{'o': delay, 'v': id}}) FILTER (WHERE delay IS NOT NULL).v, "
        "min({{'o': delay, 'v': id}}) FILTER (WHERE delay IS NOT NULL AND id > 1).v FROM rows GROUP BY carrier",
    ),
)
"""Where DuckDB may choose among equals, the reference says how lakeflow does."""

CASES = [*((one, one.replace("{source}", "rows")) for one in GROUPS), *((one, other.format()) for one, other in RANKS)]


@dataclass(frozen=True)
class Tidy:
    """All tables are compacted."""


@dataclass(frozen=True)
class Whole:
    """One process that runs the job as a snapshot."""

    crash: Plan | None


PLACES = (Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES)
CRASH = st.none() | st.builds(Plan, st.sampled_from(PLACES), st.sampled_from([0, 1, 1, 2, 3, 4]))
RUN = st.builds(RunJob, CAPS, CRASH, st.just(1))
WAVE = st.builds(Wave, st.lists(FILE, min_size=1, max_size=3))
EVENTS = st.lists(st.tuples(WAVE, RUN) | WAVE | RUN | st.just(Tidy()) | st.builds(Whole, CRASH), min_size=2, max_size=7)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return open_world(tmp_path_factory.mktemp("lake"))


def state_of(scene: Scene) -> str:
    return f"lakeflow.state_t{scene.number}"


def keyed(scene: Scene, text: str) -> Job:
    made = scene.world.sql_job(
        f"SET 'pipeline.name' = 't{scene.number}'; INSERT INTO {scene.target} {text.replace('{source}', scene.source)};"
    )
    assert made.body.is_keyed  # type: ignore[union-attr]
    return made


def tidy(scene: Scene, running: Job) -> None:
    lake = scene.world.lake
    for name in filter(lake.exists, (scene.source, scene.target, state_of(scene))):
        progress = scene.world.progress(running, scene.target) if lake.exists(scene.target) else None
        position = SnapshotPosition.loads(progress)
        readers = Readers((position,) if position else (), () if position else ("it",)) if name == scene.source else Readers()
        sizes = Sizes(1 << 20, 1 << 20, least_files=2)
        compact(lake, Committer(lake), name, plan_compaction(lake.table(name), readers, sizes), sizes)


def play(scene: Scene, running: Job, events: list[Any]) -> None:
    for one in in_a_row(events):
        match one:
            case Wave():
                scene.wave(one)
            case RunJob():
                scene.run(running, one)
            case Tidy():
                tidy(scene, running)
            case Whole(crash):
                with scene.crashes.survived(crash, scene.world.lake):
                    scene.world.run(running, "snapshot")
            case _:
                raise AssertionError(one)


def check(scene: Scene, running: Job, reference: str) -> None:
    scene.run(running, RunJob(Caps(), None, 1))
    assert scene.world.run(running) is None
    found = Counter(query(scene.world.table(scene.target)))
    assert found == Counter(query(scene.world.table(scene.source), reference))
    event(f"crashes: {min(scene.crashes.happened, 3)}")


@SHARE
@given(case=st.sampled_from(CASES), events=EVENTS)
def test_what_is_kept_by_key_gives_what_the_query_gives_over_everything(
    world: World, case: tuple[str, str], events: list[Any]
) -> None:
    scene = Scene(world)
    running = keyed(scene, case[0])
    play(scene, running, [Wave([[(1, "UA", 1.5)], [(1, "AA", 2.0), (2, None, None)]]), *events])
    check(scene, running, case[1])


def whole_carriers(scene: Scene) -> Job:
    """A job in Python over all rows of a carrier."""

    def middles(rows: Any = Read(scene.source)) -> pl.LazyFrame:
        frame: pl.LazyFrame = rows.group_by("carrier").agg(pl.col("id").median().alias("middle"), pl.col("delay").n_unique())
        return frame.with_columns(pl.col("delay").cast(pl.Int64))

    return job(target=scene.target, by="carrier")(middles)


@settings(SHARE, max_examples=max(3, EXAMPLES // 2))
@given(events=EVENTS)
def test_a_job_by_whole_keys_gives_what_it_gives_over_everything(world: World, events: list[Any]) -> None:
    scene = Scene(world)
    running = whole_carriers(scene)
    play(scene, running, [Wave([[(1, "UA", 1.5)], [(1, "AA", 2.0), (2, None, None)]]), *events])
    distinct = "count(DISTINCT delay) + max(CASE WHEN delay IS NULL THEN 1 ELSE 0 END)"
    check(scene, running, f"SELECT carrier, median(id), {distinct} FROM rows GROUP BY carrier")


@settings(SHARE, max_examples=max(2, EXAMPLES // 3))
@given(files=st.lists(FILE, min_size=1, max_size=4), seed=st.integers(0, 1 << 16), crash=CRASH)
def test_rivals_with_one_job_count_each_row_once(world: World, files: list[Any], seed: int, crash: Plan | None) -> None:
    scene, dice = Scene(world), random.Random(seed)
    running = keyed(scene, GROUPS[0])
    scene.wave(Wave([[(1, "UA", 1.5)]]))
    scene.world.caps, scene.world.engine = Caps(files=1), Threads(1)
    for rows in files:
        scene.wave(Wave([rows, [(2, "AA", 1.0)]]))
        with scene.crashes.survived(crash if dice.random() < 0.5 else None, world.lake):
            rivals = [run_job(scene.world.plan(running), scene.world.runtime()) for _ in range(2)]
            while rivals:
                one = dice.choice(rivals)
                try:
                    next(one)
                except (StopIteration, Fenced):
                    rivals.remove(one)
    check(scene, running, GROUPS[0].replace("{source}", "rows"))
