"""What each kind of index finds of the nearest texts, how fast, what it costs to build and on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Bar, Best, Result, Settings, Spent, in_child, mib, spending, thousands
from benchmarks.indexed_texts import QUERIES, Corpus, Vectors, corpus, index_named, project_of
from benchmarks.texts import described
from lakeflow import Project
from lakeflow.index.vectors import VectorIndex
from lakeflow.runner.indexing import build_index

K = 10
SINGLE = 100
FILTERS = {"1 %": 10, "10 %": 100}
"""Of 1,000 lots, by chance, so many meet the condition."""
NEAR = 1e-5
BAR = 0.95
INDEXES = {
    "auto": "",
    "flat": "'kind' = 'flat'",
    "ivf_flat": "'kind' = 'ivf_flat'",
    "ivf_sq": "'kind' = 'ivf_sq'",
    "ivf_pq": "'kind' = 'ivf_pq'",
    "ivf_rq_8": "'kind' = 'ivf_rq', 'bits' = '8'",
    "ivf_rq_4": "'kind' = 'ivf_rq', 'bits' = '4'",
    "ivf_rq_1": "'kind' = 'ivf_rq', 'bits' = '1'",
}
KEPT = "'columns' = 'kind, package, lot', 'filter_columns' = 'lot'"


@dataclass(frozen=True, slots=True)
class Built:
    """The seconds that building an index took."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Measured:
    """An index: for each condition its recall and what all queries took in one call; and one by one."""

    kind: str
    size: int
    recall: dict[str, float]
    spent: dict[str, Spent]
    single: Spent


def run(settings: Settings) -> Result:
    """Each index in processes of its own, all over one table."""
    texts = corpus(settings)
    folder = kept(settings, texts)
    lots = texts.indexed["lot"].to_numpy()
    truth = np.stack([nearest(texts.asked, texts.vectors[lots < below]) for below in (1000, *FILTERS.values())])
    np.save(folder / "queries.npy", texts.asked)
    np.save(folder / "truth.npy", truth)
    built = {name: build_of(folder, name) for name in INDEXES}
    done = {name: in_child(measured, folder, name, settings.rounds).value for name in INDEXES}
    said = evaluated(folder, "auto")
    default = done["auto"]
    return Result(
        title="Indexes: kinds",
        data=(
            f"{described(texts.indexed)}; cosine. {QUERIES:,} other texts of the same kind are searched for, k = {K}, with the "
            "settings that an index has by default (probes 20, refine 2). Recall is the share of the nearest rows, which NumPy "
            "finds by comparing all in 32 bits; of those that meet a condition where there is one (lots drawn by chance, with "
            f"an index of values). Queries a CPU-second: {QUERIES:,} in one call, best of {settings.rounds}; and one by one. "
            "Built as `lakeflow index build` does from the Iceberg table, which reading and writing the rows (flat) is part of."
        ),
        columns=(
            *("kind", "recall@10", "at 1 %", "at 10 %", "queries / CPU-s", "at 1 %", "at 10 %", "one by one / CPU-s"),
            *("build / CPU-s", "build / s", "size"),
        ),
        rows=tuple(_row(name, done[name], built[name]) for name in INDEXES),
        bars=(
            Bar(f"recall@10 of the default ({default.kind}), texts that are not in the index", default.recall[""], BAR),
            Bar(f"recall@10 that `lakeflow index evaluate` prints of it, {said['sample']:,} stored texts", said["recall"], BAR),
        ),
        notes=(
            f"`lakeflow index evaluate auto --sample 1000` said: {json.dumps(said)}",
            "Graphs (ivf_hnsw_..) are left out: of 200,000 vectors none was built within 120 CPU-seconds.",
            "Indexes stay for the next run, with what building them cost. A search of one call, and a build, use both cores.",
        ),
    )


def kept(settings: Settings, texts: Corpus) -> Path:
    """The project with its table, made where the cache does not hold it."""
    folder = settings.cache / f"index_kinds-{texts.indexed.height}"
    if not (folder / "complete").exists():
        more = {name: ", ".join(one for one in (said, KEPT) if one) for name, said in INDEXES.items()}
        project_of(folder, texts.indexed, texts.vectors, more)
        (folder / "complete").touch()
    return folder


def build_of(folder: Path, name: str) -> Built:
    """What building the index cost, now or before."""
    file = folder / f"{name}.json"
    if not file.exists():
        spent = in_child(build, folder, name).value
        file.write_text(json.dumps(asdict(Built(spent.cpu, spent.wall))))
        print(f"{name}: {file.read_text()}", file=sys.stderr, flush=True)
    return Built(**json.loads(file.read_text()))


def build(folder: Path, name: str) -> Spent:
    """Build one index."""
    project = Project.open(folder)
    with spending() as spent:
        build_index(index_named(project, name), project.index_room)
    return spent


def _row(name: str, one: Measured, built: Built) -> tuple[str, ...]:
    recalls = (f"{one.recall[condition]:.3f}" for condition in ("", *FILTERS))
    rates = (thousands(one.spent[condition].rate(QUERIES)) for condition in ("", *FILTERS))
    label = f"auto: {one.kind}" if name == "auto" else name
    cost = (f"{built.cpu:.1f}", f"{built.wall:.1f}", mib(one.size))
    return (label, *recalls, *rates, thousands(one.single.rate(SINGLE)), *cost)


def nearest(queries: Vectors, vectors: Vectors) -> NDArray[np.float32]:
    """The cosine similarity of the K-th nearest of `vectors` to each query, found by comparing all."""
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    parts = [np.partition(part @ units.T, -K, axis=1)[:, -K] for part in np.array_split(asked, max(1, len(asked) // 100))]
    return np.concatenate(parts).astype(np.float32)


def measured(folder: Path, name: str, rounds: int) -> Measured:
    """Search one index."""
    project = Project.open(folder)
    index = project.index_room.open(index_named(project, name))
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    recall: dict[str, float] = {}
    spent: dict[str, Spent] = {}
    for place, (condition, below) in enumerate({"": None, **FILTERS}.items()):
        where = None if below is None else f"lot < {below}"
        index.search(queries[:64], K, where=where, columns=["id"])
        recall[condition], spent[condition] = _found(index, queries, where, truth[place], rounds)
    with spending() as single:
        for query in queries[:SINGLE]:
            index.search(query, K, columns=["id"])
    state = index.state()
    return Measured(state.kind, state.size_bytes, recall, spent, single)


def _found(
    index: VectorIndex, queries: Vectors, where: str | None, truth: NDArray[np.float32], rounds: int
) -> tuple[float, Spent]:
    """Recall, and what the best round took."""
    best = Best()
    hits = index.search(queries[:0], K, columns=["id"])
    for _ in range(rounds):
        with spending() as spent:
            hits = index.search(queries, K, where=where, columns=["id"])
        best.take(spent)
    near = 1.0 - hits.column("distance").to_numpy() >= truth[hits.column("query_index").to_numpy()] - NEAR
    return float(near.sum()) / (K * len(queries)), best.spent


def evaluated(folder: Path, name: str) -> dict[str, float]:
    """What the command line says."""
    command = [sys.executable, "-m", "lakeflow", "index", "evaluate", name, "--sample", "1000"]
    done = subprocess.run([*command, "--project", str(folder), "--output", "json"], stdout=subprocess.PIPE, check=True)
    row = json.loads(done.stdout)
    kept: dict[str, float] = row[0] if isinstance(row, list) else row
    return kept
