"""An index that is brought up to date after any cutting of its table's rows is the index that is built of all of them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lakeflow.declare import IndexSpec
from lakeflow.index.finding import Asked, find
from lakeflow.index.query import Mode, Query
from lakeflow.index.vectors import VectorIndex
from lakeflow.job import Caps
from lakeflow.models.registry import ModelSet
from lakeflow.runner.index_verify import Drift, verify_index
from lakeflow.runner.indexing import IndexRoom, build_index, update_index
from lakeflow.testing.index import MemoryIndex
from tests.jobs import open_world

TABLE = "gold.docs"
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("vec", pa.list_(pa.float32()))])
SPEC = IndexSpec("docs", TABLE, "vec", "id", options={"text_columns": "text", "language": "none"})
QUERIES = np.array([[1.0, 0.0], [0.3, -1.0]], dtype=np.float32)
EXAMPLES = int(os.environ.get("LAKEFLOW_INDEX_EXAMPLES", "6"))
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes tenths of a second, and is short as it is."""

vectors = st.none() | st.sampled_from([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.7, 0.7], [0.0, 0.0]])
texts = st.none() | st.lists(st.sampled_from(["apple", "pear", "plum", "fig"]), max_size=4).map(" ".join)
rows = st.fixed_dictionaries({"id": st.integers(0, 6), "text": texts, "vec": vectors})
cuttings = st.lists(st.lists(rows, min_size=1, max_size=6), min_size=1, max_size=4)


@dataclass(frozen=True, slots=True)
class MemoryRoom(IndexRoom):
    opened: dict[str, MemoryIndex] = field(default_factory=dict)

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened.setdefault(spec.name, MemoryIndex(spec))


@given(cuttings=cuttings, updated=st.lists(st.booleans(), min_size=4, max_size=4), lance=st.booleans())
@settings(max_examples=EXAMPLES, deadline=None, phases=WITHOUT_SHRINKING, suppress_health_check=[HealthCheck.too_slow])
def test_updates_and_a_build_find_the_same(cuttings: list[list[dict[str, Any]]], updated: list[bool], lance: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        world = open_world(Path(folder) / "lake")
        kind = IndexRoom if lance else MemoryRoom
        followed, built = (kind(world.lake, ModelSet([]), f"{folder}/{name}", {}, Caps()) for name in ("followed", "built"))
        for piece, now in zip(cuttings, updated, strict=False):
            world.append(pa.Table.from_pylist(piece, schema=SCHEMA), TABLE)
            if now:
                update_index(SPEC, followed)
        update_index(SPEC, followed)
        build_index(SPEC, built)
        last = {row["id"]: row for piece in cuttings for row in piece}
        kept = {key for key, row in last.items() if row["vec"] is not None and any(row["vec"])}
        if not any(row["vec"] is not None for piece in cuttings for row in piece):
            return
        assert verify_index(SPEC, followed) == verify_index(SPEC, built) == Drift(rows=len(kept))
        for mode in Mode:
            assert found(followed, mode, keys_alone=lance) == found(built, mode, keys_alone=lance)
        assert {key for _, key, _ in found(built, Mode.VECTOR, keys_alone=lance)} == kept


def found(room: IndexRoom, mode: Mode, *, keys_alone: bool) -> list[tuple[int, int, float]]:
    """What is found, in order and with its score. With `keys_alone` not so by words: for a word's rarity LanceDB
    counts rows that were replaced, too, until it compacts its index."""
    index = room.open(SPEC)
    asked = Asked(QUERIES, ["apple pear", "fig"])
    table = find(index, "docs", index.state().identity, Query(10, mode, columns=("id",)), asked)
    scores = [round(score, 4) for score in table["score"].to_pylist()]
    hits = list(zip(table["query_index"].to_pylist(), table["id"].to_pylist(), scores, strict=True))
    return hits if mode is Mode.VECTOR or not keys_alone else sorted((query, key, 0.0) for query, key, _ in hits)
