from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import IndexSpec
from lakeflow.errors import LakeflowError, SchemaMismatch, UnknownName, UsageError
from lakeflow.index.vectors import VectorIndex
from lakeflow.job import Caps
from lakeflow.models.predict import unwrap
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.execute import run_job
from lakeflow.runner.indexing import IndexRoom, update_index
from lakeflow.runner.vector_search import Searches, searching
from lakeflow.testing.index import MemoryIndex
from lakeflow.testing.provider import EchoProvider
from tests.jobs import World

TABLE = "gold.docs"
SPEC = IndexSpec("docs", TABLE, "vec", "id", options={"text_columns": "text", "language": "none"}, model="embed")
EMBED = ModelSpec(
    "embed", "echo", Task.EMBEDDING, pa.schema([("text", pa.string())]), pa.schema([("out", pa.list_(pa.float32(), 2))])
)
SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string()), ("vec", pa.list_(pa.float32()))])
DOCS = [(1, "read a file", [1.0, 0.0]), (2, "sort a list", [0.0, 1.0]), (3, "sort a file", [1.0, 1.0])]
QUERIES = pl.LazyFrame(
    {"q": ["sort", None, "nothing of it", "file"], "v": [[0.0, 1.0], [1.0, 0.0], None, [1.0, 0.0]], "id": [10, 20, 30, 40]},
    schema={"q": pl.String, "v": pl.List(pl.Float64), "id": pl.Int64},
)


class MemoryRoom(IndexRoom):
    opened: MemoryIndex

    def open(self, spec: IndexSpec) -> VectorIndex:
        return self.opened


@pytest.fixture
def searches(world: World) -> Searches:
    world.append(pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in DOCS], schema=SCHEMA), TABLE)
    room = MemoryRoom(world.lake, ModelSet([EMBED], EchoProvider), "", {}, Caps())
    object.__setattr__(room, "opened", MemoryIndex(SPEC))
    update_index(SPEC, room)
    return Searches(lambda: room, lambda: {"docs": SPEC})


def rows(searches: Searches, frame: pl.LazyFrame, *given: Any, **settings: Any) -> list[dict[str, Any]]:
    with searching(searches):
        found = lf.vector_search(frame, *given, **settings)
    return found.collect(engine="streaming").to_dicts()


def test_each_row_stands_beside_its_hits_the_best_first(searches: Searches) -> None:
    found = rows(searches, QUERIES, "docs", "v", 2, columns=["id", "text"])
    assert list(found[0]) == ["q", "v", "id", "id0", "text", "distance", "score"]
    assert [(row["id"], row["id0"]) for row in found] == [(10, 2), (10, 3), (20, 1), (20, 3), (40, 1), (40, 3)]
    assert found[0]["score"] == pytest.approx(1.0)


def test_the_schema_is_known_before_a_row_is_read(searches: Searches) -> None:
    with searching(searches):
        found = lf.vector_search(QUERIES, "docs", "q", mode="hybrid", columns=["text"])
    told = found.collect_schema()
    assert told == found.collect().schema
    assert [str(told[name]) for name in ("distance", "text_score", "score")] == ["Float32", "Float32", "Float64"]


def test_words_and_both(searches: Searches) -> None:
    assert [(row["id"], row["id0"]) for row in rows(searches, QUERIES, "docs", "q", mode="fts", columns=["id"])] == [
        (10, 2), (10, 3), (40, 1), (40, 3),
    ]  # fmt: skip
    found = rows(searches, QUERIES, "docs", "v", 1, mode="hybrid", text="q", columns=["id"])
    assert [(row["id"], row["id0"]) for row in found] == [(10, 2), (40, 1)]
    assert found[0]["score"] == pytest.approx(2 / 61)
    by_text = rows(searches, QUERIES.filter(pl.col("q").is_not_null()), "docs", "q", 1, mode="hybrid")
    assert [row["id"] for row in by_text] == [10, 30, 40]


