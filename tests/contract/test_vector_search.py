"""What VECTOR_SEARCH finds, whatever stands behind it: an index of LanceDB, one in memory, or every row of the table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lakeflow.declare import IndexSpec
from lakeflow.errors import ModelError, UnknownName, UsageError
from lakeflow.index.vectors import VectorIndex
from lakeflow.job import Caps
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.indexing import IndexRoom, build_index
from lakeflow.runner.sql_search import search_function
from lakeflow.sql.compiled import SearchCall
from lakeflow.testing.index import MemoryIndex
from lakeflow.testing.provider import EchoProvider
from tests.jobs import open_world

TABLE = "gold.docs"
SCHEMA = pa.schema([("id", pa.int64()), ("title", pa.string()), ("vector", pa.list_(pa.float32()))])
ROWS: list[tuple[int, str | None, list[float] | None]] = [
    (1, "east", [1.0, 0.0]),
    (2, "north", [0.0, 1.0]),
    (3, "north east", [1.0, 1.0]),
    (4, None, [-1.0, 0.0]),
    (5, "nowhere", None),
]


@dataclass(frozen=True, slots=True)
class MemoryRoom(IndexRoom):
    """A room whose indexes live in memory."""

    opened: dict[str, MemoryIndex] = field(default_factory=dict)

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened.setdefault(spec.name, MemoryIndex(spec))


@dataclass(frozen=True, slots=True)
class Searched:
    """A table and what stands behind a search of it."""

    room: IndexRoom
    indexes: tuple[IndexSpec, ...]

    def find(
        self,
        queries: Sequence[Any],
        k: int = 2,
        *,
        columns: Sequence[str] = ("id",),
        measured: tuple[str, ...] = (),
        **config: str,
    ) -> list[Any]:
        """The hits of each query."""
        fields = pa.schema([SCHEMA.field(name) for name in columns])
        kind = pa.string() if isinstance(next(iter(queries), None), str) else pa.list_(pa.float32())
        call = SearchCall("ai_0", TABLE, "vector", k, fields, kind, config, measured)
        function = search_function(call, self.room, self.indexes)
        given = pa.record_batch({"query": pa.array(queries, function.parameters[0])})
        found = function.call(given)
        assert found.type == call.result
        listed: list[Any] = found.to_pylist()
        return listed

    def ids(self, queries: Sequence[Any], k: int = 2, **config: Any) -> list[list[int]]:
        return [[hit["id"] for hit in hits] for hits in self.find(queries, k, **config)]


@pytest.fixture(params=["rows", "memory", "lance"])
def behind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Silent(EchoProvider):
    """Has no vector for one text."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        answers = super().predict(rows)
        kept = pc.not_equal(rows.column(0), "silent")
        column = answers.column(0).take(pa.array(np.arange(rows.num_rows), mask=~np.asarray(kept)))
        return pa.RecordBatch.from_arrays([column], schema=answers.schema)


EMBED = ModelSpec(
    "embed", "echo", Task.EMBEDDING, pa.schema([("text", pa.string())]), pa.schema([("out", pa.list_(pa.float32(), 2))])
)

RANK = ModelSpec(
    "rank", "echo", Task.REGRESSION, pa.schema([("q", pa.string()), ("d", pa.string())]), pa.schema([("points", pa.float64())])
)


def searched(folder: Path, behind: str, metric: str = "cosine", model: str | None = None, **options: str) -> Searched:
    world = open_world(folder)
    names = SCHEMA.names
    world.append(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in ROWS[:2]], SCHEMA), TABLE)
    world.append(pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in ROWS[2:]], SCHEMA), TABLE)
    kind = MemoryRoom if behind == "memory" else IndexRoom
    room = kind(world.lake, ModelSet([EMBED, RANK], EchoProvider), str(folder / "index"), {}, Caps())
    if behind == "rows":
        return Searched(room, ())
    spec = IndexSpec("docs", TABLE, "vector", "id", metric=metric, model=model, options=options)
    build_index(spec, room)
    return Searched(room, (spec,))


