"""What every VectorIndex must do, run against LanceDB and the one in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, Fenced, IndexMismatch, SchemaMismatch, UnknownName, UsageError
from lakeflow.index.lance import LanceIndex
from lakeflow.index.vectors import Identity, UpsertCounts, VectorIndex
from lakeflow.progress import SnapshotPosition
from lakeflow.testing.index import MemoryIndex

IDENTITY = Identity("gold.docs", "uuid-1", "embedding", "doc_id", "cosine", 4, "minilm", "sha-1")
SCHEMA = pa.schema([("doc_id", pa.string()), ("pages", pa.int64()), ("embedding", pa.list_(pa.float32()))])
EAST, NORTH, UP, ASIDE = [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]
NO_COUNTS = UpsertCounts()
Open = Callable[[], VectorIndex]


def spec_of(**options: str) -> IndexSpec:
    return IndexSpec("docs", "gold.docs", "embedding", "doc_id", options=options)


@pytest.fixture(params=["memory", "lance"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the index `docs`, each time as a new process would."""
    if request.param == "lance":
        return lambda: LanceIndex(spec_of(), str(tmp_path / "index"))
    index = MemoryIndex(spec_of())
    return lambda: index


@pytest.fixture
def index(opened: Open) -> VectorIndex:
    return opened()


