"""How well and how fast an index finds what comparing every row finds, measured on vectors that it holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import UsageError
from lakeflow.index.settings import settings_of
from lakeflow.index.vectors import VectorIndex, check_k
from lakeflow.runner.indexing import IndexRoom

MOST_SAMPLED = 10_000
NEAR = 1e-5
"""Distances that differ by less are equal: 32-bit floats in other orders of adding."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What a sample of searches for `k` rows found: `recall` is the share of the exact nearest rows, 0 to 1, that came back.

    A stored vector is asked for; it does not count itself as found. A row as near as the farthest of the exact ones counts too.
    `queries_per_second` were asked in batches; so were the exact ones.
    """

    kind: str
    rows: int
    k: int
    sample: int
    probes: int
    refine: int
    recall: float
    queries_per_second: float
    exact_queries_per_second: float


def evaluate_index(
    spec: IndexSpec,
    room: IndexRoom,
    *,
    k: int = 10,
    sample: int = 200,
    where: str | None = None,
    probes: int | None = None,
    refine: int | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Recall:
    """Search for `sample` stored vectors, the same ones each time, by the index and by comparing every row.

    Raises UnknownName where the index was never built, UsageError for numbers out of their bounds and an index without rows.
    """
    check_k(k)
    check_k(k + 1)
    if not 1 <= sample <= MOST_SAMPLED:
        raise UsageError(f"the sample is {sample}; valid: 1 to {MOST_SAMPLED:,} vectors")
    index = room.open(spec)
    state = index.state()
    key, column = state.identity.key, state.identity.column
    keys, vectors = sampled(index, key, column, state.identity.width, sample)
    if not len(vectors):
        raise UsageError(f"index {spec.name!r} holds no row to search for", next_step=f"lakeflow index update {spec.name}")
    began = clock()
    near = index.search(vectors, k + 1, where=where, columns=[key], probes=probes, refine=refine)
    asked = clock()
    exact = index.search(vectors, k + 1, where=where, columns=[key], exact=True)
    ended = clock()
    settings = settings_of(spec)
    return Recall(
        state.kind,
        state.rows,
        k,
        len(vectors),
        probes or settings.probes,
        refine or settings.refine,
        recall_of(_without_themselves(near, key, keys, k), _without_themselves(exact, key, keys, k), len(vectors)),
        len(vectors) / max(asked - began, 1e-9),
        len(vectors) / max(ended - asked, 1e-9),
    )


def sampled(index: VectorIndex, key: str, column: str, width: int, sample: int) -> tuple[pa.Array, np.ndarray]:
    """The keys and vectors of `sample` rows that are chosen by their keys' places in a fixed order of chance; all that there
    are where that is fewer. No more than these are held."""
    random = np.random.default_rng(7)
    lots, kept, vectors = np.zeros(0), None, np.zeros((0, width), dtype=np.float32)
    for batch in index.scan([key, column]):
        lots = np.concatenate([lots, random.random(batch.num_rows)])
        found = batch.column(key)
        kept = found if kept is None else pa.concat_arrays([kept, found])
        vectors = np.concatenate([vectors, np.asarray(batch.column(column).flatten(), dtype=np.float32).reshape(-1, width)])
        chosen = np.sort(np.argsort(lots)[:sample])
        lots, kept, vectors = lots[chosen], kept.take(pa.array(chosen)), vectors[chosen]
    return pa.array([]) if kept is None else kept, vectors


def recall_of(near: dict[int, list[float]], exact: dict[int, list[float]], queries: int) -> float:
    """The share of the exact rows that were found, by their distances for each query; 1 where there are none."""
    wanted = sum(len(exact.get(query, [])) for query in range(queries))
    found = 0
    for query, distances in exact.items():
        farthest = max(distances, default=0.0)
        found += min(len(distances), sum(one <= farthest + NEAR for one in near.get(query, [])))
    return found / wanted if wanted else 1.0


def _without_themselves(hits: pa.Table, key: str, keys: pa.Array, k: int) -> dict[int, list[float]]:
    """For each query the distances of its `k` nearest rows but the one that was asked for."""
    own = keys.to_pylist()
    found: dict[int, list[float]] = {}
    rows = zip(
        hits.column("query_index").to_pylist(), hits.column(key).to_pylist(), hits.column("distance").to_pylist(), strict=True
    )
    for query, hit, distance in rows:
        kept = found.setdefault(query, [])
        if hit != own[query] and len(kept) < k:
            kept.append(distance)
    return found