def test_rows_without_hits_stay_on_request(searches: Searches) -> None:
    found = rows(searches, QUERIES, "docs", "v", 1, how="left", columns=["text"])
    assert [(row["id"], row["text"]) for row in found] == [
        (10, "sort a list"), (20, "read a file"), (30, None), (40, "read a file"),
    ]  # fmt: skip
    assert found[2]["score"] is None


def test_the_settings_of_a_search_hold(searches: Searches) -> None:
    assert {row["id0"] for row in rows(searches, QUERIES, "docs", "v", where="id >= 2", columns=["id"])} == {2, 3}
    assert [row["id0"] for row in rows(searches, QUERIES, "docs", "v", max_distance=0.1, columns=["id"])] == [2, 1, 1]
    assert len(rows(searches, QUERIES.head(0), "docs", "v")) == 0
    many = pl.concat([QUERIES] * 520)
    assert len(rows(searches, many, "docs", "v", 1, exact=True, columns=[])) == 1560


@pytest.mark.parametrize(
    ("given", "settings", "error", "message"),
    [
        (("dosc", "v"), {}, UnknownName, "did you mean 'docs'"),
        (("docs", "w"), {}, UnknownName, "unknown column for vector_search 'w'"),
        (("docs", "id"), {}, UsageError, "the column 'id' is Int64; valid: texts, or lists of floats"),
        (("docs", "v", 0), {}, UsageError, "k is 0"),
        (("docs", "v"), {"mode": "hybrid"}, UsageError, "mode hybrid needs words, and 'v' holds vectors"),
        (("docs", "q"), {"mode": "hybrid", "text": "q"}, UsageError, "text='q' is a column of texts beside one of vectors"),
        (("docs", "v"), {"columns": ["txt"]}, UnknownName, "did you mean 'text'"),
        (("docs", "v"), {"how": "outer"}, UsageError, "how is 'outer'; valid: inner, left"),
        (("docs", "v"), {"rerank": "embed"}, LakeflowError, "cannot rank texts"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_row_is_read(
    searches: Searches, given: tuple[Any, ...], settings: dict[str, Any], error: type[LakeflowError], message: str
) -> None:
    with searching(searches), pytest.raises(error, match=message):
        lf.vector_search(QUERIES, *given, **settings)


def test_outside_of_a_run_it_says_so() -> None:
    with pytest.raises(UsageError, match="only while a job runs; asked for: 'docs'"):
        lf.vector_search(QUERIES, "docs", "v")


def test_an_error_of_the_search_is_its_own(searches: Searches) -> None:
    frame = QUERIES.with_columns(v=pl.lit([1.0, 2.0, 3.0]))
    with searching(searches):
        found = lf.vector_search(frame, "docs", "v")
    with pytest.raises(Exception, match="3") as raised:
        found.collect(engine="streaming")
    error = unwrap(raised.value)
    assert isinstance(error, UsageError | SchemaMismatch)
    assert "valid: [queries, 2]" in error.message


@lf.job(target="gold.found", mode="incremental")
def answered(questions: Any = lf.Read("bronze.questions")) -> Any:
    return lf.vector_search(questions, "docs", "q", 2, mode="hybrid", columns=["id"]).select("n", "id", "score")


@pytest.mark.parametrize("cuts", [[6], [1, 5], [2, 1, 3], [1] * 6])
def test_a_job_makes_the_same_of_any_cutting(world: World, searches: Searches, cuts: list[int]) -> None:
    words = ["sort", "read", "list file", "a", "file", "zzz"]
    whole = pa.table({"n": range(6), "q": words})
    start = 0
    for taken in cuts:
        world.append(whole.slice(start, taken), "bronze.questions")
        start += taken
        _run(world, searches, "incremental", "gold.found")
    _run(world, searches, "snapshot", "gold.whole")
    assert world.rows("gold.found") == world.rows("gold.whole")
    assert len(world.rows("gold.found")) == 12


def _run(world: World, searches: Searches, mode: str, target: str) -> None:
    plan = world.plan(replace(answered, target=target), mode)
    deque(run_job(plan, replace(world.runtime(), searches=searches)), maxlen=1)