def batch(rows: Sequence[tuple[str | None, int | None, Sequence[float | None] | None]]) -> pa.RecordBatch:
    columns = list(zip(*rows, strict=True)) if rows else [(), (), ()]
    return pa.RecordBatch.from_arrays(
        [pa.array(list(column), type=field.type) for column, field in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def position(sequence: int, table: str = "uuid-1") -> SnapshotPosition:
    return SnapshotPosition(table, sequence * 10, sequence)


def filled(index: VectorIndex) -> VectorIndex:
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([batch([("a", 1, EAST), ("b", 2, NORTH), ("it's", 3, UP), ("d", None, ASIDE)])], 1)
    writer.record(position(1))
    return index


def contents(index: VectorIndex) -> dict[str, int | None]:
    found = index.search([1.0, 1, 1, 1], 10_000, columns=["doc_id", "pages"])
    return dict(zip(found["doc_id"].to_pylist(), found["pages"].to_pylist(), strict=True))


class TestUpsert:
    def test_new_rows_are_inserted_and_known_keys_replaced(self, index: VectorIndex) -> None:
        writer = index.writer(IDENTITY, SCHEMA)
        assert writer.upsert([batch([("a", 1, EAST), ("b", 2, NORTH)])], 1) == UpsertCounts(read=2, inserted=2)
        assert writer.upsert([batch([("b", 20, UP), ("c", 3, ASIDE)])], 2) == UpsertCounts(read=2, inserted=1, updated=1)
        assert contents(index) == {"a": 1, "b": 20, "c": 3}
        assert index.search(UP, 1, columns=["doc_id"])["doc_id"].to_pylist() == ["b"]

    def test_the_last_row_of_a_key_wins_within_a_batch(self, index: VectorIndex) -> None:
        counts = index.writer(IDENTITY, SCHEMA).upsert([batch([("a", 1, EAST), ("b", 2, NORTH), ("a", 3, UP)])], 1)
        assert counts == UpsertCounts(read=3, inserted=2, repeated=1)
        assert contents(index) == {"a": 3, "b": 2}

    def test_the_last_row_of_a_key_wins_across_batches_and_chunks(self, tmp_path: Path) -> None:
        spec = spec_of(chunk_mib="1")
        vectors = np.random.default_rng(0).normal(size=(3000, 256)).astype(np.float32)
        identity = replace(IDENTITY, width=256)
        keys = [f"k{row % 1000}" for row in range(3000)]
        rows = pa.table({"doc_id": keys, "pages": list(range(3000)), "embedding": list(vectors)})
        for index in (MemoryIndex(spec), LanceIndex(spec, str(tmp_path / "index"))):
            counts = index.writer(identity, rows.schema).upsert(rows.to_batches(max_chunksize=700), 1)
            assert (counts.read, counts.inserted) == (3000, 1000)
            assert counts.updated + counts.repeated == 2000
            assert counts.updated > 0, "the rows must have come in more than one chunk"
            found = index.search(vectors[0], 10_000, columns=["pages"])
            assert sorted(found["pages"].to_pylist()) == list(range(2000, 3000))

    def test_the_same_rows_again_change_nothing(self, index: VectorIndex) -> None:
        rows = batch([("a", 1, EAST), ("b", 2, NORTH)])
        index.writer(IDENTITY, SCHEMA).upsert([rows], 1)
        assert index.writer(IDENTITY, SCHEMA).upsert([rows], 1) == UpsertCounts(read=2, updated=2)
        assert contents(index) == {"a": 1, "b": 2}

    def test_a_row_read_at_an_earlier_sequence_does_not_replace_a_later_one(self, index: VectorIndex) -> None:
        behind = index.writer(IDENTITY, SCHEMA)
        index.writer(IDENTITY, SCHEMA).upsert([batch([("a", 2, EAST)])], 7)
        assert behind.upsert([batch([("a", 1, UP), ("b", 1, UP)])], 5) == UpsertCounts(read=2, inserted=1, outdated=1)
        assert behind.upsert([batch([("a", 1, None)])], 6) == UpsertCounts(read=1, without_vector=1)
        assert contents(index) == {"a": 2, "b": 1}

    def test_a_row_without_vector_takes_its_key_out_and_is_counted(self, index: VectorIndex) -> None:
        filled(index)
        counts = index.writer(IDENTITY, SCHEMA).upsert([batch([("a", 1, None), ("new", 1, None), ("b", 9, UP)])], 2)
        assert counts == UpsertCounts(read=3, updated=1, without_vector=2, removed=1)
        assert contents(index) == {"b": 9, "it's": 3, "d": None}

    def test_a_zero_vector_has_no_direction_under_cosine(self, index: VectorIndex) -> None:
        counts = index.writer(IDENTITY, SCHEMA).upsert([batch([("a", 1, [0.0, 0, 0, 0]), ("b", 2, UP)])], 1)
        assert counts == UpsertCounts(read=2, inserted=1, without_vector=1)
        assert contents(index) == {"b": 2}

    @pytest.mark.parametrize("metric", ["l2", "dot"])
    def test_a_zero_vector_is_one_like_any_other_elsewhere(self, index: VectorIndex, metric: str) -> None:
        identity = replace(IDENTITY, metric=metric)
        assert index.writer(identity, SCHEMA).upsert([batch([("a", 1, [0.0, 0, 0, 0])])], 1).inserted == 1

    @pytest.mark.parametrize(
        ("row", "message"),
        [
            ((None, 1, EAST), "1 rows have a null in the key 'doc_id'"),
            (("bad", 1, [1.0, 2.0]), "vector of doc_id 'bad' has 2 elements; valid: 4 finite numbers"),
            (("bad", 1, []), "vector of doc_id 'bad' has 0 elements"),
            (("bad", 1, [1.0, math.nan, 0, 0]), "vector of doc_id 'bad' has a NaN"),
            (("bad", 1, [1.0, math.inf, 0, 0]), "vector of doc_id 'bad' has a NaN, an infinity"),
            (("bad", 1, [3e38, 3e38, 0, 0]), "out of a 32-bit float's range"),
            (("bad", 1, [1.0, None, 0, 0]), "vector of doc_id 'bad' has a null in it"),
        ],
    )
    def test_a_row_that_cannot_be_indexed_is_refused(
        self, index: VectorIndex, row: tuple[str | None, int, list[float | None]], message: str
    ) -> None:
        filled(index)
        with pytest.raises(SchemaMismatch, match=message) as refused:
            index.writer(IDENTITY, SCHEMA).upsert([batch([("z", 1, EAST), ("y", 1, None), row])], 2)
        assert "lakeflow index update docs" in str(refused.value)
        assert contents(index) == {"a": 1, "b": 2, "it's": 3, "d": None}
        assert index.state().position == position(1)

    @pytest.mark.parametrize("lists", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float16(), 4)])
    def test_vectors_come_as_any_list_of_floats(self, index: VectorIndex, lists: pa.DataType) -> None:
        rows = pa.RecordBatch.from_pydict(
            {"doc_id": ["a", "b"], "embedding": pa.array([np.array(EAST, np.float16), None], lists)}
        )
        assert index.writer(IDENTITY, rows.schema).upsert([rows], 1) == UpsertCounts(read=2, inserted=1, without_vector=1)
        assert index.search(EAST, 1)["distance"].to_pylist() == pytest.approx([0.0], abs=1e-6)

    def test_keys_may_be_integers(self, index: VectorIndex) -> None:
        rows = pa.RecordBatch.from_pydict({"doc_id": pa.array([7, 8], pa.int32()), "embedding": [EAST, UP]})
        writer = index.writer(IDENTITY, rows.schema)
        writer.upsert([rows], 1)
        assert writer.delete([8, 9], 1) == 1
        assert index.search(UP, 5)["doc_id"].to_pylist() == [7]

    def test_nothing_to_upsert_changes_nothing(self, index: VectorIndex) -> None:
        writer = filled(index).writer(IDENTITY, SCHEMA)
        assert writer.upsert([], 2) == writer.upsert([batch([])], 2) == NO_COUNTS
        assert len(contents(index)) == 4


