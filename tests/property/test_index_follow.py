"""An index that follows appends, rewritten files and removed rows in any order, crashes in between, equals its table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lakeflow.declare import IndexSpec
from lakeflow.index.vectors import VectorIndex
from lakeflow.job import Caps
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.read import read, splits_at
from lakeflow.models.registry import ModelSet
from lakeflow.runner.index_verify import verify_index
from lakeflow.runner.indexing import IndexRoom, build_index, index_schema, index_state, update_index
from lakeflow.testing.index import MemoryIndex
from tests.jobs import World, open_world
from tests.lakes import written

EXAMPLES = int(os.environ.get("LAKEFLOW_EXAMPLES", "8"))
TABLE = "gold.embedded"
SCHEMA = pa.schema([("id", pa.string()), ("text", pa.string()), ("vector", pa.list_(pa.float32()))])
SPEC = IndexSpec("docs", TABLE, "vector", "id", metric="l2")
STEADY = 40
KEYS = st.integers(STEADY - 4, STEADY + 4).map(str)
VECTORS = st.sampled_from([[0.0, 1.0], [-0.0, 1.0], [2.0, 0.5]])
ROWS = st.lists(st.tuples(KEYS, st.sampled_from(["a", "b", None]), st.none() | VECTORS), min_size=1, max_size=4)
APPEND = st.tuples(st.just("append"), ROWS, st.booleans())
REWRITE = st.tuples(st.just("rewrite"), ROWS, st.booleans(), st.integers(0, 9), st.sets(KEYS, max_size=3))
DIE = st.tuples(st.just("die"), ROWS)
CAPS = st.sampled_from([Caps(), Caps(files=1), Caps(rows=3)])


@dataclass(frozen=True, slots=True)
class Room(IndexRoom):
    opened: dict[str, MemoryIndex] = field(default_factory=dict)

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened.setdefault(spec.name, MemoryIndex(spec))


def table_of(rows: Sequence[Any]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in rows], schema=SCHEMA)


def carry_out(step: tuple[Any, ...], world: World, room: IndexRoom) -> None:
    """An append; or one of the table's files written again without some keys, and with other rows; or an update that dies
    after it brought in the rows that were appended."""
    table = world.table(TABLE)
    match step:
        case ("append", rows, _):
            world.append(table_of(rows), TABLE)
        case ("die", rows):
            world.append(table_of(rows), TABLE)
            table = world.table(TABLE)
            state = index_state(SPEC, room)
            assert state is not None
            writer = room.open(SPEC).writer(state.identity, index_schema(SPEC, table))
            snapshot = table.current_snapshot()
            assert snapshot is not None
            writer.upsert(table_of(rows).to_batches(), snapshot.sequence_number or 0)
        case ("rewrite", rows, _, place, without):
            live = splits_at(table, table.current_snapshot())
            chosen = live[place % len(live)]
            kept = [row for batch in read(table, [chosen]) for row in batch.to_pylist() if row["id"] not in without]
            made = pa.concat_tables([pa.Table.from_pylist(kept, schema=SCHEMA), table_of(rows)])
            change = Change(
                TABLE,
                written(table, made),
                (chosen.task.file,),
                base=table.current_snapshot().snapshot_id,  # type: ignore[union-attr]
            )
            Committer(world.lake).commit(change)
        case _:
            raise ValueError(step)


def contents(room: IndexRoom) -> dict[str, Any]:
    index = room.open(SPEC)
    return {row["id"]: (row["text"], str(row["vector"])) for batch in index.scan(SCHEMA.names) for row in batch.to_pylist()}


@settings(max_examples=EXAMPLES, deadline=None, phases=[Phase.explicit, Phase.generate])
@given(st.lists(APPEND | REWRITE | DIE, min_size=2, max_size=6), CAPS)
def test_an_index_that_follows_equals_its_table(steps: list[tuple[Any, ...]], caps: Caps) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = open_world(Path(folder))
        room = Room(world.lake, ModelSet([]), str(Path(folder) / "index"), {}, caps)
        world.append(table_of([(str(key), "steady", [1.0, float(key)]) for key in range(STEADY)]), TABLE)
        update_index(SPEC, room)
        for step in steps:
            carry_out(step, world, room)
            if step[0] != "die" and step[2]:
                done = update_index(SPEC, room)
                assert done.rebuilt is None or "most rows" in done.rebuilt, done.rebuilt
        update_index(SPEC, room)
        drift = verify_index(SPEC, room)
        assert (drift.drifted, drift.ahead, drift.keys) == (0, 0, ())
        fresh = Room(world.lake, ModelSet([]), str(Path(folder) / "fresh"), {}, caps)
        build_index(SPEC, fresh)
        assert contents(room) == contents(fresh)
