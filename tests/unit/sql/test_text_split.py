"""TEXT_SPLIT and TEXT_CHUNKS: what `lakeflow.split` does, in SQL, in both modes of a job."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import lakeflow as lf
from lakeflow.errors import LakeflowError, UnknownName, UsageError
from lakeflow.lake.catalog import arrow_schema
from lakeflow.runner.sql_names import ProjectNames
from lakeflow.sql.compile import compile_query
from tests.jobs import World, open_world

DOCS = "bronze.docs"
ROWS = pa.Table.from_pylist(
    [
        {"doc": 7, "body": "# A\none two\n## B\nthree", "at": 1},
        {"doc": 8, "body": None, "at": 2},
        {"doc": 9, "body": " ", "at": 3},
        {"doc": 10, "body": "one one", "at": 4},
    ],
    schema=pa.schema([("doc", pa.int64()), ("body", pa.string()), ("at", pa.int64())]),
)
CALL = "TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['by', 'markdown', 'size', '5', 'key', 'doc'])"


@pytest.fixture
def world(tmp_path: Path) -> World:
    found = open_world(tmp_path)
    found.append(ROWS, DOCS)
    return found


def test_chunks_in_sql_are_those_of_python_ids_too(world: World) -> None:
    world.run(world.sql_job(f"INSERT INTO gold.late SELECT * FROM {CALL}"))
    frame = pl.from_arrow(ROWS)
    assert isinstance(frame, pl.DataFrame)
    python = lf.split(frame.lazy(), "body", by="markdown", size=5, key="doc").collect()
    assert arrow_schema(world.table()).names == python.columns
    assert sorted(world.rows()) == sorted(python.rows())
    assert len(python) == 7


def test_new_rows_alone_are_split_and_the_table_is_that_of_a_snapshot_run(world: World) -> None:
    job = world.sql_job(f"INSERT INTO gold.late SELECT doc, chunk_id, chunk FROM {CALL} WHERE doc <> 9")
    world.run(job)
    world.append(ROWS.slice(0, 1).set_column(0, "doc", pa.array([11])), DOCS)
    done = world.run(job)
    assert done is not None
    assert (done.counts.read, done.counts.written) == (1, 5)
    world.run(job, "snapshot", into="gold.whole")
    assert world.rows() == world.rows("gold.whole")


def test_html_and_code_and_the_function_itself(world: World) -> None:
    query = (
        "INSERT INTO gold.late SELECT doc, h.chunk_text, h.chunk_headings[1] AS heading FROM "
        "(SELECT doc, UNNEST(TEXT_CHUNKS('<h1>T</h1><p>x ' || body, 'html', 100)) AS h FROM bronze.docs) AS rows"
    )
    world.run(world.sql_job(query))
    assert world.rows()[0] == (7, "T\nx # A one two ## B three", "T")
    assert len(world.rows()) == 3


@pytest.mark.parametrize(
    ("call", "kind", "said"),
    [
        ("TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(bdy))", UnknownName, "body"),
        ("TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(doc))", UsageError, "text, is int64; valid: a text"),
        ("TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['by', 'markdwon'])", UnknownName, "markdown"),
        ("TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['sise', '7'])", UnknownName, "size"),
        (
            "TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['size', 'big'])",
            UsageError,
            "size is 'big'; valid: a whole number",
        ),
        (
            "TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['size', '5', 'overlap', '5'])",
            UsageError,
            "overlap of chunks is 5",
        ),
        ("TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body), MAP['key', 'dc'])", UnknownName, "doc"),
        ("TEXT_SPLIT(TABLE bronze.docs)", UsageError, "TEXT_SPLIT needs TEXT"),
        ("TEXT_SPLIT(TABLE (SELECT body, doc AS chunk FROM bronze.docs), DESCRIPTOR(body))", UsageError, "'chunk' already"),
    ],
)
def test_what_cannot_be_meant_is_pointed_at(world: World, call: str, kind: type[LakeflowError], said: str) -> None:
    with pytest.raises(kind, match=re.escape(said)) as why:
        compile_query(f"SELECT * FROM {call}", ProjectNames(world))
    assert "line 1" in why.value.message


def test_it_gives_rows_and_is_no_value(world: World) -> None:
    with pytest.raises(UsageError, match="TEXT_SPLIT gives rows and stands in FROM"):
        compile_query("SELECT TEXT_SPLIT(TABLE bronze.docs, DESCRIPTOR(body)) FROM bronze.docs", ProjectNames(world))