class TestColumns:
    def test_a_column_that_the_table_gained_is_null_in_the_rows_before(self, index: VectorIndex) -> None:
        filled(index)
        wider = batch([("e", 5, EAST)]).append_column("lang", pa.array(["fr"]))
        writer = index.writer(IDENTITY, wider.schema)
        writer.upsert([wider], 2)
        found = index.search(EAST, 9, columns=["doc_id", "lang"])
        assert dict(zip(found["doc_id"].to_pylist(), found["lang"].to_pylist(), strict=True))["e"] == "fr"
        assert index.search(EAST, 9, where="lang IS NULL", columns=["doc_id"]).num_rows == 4

    def test_a_column_that_changed_its_type_needs_a_new_index(self, index: VectorIndex) -> None:
        filled(index)
        with pytest.raises(IndexMismatch, match="keeps the column 'pages' as int64, the table has double"):
            index.writer(IDENTITY, SCHEMA.set(1, pa.field("pages", pa.float64())))

    def test_a_name_that_the_index_needs_itself_is_refused(self, index: VectorIndex) -> None:
        with pytest.raises(DeclarationError, match="cannot keep the column '_distance'"):
            index.writer(IDENTITY, SCHEMA.append(pa.field("_distance", pa.float32())))

    def test_a_key_column_that_is_not_there_is_named(self, index: VectorIndex) -> None:
        with pytest.raises(UnknownName, match=r"unknown column of gold.docs 'doc_id'"):
            index.writer(IDENTITY, SCHEMA.remove(0))


class TestDelete:
    def test_keys_are_taken_out(self, index: VectorIndex) -> None:
        writer = filled(index).writer(IDENTITY, SCHEMA)
        assert writer.delete(["it's", "a", "not there"], 2) == 2
        assert contents(index) == {"b": 2, "d": None}

    def test_a_key_is_never_read_as_sql(self, index: VectorIndex) -> None:
        writer = filled(index).writer(IDENTITY, SCHEMA)
        assert writer.delete(["x') OR true OR `doc_id` IN ('", "\\", "' OR ''='"], 2) == 0
        with pytest.raises(UsageError, match="key 7 of the index 'docs'"):
            writer.delete([7], 2)
        assert len(contents(index)) == 4

    def test_more_keys_than_one_statement_takes(self, index: VectorIndex) -> None:
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([batch([(f"k{row}", row, EAST) for row in range(2500)])], 1)
        assert writer.delete((f"k{row}" for row in range(2400)), 1) == 2400
        assert len(contents(index)) == 100


