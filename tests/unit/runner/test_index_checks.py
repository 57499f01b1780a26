"""`index verify` and `index evaluate`: drift is found by key and content and mended; recall is what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import IndexMismatch, SourceChanged, UnknownName, UsageError
from lakeflow.index.vectors import VectorIndex
from lakeflow.job import Caps
from lakeflow.lake.commit import Change, Committer
from lakeflow.models.registry import ModelSet
from lakeflow.runner.index_evaluate import evaluate_index, recall_of, sampled
from lakeflow.runner.index_verify import ABSENT, Drift, Side, compared, content_hashes, key_hashes, verify_index
from lakeflow.runner.indexing import IndexRoom, index_state, update_index
from lakeflow.testing.index import MemoryIndex
from tests.jobs import World
from tests.lakes import written

TABLE = "gold.embedded"
SCHEMA = pa.schema(
    [("id", pa.int64()), ("text", pa.string()), ("at", pa.timestamp("us", "UTC")), ("vector", pa.list_(pa.float32()))]
)
SPEC = IndexSpec("docs", TABLE, "vector", "id", options={"text_columns": "text"})


@dataclass(frozen=True, slots=True)
class MemoryRoom(IndexRoom):
    opened: dict[str, MemoryIndex] = field(default_factory=dict)

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened.setdefault(spec.name, MemoryIndex(spec))


@pytest.fixture(params=["memory", "lance"])
def room(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> IndexRoom:
    kind = MemoryRoom if request.param == "memory" else IndexRoom
    return kind(world.lake, ModelSet([]), str(tmp_path / "index"), {}, Caps())


def rows(ids: Sequence[int], seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    columns = [
        pa.array(ids, pa.int64()),
        pa.array([f"row {number} of {seed}" for number in ids]),
        pa.array([None if number % 3 == 0 else number for number in ids], pa.timestamp("us", "UTC")),
        pa.array(list(random.normal(size=(len(ids), 4)).astype(np.float32)), pa.list_(pa.float32())),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def tampered(world: World, room: IndexRoom) -> None:
    """Behind the back of the table: 2 and 3 go, 4 is another, 100 comes in, 101 is of an update that did not end."""
    state = index_state(SPEC, room)
    assert state is not None
    assert state.position is not None
    writer = room.open(SPEC).writer(state.identity, SCHEMA)
    writer.delete([2, 3], state.position.sequence)
    writer.upsert(rows([4, 100], seed=9).to_batches(), state.position.sequence)
    writer.upsert(rows([101], seed=9).to_batches(), state.position.sequence + 5)


class TestVerify:
    def test_an_index_as_its_table_says_has_not_drifted(self, world: World, room: IndexRoom) -> None:
        world.append(rows(range(20)), TABLE)
        update_index(SPEC, room)
        world.append(rows([3, 4, 30], seed=1), TABLE)
        update_index(SPEC, room)
        world.append(rows([5, 31], seed=2), TABLE)
        assert verify_index(SPEC, room) == Drift(rows=21)

    @pytest.mark.parametrize("chunk", [None, 512], ids=["at once", "in parts"])
    def test_drift_is_found_and_mended(
        self, world: World, room: IndexRoom, chunk: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if chunk is not None:
            monkeypatch.setattr("lakeflow.runner.index_verify.BYTES_A_ROW", (64 << 20) // 5)
        world.append(rows(range(20)), TABLE)
        update_index(SPEC, room)
        tampered(world, room)
        found = verify_index(SPEC, room)
        assert (found.rows, found.missing, found.differing, found.extra, found.ahead) == (20, 2, 1, 1, 1)
        assert sorted(found.keys) == [(2, "missing"), (3, "missing"), (4, "differing"), (100, "extra")]
        assert not found.mended
        mended = verify_index(SPEC, room, repair=True)
        assert replace(mended, keys=(), mended=False) == replace(found, keys=())
        assert mended.mended
        assert verify_index(SPEC, room) == Drift(rows=20, ahead=1)
        assert index_state(SPEC, room).rows == 21  # type: ignore[union-attr]

    def test_rows_without_a_vector_are_not_missed(self, world: World, room: IndexRoom) -> None:
        world.append(rows([1, 2, 3]), TABLE)
        world.append(rows([2, 9]).set_column(3, "vector", pa.nulls(2, SCHEMA.field(3).type)), TABLE)
        update_index(SPEC, room)
        assert verify_index(SPEC, room) == Drift(rows=2)

    def test_the_last_row_of_a_key_is_meant(self, world: World, room: IndexRoom) -> None:
        world.append(rows([1, 2, 1]), TABLE)
        world.append(rows([2], seed=4), TABLE)
        update_index(SPEC, room)
        assert verify_index(SPEC, room) == Drift(rows=2)

    def test_what_cannot_be_compared_is_refused(self, world: World, room: IndexRoom) -> None:
        world.append(rows([1, 2]), TABLE)
        with pytest.raises(UnknownName, match="docs"):
            verify_index(SPEC, room)
        update_index(SPEC, room)
        with pytest.raises(IndexMismatch, match="metric is 'cosine', asked for 'l2'"):
            verify_index(replace(SPEC, metric="l2"), room)
        Committer(world.lake).commit(Change(TABLE, written(world.table(TABLE), rows([7])), replace_all=True))
        with pytest.raises(SourceChanged, match="cannot be compared") as refused:
            verify_index(SPEC, room)
        assert refused.value.next_step == "lakeflow index update docs"

    def test_sides_are_compared_by_key_and_content(self) -> None:
        meant = Side(np.array([1, 2, 3, 4, 5], np.uint64), np.array([10, 20, 30, ABSENT, ABSENT], np.uint64))
        there = Side(np.array([2, 3, 5, 6], np.uint64), np.array([20, 31, 50, 60], np.uint64))
        assert [found.tolist() for found in compared(meant, there)] == [[1], [3], [5, 6]]
        nothing = Side(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
        assert [found.tolist() for found in compared(nothing, nothing)] == [[], [], []]

    def test_every_value_of_a_row_counts(self) -> None:
        batch = rows([1, 2]).to_batches()[0]
        names = ["id", "text", "at"]
        plain = content_hashes(batch, names, "vector", 4)
        assert len(set(plain.tolist())) == 2
        for place, column in ((1, pa.array(["x", "row 2 of 0"])), (2, pa.array([2, 2], SCHEMA.field(2).type))):
            other = content_hashes(batch.set_column(place, SCHEMA.field(place), column), names, "vector", 4)
            assert (other != plain).tolist() == [True, False]
        moved = pa.array([[1.0, 0, 0, 0], batch["vector"][1].as_py()], SCHEMA.field(3).type)
        other = content_hashes(batch.set_column(3, SCHEMA.field(3), moved), names, "vector", 4)
        assert (other != plain).tolist() == [True, False]
        assert key_hashes(pa.array([7], pa.int32())).tolist() == key_hashes(pa.array([7], pa.int64())).tolist()


class TestEvaluate:
    def test_a_flat_index_finds_all(self, world: World, room: IndexRoom) -> None:
        world.append(rows(range(50)), TABLE)
        update_index(SPEC, room)
        found = evaluate_index(SPEC, room, k=5, sample=20)
        assert (found.kind, found.rows, found.k, found.sample, found.recall) == ("flat", 50, 5, 20, 1.0)
        assert found.queries_per_second > 0
        assert evaluate_index(SPEC, room, k=5, sample=10_000).sample == 50

    def test_an_approximate_index_is_measured_with_the_probes_given(self, world: World, tmp_path: Path) -> None:
        random = np.random.default_rng(2)
        table = rows(range(3000)).set_column(
            3, "vector", pa.array(list(random.normal(size=(3000, 16)).astype(np.float32)), SCHEMA.field(3).type)
        )
        world.append(table, TABLE)
        room = IndexRoom(world.lake, ModelSet([]), str(tmp_path / "index"), {}, Caps())
        spec = replace(SPEC, metric="l2", options={"kind": "ivf_sq", "probes": "1", "refine": "1"})
        update_index(spec, room)
        few = evaluate_index(spec, room, sample=100)
        many = evaluate_index(spec, room, sample=100, probes=100, refine=20)
        assert (few.kind, few.probes, many.probes, many.refine) == ("ivf_sq", 1, 100, 20)
        assert 0 < few.recall < many.recall == 1.0

    def test_the_sample_is_the_same_each_time_and_of_whole_rows(self, world: World, room: IndexRoom) -> None:
        world.append(rows(range(30)), TABLE)
        update_index(SPEC, room)
        keys, vectors = sampled(room.open(SPEC), "id", "vector", 4, 7)
        again, same = sampled(room.open(SPEC), "id", "vector", 4, 7)
        assert keys.equals(again)
        assert (vectors == same).all()
        by_key = {row["id"]: row["vector"] for row in rows(range(30)).to_pylist()}
        assert [list(vector) for vector in vectors] == [by_key[key] for key in keys.to_pylist()]
        assert len(set(keys.to_pylist())) == 7

    @pytest.mark.parametrize(
        ("near", "exact", "expected"),
        [
            ({0: [0.1, 0.2]}, {0: [0.1, 0.2]}, 1.0),
            ({0: [0.1, 0.3]}, {0: [0.1, 0.2]}, 0.5),
            ({0: [0.1]}, {0: [0.1, 0.2], 1: [0.5, 0.6]}, 0.25),
            ({0: [0.2, 0.2]}, {0: [0.2, 0.2]}, 1.0),
            ({}, {}, 1.0),
        ],
    )
    def test_recall(self, near: dict[int, list[float]], exact: dict[int, list[float]], expected: float) -> None:
        assert recall_of(near, exact, 2) == expected

    @pytest.mark.parametrize(
        ("k", "sample", "message"), [(0, 9, "k is 0"), (10_000, 9, "k is 10001"), (5, 0, "the sample is 0; valid: 1 to")]
    )
    def test_numbers_out_of_bounds_are_refused(self, room: IndexRoom, k: int, sample: int, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            evaluate_index(SPEC, room, k=k, sample=sample)
