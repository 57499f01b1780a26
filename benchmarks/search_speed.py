"""Batched search beside LanceDB called directly, and what an update of an index costs beside building it anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import polars as pl

from benchmarks.harness import Bar, Best, Result, Settings, Spent, in_child, spending, thousands
from benchmarks.indexed_texts import QUERIES, TABLE, Corpus, Vectors, append, corpus, index_named, model_folder, table_of
from benchmarks.predict_speed import TEXTS, TOKENS_A_BATCH, Pair
from benchmarks.predict_speed import texts as embedding
from benchmarks.projects import project_in
from benchmarks.texts import described
from lakeflow import Project, vector_search
from lakeflow.declare import TableSpec
from lakeflow.runner.index_verify import verify_index
from lakeflow.runner.indexing import Indexed, build_index, update_index
from lakeflow.runner.vector_search import Searches, searching

K = 10
SHARE_OF_DIRECT = 0.90
SHARE_OF_REBUILD = 0.05
MERGED = "bench.latest"
INDEXES = {"appended_index": TABLE, "merged_index": MERGED}
WITH = "WITH ('key' = 'id', 'metric' = 'cosine', 'columns' = 'kind, package, lot')"
JOB = f"""
import lakeflow as lf


@lf.job(target="{MERGED}", key="id")
def keep_latest(texts=lf.Read("{TABLE}")):
    return texts