class TestPosition:
    def test_it_is_recorded_after_the_rows_and_found_again(self, opened: Open) -> None:
        writer = opened().writer(IDENTITY, SCHEMA)
        assert writer.position is None
        writer.upsert([batch([("a", 1, EAST)])], 3)
        state = writer.record(position(3))
        assert (state.position, state.rows, state.identity) == (position(3), 1, IDENTITY)
        assert opened().writer(IDENTITY, SCHEMA).position == opened().state().position == position(3)

    def test_a_crash_between_rows_and_position_replays_to_the_same_end(self, opened: Open) -> None:
        filled(opened())
        rows = batch([("a", 10, UP), ("e", 5, EAST)])
        opened().writer(IDENTITY, SCHEMA).upsert([rows], 2)
        assert opened().state().position == position(1)
        again = opened().writer(IDENTITY, SCHEMA)
        assert again.position == position(1)
        assert again.upsert([rows], 2) == UpsertCounts(read=2, updated=2)
        assert again.record(position(2)).rows == 5
        assert contents(opened()) == {"a": 10, "b": 2, "it's": 3, "d": None, "e": 5}

    def test_a_writer_that_was_left_behind_is_fenced(self, opened: Open) -> None:
        filled(opened())
        behind, ahead = opened().writer(IDENTITY, SCHEMA), opened().writer(IDENTITY, SCHEMA)
        ahead.record(position(5))
        with pytest.raises(Fenced, match="'docs'"):
            behind.record(position(3))
        assert opened().state().position == position(5)
        ahead.record(position(6))
        assert opened().state().position == position(6)

    def test_a_position_in_another_table_is_refused(self, index: VectorIndex) -> None:
        with pytest.raises(IndexMismatch, match="'uuid-2'"):
            index.writer(IDENTITY, SCHEMA).record(position(1, "uuid-2"))


class TestIdentity:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("model", "other"),
            ("model", None),
            ("model_fingerprint", "sha-2"),
            ("width", 5),
            ("metric", "l2"),
            ("key", "pages"),
            ("table_uuid", "uuid-2"),
            ("table", "gold.other"),
        ],
    )
    def test_an_index_built_from_something_else_is_refused(self, opened: Open, field: str, value: object) -> None:
        filled(opened())
        with pytest.raises(IndexMismatch) as refused:
            opened().writer(replace(IDENTITY, **{field: value}), SCHEMA)  # type: ignore[arg-type]
        message = str(refused.value)
        assert f"{field} is {getattr(IDENTITY, field)!r}, asked for {value!r}" in message
        assert message.endswith("next: lakeflow index build docs")
        assert len(contents(opened())) == 4

    def test_an_index_that_was_never_built_says_how_to(self, index: VectorIndex) -> None:
        for ask in (index.state, lambda: index.search(EAST, 1)):
            with pytest.raises(UnknownName, match="unknown index 'docs'") as unknown:
                ask()
            assert unknown.value.next_step == "lakeflow index build docs"


