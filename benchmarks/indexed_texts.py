"""A project with a table of real texts and their vectors, and indexes of them; what the benchmarks of search stand on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.harness import Settings
from benchmarks.projects import project_in
from benchmarks.texts import WIDTH, embedded, real_texts
from lakeflow import Project
from lakeflow.declare import IndexSpec, TableSpec
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter

ROWS, QUERIES, CHANGED = 200_000, 1_000, 2_000
TABLE = "bench.texts"
MODELS = "LAKEFLOW_TEST_MODELS"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        ("text", pa.string()),
        ("kind", pa.string()),
        ("package", pa.string()),
        ("lot", pa.int64()),
        ("embedding", pa.list_(pa.float32())),
    ]
)
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Corpus:
    """Texts with their vectors: those that are indexed, those that are searched for, and those that come later."""

    indexed: pl.DataFrame
    vectors: Vectors
    queries: pl.DataFrame
    asked: Vectors
    later: pl.DataFrame
    vectors_later: Vectors


def model_folder() -> Path:
    """Where all-MiniLM-L6-v2 is. Raises SystemExit where the environment does not say."""
    if not (folder := os.environ.get(MODELS)):
        raise SystemExit(f"this benchmark embeds texts by all-MiniLM-L6-v2: set {MODELS} to a folder that holds minilm/")
    return Path(folder) / "minilm"


def corpus(settings: Settings) -> Corpus:
    """The texts of this machine at the benchmark's scale, embedded before or now."""
    rows, later = settings.count(ROWS), settings.count(CHANGED)
    texts = real_texts(settings.cache, rows + QUERIES + later)
    vectors = embedded(settings.cache, model_folder(), real_texts(settings.cache, rows + QUERIES + 3_000)["text"])
    ends = (rows, rows + QUERIES, rows + QUERIES + later)
    return Corpus(
        texts[: ends[0]],
        vectors[: ends[0]],
        texts[ends[0] : ends[1]],
        vectors[ends[0] : ends[1]],
        texts[ends[1] : ends[2]],
        vectors[ends[1] : ends[2]],
    )


def project_of(folder: Path, texts: pl.DataFrame, vectors: Vectors, indexes: Mapping[str, str]) -> Project:
    """A new project whose table holds the texts; `indexes` are names with the text of WITH (..) beside the key."""
    always = "'key' = 'id', 'metric' = 'cosine'"
    declared = "\n".join(
        f"CREATE VECTOR INDEX {name} ON {TABLE} (embedding) WITH ({', '.join(filter(None, (always, more)))});"
        for name, more in indexes.items()
    )
    shutil.rmtree(folder, ignore_errors=True)
    project = project_in(folder, {"tables/indexes.sql": declared})
    project.lake.ensure(TableSpec(TABLE, SCHEMA))
    append(project, texts, vectors)
    return Project.open(folder)


def append(project: Project, texts: pl.DataFrame, vectors: Vectors) -> None:
    """One commit of rows."""
    writer = DataWriter(project.lake.table(TABLE))
    for at in range(0, len(texts), 20_000):
        writer.write(table_of(texts[at : at + 20_000], vectors[at : at + 20_000]))
    project.commits.commit(Change(TABLE, writer.finish()))


def table_of(texts: pl.DataFrame, vectors: Vectors) -> pa.Table:
    """Rows as the table has them."""
    offsets = pa.array(np.arange(0, len(texts) * WIDTH + 1, WIDTH, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
    rows = texts.select(SCHEMA.names[:-1]).to_arrow().cast(pa.schema(list(SCHEMA)[:-1]))
    return rows.append_column(SCHEMA.field("embedding"), lists)


def index_named(project: Project, name: str) -> IndexSpec:
    """A declared index."""
    return project.declared_tables.indexes[name]