"""


@dataclass(frozen=True, slots=True)
class Searched:
    """The same queries in one call: by LanceDB, by `VectorIndex.search`, and by `lf.vector_search` over a frame."""

    direct: Spent
    index: Spent
    frame: Spent
    alike: float


@dataclass(frozen=True, slots=True)
class Updated:
    """What building cost, and what bringing in rows that were appended, and rows that a merge changed, cost."""

    rebuilt: Spent
    appended: Spent
    merged: Spent
    rows: int


def run(settings: Settings) -> Result:
    """The project in this process; what is measured in others."""
    texts = corpus(settings)
    folder = settings.place("project")
    made(folder, texts)
    updated = in_child(updates, folder, settings, texts.later.height).value
    np.save(folder / "queries.npy", texts.asked)
    searched = in_child(searches, folder, settings.rounds).value
    embedded: Pair = in_child(embedding, model_folder(), settings.count(TEXTS), settings.rounds, 1).value
    return Result(
        title="Search: speed beside LanceDB, and updates beside builds",
        data=(
            f"{described(texts.indexed)}; cosine, an index as it is by default. {QUERIES:,} other texts are searched for, "
            f"k = {K}. Direct: one call of LanceDB's `search` with all vectors and the index's settings, its table open. "
            f"lakeflow: `VectorIndex.search`, and `lf.vector_search` over a frame of the vectors, both of which open the index "
            f"each time. An update brings in {updated.rows:,} rows, half of them new, half with keys that are there, after an "
            "append, and after a job merged them by key into the table, which wrote its files again; a build is that of "
            "`lakeflow index build`. Each in a process that has imported its libraries. "
            f"Embedding: {embedded.rows:,} documentation strings, batches of {TOKENS_A_BATCH:,} tokens that lie ready for "
            f"onnxruntime, one thread, as in predict_speed. Best of {settings.rounds} rounds, in turn."
        ),
        columns=("what", "CPU-s", "s", "rows or queries / CPU-s", "share, CPU", "share, clock"),
        rows=(
            _row("embedding: onnxruntime", embedded.raw, embedded.rows, embedded.raw, faster=True),
            _row("embedding: lf.ml_embed", embedded.ours, embedded.rows, embedded.raw, faster=True),
            _row("search: LanceDB directly", searched.direct, QUERIES, searched.direct, faster=True),
            _row("search: VectorIndex.search", searched.index, QUERIES, searched.direct, faster=True),
            _row("search: lf.vector_search", searched.frame, QUERIES, searched.direct, faster=True),
            _row("build", updated.rebuilt, texts.indexed.height, updated.rebuilt),
            _row("update after an append", updated.appended, updated.rows, updated.rebuilt),
            _row("update after a merge", updated.merged, updated.rows, updated.rebuilt),
        ),
        bars=(
            Bar("lf.ml_embed: share of onnxruntime's speed, CPU", embedded.share, embedded.bar),
            _at_least("VectorIndex.search", searched.direct.cpu / searched.index.cpu),
            _at_least("lf.vector_search", searched.direct.cpu / searched.frame.cpu),
            _at_most("append", "CPU", updated.appended.cpu / updated.rebuilt.cpu),
            _at_most("append", "clock", updated.appended.wall / updated.rebuilt.wall),
            _at_most("merge", "CPU", updated.merged.cpu / updated.rebuilt.cpu),
            _at_most("merge", "clock", updated.merged.wall / updated.rebuilt.wall),
        ),
        notes=(
            f"Of the hits of lf.vector_search {searched.alike:.3f} are those that LanceDB gave.",
            "`lakeflow index verify` finds nothing after each update. A command of its own takes the start of Python and the "
            "import of the libraries besides, in updates and builds alike.",
        ),
    )


def _row(what: str, spent: Spent, count: int, other: Spent, *, faster: bool = False) -> tuple[str, ...]:
    shares = (other.cpu / spent.cpu, other.wall / spent.wall)
    shown = (f"{share if faster else 1 / share:.2f}" for share in shares)
    return (what, f"{spent.cpu:.2f}", f"{spent.wall:.2f}", thousands(spent.rate(count)), *shown)


def _at_least(what: str, share: float) -> Bar:
    return Bar(f"{what}: share of LanceDB's speed, CPU", share, SHARE_OF_DIRECT)


def _at_most(what: str, which: str, share: float) -> Bar:
    return Bar(
        f"update after {'an' if what[0] == 'a' else 'a'} {what}: share of a build, {which}", share, SHARE_OF_REBUILD, False
    )


def made(folder: Path, texts: Corpus) -> None:
    """The project with both tables."""
    declared = "\n".join(f"CREATE VECTOR INDEX {name} ON {table} (embedding) {WITH};" for name, table in INDEXES.items())
    project = project_in(folder, {"tables/indexes.sql": declared, "jobs/latest.py": JOB})
    project.lake.ensure(TableSpec(TABLE, table_of(texts.indexed[:0], texts.vectors[:0]).schema))
    append(project, texts.indexed, texts.vectors)
    project.run("keep_latest")
    texts.later.write_parquet(folder / "later.parquet")
    np.save(folder / "later.npy", texts.vectors_later)


def updates(folder: Path, settings: Settings, rows: int) -> Updated:
    """Both indexes built, then updated once a round."""
    project = Project.open(folder)
    indexes = {name: index_named(project, name) for name in INDEXES}
    room = project.index_room
    update_index(indexes["merged_index"], room)
    rebuilt, appended, merged = Best(), Best(), Best()
    for number in range(settings.rounds):
        with spending() as spent:
            build_index(indexes["appended_index"], room)
        rebuilt.take(spent)
        arrived(project, folder, number, settings.count(200_000))
        for best, name in ((appended, "appended_index"), (merged, "merged_index")):
            with spending() as spent:
                done = update_index(indexes[name], room)
            best.take(spent)
            _check(done, rows, name)
            drift = verify_index(indexes[name], room)
            assert drift.drifted == 0, f"{name}: {drift}"
    return Updated(rebuilt.spent, appended.spent, merged.spent, rows)


def _check(done: Indexed, rows: int, name: str) -> None:
    assert done.rebuilt is None, f"{name} was built anew: {done.rebuilt}"
    assert done.counts.inserted + done.counts.updated == rows, f"{name}: {done.counts}"


def arrived(project: Project, folder: Path, number: int, there: int) -> None:
    """An append of other texts, half of them under keys that are there, and its merge."""
    texts, vectors = pl.read_parquet(folder / "later.parquet"), np.load(folder / "later.npy")
    half = texts.height // 2
    old = np.random.default_rng(number).choice(there, half, replace=False)
    ids = np.concatenate([old, np.arange(texts.height - half) + there + (number + 1) * 1_000_000])
    turned = np.roll(vectors, number, axis=0)
    append(project, texts.with_columns(id=pl.Series(ids)), turned)
    project.run("keep_latest")


def searches(folder: Path, rounds: int) -> Searched:
    """All three ways once unmeasured, then in turn."""
    project = Project.open(folder)
    spec, room = index_named(project, "appended_index"), project.index_room
    queries: Vectors = np.load(folder / "queries.npy")
    index = room.open(spec)
    table = _stored(room.place)
    settings = (20, 2)

    def direct() -> Any:
        query = table.search(list(queries), vector_column_name="embedding").distance_type("cosine").limit(K)
        query = query.select(["id", "_distance"]).maximum_nprobes(0).minimum_nprobes(settings[0]).refine_factor(settings[1])
        return query.to_arrow()

    def by_index() -> Any:
        return index.search(queries, K, columns=["id"])

    frame = pl.LazyFrame({"embedding": queries}, schema={"embedding": pl.Array(pl.Float32, queries.shape[1])})
    with searching(Searches(lambda: room, lambda: project.declared_tables.indexes)):

        def by_frame() -> Any:
            return vector_search(frame.with_row_index("query"), spec.name, "embedding", K, columns=["id"]).collect()

        best = _in_turn((direct, by_index, by_frame), rounds)
        ours = set(by_frame().select("query", "id").rows())
    theirs = direct()
    same = set(zip(theirs["query_index"].to_pylist(), theirs["id"].to_pylist(), strict=True))
    plain, by, over = (one.spent for one in best)
    return Searched(plain, by, over, len(ours & same) / len(same))


def _stored(place: str) -> Any:
    """The table of the rows, opened as a user of LanceDB would."""
    database = lancedb.connect(place)
    book = database.open_table("_lakeflow_indexes").to_arrow().to_pylist()
    return database.open_table(next(row["stored_in"] for row in book if row["name"] == "appended_index"))


def _in_turn(ways: tuple[Callable[[], Any], ...], rounds: int) -> list[Best]:
    best = [Best() for _ in ways]
    for way in ways:
        way()
    for _ in range(rounds):
        for way, kept in zip(ways, best, strict=True):
            with spending() as spent:
                way()
            kept.take(spent)
    return best
