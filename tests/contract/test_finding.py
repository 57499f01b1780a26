"""What a search finds in each mode, whatever index stands behind it: LanceDB's or the one in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import ModelError, UnknownName, UsageError
from lakeflow.index.finding import Asked, find
from lakeflow.index.lance import LanceIndex
from lakeflow.index.query import Mode, Query, mode_of
from lakeflow.index.vectors import Identity, VectorIndex
from lakeflow.progress import SnapshotPosition
from lakeflow.testing.index import MemoryIndex

SPEC = IndexSpec("docs", "gold.docs", "vec", "id", options={"text_columns": "text", "language": "none", "filter_columns": "n"})
IDENTITY = Identity("gold.docs", "uuid-1", "vec", "id", "cosine", 2)
ROWS = [
    {"id": 1, "n": 1, "text": "apple pie", "vec": [1.0, 0.0]},
    {"id": 2, "n": 2, "text": "apple apple tart", "vec": [0.9, 0.1]},
    {"id": 3, "n": 3, "text": "pear", "vec": [0.8, 0.3]},
    {"id": 4, "n": 4, "text": "apple", "vec": [0.0, 1.0]},
    {"id": 5, "n": 5, "text": None, "vec": [-1.0, 0.2]},
]
SCHEMA = pa.schema([("id", pa.int64()), ("n", pa.int64()), ("text", pa.string()), ("vec", pa.list_(pa.float32()))])
RIGHT = np.array([[1.0, 0.0]], dtype=np.float32)


@pytest.fixture(params=["memory", "lance"], scope="module")
def index(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VectorIndex:
    return filled(MemoryIndex(SPEC) if request.param == "memory" else LanceIndex(SPEC, str(tmp_path_factory.mktemp("index"))))


def filled(index: VectorIndex) -> VectorIndex:
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([pa.RecordBatch.from_pylist(ROWS, schema=SCHEMA)], 1)
    writer.record(SnapshotPosition("uuid-1", 1, 1))
    return index


def found(index: VectorIndex, query: Query, asked: Asked) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = find(index, "docs", IDENTITY, query, asked).to_pylist()
    return rows


def ids(index: VectorIndex, query: Query, asked: Asked) -> list[int]:
    return [row["id"] for row in found(index, query, asked)]


class Longest:
    """Ranks texts by their length."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def scores(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
        self.pairs += zip(queries, texts, strict=True)
        return np.array([len(text) for text in texts], dtype=np.float64)


