"""Queries over windows: an incremental run over any cutting, whatever dies in between, ends in the same table as a snapshot
run, and in what DuckDB says of all rows where it is asked in its own words.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.job import Caps, Job
from tests.jobs import World, open_world
from tests.lakes import query
from tests.property.test_windows import EVENTS, FIRST, SHARE, Compact, Row, Run, Scene, Wave, expected, late_rows

LENGTHS = "INTERVAL '5' MINUTE, INTERVAL '10' MINUTE"
TUMBLE = "TUMBLE(TABLE {source}, DESCRIPTOR(AT), INTERVAL '10' MINUTE)"
CUMULATE = "CUMULATE(TABLE {source}, DESCRIPTOR(at), INTERVAL '5' MINUTE, INTERVAL '15' MINUTE)"
SESSION = "SESSION(TABLE {source} PARTITION BY \"user\", DESCRIPTOR(at), INTERVAL '3' MINUTE)"
QUERIES = {
    "groups under a filter": f"""
        SELECT window_start AS ws, window_end AS we, "user", median(x) AS m FROM {TUMBLE}
        WHERE part = 0 GROUP BY 1, 2, "user" HAVING count(*) > 1""",
    "first of each window": f"""
        SELECT * FROM (
          SELECT *, row_number() OVER (PARTITION BY window_start, window_end ORDER BY x, "at", part, "user") AS n
          FROM HOP(TABLE {{source}}, DESCRIPTOR(at), {LENGTHS})
        ) WHERE n <= 2""",
    "groups of groups": f"""
        WITH users AS (
          SELECT window_start, window_end, "user", sum(x) AS total FROM {CUMULATE} GROUP BY window_start, window_end, "user"
        )
        SELECT u.window_start, u.window_end, max(u.total) AS most, count(DISTINCT u.total) AS totals
        FROM users AS u GROUP BY u.window_start, u.window_end""",
    "distinct": f'SELECT DISTINCT window_end, window_start, "user" FROM {TUMBLE}',
    "joined with a table that is looked up": f"""
        SELECT w.window_start, w.window_end, count(c."user") AS known FROM {TUMBLE} AS w
        LEFT JOIN dim.users FOR SYSTEM_TIME AS OF PROCTIME() AS c ON c."user" = w."user" GROUP BY 1, 2""",
    "sessions": f"""
        SELECT "user", window_start, window_end, count(*) AS n, max(x) - min(x) AS spread FROM {SESSION}
        GROUP BY window_start, window_end, "user" """,
    "rows of sessions": f"SELECT * FROM {SESSION}",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:

    world = open_world(tmp_path_factory.mktemp("lake"))
    world.append(pa.table({"user": ["a", "c"]}), "dim.users")
    return world


def inserting(scene: Scene, text: str) -> Job:
    return scene.world.sql_job(f"INSERT INTO {scene.target} {text.format(source=scene.source)};")


def all_rows(scene: Scene, name: str) -> Counter[tuple[Any, ...]]:
    table = scene.world.table(name)
    times = [field.name for field in table.schema().as_arrow() if "timestamp" in str(field.type)]
    as_numbers = ", ".join(f'epoch_us("{column}") AS "{column}"' for column in times)
    return Counter(query(table, f"SELECT * REPLACE ({as_numbers}) FROM rows"))


@SHARE
@given(kind=st.sampled_from(sorted(QUERIES)), events=EVENTS)
def test_a_query_over_windows_gives_the_same_in_both_modes(world: World, kind: str, events: list[Any]) -> None:
    scene = Scene(world)
    scene.declare(0, False)
    running = inserting(scene, QUERIES[kind])
    assert running.windowed is not None
    scene.play([FIRST, Run(None, None), *events], running)
    check = f"check.s{scene.number}"
    world.caps = Caps()
    world.run(running, "snapshot", into=check)
    assert all_rows(scene, scene.target) == all_rows(scene, check)


CALLS = {
    "tumble": "TUMBLE(TABLE {source}, DESCRIPTOR(at), INTERVAL '10' MINUTE)",
    "hop": f"HOP(TABLE {{source}}, DESCRIPTOR(at), {LENGTHS})",
    "cumulate": CUMULATE,
}


@SHARE
@given(
    kind=st.sampled_from(sorted(CALLS)),
    events=EVENTS,
    lateness=st.sampled_from([0, 4]),
    emit=st.sampled_from(["update", "append"]),
    parts=st.booleans(),
)
def test_what_set_says_of_late_rows_holds_as_in_python(
    world: World, kind: str, events: list[Any], lateness: int, emit: str, parts: bool
) -> None:
    scene = Scene(world)
    scene.declare(3, parts)
    said = {"late": "drop", "lateness": f"{lateness}m", "emit": emit, "delay": "1m", "idle": "6m"}
    running = world.sql_job(
        "".join(f"SET 'lakeflow.{key}' = '{value}';" for key, value in said.items())
        + f"""INSERT INTO {scene.target} SELECT window_start, window_end, "user", count(*) AS n, CAST(sum(x) AS BIGINT) AS sum
        FROM {CALLS[kind].format(source=scene.source)} GROUP BY window_start, window_end, "user";"""
    )
    scene.play([FIRST, *events], running)
    wanted = expected(scene.waves, kind, late="drop", emit=emit, lateness=lateness, delay=1, idle=6, parts=parts)
    assert scene.rows() == wanted.counted()
    assert late_rows(scene) == (wanted.late, wanted.untimed)
    if Compact() not in events:
        assert scene.snapshot(running) == wanted.counted()


def test_what_a_window_makes_is_what_duckdb_says_of_all_its_rows(world: World) -> None:
    scene = Scene(world)
    scene.declare(0, False)
    running = inserting(scene, QUERIES["groups under a filter"])
    late: list[Row] = [(1, "a", 0, 0), (9, "a", 3, 0), (33, "b", 1, 0), (None, "a", 1, 0)]
    for wave in (FIRST, Wave([late, late[:1]])):
        scene.commit(wave)
        world.run(running)
    start = "epoch_us(time_bucket(INTERVAL '10 minutes', \"at\"))"
    wanted = query(
        world.table(scene.source),
        f'SELECT {start}, {start} + 600000000, "user", median(x) FROM rows WHERE part = 0 AND "at" IS NOT NULL GROUP BY ALL '
        "HAVING count(*) > 1",
    )
    assert all_rows(scene, scene.target) == Counter(wanted)
    assert wanted
