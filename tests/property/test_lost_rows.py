"""Each row that a model is asked about gets an answer or a dead letter, once, wherever runs die."""

from __future__ import annotations

import json
import random
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import lakeflow as lf
from lakeflow.job import Caps
from lakeflow.lake.letters import DEAD_LETTERS
from lakeflow.models.registry import ModelSet
from lakeflow.runner.engines import Threads
from tests import lakes
from tests.crashes import Crashes, Plan, Where
from tests.failing import Failing, spec_of
from tests.jobs import TARGET, World, open_world

PLACES = [Where.BEFORE_COMMIT, Where.AFTER_COMMIT, Where.WRITER, Where.FILES]
ROWS = pa.schema([("id", pa.int64()), ("x", pa.float64())])


@lf.job(target=TARGET)
def scored(rows: pl.LazyFrame = lf.Read("bronze.rows")) -> pl.LazyFrame:  # type: ignore[assignment]
    return lf.ml_predict(rows, "m", ["x"])


def letters(world: World) -> list[tuple[float, int]]:
    """The `x` and the place of each."""
    if not world.lake.exists(DEAD_LETTERS):
        return []
    found = lakes.query(world.lake.table(DEAD_LETTERS), 'SELECT value, "offset" FROM rows')
    return [(json.loads(value)["x"], place) for value, place in found]


@settings(max_examples=15, deadline=None)
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
        number = 0
        wanted: Counter[float] = Counter()
        for values in files:
            rows = [{"id": number + place, "x": float(x)} for place, x in enumerate(values)]
            number += len(values)
            wanted.update(float(x) for x in values)
            world.append(pa.Table.from_pylist(rows, schema=ROWS), "bronze.rows")
        trap = Crashes()
        for run, plan in enumerate([*crashes, None]):
            spec = spec_of(on_error="dead_letter")
            world.models = ModelSet([spec], lambda spec: Failing(spec, lambda x: draw.random() < 0.4))
            world.caps = Caps(files=caps[run % len(caps)])
            world.engine = Threads(1)
            with trap.survived(Plan(*plan) if plan else None, world.lake):
                done = world.run(scored)
                if done is not None:
                    counts = done.counts
                    assert counts.read == counts.written + counts.dead_lettered, counts
        written = Counter(row[1] for row in world.rows())
        kept = letters(world)
        assert written + Counter(x for x, _ in kept) == wanted
        assert len({place for _, place in kept}) == len(kept), "each letter has a place of its own"