class TestModes:
    def test_by_vectors(self, index: VectorIndex) -> None:
        rows = found(index, Query(2, columns=("id", "n")), Asked(RIGHT))
        assert [list(row) for row in rows] == [["query_index", "id", "n", "distance", "text_score", "score"]] * 2
        assert [row["id"] for row in rows] == [1, 2]
        assert rows[0]["score"] == pytest.approx(1.0)
        assert rows[0]["distance"] == pytest.approx(0.0, abs=1e-6)
        assert rows[0]["text_score"] is None

    def test_by_words(self, index: VectorIndex) -> None:
        rows = found(index, Query(5, Mode.FTS, columns=("id",)), Asked(texts=["apple"]))
        assert {row["id"] for row in rows} == {1, 2, 4}
        assert all(row["score"] == row["text_score"] > 0 and row["distance"] is None for row in rows)
        assert rows == sorted(rows, key=lambda row: -row["score"])

    def test_by_both_the_scores_are_reciprocal_ranks(self, index: VectorIndex) -> None:
        distances = {row["id"]: row["distance"] for row in found(index, Query(5), Asked(RIGHT))}
        text_scores = {row["id"]: row["text_score"] for row in found(index, Query(5, Mode.FTS), Asked(texts=["apple"]))}
        near, words = list(distances), list(text_scores)
        rows = found(index, Query(5, Mode.HYBRID, columns=("id",)), Asked(RIGHT, ["apple"]))
        for row in rows:
            expected = sum(1 / (60 + ranking.index(row["id"]) + 1) for ranking in (near, words) if row["id"] in ranking)
            assert row["score"] == pytest.approx(expected, rel=1e-12)
            assert (row["distance"], row["text_score"]) == (distances.get(row["id"]), text_scores.get(row["id"]))
        assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
        assert len(rows) == 5

    def test_many_queries_are_each_fused_by_themselves(self, index: VectorIndex) -> None:
        vectors = np.tile(np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.1]], dtype=np.float32), (100, 1))
        texts = ["pear", "tart pie", "nothing of it"] * 100
        table = find(index, "docs", IDENTITY, Query(3, Mode.HYBRID, columns=("id",)), Asked(vectors, texts))
        assert table["query_index"].to_pylist() == [query for query in range(300) for _ in range(3)]
        each = [ids(index, Query(3, Mode.HYBRID), Asked(vectors[q : q + 1], texts[q : q + 1])) for q in range(3)]
        listed = table["id"].to_pylist()
        assert [listed[place : place + 3] for place in range(0, 900, 3)] == each * 100

    def test_no_queries_find_nothing(self, index: VectorIndex) -> None:
        empty = np.zeros((0, 2), np.float32)
        for mode, asked in ((Mode.VECTOR, Asked(empty)), (Mode.FTS, Asked(texts=[])), (Mode.HYBRID, Asked(empty, []))):
            table = find(index, "docs", IDENTITY, Query(3, mode, columns=("id",), mmr=0.5), asked)
            assert (table.num_rows, table.column_names[-1]) == (0, "score")

    def test_ties_are_broken_by_key(self, index: VectorIndex) -> None:
        rows = found(index, Query(5, Mode.HYBRID, where="n = 3 OR n = 4"), Asked(RIGHT, ["apple"]))
        assert [row["id"] for row in rows] == [4, 3]
        both = found(index, Query(5, Mode.HYBRID, where="n >= 4", max_distance=0.5), Asked(np.array([[-1.0, 0.2]]), ["apple"]))
        assert [(row["id"], row["score"]) for row in both] == [(4, 1 / 61), (5, 1 / 61)]


class TestNarrowing:
    @pytest.mark.parametrize("mode", list(Mode))
    def test_a_condition_holds_in_every_mode(self, index: VectorIndex, mode: Mode) -> None:
        assert set(ids(index, Query(5, mode, where="n IN (2, 4)"), Asked(RIGHT, ["apple pear"]))) == {2, 4}

    def test_a_distance_bounds_what_is_found_by_vectors(self, index: VectorIndex) -> None:
        assert ids(index, Query(5, max_distance=0.1), Asked(RIGHT)) == [1, 2, 3]
        assert ids(index, Query(5, max_distance=-1.0), Asked(RIGHT)) == []
        assert set(ids(index, Query(5, Mode.HYBRID, max_distance=0.001), Asked(RIGHT, ["apple"]))) == {1, 2, 4}

    def test_mmr_chooses_hits_that_differ(self, index: VectorIndex) -> None:
        assert ids(index, Query(3), Asked(RIGHT)) == [1, 2, 3]
        assert ids(index, Query(3, mmr=1.0), Asked(RIGHT)) == [1, 2, 3]
        assert ids(index, Query(2, mmr=0.2, columns=("id",)), Asked(RIGHT)) == [1, 5]
        assert set(ids(index, Query(2, Mode.HYBRID, mmr=0.1), Asked(RIGHT, ["apple"]))) != {1, 2}

    def test_a_reranker_has_the_last_word(self, index: VectorIndex) -> None:
        reranker = Longest()
        asked = Asked(RIGHT, ["fruit"], reranker, "text")
        rows = found(index, Query(2, columns=("id",)), asked)
        assert [(row["id"], row["score"]) for row in rows] == [(2, 16.0), (1, 9.0)]
        assert rows[0]["distance"] is not None
        assert {text for _, text in reranker.pairs} == {"apple pie", "apple apple tart", "pear", "apple"}
        assert {query for query, _ in reranker.pairs} == {"fruit"}
        assert ids(index, Query(3, Mode.FTS, candidates=3), Asked(texts=["apple"], reranker=reranker, passages="text")) == [
            2,
            1,
            4,
        ]

    def test_a_reranker_that_gives_no_numbers_is_refused(self, index: VectorIndex) -> None:
        class Wrong:
            def scores(self, queries: Sequence[str], texts: Sequence[str]) -> np.ndarray:
                return np.full(len(texts), np.nan)

        with pytest.raises(ModelError, match="a number each"):
            found(index, Query(2), Asked(RIGHT, ["x"], Wrong(), "text"))