class TestSearch:
    def test_an_empty_index_finds_nothing(self, index: VectorIndex) -> None:
        index.writer(IDENTITY, SCHEMA)
        found = index.search([EAST, UP], 3)
        assert found.num_rows == 0
        assert found.column_names == ["query_index", "doc_id", "pages", "distance", "score"]
        assert (index.state().rows, index.state().position) == (0, None)

    def test_k_above_the_number_of_rows_finds_them_all(self, index: VectorIndex) -> None:
        assert filled(index).search(EAST, 10_000).num_rows == 4

    def test_several_queries_are_told_apart_and_ordered(self, index: VectorIndex) -> None:
        found = filled(index).search(np.array([UP, [1, 0.1, 0, 0], EAST]), 2, columns=["doc_id"])
        assert found["query_index"].to_pylist() == [0, 0, 1, 1, 2, 2]
        assert found["query_index"].type == pa.int32()
        assert [found["doc_id"][row].as_py() for row in (0, 2, 3, 4)] == ["it's", "a", "b", "a"]
        assert all(a <= b for a, b in zip(found["distance"].to_pylist()[::2], found["distance"].to_pylist()[1::2], strict=True))

    def test_more_queries_than_one_call_takes(self, index: VectorIndex) -> None:
        filled(index)
        found = index.search(np.tile(np.array([EAST, UP, ASIDE]), (50, 1)), 1, columns=["doc_id"])
        assert found["query_index"].to_pylist() == list(range(150))
        assert found["doc_id"].to_pylist() == ["a", "it's", "d"] * 50

    def test_no_query_finds_nothing(self, index: VectorIndex) -> None:
        assert filled(index).search(np.zeros((0, 4), np.float32), 3).num_rows == 0

    @pytest.mark.parametrize(
        ("metric", "nearest_first", "distances", "scores"),
        [
            ("cosine", ["near", "mid", "far"], [0.0, 0.2, 2.0], [1.0, 0.8, -1.0]),
            ("l2", ["near", "far", "mid"], [1.0, 9.0, 13.0], [1 / 2, 1 / 10, 1 / 14]),
            ("dot", ["mid", "near", "far"], [-7.0, -1.0, 3.0], [8.0, 2.0, -2.0]),
        ],
    )
    def test_a_higher_score_is_nearer(
        self, index: VectorIndex, metric: str, nearest_first: list[str], distances: list[float], scores: list[float]
    ) -> None:
        rows = batch([("far", 1, [-1.0, 0, 0, 0]), ("mid", 2, [4.0, 3.0, 0, 0]), ("near", 3, [1.0, 0, 0, 0])])
        index.writer(replace(IDENTITY, metric=metric), SCHEMA).upsert([rows], 1)
        found = index.search([2.0, 0, 0, 0], 3)
        assert found["doc_id"].to_pylist() == nearest_first
        assert found["distance"].to_pylist() == pytest.approx(distances, abs=1e-5)
        assert found["score"].to_pylist() == pytest.approx(scores, abs=1e-5)

    @pytest.mark.parametrize("k", [0, -1, 10_001])
    def test_k_out_of_bounds_is_refused(self, index: VectorIndex, k: int) -> None:
        with pytest.raises(UsageError, match=f"k is {k}; valid: 1 to 10,000"):
            filled(index).search(EAST, k)

    @pytest.mark.parametrize(
        ("query", "message"),
        [
            ([1.0, 2.0], r"shape \[1, 2\]; valid: \[queries, 4\]"),
            ([], r"shape \[0\]"),
            ([[math.nan, 0, 0, 0]], "query 0 of index 'docs' has a NaN"),
            ([EAST, [math.inf, 0, 0, 0]], "query 1 of index 'docs' has a NaN or an infinity"),
            ([EAST, [0.0, 0, 0, 0]], "query 1 of index 'docs' is all zeros"),
            ([EAST, [1.0]], "no matrix of numbers"),
            (["text"], "no matrix of numbers"),
        ],
    )
    def test_a_query_that_cannot_be_meant_is_refused(self, index: VectorIndex, query: list[float], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            filled(index).search(query, 1)

    def test_columns_are_the_asked_ones(self, index: VectorIndex) -> None:
        filled(index)
        assert index.search(UP, 1, columns=["pages"]).column_names == ["query_index", "pages", "distance", "score"]
        assert index.search(UP, 1, columns=["embedding"])["embedding"].to_pylist() == [UP]
        assert index.search(UP, 1, columns=[]).column_names == ["query_index", "distance", "score"]
        with pytest.raises(UnknownName, match="unknown column of index docs 'page'; did you mean 'pages'"):
            index.search(UP, 1, columns=["page"])

    def test_a_kept_column_called_score_can_be_filtered_on_and_is_not_mixed_up(self, index: VectorIndex) -> None:
        rows = batch([("a", 1, EAST), ("b", 2, UP)]).append_column("score", pa.array([0.5, 0.9]))
        index.writer(IDENTITY, rows.schema).upsert([rows], 1)
        assert index.search(EAST, 5, where="score > 0.8", columns=["doc_id"])["doc_id"].to_pylist() == ["b"]
        with pytest.raises(UsageError, match="the index keeps 'score' too"):
            index.search(EAST, 5)


MOMENTS = [datetime(2013, 1, 1, tzinfo=UTC), datetime(2013, 6, 1, 12, tzinfo=UTC), None, datetime(2014, 1, 1, tzinfo=UTC)]
TYPED = pa.table(
    {
        "doc_id": ["a", "b", "it's", "d"],
        "n": pa.array([1, 2, 3, None], pa.int32()),
        "tiny": pa.array([1, 2, 200, 255], pa.uint8()),
        "price": pa.array([0.1, 1.5, 2.5, None], pa.float32()),
        "exact": pa.array([Decimal("1.50"), Decimal("2.00"), None, Decimal("-3.25")], pa.decimal128(10, 2)),
        "open": pa.array([True, False, None, True]),
        "day": pa.array([None if m is None else m.date() for m in MOMENTS], pa.date32()),
        "at": pa.array(MOMENTS, pa.timestamp("us", "UTC")),
        "local": pa.array([None if m is None else m.replace(tzinfo=None) for m in MOMENTS], pa.timestamp("us")),
        "Mixed Case": ["x", "Y%z", "_", "c:\\d"],
        "tags": pa.array([["red", "blue"], ["red"], [], None], pa.list_(pa.string())),
        "codes": pa.array([[1, 2], [3], None, []], pa.list_(pa.int64())),
        "embedding": [EAST, NORTH, UP, ASIDE],
    }
)
CONDITIONS = [
    ("n < 3", "ab"),
    ("3 > n", "ab"),
    ("N >= 2", "bi"),
    ("n <> 2", "ai"),
    ("NOT n = 2", "ai"),
    ("n != 2 AND n <= 3", "ai"),
    ("n > 1.5", "bi"),
    ("n < 3000000000", "abi"),
    ("n > -5", "abi"),
    ("tiny > -1", "abid"),
    ("tiny < 300", "abid"),
    ("n IN (1, 2.5, 3)", "ai"),
    ("n NOT IN (1, 3)", "b"),
    ("n BETWEEN 2 AND 3", "bi"),
    ("n NOT BETWEEN 2 AND 3", "a"),
    ("n IS NULL", "d"),
    ("n IS NOT NULL", "abi"),
    ("price = 0.1", "a"),
    ("price > 1", "bi"),
    ("price >= 1.5e0", "bi"),
    ("exact = 1.5", "a"),
    ("exact < 0", "d"),
    ("exact > 1.75", "b"),
    ("open", "ad"),
    ("NOT open", "b"),
    ("open = FALSE OR n = 1", "ab"),
    ("TRUE", "abid"),
    ("FALSE", ""),
    ("NOT FALSE AND (n = 1 OR n = 2) AND NOT n = 2", "a"),
    ("n = 1 OR n = 2 AND n = 3", "a"),
    ("day >= '2013-06-01'", "bd"),
    ("day = DATE '2013-01-01'", "a"),
    ("at > TIMESTAMP '2013-06-01 11:59:59'", "bd"),
    ("at = '2013-06-01T14:00:00+02:00'", "b"),
    ("at < DATE '2013-06-02'", "ab"),
    ("local BETWEEN '2013-01-01' AND '2013-06-01T12:00:00'", "ab"),
    ("doc_id = 'it''s'", "i"),
    ("doc_id = ''", ""),
    ("doc_id IN ('a', 'it''s')", "ai"),
    ("`Mixed Case` = 'x'", "a"),
    ("\"Mixed Case\" LIKE '_\\%z'", "b"),
    ("`Mixed Case` LIKE '\\_'", "i"),
    ("`Mixed Case` = 'c:\\d'", "d"),
    ("lower(`Mixed Case`) LIKE 'y%'", "b"),
    ("upper(doc_id) = 'IT''S'", "i"),
    ("length(doc_id) = 4", "i"),
    ("starts_with(doc_id, 'it')", "i"),
    ("ends_with(doc_id, 's') OR contains(doc_id, 'b')", "bi"),
    ("NOT contains(doc_id, '''')", "abd"),
    ("array_has(tags, 'red')", "ab"),
    ("NOT array_has(tags, 'blue')", "bi"),
    ("array_has(codes, 3)", "b"),
]


class TestWhere:
    @pytest.mark.parametrize(("condition", "keys"), CONDITIONS)
    def test_it_keeps_the_rows_that_meet_it(self, index: VectorIndex, condition: str, keys: str) -> None:
        index.writer(IDENTITY, TYPED.schema).upsert(TYPED.to_batches(), 1)
        found = index.search([1.0, 1, 1, 1], 10, where=condition, columns=["doc_id"])["doc_id"].to_pylist()
        assert sorted(key[0] for key in found) == sorted(keys)

    def test_it_comes_before_the_nearest_are_chosen(self, index: VectorIndex) -> None:
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([batch([(f"k{row}", row, [1.0, row / 100, 0, 0]) for row in range(200)])], 1)
        found = index.search(EAST, 5, where="pages >= 190", columns=["pages"])
        assert found["pages"].to_pylist() == [190, 191, 192, 193, 194]

    @pytest.mark.parametrize(
        "condition",
        [
            "true; DROP TABLE docs",
            "pages < 3) OR (1 = 1",
            "pages < 3 -- rest",
            "pages < 3 /* rest */",
            "doc_id = 'a' UNION SELECT 1",
            "pages IN (SELECT 1)",
            "EXISTS (SELECT 1)",
            "$1 = 1",
            "? = 1",
            "read_csv('/etc/passwd') IS NULL",
            "repeat('a', 1000000000) = doc_id",
            "random() < 0.5",
            "lower(doc_id, 'x') = 'a'",
            "count(*) > 0",
            "doc_id = 'a",
            "doc_id = a'",
            "doc_id = 'a\\' OR true --'",
            "pages / 0 = 1",
            "CAST(doc_id AS INT) = 1",
            "",
            "   ",
            "pages",
            "pages = ",
            "pages = NULL",
            "pages = 'x'",
            "doc_id = 5",
            "doc_id LIKE 5",
            "1 = 1",
            "(" * 60 + "true" + ")" * 60,
            "NOT " * 60 + "true",
            "true OR " * 5000 + "true",
            "pages > 99999999999999999999",
            "embedding IS NULL",
            "_rowid > 0",
            "_lakeflow_sequence > 0",
            "page = 1",
            '"Pages" = 1',
        ],
    )
    def test_what_is_no_condition_on_its_columns_never_runs(self, index: VectorIndex, condition: str) -> None:
        filled(index)
        with pytest.raises(UsageError, match=r"index '?docs"):
            index.search(EAST, 4, where=condition)
        assert len(contents(index)) == 4


class TestRebuild:
    def test_readers_see_the_old_one_until_the_new_one_is_whole(self, opened: Open) -> None:
        reader = filled(opened())
        other = replace(IDENTITY, model_fingerprint="sha-2")
        with opened().rebuild(other, SCHEMA) as writer:
            assert writer.position is None
            writer.upsert([batch([("new", 1, EAST)])], 2)
            writer.record(position(2))
            assert contents(reader) == {"a": 1, "b": 2, "it's": 3, "d": None}
            assert (reader.state().identity, reader.state().position) == (IDENTITY, position(1))
        for index in (reader, opened()):
            assert contents(index) == {"new": 1}
            assert (index.state().identity, index.state().position) == (other, position(2))

    def test_the_first_build_makes_the_index(self, opened: Open) -> None:
        with opened().rebuild(IDENTITY, SCHEMA) as writer:
            writer.upsert([batch([("a", 1, EAST)])], 1)
        assert (contents(opened()), opened().state().position) == ({"a": 1}, None)

    def test_a_failure_on_the_way_leaves_the_old_one(self, opened: Open) -> None:
        filled(opened())

        def fail_on_the_way() -> None:
            with opened().rebuild(IDENTITY, SCHEMA) as writer:
                writer.upsert([batch([("new", 1, EAST)])], 2)
                writer.record(position(2))
                raise RuntimeError("stop")

        with pytest.raises(RuntimeError, match="stop"):
            fail_on_the_way()
        assert contents(opened()) == {"a": 1, "b": 2, "it's": 3, "d": None}
        assert opened().state().position == position(1)

    def test_a_writer_of_the_old_one_is_fenced_and_the_new_one_keeps_its_position(self, opened: Open) -> None:
        filled(opened())
        behind = opened().writer(IDENTITY, SCHEMA)
        with opened().rebuild(IDENTITY, SCHEMA) as writer:
            writer.upsert([batch([("new", 1, EAST)])], 2)
            writer.record(position(2))
        with pytest.raises(Fenced, match="lakeflow index"):
            behind.record(position(9))
        with pytest.raises(Fenced, match="lakeflow index"):
            behind.upsert([batch([("late", 1, EAST)])], 9)
        assert (contents(opened()), opened().state().position) == ({"new": 1}, position(2))

    def test_an_update_in_between_does_not_stop_a_rebuild(self, opened: Open) -> None:
        filled(opened())
        with opened().rebuild(IDENTITY, SCHEMA) as writer:
            writer.upsert([batch([("new", 1, EAST)])], 2)
            writer.record(position(2))
            opened().writer(IDENTITY, SCHEMA).record(position(3))
        assert opened().state().position == position(2)

    def test_the_later_of_two_rebuilds_is_fenced(self, opened: Open) -> None:
        filled(opened())
        first, second = opened().rebuild(IDENTITY, SCHEMA), opened().rebuild(IDENTITY, SCHEMA)
        second.__enter__()
        with first as writer:
            writer.upsert([batch([("new", 1, EAST)])], 2)
        with pytest.raises(Fenced):
            second.__exit__(None, None, None)
        assert contents(opened()) == {"new": 1}


class TestRevise:
    def test_a_copy_takes_the_place_of_the_index_when_the_block_ends(self, index: VectorIndex, opened: Open) -> None:
        filled(index)
        assert index.can_revise()
        with index.revise(IDENTITY, SCHEMA) as writer:
            assert writer.position == position(1)
            writer.upsert([batch([("a", 10, UP), ("new", 5, EAST)])], 2)
            assert writer.delete(["b"], 2) == 1
            writer.record(position(2))
            assert contents(opened()) == {"a": 1, "b": 2, "it's": 3, "d": None}, "readers see the old one until then"
        assert contents(opened()) == {"a": 10, "it's": 3, "d": None, "new": 5}
        assert opened().state().position == position(2)

    def test_a_block_that_raises_leaves_the_old_one(self, index: VectorIndex, opened: Open) -> None:
        def dies() -> None:
            with index.revise(IDENTITY, SCHEMA) as writer:
                writer.delete(["a", "b"], 2)
                writer.record(position(2))
                raise KeyboardInterrupt

        filled(index)
        with pytest.raises(KeyboardInterrupt):
            dies()
        assert contents(opened()) == {"a": 1, "b": 2, "it's": 3, "d": None}
        assert opened().state().position == position(1)

    def test_of_two_writers_the_one_that_records_first_stays(self, index: VectorIndex, opened: Open) -> None:
        def late() -> None:
            with index.revise(IDENTITY, SCHEMA) as writer:
                writer.delete(["a"], 3)
                writer.record(position(3))
                other = opened().writer(IDENTITY, SCHEMA)
                other.upsert([batch([("e", 2, UP)])], 2)
                other.record(position(2))

        filled(index)
        with pytest.raises(Fenced):
            late()
        assert contents(opened()) == {"a": 1, "b": 2, "it's": 3, "d": None, "e": 2}
        assert opened().state().position == position(2)

    def test_a_writer_that_was_left_behind_writes_no_row_into_the_copy(self, index: VectorIndex, opened: Open) -> None:
        zombie = filled(index).writer(IDENTITY, SCHEMA)
        with opened().revise(IDENTITY, SCHEMA) as writer:
            writer.delete(["a"], 3)
            writer.record(position(3))
        with pytest.raises(Fenced):
            zombie.upsert([batch([("a", 1, EAST), ("late", 1, EAST)])], 2)
        assert contents(opened()) == {"b": 2, "it's": 3, "d": None}

    def test_what_is_not_there_or_of_another_model_is_refused(self, index: VectorIndex) -> None:
        with pytest.raises(UnknownName), index.revise(IDENTITY, SCHEMA):
            raise AssertionError("there is nothing to copy")
        filled(index)
        with (
            pytest.raises(IndexMismatch, match="model_fingerprint"),
            index.revise(replace(IDENTITY, model_fingerprint="sha-2"), SCHEMA),
        ):
            raise AssertionError("it is of another model")
