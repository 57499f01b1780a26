"""Whatever becomes of documents, in whatever cutting: an embedding job ends in the chunks that a snapshot run makes of the last
state, and its index holds what the table says."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import lakeflow as lf
from lakeflow.declare import IndexSpec
from lakeflow.job import Caps, Job, job
from lakeflow.lake.commit import Change, Committer
from lakeflow.lake.merge import KeyedMerge
from lakeflow.lake.on_base import land
from lakeflow.lake.write import DataWriter
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.index_verify import verify_index
from lakeflow.runner.indexing import IndexRoom, update_index
from lakeflow.testing.provider import EchoProvider
from tests.jobs import World, open_world

DOCS, CHUNKS = "bronze.docs", "gold.chunks"
SCHEMA = pa.schema([("doc", pa.int64()), ("body", pa.string())])
SPEC = ModelSpec("m", "echo", Task.EMBEDDING, pa.schema([("t", pa.string())]), pa.schema([("v", pa.list_(pa.float32()))]))
INDEX = IndexSpec("chunks", CHUNKS, "embedding", "chunk_id", model="m")
EXAMPLES = int(os.environ.get("LAKEFLOW_EMBEDDING_EXAMPLES", "4"))

bodies = st.none() | st.lists(st.sampled_from(["one.", "two.", "six.", "\n\n", " "]), max_size=5).map(" ".join)
changes = st.lists(
    st.one_of(
        st.dictionaries(st.integers(0, 4), bodies, min_size=1, max_size=4),
        st.sets(st.integers(0, 4), min_size=1, max_size=3),
        st.sampled_from(["run", "index"]),
    ),
    min_size=2,
    max_size=8,
)


def chunks_job() -> Job:
    @job(target=CHUNKS, by="doc", on_change="recompute")
    def chunks(rows: Any = lf.Read(DOCS)) -> pl.LazyFrame:
        parts = lf.split(rows, "body", size=9, overlap=4, key="doc")
        return lf.ml_embed(parts.drop("chunk_start", "chunk_end"), "m", "chunk", hash_into="content_hash")

    return chunks


def merge(world: World, upserts: dict[int, str | None], deletes: set[int]) -> None:
    """Documents come, change and go, as a landing by key does it."""
    rows = pa.Table.from_pylist([{"doc": doc, "body": body} for doc, body in upserts.items()], schema=SCHEMA)
    if not world.lake.exists(DOCS):
        world.append(SCHEMA.empty_table(), DOCS)
    table = world.table(DOCS)
    merging = KeyedMerge(table, ["doc"])
    try:
        merging.write(rows)
        if deletes:
            merging.delete(pa.table({"doc": pa.array(sorted(deletes), pa.int64())}))

        def commit(change: Change) -> int:
            return Committer(world.lake).commit(change).snapshot_id

        land(merging, table, lambda: DataWriter(table), commit, {})
    finally:
        merging.close()


@given(changes=changes, files=st.sampled_from([None, 1, 2]))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.too_slow],
)
def test_the_target_and_its_index_follow_the_documents(changes: list[Any], files: int | None) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = open_world(Path(folder) / "lake")
        world.models = ModelSet([SPEC], EchoProvider)
        world.caps = Caps(files=files)
        room = IndexRoom(world.lake, world.models, f"{folder}/index", {}, Caps())
        merge(world, {9: "one."}, set())
        for change in changes:
            match change:
                case dict():
                    merge(world, change, set())
                case set():
                    merge(world, {}, change)
                case "run":
                    world.run(chunks_job())
                case _:
                    if world.lake.exists(CHUNKS):
                        update_index(INDEX, room)
        world.run(chunks_job())
        world.run(chunks_job(), "snapshot", into="gold.whole")
        assert world.rows(CHUNKS) == world.rows("gold.whole")
        ids = [row[1] for row in world.rows(CHUNKS)]
        assert len(set(ids)) == len(ids)
        update_index(INDEX, room)
        found = verify_index(INDEX, room)
        assert (found.drifted, found.rows) == (0, len(ids))