class TestRefusals:
    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"k": 0}, "k is 0"),
            ({"k": 1_000_000}, "k is 1000000"),
            ({"probes": 0}, "probes of a search is 0; valid: 1 to"),
            ({"refine": 1001}, "refine of a search is 1001"),
            ({"max_distance": float("nan")}, "max_distance of a search is not a number"),
            ({"max_distance": 1.0, "mode": Mode.FTS}, "max_distance is about vectors"),
            ({"mmr": 1.5}, "mmr of a search is 1.5; valid: 0"),
            ({"mmr": 0.5, "k": 5000}, "k is 5000; valid: 1 to 1,000"),
            ({"candidates": 3}, "candidates of a search is 3; valid: 10"),
            ({"candidates": 20_000}, "candidates of a search is 20000"),
        ],
    )
    def test_numbers_out_of_bounds(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            Query(**given)

    def test_a_mode_that_is_none(self) -> None:
        assert mode_of("FTS") is Mode.FTS
        with pytest.raises(UsageError, match="'hybird'; did you mean 'hybrid'"):
            mode_of("hybird")

    @pytest.mark.parametrize(
        ("query", "asked", "message"),
        [
            (Query(3), Asked(texts=["x"]), "mode vector needs a vector"),
            (Query(3, Mode.HYBRID), Asked(RIGHT), "mode hybrid needs a text"),
            (Query(3, Mode.FTS), Asked(RIGHT), "mode fts needs a text"),
            (Query(3), Asked(RIGHT, reranker=Longest(), passages="text"), "ranking the hits of index 'docs' anew"),
            (Query(3), Asked(np.array([[1.0, 2, 3]])), r"valid: \[queries, 2\]"),
            (Query(3, Mode.HYBRID), Asked(np.array([[np.nan, 1]]), ["x"]), "NaN"),
            (Query(3), Asked(np.zeros((1, 2))), "all zeros"),
            (Query(3, Mode.HYBRID), Asked(RIGHT, ["x" * 1_000_000]), "1,000,000 characters"),
            (Query(3, where="n = 1; DROP"), Asked(RIGHT), "the condition on index 'docs'"),
        ],
    )
    def test_what_cannot_be_meant(self, index: VectorIndex, query: Query, asked: Asked, message: str) -> None:
        with pytest.raises(UsageError, match=message):
            found(index, query, asked)

    def test_unknown_columns(self, index: VectorIndex) -> None:
        for query in (Query(3, columns=("txt",)), Query(3, where="txt = 'a'")):
            with pytest.raises(UnknownName, match="txt"):
                found(index, query, Asked(RIGHT))


def test_probes_and_refine_of_a_query_go_to_the_approximate_index(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(4000, 16)).astype(np.float32)
    spec = IndexSpec("docs", "gold.docs", "vec", "id", options={"kind": "ivf_sq", "probes": "1", "refine": "1"})
    identity = Identity("gold.docs", "uuid-1", "vec", "id", "l2", 16)
    index = LanceIndex(spec, str(tmp_path / "index"))
    rows = pa.table({"id": range(4000), "vec": list(vectors)})
    writer = index.writer(identity, rows.schema)
    writer.upsert(rows.to_batches(), 1)
    assert writer.record(SnapshotPosition("uuid-1", 1, 1)).kind == "ivf_sq"

    def recall(**given: Any) -> float:
        near, exact = (
            find(index, "docs", identity, each, Asked(vectors[:50])) for each in (Query(10, **given), Query(10, exact=True))
        )
        pairs = [set(zip(one["query_index"].to_pylist(), one["id"].to_pylist(), strict=True)) for one in (near, exact)]
        return len(pairs[0] & pairs[1]) / len(pairs[1])

    assert recall() < recall(probes=64, refine=10) == 1.0
