"""Embedding jobs: a document's chunks are replaced with it, and no text is embedded twice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.declare import IndexSpec
from lakeflow.errors import IndexMismatch, ModelError, SchemaMismatch
from lakeflow.job import Caps, Job, job
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.runner.indexing import identity_of
from lakeflow.testing.provider import EchoProvider
from tests.jobs import World, open_world

DOCS, CHUNKS = "bronze.docs", "gold.chunks"
SCHEMA = pa.schema([("doc", pa.string()), ("body", pa.string())])
INPUT = pa.schema([("t", pa.string())])
OUTPUT = pa.schema([("v", pa.list_(pa.float32()))])
HASHED = "lakeflow.embedding.embedding"


def model(**options: str) -> ModelSpec:
    return ModelSpec("m", "echo", Task.EMBEDDING, INPUT, OUTPUT, options)


class Asked(EchoProvider):
    """Notes the texts that it is asked."""

    texts: list[str]

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        self.texts = [*getattr(self, "texts", []), *rows.column(0).to_pylist()]
        return super().predict(rows)


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = open_world(tmp_path)
    found.models = ModelSet([model()], Asked)
    return found


def asked(world: World) -> list[str]:
    """The texts that the model was asked since this was last called."""
    provider = world.models.get("m").provider
    assert isinstance(provider, Asked)
    found, provider.texts = getattr(provider, "texts", []), []
    return sorted(found)


def docs(**bodies: str | None) -> pa.Table:
    return pa.Table.from_pylist([{"doc": doc, "body": body} for doc, body in bodies.items()], schema=SCHEMA)


def embedding_job(**more: Any) -> Job:
    @job(target=CHUNKS, **{"by": "doc", "on_change": "recompute", **more})
    def chunks(rows: Any = lf.Read(DOCS)) -> pl.LazyFrame:
        parts = lf.split(rows, "body", size=5, key="doc")
        return lf.ml_embed(parts.select("doc", "chunk_id", "chunk"), "m", "chunk", hash_into="content_hash")

    return chunks


def found(world: World) -> dict[str, list[str]]:
    chunks: dict[str, list[str]] = {}
    for doc, _, chunk, vector, hashed in world.rows(CHUNKS):
        assert len(vector) == 4
        assert len(hashed) == 32
        chunks.setdefault(doc, []).append(chunk)
    return {doc: sorted(each) for doc, each in chunks.items()}


def summary(world: World) -> Mapping[str, str]:
    head = world.table(CHUNKS).current_snapshot()
    assert head is not None
    assert head.summary is not None
    return head.summary.additional_properties


def replaced(world: World, condition: str, rows: pa.Table | None = None) -> None:
    """The documents that meet a condition go, others come, as another engine does it: in one file rewritten."""
    world.table(DOCS).delete(condition)
    if rows is not None:
        world.append(rows, DOCS)


def test_a_changed_document_is_embedded_where_it_changed_and_its_old_chunks_go(world: World) -> None:
    world.append(docs(a="one. two. six.", b="ten."), DOCS)
    world.run(embedding_job())
    assert asked(world) == ["one.", "six.", "ten.", "two."]
    replaced(world, "doc = 'a'", docs(a="one. new. six."))
    world.run(embedding_job())
    assert asked(world) == ["new."]
    assert found(world) == {"a": ["new.", "one.", "six."], "b": ["ten."]}
    assert (summary(world)["lakeflow.vectors-asked"], summary(world)["lakeflow.vectors-reused"]) == ("1", "2")
    assert world.models.usage.of_run()["m"].reused == 2
    replaced(world, "doc = 'b'")
    world.run(embedding_job())
    assert (asked(world), found(world)) == ([], {"a": ["new.", "one.", "six."]})


def test_vectors_that_were_taken_again_are_those_of_the_model(world: World) -> None:
    world.append(docs(a="one. two. two.", b="two."), DOCS)
    world.run(embedding_job())
    world.append(docs(c="one."), DOCS)
    replaced(world, "doc = 'a'", docs(a="two. two. new."))
    world.run(embedding_job())
    world.run(embedding_job(), "snapshot", into="gold.whole")
    assert world.rows(CHUNKS) == world.rows("gold.whole")


def test_a_snapshot_run_takes_what_the_target_holds_too(world: World) -> None:
    world.append(docs(a="one. two.", b="ten."), DOCS)
    world.run(embedding_job())
    world.append(docs(c="six."), DOCS)
    asked(world)
    world.run(embedding_job(), "snapshot")
    assert asked(world) == ["six."]
    assert found(world) == {"a": ["one.", "two."], "b": ["ten."], "c": ["six."]}


def test_a_job_by_key_takes_what_its_rows_hold(world: World) -> None:
    @job(target=CHUNKS, key="doc")
    def whole(rows: Any = lf.Read(DOCS)) -> pl.LazyFrame:
        return lf.ml_embed(rows, "m", "body", hash_into="content_hash")

    world.append(docs(a="one.", b="ten."), DOCS)
    world.run(whole)
    assert asked(world) == ["one.", "ten."]
    world.append(docs(a="one.", c="ten."), DOCS)
    world.run(whole)
    assert asked(world) == ["ten."]  # that of another key is not looked for


def test_a_model_that_changed_is_asked_again(world: World) -> None:
    world.append(docs(a="one. two."), DOCS)
    world.run(embedding_job())
    world.models = ModelSet([model(pooling="max")], Asked)
    world.append(docs(b="ten."), DOCS)
    with pytest.raises(
        SchemaMismatch, match=r"add vectors of model 'm' version 1 to column 'embedding'.*cannot be comp"
    ) as why:
        world.run(embedding_job())
    assert "--mode snapshot" in str(why.value.next_step)
    assert found(world) == {"a": ["one.", "two."]}
    world.run(embedding_job(), "snapshot")
    assert asked(world) == ["one.", "ten.", "two."]
    world.append(docs(c="six."), DOCS)
    world.run(embedding_job())
    assert asked(world) == ["six."]


def test_the_table_says_whose_vectors_it_holds(world: World) -> None:
    world.append(docs(a=None, b=""), DOCS)
    world.run(embedding_job())
    held = json.loads(world.table(CHUNKS).properties[HASHED])
    fingerprint = world.models.get("m").fingerprint()
    assert held == {"model": "m", "version": 1, "fingerprint": fingerprint, "width": None}
    world.append(docs(c="one."), DOCS)
    world.run(embedding_job())
    assert json.loads(world.table(CHUNKS).properties[HASHED]) == {**held, "width": 4}
    assert (summary(world)["lakeflow.texts-split"], summary(world)["lakeflow.texts-blank"]) == ("1", "0")


def test_an_index_of_another_model_is_refused_though_its_vectors_are_as_wide(world: World) -> None:
    world.append(docs(a="one."), DOCS)
    world.run(embedding_job())
    spec = IndexSpec("docs", CHUNKS, "embedding", "chunk_id", model="m")
    assert identity_of(spec, world.table(CHUNKS), world.models, 4).model == "m"
    with pytest.raises(IndexMismatch, match="holds vectors of 'm' version 1, which cannot be compared"):
        identity_of(spec, world.table(CHUNKS), ModelSet([model(pooling="max")], Asked), 4)


class Ragged(EchoProvider):
    """Answers two. with two elements, nan. with a NaN."""

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        answers = super().predict(rows).column(0).to_pylist()
        places = dict(zip(rows.column(0).to_pylist(), answers, strict=True))
        wrong = {**places, "two.": places.get("two.", [])[:2], "nan.": [float("nan"), *places.get("nan.", [])[1:]]}
        kept = [wrong[text] for text in rows.column(0).to_pylist()]
        return pa.RecordBatch.from_arrays([pa.array(kept, OUTPUT.field(0).type)], schema=OUTPUT)


@pytest.mark.parametrize(("text", "why"), [("two.", "has 2 elements, those before have 4"), ("nan.", "NaN")])
def test_answers_that_are_no_vectors_are_errors_or_left_out_as_the_model_says(world: World, text: str, why: str) -> None:
    world.append(docs(a="one.", b=text, c="six."), DOCS)
    world.models = ModelSet([model()], Ragged)
    with pytest.raises(ModelError, match=why):
        world.run(embedding_job())
    assert world.rows(CHUNKS) == []
    world.models = ModelSet([model(on_error="dead_letter")], Ragged)
    done = world.run(embedding_job())
    assert done is not None
    assert found(world) == {"a": ["one."], "c": ["six."]}
    assert done.counts.dead_lettered == 1


def test_steps_of_any_cut_come_to_the_same(world: World) -> None:
    for number in range(4):
        world.append(docs(**{f"d{number}": f"one. d{number}.", "a": f"v{number}. one."}), DOCS)
    world.caps = Caps(files=1)
    world.run(embedding_job())
    world.run(embedding_job(), "snapshot", into="gold.whole")
    assert world.rows(CHUNKS) == world.rows("gold.whole")


def test_a_name_that_is_taken_gets_a_number_and_so_does_what_the_table_says(world: World) -> None:
    @job(target=CHUNKS, by="doc")
    def twice(rows: Any = lf.Read(DOCS)) -> pl.LazyFrame:
        named = rows.with_columns(embedding=pl.lit(1), hashed=pl.lit(2))
        return lf.ml_embed(named, "m", "body", hash_into="hashed")

    world.append(docs(a="one."), DOCS)
    world.run(twice)
    world.append(docs(a="one."), DOCS)
    asked(world)
    world.run(twice)
    assert asked(world) == []
    assert [name for name in world.table(CHUNKS).properties if "embedding" in name] == ["lakeflow.embedding.embedding0"]


def test_a_batch_that_is_looked_at_first_brings_what_the_table_says_with_it(world: World) -> None:
    world.append(docs(a="one."), DOCS)
    world.run(embedding_job(expect=[lf.not_null("chunk", on_violation="fail")]))
    assert json.loads(world.table(CHUNKS).properties[HASHED])["width"] == 4


def test_of_a_hundred_sections_the_one_that_changed_is_embedded(world: World) -> None:
    @job(target=CHUNKS, by="doc", on_change="recompute")
    def chunks(rows: Any = lf.Read(DOCS)) -> pl.LazyFrame:
        parts = lf.split(rows, "body", by="markdown", size=60, overlap=10, key="doc")
        return lf.ml_embed(parts.select("doc", "chunk_id", "chunk"), "m", "chunk", hash_into="content_hash")

    sections = [f"# {number}\n\nText of the section {number}." for number in range(100)]
    world.append(docs(a="\n\n".join(sections)), DOCS)
    world.run(chunks)
    assert len(asked(world)) == 100
    sections[40] += " More."
    replaced(world, "doc = 'a'", docs(a="\n\n".join(sections)))
    world.run(chunks)
    assert asked(world) == ["# 40\n\nText of the section 40. More."]
    assert len(found(world)["a"]) == 100
