from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakeflow.errors import SchemaMismatch, UnknownName, UsageError
from lakeflow.index import exact
from lakeflow.index.exact import ExactSearch

SCHEMA = pa.schema([("id", pa.int64()), ("pages", pa.int64()), ("vector", pa.list_(pa.float32()))])


class Rows:
    """A table of some batches, which counts how often it is read and which columns are."""

    def __init__(self, vectors: Any, *, batch: int = 1_000) -> None:
        ids = list(range(len(vectors)))
        rows = [{"id": place, "pages": place * 10, "vector": vector} for place, vector in zip(ids, vectors, strict=True)]
        self.table = pa.Table.from_pylist(rows, schema=SCHEMA)
        self.batch = batch
        self.read: list[tuple[str, ...]] = []

    def __call__(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        self.read.append(tuple(columns))
        yield from self.table.select(list(columns)).to_batches(max_chunksize=self.batch)


def search(rows: Rows, metric: str = "l2", **options: Any) -> ExactSearch:
    return ExactSearch("gold.docs", SCHEMA, "vector", metric, rows, columns=options.pop("columns", ["id"]), **options)


def matrix(*queries: Sequence[float]) -> np.ndarray:
    return np.array(queries, dtype=np.float32)


def ids(found: pa.Table) -> list[int]:
    listed: list[int] = found["id"].to_pylist()
    return listed


def reference(queries: np.ndarray, vectors: np.ndarray, metric: str) -> np.ndarray:
    """Distances, one by one, by their definitions."""

    def one(left: np.ndarray, right: np.ndarray) -> float:
        left, right = left.astype(np.float64), right.astype(np.float64)
        if metric == "l2":
            return float(((left - right) ** 2).sum())
        product = float((left * right).sum())
        return 1 - (product if metric == "dot" else product / float(np.linalg.norm(left) * np.linalg.norm(right)))

    return np.array([[one(query, vector) for vector in vectors] for query in queries])


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
@pytest.mark.parametrize("batch", [7, 1_000])
def test_the_nearest_are_found_in_their_order(metric: str, batch: int) -> None:
    random = np.random.default_rng(1)
    vectors, queries = random.normal(size=(60, 5)).astype(np.float32), random.normal(size=(4, 5)).astype(np.float32)
    found = search(Rows(vectors, batch=batch), metric).search(queries, 6)
    distances = reference(queries, vectors, metric)
    assert ids(found) == np.argsort(distances, axis=1)[:, :6].ravel().tolist()
    assert found["query_index"].to_pylist() == np.repeat(range(4), 6).tolist()
    np.testing.assert_allclose(found["distance"], np.sort(distances, axis=1)[:, :6].ravel(), rtol=1e-5, atol=1e-6)
    assert all(np.diff(found["score"].to_numpy().reshape(4, 6)).ravel() <= 0), "a higher score is nearer"


@given(st.data())
def test_groups_tiles_and_batches_change_nothing(data: st.DataObject) -> None:
    vectors = data.draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=0, max_size=30))
    queries = np.array(data.draw(st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=1, max_size=5)), dtype=np.float32)
    k = data.draw(st.integers(1, 8))
    rows = Rows([list(map(float, vector)) for vector in vectors], batch=data.draw(st.integers(1, 9)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BEST_ROWS", data.draw(st.integers(1, 20)))
        patch.setattr(exact, "DISTANCES", data.draw(st.integers(1, 20)))
        found = search(rows, held_bytes=data.draw(st.sampled_from([0, 1 << 20]))).search(queries, k)
    distances = reference(queries, np.array(vectors, dtype=np.float32).reshape(-1, 2), "l2")
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    assert ids(found) == order.ravel().tolist(), "of rows that are equally near the first is found first"
    assert found["query_index"].to_pylist() == np.repeat(range(len(queries)), order.shape[1]).tolist()


def test_a_condition_comes_first() -> None:
    rows = Rows([[0.0], [1.0], [2.0], [3.0]])
    found = search(rows, where="pages >= 20", columns=["id", "pages"]).search(matrix([0.0]), 2)
    assert found.select(["id", "pages"]).to_pylist() == [{"id": 2, "pages": 20}, {"id": 3, "pages": 30}]
    assert search(rows, where="pages > 1000").search(matrix([0.0]), 2).num_rows == 0


def test_only_the_columns_that_are_needed_are_read() -> None:
    rows = Rows([[0.0]])
    search(rows, where="pages < 5").search(matrix([0.0]), 1)
    assert rows.read == [("vector", "id", "pages")]


def test_a_table_that_is_small_is_read_once_and_a_larger_one_for_each_search() -> None:
    vectors = [[float(place)] for place in range(50)]
    small, large = Rows(vectors, batch=10), Rows(vectors, batch=10)
    held, streamed = search(small), search(large, held_bytes=100)
    for query in ([3.0], [7.0], [9.0]):
        assert ids(held.search(matrix(query), 1)) == ids(streamed.search(matrix(query), 1)) == [int(query[0])]
    assert len(small.read) == 1
    assert len(large.read) == 4, "once to see how large it is, then once a search"


def test_rows_without_a_vector_are_not_found() -> None:
    rows = Rows([None, [1.0, 0.0], [0.0, 0.0]])
    assert ids(search(rows, "cosine").search(matrix([1.0, 1.0]), 5)) == [1], "zeros have no direction"
    assert ids(search(rows, "l2").search(matrix([1.0, 1.0]), 5)) == [1, 2]
    assert ids(search(Rows([None, None])).search(matrix([1.0]), 5)) == []


@pytest.mark.parametrize("kind", [pa.float64(), pa.float16(), pa.float32()])
@pytest.mark.parametrize("shape", ["list", "large", "fixed"])
def test_vectors_of_any_type_of_list(kind: pa.DataType, shape: str) -> None:
    lists = {"list": pa.list_(kind), "large": pa.large_list(kind), "fixed": pa.list_(kind, 2)}[shape]
    values = [np.array(one, dtype=kind.to_pandas_dtype()) if one else None for one in ([1.0, 0.0], None, [0.0, 2.0])]
    batch = pa.record_batch({"id": pa.array([0, 1, 2]), "vector": pa.array(values, lists)})
    one = ExactSearch("t", batch.schema, "vector", "l2", lambda columns: [batch.select(list(columns))], columns=["id"])
    assert ids(one.search(matrix([0.0, 1.5]), 5)) == [2, 0]
    sliced = batch.slice(1)
    two = ExactSearch("t", batch.schema, "vector", "l2", lambda columns: [sliced.select(list(columns))], columns=["id"])
    assert ids(two.search(matrix([0.0, 1.5]), 5)) == [2]


def test_threads_search_at_once() -> None:
    rows = Rows([[float(place)] for place in range(200)], batch=16)
    one = search(rows)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda place: ids(one.search(matrix([float(place)]), 1)), range(40)))
    assert found == [[place] for place in range(40)]
    assert len(rows.read) == 1


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1.0, 2.0], [1.0]], "a vector of 1 elements, the query 2"),
        ([[1.0, None]], "a vector with a null, a NaN"),
        ([[1.0, float("nan")]], "a vector with a null, a NaN"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(vectors: Any, message: str) -> None:
    with pytest.raises(SchemaMismatch, match=message):
        search(Rows(vectors)).search(matrix([1.0, 2.0]), 1)


def test_a_query_of_another_width_than_the_rows_that_are_held_is_refused() -> None:
    one = search(Rows([[1.0, 2.0]]))
    one.search(matrix([1.0, 2.0]), 1)
    with pytest.raises(SchemaMismatch, match="a vector of 2 elements, the query 3"):
        one.search(matrix([1.0, 2.0, 3.0]), 1)


@pytest.mark.parametrize(
    ("metric", "query", "k", "message"),
    [
        ("l2", [float("nan"), 0.0], 1, "a NaN or an infinity"),
        ("cosine", [0.0, 0.0], 1, "all zeros, which has no direction"),
        ("l2", [1.0, 1.0], 0, "k is 0; valid: 1 to 10,000"),
    ],
)
def test_queries_that_are_refused(metric: str, query: list[float], k: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        search(Rows([[1.0, 2.0]]), metric).search(matrix(query), k)


def test_what_cannot_be_searched_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"metric of a search of gold.docs is 'cosin'.*did you mean 'cosine'"):
        search(Rows([]), "cosin")
    with pytest.raises(UnknownName, match=r"unknown column of gold.docs 'page'"):
        search(Rows([]), columns=["page"])
    with pytest.raises(UnknownName, match=r"column of index gold.docs 'page'"):
        search(Rows([]), where="page = 1")
    with pytest.raises(SchemaMismatch, match="column 'id' of t is int64; a search needs a list"):
        ExactSearch("t", SCHEMA, "id", "l2", Rows([]), columns=["id"])
    schema = pa.schema([("score", pa.int64()), SCHEMA.field("vector")])
    with pytest.raises(UsageError, match="a search has its own column 'score'"):
        ExactSearch("t", schema, "vector", "l2", Rows([]), columns=["score"])
