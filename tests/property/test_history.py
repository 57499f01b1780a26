"""A target with history, in any cutting and through crashes, holds the versions that plain Python makes of all rows."""

from __future__ import annotations

import os
import tempfile
from itertools import groupby
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

import lakeflow as lf
from lakeflow.declare import TableSpec
from lakeflow.job import Caps, Job
from lakeflow.lake.commit import Change, Committer
from lakeflow.runner import history_step
from tests.crashes import Crashes, Plan, Where
from tests.jobs import SOURCE, TARGET, World, open_world
from tests.lakes import query, written

EXAMPLES = int(os.environ.get("LAKEFLOW_EXAMPLES", "6"))
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("place", pa.struct([("city", pa.string())])),
        ("at", pa.int64()),
        ("gone", pa.bool_()),
    ]
)
WHOLE = "gold.whole"
Said = tuple[int, str | None, int, bool | None]
SAID = st.tuples(
    st.integers(0, 2), st.sampled_from(["a", "b", None]), st.integers(0, 9), st.sampled_from([False, False, False, None, True])
)
FILES = st.lists(st.lists(SAID, min_size=1, max_size=5), min_size=1, max_size=3)
CRASHES = st.none() | st.builds(
    Plan, st.sampled_from([Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES]), st.integers(0, 3)
)
WAVES = st.lists(st.tuples(FILES, CRASHES, st.sampled_from([Caps(), Caps(files=1)])), min_size=1, max_size=4)


@lf.job(
    target=TARGET,
    key="id",
    history=lf.History("valid_from", "valid_to", current="is_current", by="at", deleted="gone"),
)
def kept(said: pl.LazyFrame = lf.Read(SOURCE)) -> pl.LazyFrame:  # type: ignore[assignment]  # the decorator reads defaults
    return said


def table_of(said: list[Said]) -> pa.Table:
    rows = [{"id": i, "name": n, "place": {"city": n}, "at": at, "gone": gone} for i, n, at, gone in said]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def versions(said: list[Said]) -> list[tuple[Any, ...]]:
    """What all that was said comes to, one key after the other: (id, name, from, to)."""
    last = {(key, at): (name, bool(gone)) for key, name, at, gone in said}
    made: list[tuple[Any, ...]] = []
    for key, moments in groupby(sorted(last), lambda place: place[0]):
        held: tuple[str | None, int] | None = None
        for _, at in moments:
            name, gone = last[(key, at)]
            if held is not None and not gone and held[0] == name:
                continue
            if held is not None:
                made.append((key, *held, at))
            held = None if gone else (name, at)
        if held is not None:
            made.append((key, *held, None))
    return sorted(made, key=str)


def append(world: World, files: list[list[Said]]) -> None:
    if not world.lake.exists(SOURCE):
        world.lake.ensure(TableSpec(SOURCE, SCHEMA))
    table = world.table(SOURCE)
    added = [one for part, said in enumerate(files) for one in written(table, table_of(said), part=part)]
    Committer(world.lake).commit(Change(SOURCE, add=tuple(added)))


def told(world: World, name: str) -> list[tuple[Any, ...]]:
    found = query(world.table(name), "SELECT id, name, valid_from, valid_to, is_current, place.city FROM rows")
    assert all(current == (until is None) and city == said for _, said, _, until, current, city in found)
    return sorted((row[:4] for row in found), key=str)


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow], phases=[Phase.explicit, Phase.generate]
)
@given(WAVES, st.sampled_from([2, history_step.PART_ROWS]))
def test_any_cutting_ends_in_the_versions_of_the_whole(
    waves: list[tuple[list[list[Said]], Plan | None, Caps]], part_rows: int
) -> None:
    crashes, said = Crashes(), list[Said]()
    job: Job = kept
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(history_step, "PART_ROWS", part_rows)
        world = open_world(Path(folder))
        for files, crash, caps in waves:
            append(world, files)
            said += [one for file in files for one in file]
            world.caps = caps
            with crashes.survived(crash, world.lake):
                world.run(job)
        event(f"crashes {crashes.happened}")
        world.run(job)
        assert told(world, TARGET) == versions(said)
        world.run(job, "snapshot", into=WHOLE)
        assert told(world, WHOLE) == versions(said)
        append(world, [[(0, "late", 4, False), (1, None, 5, True)]])
        world.run(job)
        world.run(job, "incremental", into=WHOLE)
        said += [(0, "late", 4, False), (1, None, 5, True)]
        assert told(world, TARGET) == told(world, WHOLE) == versions(said)
