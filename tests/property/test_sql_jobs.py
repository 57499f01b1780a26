"""The promise of the two modes, for jobs in SQL: an incremental run ends as a snapshot run, over any cutting, whatever dies."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakeflow.declare import TableSpec
from lakeflow.errors import JobFailed
from lakeflow.job import Caps, Job
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.registry import ModelSet
from lakeflow.runner import execute
from lakeflow.runner.engines import Threads
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.failing import Failing, spec_of
from tests.jobs import CARRIERS, FLIGHTS, NAMES, TARGET, World, open_world
from tests.property.test_incremental_equals_snapshot import SHARE, WAVES, Scene, Wave, expected_late, play, rows_of

STILL = f"{CARRIERS} FOR SYSTEM_TIME AS OF PROCTIME()"
PLACES = [Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES]
ROWS = pa.schema([("id", pa.int64()), ("x", pa.float64())])
FIRST = Wave([[(1, "UA", 1.5)], [(1, "AA", 2.0)]])
LATE = f"SELECT o.*, c.name FROM {{source}} AS o LEFT JOIN {STILL} AS c ON c.carrier = o.carrier WHERE delay > 0"
QUERIES = [
    f"SELECT id, (SELECT count(*) FROM {STILL} AS c WHERE c.carrier = o.carrier) AS names FROM {{source}} AS o",
    "SELECT id, delay FROM {source} UNION ALL SELECT -id, 2 * delay FROM {source} WHERE delay > 1",
    "WITH x AS (SELECT id, [delay, 2 * delay] AS both FROM {source}) SELECT x.id, u.v FROM x, UNNEST(x.both) AS u(v)",
    f"SELECT id, CASE WHEN carrier IN (SELECT carrier FROM {STILL} AS c) THEN delay END AS known FROM {{source}}",
    f"SELECT o.id, c.name FROM {STILL} AS c JOIN {{source}} AS o ON c.carrier < o.carrier",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = open_world(tmp_path_factory.mktemp("lake"))
    names = [{"carrier": code, "name": name} for code, name in (("AA", "American"), ("UA", "United"), ("UA", "Again"))]
    world.append(pa.Table.from_pylist(names, schema=NAMES), CARRIERS)
    return world


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a row-wise job is a file, so that there are several."""
    monkeypatch.setattr(execute, "TASK_BYTES", 1)


def inserting(scene: Scene, query: str, key: str = "") -> Job:
    if key:
        scene.world.declared = {scene.target: TableSpec(scene.target, FLIGHTS, primary_key=(key,))}
    return scene.world.sql_job(f"INSERT INTO {scene.target} {query.replace('{source}', scene.source)};")


@SHARE
@given(events=WAVES)
def test_a_query_that_filters_and_joins_gives_the_same_in_both_modes(world: World, events: list[Any]) -> None:
    scene = Scene(world)
    running = inserting(scene, LATE)
    play(scene, running, [FIRST, *events])
    scene.check(running)
    assert rows_of(world, scene.target) == expected_late(rows_of(world, scene.source))


@SHARE
@given(events=WAVES, query=st.sampled_from(QUERIES))
def test_what_is_held_to_run_incrementally_gives_the_same_in_both_modes(world: World, events: list[Any], query: str) -> None:
    scene = Scene(world)
    running = inserting(scene, query)
    play(scene, running, [FIRST, *events])
    scene.check(running)


@SHARE
@given(
    events=WAVES,
    query=st.sampled_from(["SELECT id, carrier, delay FROM {source}", LATE.replace("o.*, c.name", "o.id, c.name, delay")]),
)
def test_a_query_into_a_table_with_a_key_gives_the_same_in_both_modes(world: World, events: list[Any], query: str) -> None:
    scene = Scene(world)
    running = inserting(scene, query, "id")
    play(scene, running, [FIRST, *events])
    scene.check(running)
    rows = rows_of(world, scene.target)
    assert len({row[0] for row in rows}) == rows.total()


def letters(world: World) -> list[tuple[float, int]]:
    """The `x` and the place of each."""
    if not world.lake.exists(DEAD_LETTERS):
        return []
    found = lakes.query(world.lake.table(DEAD_LETTERS), 'SELECT value, "offset" FROM rows')
    return [(json.loads(value)["x"], place) for value, place in found]


@settings(max_examples=10, deadline=None)
@given(
    files=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), min_size=1, max_size=5),
    caps=st.lists(st.sampled_from([1, 2, 100]), min_size=1, max_size=4),
    crashes=st.lists(st.tuples(st.sampled_from(PLACES), st.integers(0, 3)), max_size=6),
    seed=st.integers(0, 1 << 16),
)
def test_each_row_is_written_or_a_letter_once(
    files: list[list[int]], caps: list[int], crashes: list[tuple[Where, int]], seed: int
) -> None:
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        world = open_world(Path(folder))
        wanted = Counter(float(x) for values in files for x in values)
        for values in files:
            world.append(pa.Table.from_pylist([{"id": x, "x": float(x)} for x in values], schema=ROWS), "bronze.rows")
        trap = Crashes()
        query = "SELECT * FROM ML_PREDICT(TABLE bronze.rows, MODEL m, DESCRIPTOR(x))"
        for run, plan in enumerate([*crashes, None]):
            spec = spec_of(on_error="dead_letter")
            world.models = ModelSet([spec], lambda spec: Failing(spec, lambda x: draw.random() < 0.4))
            world.caps, world.engine = Caps(files=caps[run % len(caps)]), Threads(1)
            with trap.survived(Plan(*plan) if plan else None, world.lake):
                try:
                    done = world.run(world.sql_job(f"INSERT INTO {TARGET} {query};"))
                except JobFailed as failed:
                    assert "Crash" in failed.message  # noqa: PT017 - what dies within a call of DuckDB comes out as its error
                    continue
                if done is not None:
                    assert done.counts.read == done.counts.written + done.counts.dead_lettered, done.counts
        written = Counter(row[1] for row in world.rows())
        kept = letters(world)
        assert written + Counter(x for x, _ in kept) == wanted
        assert len({place for _, place in kept}) == len(kept), "each letter has a place of its own"
