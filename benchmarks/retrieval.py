"""How good search is: what vectors, words and both find of answers that are known, over texts of this machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.harness import Bar, Result, Settings, in_child
from benchmarks.indexed_texts import Vectors, model_folder
from benchmarks.labelled import labelled
from benchmarks.projects import project_in
from benchmarks.texts import WIDTH, embedded
from lakeflow import Project
from lakeflow.declare import TableSpec
from lakeflow.index.query import Mode, Query
from lakeflow.lake.commit import Change
from lakeflow.lake.write import DataWriter
from lakeflow.runner.indexing import build_index
from lakeflow.runner.searching import Searcher, open_search

ANSWERS, QUERIES = 10_000, 6_000
K = 10
TABLE, INDEX = "bench.answers", "answers"
DECLARED = f"""
CREATE VECTOR INDEX {INDEX} ON {TABLE} (embedding)
WITH ('key' = 'id', 'metric' = 'cosine', 'text_columns' = 'text', 'columns' = 'text');
"""
SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), ("text", pa.string()), ("embedding", pa.list_(pa.float32()))])
Ranks = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Found:
    """Of each query the place of its answer among the K first, from 1; infinity where it is not among them."""

    ranks: dict[str, Ranks]


def run(settings: Settings) -> Result:
    """One index of all answers; each query in each mode."""
    pairs = labelled(settings.cache, settings.count(ANSWERS))
    asked = pairs.head(settings.count(QUERIES))
    folder = settings.place("project")
    made(folder, pairs, embedded(settings.cache, model_folder(), pairs["text"]))
    np.save(folder / "queries.npy", embedded(settings.cache, model_folder(), asked["query"]))
    asked.write_parquet(folder / "asked.parquet")
    ranks = in_child(found, folder).value.ranks
    kinds = asked["kind"].to_numpy()
    parts = {"all": np.ones(len(kinds), bool), "functions": kinds == "function", "sections": kinds == "section"}
    scored = {mode: ndcg(places) for mode, places in ranks.items()}
    best = max(scored["vector"], scored["fts"])
    counts = ", ".join(f"{int(part.sum()):,} {name}" for name, part in parts.items() if name != "all")
    return Result(
        title="Search: quality",
        data=(
            f"{len(kinds):,} queries with one known answer each ({counts}), among {pairs.height:,} texts. A query is the name "
            "of a function or class of the standard library or of an installed package and its module's, taken apart, "
            "and its answer the first paragraph of the docstring without the name; or it is a heading, and its answer the "
            "paragraph under it. all-MiniLM-L6-v2, cosine; words as an index looks for them by default; hybrid by reciprocal "
            f"rank fusion. k = {K}. nDCG@10 is 1 / log2(1 + place) of the answer, 0 where it is not among the first ten, "
            "on average."
        ),
        columns=("mode", *(f"{measure}, {name}" for name in parts for measure in ("nDCG@10", "recall@10"))),
        rows=tuple(_row(mode, places, parts) for mode, places in ranks.items()),
        bars=(Bar("nDCG@10 of hybrid beside the better of the two", scored["hybrid"] / best, 1.0),),
        notes=(
            f"{_gain(ranks, 'vector')}; {_gain(ranks, 'fts')}.",
            "No cross-encoder comes with the models that benchmarks use, so nothing is ranked anew.",
        ),
    )


def _row(mode: str, places: Ranks, parts: Mapping[str, NDArray[np.bool_]]) -> tuple[str, ...]:
    chosen = [places[part] for part in parts.values()]
    return (mode, *(f"{value:.3f}" for some in chosen for value in (ndcg(some), float(np.isfinite(some).mean()))))


def gains(places: Ranks) -> Ranks:
    """1 / log2(1 + place) of each query: its normalized discounted cumulative gain where one answer is right (Järvelin and
    Kekäläinen 2002)."""
    return np.asarray(1.0 / np.log2(1.0 + places))


def ndcg(places: Ranks) -> float:
    """The mean of the gains."""
    return float(gains(places).mean())


def _gain(ranks: Mapping[str, Ranks], mode: str) -> str:
    """How far hybrid is above a mode, query by query, with the standard error of that."""
    above = gains(ranks["hybrid"]) - gains(ranks[mode])
    return f"hybrid is {above.mean():.3f} ± {above.std() / np.sqrt(len(above)):.3f} above {mode}"


def made(folder: Path, pairs: pl.DataFrame, vectors: Vectors) -> None:
    """The project with its table."""
    project = project_in(folder, {"tables/answers.sql": DECLARED})
    writer = DataWriter(project.lake.ensure(TableSpec(TABLE, SCHEMA)))
    offsets = pa.array(np.arange(0, pairs.height * WIDTH + 1, WIDTH, dtype=np.int32))
    lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.ravel()))
    columns = [pairs["id"].to_arrow(), pairs["text"].to_arrow().cast(pa.string()), lists]
    writer.write(pa.Table.from_arrays(columns, schema=SCHEMA))
    project.commits.commit(Change(TABLE, writer.finish()))


def found(folder: Path) -> Found:
    """Build the index, and ask it every query in every mode."""
    project = Project.open(folder)
    spec = project.declared_tables.indexes[INDEX]
    room = project.index_room
    build_index(spec, room)
    asked, vectors = pl.read_parquet(folder / "asked.parquet"), np.load(folder / "queries.npy")
    ranks: dict[str, Ranks] = {}
    for mode in Mode:
        searcher = open_search(spec, room, Query(K, mode, columns=("id",)), by_text=False)
        ranks[str(mode)] = places_of(searcher, asked, vectors)
    return Found(ranks)


def places_of(searcher: Searcher, asked: pl.DataFrame, vectors: Vectors) -> Ranks:
    """The place of each query's answer."""
    texts = None if searcher.query.mode is Mode.VECTOR else asked["query"].to_list()
    lists = None if searcher.query.mode is Mode.FTS else pa.array(list(vectors), pa.list_(pa.float32()))
    hits = pl.DataFrame(pl.from_arrow(searcher.search(texts, lists).select(["query_index", "id"])))
    placed = hits.with_columns(place=pl.int_range(1, pl.len() + 1).over("query_index"))
    right = placed.filter(pl.col("id") == asked["id"].gather(placed["query_index"]))
    places = np.full(asked.height, np.inf)
    places[right["query_index"].to_numpy()] = right["place"].to_numpy()
    return places
