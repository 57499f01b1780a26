"""What every VectorIndex must do with words and with indexes of columns, run against LanceDB and the one in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import DeclarationError, UnknownName, UsageError
from lakeflow.index.lance import LanceIndex
from lakeflow.index.rows import SEQUENCE
from lakeflow.index.vectors import VectorIndex
from lakeflow.testing.index import MemoryIndex
from tests.contract.test_vector_index import CONDITIONS, EAST, IDENTITY, NORTH, TYPED, UP, position

SCHEMA = pa.schema(
    [
        *(("doc_id", pa.string()), ("title", pa.string()), ("body", pa.string()), ("pages", pa.int64())),
        ("embedding", pa.list_(pa.float32())),
    ]
)
SPEC = IndexSpec("docs", "gold.docs", "embedding", "doc_id", options={"text_columns": "title, body", "language": "none"})
Open = Callable[[IndexSpec], VectorIndex]
ROWS = [
    ("a", "Foxes", "the quick brown fox jumps over the lazy dog", 1),
    ("b", "Dogs", "a dog sleeps; the dog's dream: dog, dog!", 2),
    ("c", "A fox", None, 3),
    ("d", None, "Café naïve read_csv os.path.join('x') C++", 4),
    ("it's", "50% \"off\"", "AND OR NOT title:fox {\"match\": 1} fox*", 5),
]  # fmt: skip


@pytest.fixture(params=["memory", "lance"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "lance":
        return lambda spec: LanceIndex(spec, str(tmp_path / "index"))
    kept: list[MemoryIndex] = []

    def memory(spec: IndexSpec) -> MemoryIndex:
        fresh = MemoryIndex(spec)
        if kept:
            fresh._built = kept[0]._built
        kept[:] = [fresh]
        return fresh

    return memory


def batch(rows: Sequence[tuple[str, str | None, str | None, int]]) -> pa.RecordBatch:
    vectors = [[EAST, NORTH, UP][number % 3] for number in range(len(rows))]
    named = [dict(zip(SCHEMA.names, (*row, vector), strict=True)) for row, vector in zip(rows, vectors, strict=True)]
    return pa.RecordBatch.from_pylist(named, schema=SCHEMA)


@pytest.fixture
def index(opened: Open) -> VectorIndex:
    return filled(opened(SPEC))


def filled(index: VectorIndex) -> VectorIndex:
    writer = index.writer(IDENTITY, SCHEMA)
    writer.upsert([batch(ROWS)], 1)
    writer.record(position(1))
    return index


def keys(index: VectorIndex, text: str, k: int = 10, where: str | None = None) -> list[str]:
    found: list[str] = index.match([text], k, where=where, columns=["doc_id"])["doc_id"].to_pylist()
    return found


class TestMatch:
    def test_columns_and_order(self, index: VectorIndex) -> None:
        found = index.match(["dog", "no such word", "fox dog"], 3, columns=["pages", "doc_id"])
        assert found.column_names == ["query_index", "pages", "doc_id", "text_score"]
        assert (found["query_index"].type, found["text_score"].type) == (pa.int32(), pa.float32())
        assert found["query_index"].to_pylist() == [0, 0, 2, 2, 2]
        scores = found["text_score"].to_pylist()
        assert all(score > 0 for score in scores)
        assert scores[0] > scores[1]
        assert scores[2] >= scores[3] >= scores[4]
        assert index.match(["fox"], 1).column_names == ["query_index", "doc_id", "title", "body", "pages", "text_score"]

    def test_any_word_matches_and_case_and_accents_do_not_matter(self, index: VectorIndex) -> None:
        assert set(keys(index, "LAZY cafe")) == {"a", "d"}
        assert keys(index, "NAÏVE") == ["d"]
        assert keys(index, "foxe") == []

    def test_the_best_text_column_counts(self, index: VectorIndex) -> None:
        assert set(keys(index, "fox")) == {"a", "c", "it's"}
        assert keys(index, "dogs dog", 1) == ["b"]

    def test_scores_are_those_of_bm25(self, index: VectorIndex) -> None:
        found = index.match(["dog", "fox quick quick"], 10, columns=["doc_id"])
        by_key = dict(zip(zip(found["query_index"].to_pylist(), found["doc_id"].to_pylist(), strict=True),
                          found["text_score"].to_pylist(), strict=True))  # fmt: skip
        # 4 texts of 9, 8, 10 and 10 words: "dog" is in two of them, 4 times in b and once in a.
        rarity = np.log(1 + (4 - 2 + 0.5) / (2 + 0.5))
        mean = (9 + 9 + 9 + 8) / 4
        for key, times, length in (("a", 1, 9), ("b", 4, 9)):
            expected = rarity * times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean))
            assert by_key[0, key] == pytest.approx(expected, rel=1e-4)

    def test_equal_scores_are_ordered_by_key(self, opened: Open) -> None:
        index = opened(SPEC)
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([batch([(key, None, "same words here", 1) for key in "zmakb"])], 1)
        writer.record(position(1))
        assert keys(index, "words") == ["a", "b", "k", "m", "z"]

    def test_a_condition_comes_first(self, index: VectorIndex) -> None:
        assert keys(index, "fox", 1, where="pages > 2 AND pages < 5") == ["c"]
        with pytest.raises(UsageError, match="the condition on index 'docs'"):
            keys(index, "fox", where="pages < 3) OR (1 = 1")
        with pytest.raises(UnknownName, match="did you mean 'pages'"):
            keys(index, "fox", where="page = 1")

    @pytest.mark.parametrize(
        "text",
        [
            "title:fox", '"quick fox"', "+fox -dog", "fox AND NOT dog", "fo? f*x ^2 ~", '{"match": {"column": "title"}}',
            "'; DROP TABLE docs; --", "fox') OR true", "\\", "fox\x00bar", "(((((", "[* TO *]", "fox/", "%_",
        ],
    )  # fmt: skip
    def test_a_text_is_data(self, index: VectorIndex, text: str) -> None:
        from lakeflow.testing.words import words

        expected = {
            row[0] for row in ROWS for column in (1, 2) if row[column] and set(words(text)) & set(words(str(row[column])))
        }
        assert set(keys(index, text)) == expected
        assert index.state().rows == 5

    @pytest.mark.parametrize("text", ["", "   ", "?!", "\n\t"])
    def test_a_text_without_a_word_finds_nothing(self, index: VectorIndex, text: str) -> None:
        assert keys(index, text) == []

    def test_no_text_finds_nothing(self, index: VectorIndex) -> None:
        found = index.match([], 5, columns=["doc_id"])
        assert (found.num_rows, found.column_names) == (0, ["query_index", "doc_id", "text_score"])

    def test_bad_input_is_refused(self, index: VectorIndex) -> None:
        for k in (0, 1_000_000):
            with pytest.raises(UsageError, match=f"k is {k}; valid: 1 to 10,000"):
                index.match(["fox"], k)
        with pytest.raises(UsageError, match=r"text 1 for index 'docs' has 1,000,000 characters; valid: 10,000") as refused:
            index.match(["fox", "x" * 1_000_000], 3)
        assert "LEFT(text, 10000)" in str(refused.value.next_step)
        with pytest.raises(UnknownName, match="did you mean 'title'"):
            index.match(["fox"], 3, columns=["titel"])

    def test_an_index_without_text_columns_says_what_to_add(self, opened: Open) -> None:
        index = filled(opened(replace(SPEC, options={})))
        with pytest.raises(UsageError, match="index 'docs' has no text columns") as refused:
            index.match(["fox"], 3)
        assert "'text_columns'" in str(refused.value.next_step)

    def test_rows_are_found_as_they_are_now(self, index: VectorIndex) -> None:
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([batch([("a", "Birds", "no longer about them", 1), ("new", "Vixen", "a fox too", 7)])], 2)
        writer.delete(["c"], 2)
        writer.record(position(2))
        assert set(keys(index, "fox")) == {"new", "it's"}

    def test_a_text_of_a_megabyte_is_kept_and_found(self, index: VectorIndex) -> None:
        writer = index.writer(IDENTITY, SCHEMA)
        writer.upsert([batch([("long", None, "padding " * 130_000 + "needle", 9)])], 2)
        writer.record(position(2))
        assert keys(index, "needle") == ["long"]

    def test_random_texts_score_alike_everywhere(self, tmp_path: Path) -> None:
        random = np.random.default_rng(5)
        made = [" ".join(random.choice([f"w{n}" for n in range(30)], random.integers(1, 40))) for _ in range(300)]
        rows = batch([(f"k{number:03}", None, text, number) for number, text in enumerate(made)])
        found = []
        for index in (MemoryIndex(SPEC), LanceIndex(SPEC, str(tmp_path / "index"))):
            writer = index.writer(IDENTITY, SCHEMA)
            writer.upsert([rows], 1)
            writer.record(position(1))
            found.append(index.match(["w1 w2 w2", "w29", "w3 w4 w5 w6 w7"], 300, where="pages >= 20", columns=["doc_id"]))
        left, right = (
            dict(zip(zip(each["query_index"].to_pylist(), each["doc_id"].to_pylist(), strict=True),
                     each["text_score"].to_pylist(), strict=True))
            for each in found
        )  # fmt: skip
        assert left.keys() == right.keys()
        assert [right[key] for key in left] == pytest.approx(list(left.values()), rel=0.02)


class TestColumns:
    def test_the_state_tells_which_are_indexed(self, opened: Open) -> None:
        index = opened(replace(SPEC, options={"text_columns": "title", "filter_columns": "pages, body"}))
        state = filled(index).state()
        assert [(one.column, one.kind) for one in state.columns] == [("body", "btree"), ("pages", "btree"), ("title", "text")]
        assert index.state().columns == state.columns

    def test_a_declaration_that_changed_is_followed_by_upkeep(self, opened: Open) -> None:
        filled(opened(replace(SPEC, options={"filter_columns": "pages"})))
        index = opened(SPEC)
        state = index.writer(IDENTITY, SCHEMA).keep_up()
        assert [(one.column, one.kind) for one in state.columns] == [("body", "text"), ("title", "text")]
        assert state.position == position(1)
        assert keys(index, "lazy") == ["a"]

    def test_a_rebuild_has_them_too(self, opened: Open) -> None:
        index = opened(SPEC)
        with index.rebuild(IDENTITY, SCHEMA) as writer:
            writer.upsert([batch(ROWS)], 1)
            writer.record(position(1))
        assert len(index.state().columns) == 2
        assert keys(index, "lazy") == ["a"]

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"text_columns": "pages"}, DeclarationError, "'text_columns' names 'pages', which is int64"),
            ({"text_columns": "embedding"}, UnknownName, "'embedding'"),
            ({"filter_columns": "embedding"}, UnknownName, "'embedding'"),
            ({"filter_columns": "page"}, UnknownName, "'page'; did you mean 'pages'"),
        ],
    )
    def test_a_column_that_cannot_be_indexed_is_refused(
        self, opened: Open, options: dict[str, str], error: type[Exception], message: str
    ) -> None:
        index = opened(replace(SPEC, options=options))
        for make in (index.writer, lambda *given: index.rebuild(*given).__enter__()):
            with pytest.raises(error, match=message):
                make(IDENTITY, SCHEMA)

    def test_a_decimal_cannot_be_indexed(self, opened: Open) -> None:
        with pytest.raises(DeclarationError, match="'exact', which is decimal128"):
            opened(replace(SPEC, options={"filter_columns": "exact"})).writer(IDENTITY, TYPED.schema)

    @pytest.mark.parametrize("late", [False, True], ids=["indexed", "partly indexed"])
    def test_conditions_mean_the_same_over_indexed_columns(self, tmp_path: Path, late: bool) -> None:
        indexed = "n, tiny, price, open, day, at, local, Mixed Case, tags, codes, doc_id"
        index = LanceIndex(replace(SPEC, options={"filter_columns": indexed}), str(tmp_path / "index"))
        writer = index.writer(IDENTITY, TYPED.schema)
        pieces = [TYPED.slice(0, 2), TYPED.slice(2)] if late else [TYPED]
        for sequence, piece in enumerate(pieces):
            writer.upsert(piece.to_batches(), sequence)
            writer.record(position(sequence))
        assert len(index.state().columns) == 11
        assert {one.unindexed_rows for one in index.state().columns} == ({2} if late else {0})
        for condition, expected in CONDITIONS:
            found = index.search([1.0, 1, 1, 1], 10, where=condition, columns=["doc_id"])["doc_id"].to_pylist()
            assert sorted(key[0] for key in found) == sorted(expected), condition


class TestScan:
    def test_every_row_comes_once_with_its_sequence(self, index: VectorIndex) -> None:
        table = pa.Table.from_batches(index.scan(["doc_id", "embedding", "pages"]))
        assert table.column_names == ["doc_id", "embedding", "pages", SEQUENCE]
        assert sorted(table["doc_id"].to_pylist()) == ["a", "b", "c", "d", "it's"]
        assert set(table[SEQUENCE].to_pylist()) == {1}

    def test_the_schema_is_what_is_kept(self, index: VectorIndex) -> None:
        assert index.schema().names == ["doc_id", "title", "body", "pages", SEQUENCE, "embedding"]
        with pytest.raises(UnknownName):
            list(index.scan(["page"]))