@pytest.fixture
def table(tmp_path: Path, behind: str) -> Searched:
    return searched(tmp_path, behind)


def test_each_query_has_its_hits_the_nearest_first(table: Searched) -> None:
    assert table.ids([[2.0, 0.1], [0.1, 3.0], [-1.0, -0.5]]) == [[1, 3], [2, 3], [4, 2]]


def test_score_is_higher_where_a_row_is_nearer(table: Searched) -> None:
    [hits] = table.find([[3.0, 0.0]], 4)
    assert [hit["id"] for hit in hits] == [1, 3, 2, 4]
    np.testing.assert_allclose([hit["score"] for hit in hits], [1.0, np.sqrt(0.5), 0.0, -1.0], atol=1e-6)


@pytest.mark.parametrize(
    ("metric", "expected"), [("l2", [1 / (1 + 0.25), 1 / (1 + 1.25)]), ("dot", [1.5, 1.5]), ("cosine", [1.0, np.sqrt(0.5)])]
)
def test_scores_of_each_metric(tmp_path: Path, behind: str, metric: str, expected: list[float]) -> None:
    [hits] = searched(tmp_path, behind, metric).find([[1.5, 0.0]], 2, metric=metric)
    np.testing.assert_allclose([hit["score"] for hit in hits], expected, rtol=1e-6)


def test_null_queries_have_no_hits(table: Searched) -> None:
    assert table.ids([None, [1.0, 0.0], None], 1) == [[], [1], []]
    assert table.ids([None, None]) == [[], []]
    assert table.ids([]) == []


def test_fewer_hits_than_were_asked_for(table: Searched) -> None:
    assert table.ids([[1.0, 0.0]], 100) == [[1, 3, 2, 4]]


def test_columns_of_a_hit_and_score_last(table: Searched) -> None:
    [[hit]] = table.find([[0.0, 9.0]], 1, columns=["title", "vector", "id"])
    assert list(hit) == ["title", "vector", "id", "score"]
    assert hit == {"title": "north", "vector": [0.0, 1.0], "id": 2, "score": 1.0}


def test_a_filter_comes_before_the_nearest_are_sought(table: Searched) -> None:
    assert table.ids([[1.0, 0.0]], 2, filter="title like 'north%'") == [[3, 2]]
    assert table.ids([[1.0, 0.0]], 2, filter="title is null") == [[4]]
    assert table.ids([[1.0, 0.0]], 2, filter="id > 100") == [[]]


def test_exact_finds_the_same(table: Searched) -> None:
    assert table.ids([[1.0, 0.2]], 4, exact="true") == table.ids([[1.0, 0.2]], 4)


