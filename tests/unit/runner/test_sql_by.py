"""Jobs in SQL by whole keys: SET 'lakeflow.by'."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa
import pytest

from lakeflow.declare import TableSpec
from lakeflow.errors import DeclarationError, UnknownName
from lakeflow.job import Output
from lakeflow.models.registry import ModelSet
from lakeflow.models.spec import ModelSpec, Task
from lakeflow.testing.provider import EchoProvider
from tests.jobs import TARGET, World, open_world

DOCS = "bronze.docs"
SCHEMA = pa.schema([("doc", pa.string()), ("body", pa.string())])
MODEL = ModelSpec("m", "echo", Task.EMBEDDING, pa.schema([("t", pa.string())]), pa.schema([("v", pa.list_(pa.float32()))]))
SPLIT = "TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['size', '5', 'key', 'doc'])"
BY = "SET 'lakeflow.by' = 'doc'; SET 'lakeflow.on-change' = 'recompute';"
CHUNKS = f"{BY} INSERT INTO {TARGET} SELECT doc, chunk_id, chunk, ML_EMBED(MODEL m, chunk) AS embedding FROM {SPLIT}"


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = open_world(tmp_path)
    found.models = ModelSet([MODEL], EchoProvider)
    found.append(docs(a="one. two.", b="ten.", c=None), DOCS)
    return found


def docs(**bodies: str | None) -> pa.Table:
    return pa.Table.from_pylist([{"doc": doc, "body": body} for doc, body in bodies.items()], schema=SCHEMA)


def chunks(world: World) -> list[tuple[str, str]]:
    return sorted((doc, chunk) for doc, _, chunk, _ in world.rows())


def test_chunks_follow_documents_that_change_and_go(world: World) -> None:
    job = world.sql_job(CHUNKS)
    assert (job.by, job.output, job.is_row_wise) == (("doc",), Output.UPDATE, False)
    world.run(job)
    assert chunks(world) == [("a", "one."), ("a", "two."), ("b", "ten.")]
    world.table(DOCS).delete("doc = 'a'")
    world.append(docs(a="two. new.", d="six."), DOCS)
    world.run(job)
    assert chunks(world) == [("a", "new."), ("a", "two."), ("b", "ten."), ("d", "six.")]
    world.table(DOCS).delete("doc = 'b'")
    world.run(job)
    world.run(job, "snapshot", into="gold.whole")
    assert chunks(world) == [("a", "new."), ("a", "two."), ("d", "six.")]
    assert world.rows() == world.rows("gold.whole")


def test_a_key_that_came_before_is_given_all_its_rows(world: World) -> None:
    job = world.sql_job(f"SET 'lakeflow.by' = 'doc'; INSERT INTO {TARGET} SELECT doc, upper(body) AS body FROM bronze.docs")
    world.run(job)
    world.append(docs(a="more"), DOCS)
    done = world.run(job)
    assert done is not None
    assert (done.counts.read, done.counts.written) == (1, 2)
    assert world.rows() == [("a", "MORE"), ("a", "ONE. TWO."), ("b", "TEN."), ("c", None)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("SET 'lakeflow.by' = 'doc,'; INSERT INTO gold.t SELECT doc FROM bronze.docs", "valid: each column once"),
        ("SET 'lakeflow.by' = 'doc'; INSERT INTO gold.keyed SELECT doc FROM bronze.docs", "PRIMARY KEY"),
        (
            "SET 'lakeflow.by' = 'doc'; INSERT INTO gold.t SELECT doc, count(*) AS n FROM bronze.docs GROUP BY doc",
            "groups or ranks",
        ),
        ("SET 'lakeflow.by' = 'doc'; INSERT INTO gold.t SELECT doc FROM bronze.docs ORDER BY doc", "rows of other keys"),
        (
            "SET 'lakeflow.by' = 'doc'; INSERT INTO gold.t SELECT doc FROM bronze.docs UNION ALL SELECT doc FROM bronze.more",
            "over 2 tables",
        ),
        ("SET 'lakeflow.by' = 'doc'; CREATE MATERIALIZED TABLE gold.t AS SELECT doc FROM bronze.docs", "materialized table"),
        (
            "SET 'lakeflow.by' = 'doc'; EXECUTE STATEMENT SET BEGIN INSERT INTO gold.t SELECT doc FROM bronze.docs; END",
            "statement set",
        ),
    ],
)
def test_what_cannot_be_by_keys_is_refused(world: World, text: str, said: str) -> None:
    world.declared = {"gold.keyed": TableSpec("gold.keyed", SCHEMA.remove(1), primary_key=("doc",))}
    with pytest.raises(DeclarationError, match=re.escape(said)):
        world.sql_job(text)


def test_a_column_that_is_not_there_is_named(world: World) -> None:
    job = world.sql_job(f"SET 'lakeflow.by' = 'dok'; INSERT INTO {TARGET} SELECT doc FROM bronze.docs")
    with pytest.raises(UnknownName, match="doc"):
        world.run(job)
