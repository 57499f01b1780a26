"""`lakeflow.split`: a row a chunk, with its place, its id and its headings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.errors import LakeflowError, ModelError, UnknownName, UsageError
from lakeflow.models.predict import bound
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.testing.provider import EchoProvider
from tests.unit.models import graphs

VECTOR = pa.list_(pa.float32())
TEXTS = {"doc": ["a", "b", "c", "d"], "body": ["One. Two. Two.", None, " ", "# H\nwords"], "page": [1, 2, 3, 4]}


def rows(frame: pl.LazyFrame, *columns: str) -> list[tuple[Any, ...]]:
    return frame.select(columns).collect(engine="streaming").rows()


def test_a_row_a_chunk_and_none_of_a_blank_text() -> None:
    frame = lf.split(pl.LazyFrame(TEXTS), "body", size=5)
    assert rows(frame, "doc", "chunk_no", "chunk_start", "chunk_end", "chunk", "page") == [
        ("a", 0, 0, 4, "One.", 1),
        ("a", 1, 5, 9, "Two.", 1),
        ("a", 2, 10, 14, "Two.", 1),
        ("d", 0, 0, 3, "# H", 4),
        ("d", 1, 4, 9, "words", 4),
    ]
    assert frame.collect_schema().names() == ["doc", "page", "chunk_no", "chunk_start", "chunk_end", "chunk"]
    assert frame.collect_schema() == frame.collect().schema


def test_an_id_goes_by_the_key_and_the_text_and_outlives_other_chunks() -> None:
    def ids(text: str, **key: object) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        made = lf.split(
            pl.LazyFrame({"body": [text], **{name: [one] for name, one in key.items()}}), "body", size=5, key=[*key]
        )
        for chunk, one in rows(made, "chunk", "chunk_id"):
            found.setdefault(chunk, []).append(one)
        return found

    before, after = ids("One. Two. Two.", doc="a"), ids("New. Two. Two. One.", doc="a")
    assert before["One."] == after["One."]
    assert before["Two."] == after["Two."]
    assert len({one for each in after.values() for one in each}) == 4
    assert all(len(one) == 32 for each in after.values() for one in each)
    for other in ({"doc": "b"}, {"doc": 1}, {"doc": None}, {"doc": "a", "page": 1}, {"page": 1, "doc": "a"}):
        assert not set(before["One."]) & set(ids("One.", **other)["One."])


def test_markdown_and_html_tell_headings_and_html_what_is_read() -> None:
    [(chunk, headings)] = rows(
        lf.split(pl.LazyFrame({"t": ["# H\n## I\nwords"]}), "t", by="markdown"), "chunk", "chunk_headings"
    )
    assert (chunk, headings) == ("# H\n## I\nwords", ["H", "I"])
    html = lf.split(pl.LazyFrame({"t": ["<h1>H</h1><p>a &lt; b"]}), "t", by="html")
    assert rows(html, "chunk", "chunk_text", "chunk_headings") == [("<h1>H</h1><p>a &lt; b", "H\na < b", ["H"])]


def test_a_filter_reaches_below_and_columns_that_nobody_wants_are_not_read() -> None:
    frame = lf.split(pl.LazyFrame(TEXTS), "body").filter(pl.col("page") > 1).select("doc", "chunk")
    plan = frame.explain()
    assert plan.index("FILTER") > plan.index("EXPLODE")
    assert rows(frame, "doc") == [("d",)]


def test_a_frame_without_rows_and_one_of_nulls() -> None:
    assert rows(lf.split(pl.LazyFrame(TEXTS).head(0), "body"), "chunk") == []
    assert rows(lf.split(pl.LazyFrame({"t": [None, None]}), "t"), "chunk") == []


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"column": "bdy"}, UnknownName, "body"),
        ({"column": "page"}, UsageError, "the column 'page' is Int64; valid: texts"),
        ({"key": "docs"}, UnknownName, "'docs'"),
        ({"by": "paragraphs"}, UnknownName, "recursive"),
        ({"unit": "words"}, UnknownName, "characters"),
        ({"unit": "tokens"}, UsageError, "model is None"),
        ({"model": "m"}, UsageError, "model is 'm'"),
        ({"unit": "tokens", "model": "m"}, UsageError, "only while a job runs"),
        ({"size": 5, "overlap": 5}, UsageError, "overlap of chunks is 5"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_a_row_is_read(
    given: dict[str, Any], kind: type[LakeflowError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        lf.split(pl.LazyFrame(TEXTS), **{"column": "body", **given})
    with pytest.raises(UsageError, match="has a column 'chunk' already"):
        lf.split(pl.LazyFrame({"t": ["x"], "chunk": [1]}), "t")


def test_sizes_in_tokens_are_those_of_the_model_whatever_the_length_of_the_text(tmp_path: Path) -> None:
    spec = graphs.spec(tmp_path, graphs.text_model(tmp_path / "m"), {"t": pa.string()}, {"v": VECTOR}, "embedding")
    text = "late flight storm gate " * 10_000
    with bound(ModelSet([spec])):
        frame = lf.split(pl.LazyFrame({"t": [text]}), "t", unit="tokens", model=spec.name, size=5, overlap=1)
        chunks = [chunk for (chunk,) in rows(frame, "chunk")]
    assert {len(chunk.split()) for chunk in chunks[:-1]} == {5}
    assert chunks[:2] == ["late flight storm gate late", "late flight storm gate late"]
    assert len(chunks) == 10_000


def test_a_model_that_shows_no_tokens_is_refused() -> None:
    columns = pa.schema([("t", pa.string())]), pa.schema([("v", VECTOR)])
    spec = ModelSpec("echo", "echo", Task.EMBEDDING, *columns)
    with bound(ModelSet([spec], EchoProvider)), pytest.raises(ModelError, match="does not show its tokens"):
        lf.split(pl.LazyFrame({"t": ["x"]}), "t", unit="tokens", model="echo")