def test_rows_that_are_appended_during_a_query_do_not_show_in_it_without_an_index(tmp_path: Path) -> None:
    world = open_world(tmp_path)
    world.append(pa.Table.from_pylist([{"id": 1, "title": "a", "vector": [1.0, 0.0]}], SCHEMA), TABLE)
    room = IndexRoom(world.lake, ModelSet([]), str(tmp_path / "index"), {}, Caps())
    call = SearchCall("ai_0", TABLE, "vector", 5, pa.schema([SCHEMA.field("id")]), pa.list_(pa.float32()), {})
    function = search_function(call, room, ())
    world.append(pa.Table.from_pylist([{"id": 2, "title": "b", "vector": [1.0, 0.0]}], SCHEMA), TABLE)
    given = pa.record_batch({"query": pa.array([[1.0, 0.0]], pa.list_(pa.float32()))})
    assert [[hit["id"] for hit in hits] for hits in function.call(given).to_pylist()] == [[1]]


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ([[1.0, 0.0], [1.0, 0.0, 0.0]], "queries need vectors of one width"),
        ([[1.0], [1.0, 0.0, 0.0]], r"the queries have vectors of the widths \[1, 3\]"),
        ([[1.0, None]], "queries need vectors of one width, without a NULL in them"),
        ([[0.0, 0.0]], "all zeros, which has no direction"),
        ([[float("nan"), 0.0]], "a NaN or an infinity"),
        ([[]], "widths"),
    ],
)
def test_queries_that_are_refused(table: Searched, queries: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table.find(queries)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"mode": "fts"}, "mode 'fts' looks.*(there is none over 'vector'|the query is a vector)"),
        ({"mode": "hybrid"}, "(mode 'hybrid' looks words up in an index|mode hybrid needs words)"),
        ({"mode": "hybrid", "text": "east"}, "(mode 'hybrid' looks words up|index 'docs' has no text columns)"),
        ({"max_distance": "near"}, "max_distance is 'near'; valid: a number"),
        ({"max_distance": "nan"}, "max_distance is 'nan'; valid: a number"),
        ({"probes": "-1"}, "probes is '-1'; valid: a whole number"),
        ({"mmr": "2"}, "mmr of a search is 2.0; valid: 0"),
        ({"candidates": "1"}, "candidates of a search is 1; valid: 2"),
        ({"rerank": "m"}, "('rerank' is about an index|rerank needs words)"),
        ({"mode": "fuzzy"}, "mode is 'fuzzy'.*valid: fts, hybrid, vector"),
        ({"exact": "perhaps"}, "exact is 'perhaps'; valid: true, false"),
        ({"distance": "taxicab"}, "the distance is 'taxicab'.*valid: cosine, dot"),
        ({"distance": "l2", "metric": "l2"}, "say the same; give one of them"),
        ({"timeout": "10s"}, "'timeout' is about a search in a service"),
        ({"output-mode": "sorted"}, "output_mode is 'sorted'; valid: ordered, allow_unordered"),
        ({"filter": "id = 1; DROP TABLE x"}, "is not understood"),
        ({"filter": "title = read_text('/etc/passwd')"}, "is not understood"),
    ],
)
def test_settings_that_are_refused(table: Searched, config: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        table.find([[1.0, 0.0]], 2, **config)


def test_an_unknown_setting_is_told_what_is_near(table: Searched) -> None:
    with pytest.raises(
        UnknownName, match=r"unknown setting in CONFIG of VECTOR_SEARCH over gold.docs 'filtr'.*did you mean 'filter'"
    ):
        table.find([[1.0, 0.0]], filtr="id = 1")


def test_settings_of_flink_that_hold_whatever_they_say(table: Searched) -> None:
    config = {"async": "true", "output-mode": "ALLOW_UNORDERED", "max-concurrent-operations": "4"}
    assert table.ids([[1.0, 0.0]], 1, **config) == [[1]]


def test_a_distance_bounds_the_hits(table: Searched) -> None:
    assert table.ids([[1.0, 0.0], None, [0.0, 1.0]], 4, max_distance="0.5") == [[1, 3], [], [2, 3]]


def test_hits_tell_what_was_measured_where_it_is_asked_for(table: Searched) -> None:
    [hits] = table.find([[1.0, 0.0]], 1, measured=("distance", "text_score"))
    assert list(hits[0]) == ["id", "distance", "text_score", "score"]
    assert (hits[0]["distance"], hits[0]["text_score"], hits[0]["score"]) == (
        pytest.approx(0, abs=1e-6),
        None,
        pytest.approx(1),
    )


@pytest.mark.parametrize("behind", ["memory", "lance"])
class TestWords:
    @pytest.fixture
    def table(self, tmp_path: Path, behind: str) -> Searched:
        return searched(tmp_path, behind, model="embed", text_columns="title")

    def test_a_text_is_looked_for_by_its_words(self, table: Searched) -> None:
        assert [set(ids) for ids in table.ids(["north", "EAST", "", "'); DROP"], 5, mode="fts")] == [
            {2, 3},
            {1, 3},
            set(),
            set(),
        ]
        assert table.ids(["north", None], 5, mode="fts", filter="id > 2") == [[3], []]
        [hits] = table.find(["north"], 5, mode="fts", measured=("text_score", "distance"))
        assert all(hit["score"] == pytest.approx(hit["text_score"]) and hit["distance"] is None for hit in hits)

    def test_a_text_without_a_vector_has_no_hits(self, table: Searched) -> None:
        table = replace(table, room=replace(table.room, models=ModelSet([EMBED], Silent)))
        found = table.find(["north", "silent", "north"], 2)
        assert [len(hits) for hits in found] == [2, 0, 2]
        assert found[0] == found[2]

    def test_a_text_is_embedded_and_looked_for_in_mode_hybrid(self, table: Searched) -> None:
        by_vector, by_words = (table.ids(["north"], 4, mode=mode)[0] for mode in ("vector", "fts"))
        [hits] = table.find(["north"], 4, mode="hybrid")
        for hit in hits:
            ranks = [ranking.index(hit["id"]) + 1 for ranking in (by_vector, by_words) if hit["id"] in ranking]
            assert hit["score"] == pytest.approx(sum(1 / (60 + rank) for rank in ranks))

    def test_words_stand_in_the_config_beside_a_vector(self, table: Searched) -> None:
        found = table.ids([[-1.0, 0.0], None], 4, mode="hybrid", text="nowhere north", filter="id <> 4")
        assert found == [[2, 3, 1], []]

    @pytest.mark.parametrize(
        ("queries", "config", "message"),
        [
            (["north"], {"mode": "hybrid", "text": "x"}, "the query is a text, and 'text' gives another"),
            ([[1.0, 0.0]], {"mode": "fts", "text": "x"}, "mode 'fts' looks for words, and the query is a vector"),
            ([[1.0, 0.0]], {"mode": "hybrid"}, "mode hybrid needs words, and the query is a vector"),
            (["x" * 20_000], {"mode": "fts"}, "20,000 characters"),
        ],
    )
    def test_what_cannot_be_meant(self, table: Searched, queries: list[Any], config: dict[str, Any], message: str) -> None:
        with pytest.raises(UsageError, match=message):
            table.find(queries, **config)

    def test_a_model_ranks_the_hits_anew(self, table: Searched) -> None:
        [ranked] = table.find(["where"], 3, rerank="rank")
        model = table.room.models.get("rank")
        rows = pa.RecordBatch.from_pydict({"q": ["where"] * 3, "d": ["east", "north", "north east"]})
        points = dict(zip([1, 2, 3], model.predict(rows).column(0).to_pylist(), strict=True))
        assert [(hit["id"], hit["score"]) for hit in ranked] == sorted(points.items(), key=lambda one: -one[1])

    def test_a_model_that_takes_no_pairs_cannot_rank(self, table: Searched) -> None:
        with pytest.raises(ModelError, match=r"model 'embed'.* cannot rank texts"):
            table.find(["where"], 3, rerank="embed")


class TestIndexes:
    @pytest.mark.parametrize("behind", ["memory", "lance"])
    def test_a_metric_that_is_not_the_indexs_is_refused(self, table: Searched) -> None:
        with pytest.raises(UsageError, match="the distance is 'l2', and index 'docs' has 'cosine'"):
            table.find([[1.0, 0.0]], distance="euclidean")

    @pytest.mark.parametrize("behind", ["memory"])
    def test_columns_that_the_index_does_not_keep_are_refused(self, table: Searched) -> None:
        lean = replace(table, indexes=(replace(table.indexes[0], columns=("id",)),))
        with pytest.raises(UsageError, match="index 'docs' keeps id, vector, and a hit is to have title too") as caught:
            lean.find([[1.0, 0.0]], columns=["id", "title"])
        assert "MAP['output_columns', 'a,b']" in str(caught.value)

    @pytest.mark.parametrize("behind", ["memory", "lance"])
    def test_an_index_that_was_never_built_says_how_to_build_it(self, table: Searched) -> None:
        with pytest.raises(UnknownName, match="unknown index 'other'") as caught:
            replace(table, indexes=(replace(table.indexes[0], name="other"),)).find([[1.0, 0.0]])
        assert "lakeflow index build other" in str(caught.value)
