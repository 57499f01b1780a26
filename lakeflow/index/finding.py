"""A search of an index in any mode: by vectors, by words, or by both, ranked anew and spread out where that is asked for.

The two rankings are asked for apart and fused here, query by query. What is found is the same for every `Searchable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import ModelError, UsageError
from lakeflow.index.query import Mode, Query, Reranker
from lakeflow.index.ranking import chosen_apart, directions, places, reciprocal_ranks, scaled
from lakeflow.index.rows import Layout, asked_columns, query_matrix
from lakeflow.index.vectors import Identity, Searchable, scores

QUERIES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Asked:
    """What is searched for: vectors [queries, width], texts, or both of one length. `reranker` reads `passages`, a column."""

    vectors: np.ndarray | None = None
    texts: Sequence[str] | None = None
    reranker: Reranker | None = None
    passages: str | None = None


def find(index: Searchable, name: str, identity: Identity, query: Query, asked: Asked) -> pa.Table:
    """The hits of each query: query_index (int32), the asked columns, distance and text_score (float32), score (float64).

    The first by `score`, which is higher for a better hit, then by key; with `mmr` in the order of choice. `score` is in mode
    vector that of `Searchable.search`, in mode fts `text_score`, in mode hybrid the sum of 1 / (60 + place) over the rankings
    that the row is in, and a reranker's own where there is one. `distance` and `text_score` are null where the row is not in
    that ranking. Raises as `Searchable.search` and `match` do, and UsageError where the mode lacks its vectors or texts.
    """
    layout = Layout(name, identity, index.schema())
    columns = asked_columns(layout, query.columns)
    if query.mode is not Mode.FTS and asked.vectors is None:
        raise UsageError(f"a search of index {name!r} in mode {query.mode} needs a vector for each query")
    if query.mode is not Mode.VECTOR and asked.texts is None:
        raise UsageError(f"a search of index {name!r} in mode {query.mode} needs a text for each query")
    if asked.reranker is not None and (asked.texts is None or asked.passages is None):
        raise UsageError(f"ranking the hits of index {name!r} anew needs the texts of the queries, and a column of texts")
    if asked.vectors is not None:
        asked = Asked(query_matrix(name, identity, asked.vectors), asked.texts, asked.reranker, asked.passages)
    finding = _Finding(index, identity, query, asked, columns)
    count = len(asked.texts) if asked.vectors is None else len(asked.vectors)  # type: ignore[arg-type]
    parts = [finding.part(start, min(count, start + QUERIES_AT_ONCE)) for start in range(0, max(count, 1), QUERIES_AT_ONCE)]
    return pa.concat_tables(parts)


@dataclass(frozen=True, slots=True)
class _Finding:
    index: Searchable
    identity: Identity
    query: Query
    asked: Asked
    columns: Sequence[str]

    def part(self, start: int, stop: int) -> pa.Table:
        """The hits of some of the queries."""
        candidates = _fused(self._rankings(start, stop), self.identity.key)
        if self.asked.reranker is not None:
            candidates = self._reranked(candidates, start)
        by_distance = self.query.mode is Mode.VECTOR and self.asked.reranker is None
        candidates = _ordered(candidates, self.identity.key, by_distance=by_distance)
        hits = self._spread(candidates, start) if self.query.mmr is not None else self._first(candidates)
        first = pc.add(hits.column("query_index"), start).cast(pa.int32())
        hits = hits.set_column(hits.schema.get_field_index("query_index"), "query_index", first)
        return hits.select(["query_index", *self.columns, "distance", "text_score", "score"])

    def _rankings(self, start: int, stop: int) -> list[pa.Table]:
        """Each with query_index, the columns that are needed, distance, text_score, and what a row's place is worth: score."""
        query, asked, found = self.query, self.asked, []
        needed = [self.identity.key, *self.columns]
        needed += [asked.passages] if asked.reranker is not None and asked.passages else []
        needed += [self.identity.column] if query.mmr is not None else []
        needed = list(dict.fromkeys(needed))
        depth = query.depth(reranked=asked.reranker is not None)
        if asked.vectors is not None and query.mode is not Mode.FTS:
            near = self.index.search(
                asked.vectors[start:stop], depth, where=query.where, columns=needed, exact=query.exact,
                probes=query.probes, refine=query.refine,
            )  # fmt: skip
            found.append(self._near(near))
        if asked.texts is not None and query.mode is not Mode.VECTOR:
            matched = self.index.match(asked.texts[start:stop], depth, where=query.where, columns=needed)
            distance = pa.nulls(matched.num_rows, pa.float32())
            matched = matched.add_column(matched.num_columns - 1, "distance", distance)
            found.append(_scored(matched, _worth(matched, "text_score", self.query.mode)))
        return found

    def _near(self, near: pa.Table) -> pa.Table:
        if self.query.max_distance is not None:
            near = near.filter(pc.less_equal(near.column("distance"), pa.scalar(self.query.max_distance, pa.float64())))
        near = near.drop_columns(["score"]).append_column("text_score", pa.nulls(near.num_rows, pa.float32()))
        if self.query.mode is Mode.HYBRID:
            return _scored(near, _worth(near, "distance", self.query.mode))
        return _scored(near, scores(near.column("distance").to_numpy(), self.identity.metric).astype(np.float64))

    def _reranked(self, candidates: pa.Table, start: int) -> pa.Table:
        asked = self.asked
        assert asked.reranker is not None, "find() has looked"
        assert asked.texts is not None, "find() has looked"
        queries = [asked.texts[start + place] for place in candidates.column("query_index").to_pylist()]
        texts = candidates.column(asked.passages).to_pylist()
        there = np.array([text is not None for text in texts], dtype=bool)
        given = asked.reranker.scores(
            [one for one, has in zip(queries, there, strict=True) if has], [text for text in texts if text is not None]
        )
        if given.shape != (int(there.sum()),) or not np.isfinite(given).all():
            raise ModelError(f"the reranker gave {list(given.shape)} scores for {int(there.sum())} texts; valid: a number each")
        score = np.full(len(texts), -np.inf)
        score[there] = given
        return candidates.set_column(candidates.schema.get_field_index("score"), "score", pa.array(score)).filter(there)

    def _first(self, candidates: pa.Table) -> pa.Table:
        groups = candidates.column("query_index").to_numpy()
        return candidates.filter(places(groups) <= self.query.k)

    def _spread(self, candidates: pa.Table, start: int) -> pa.Table:
        """Hits that differ from each other: `chosen_apart` for each query."""
        groups = candidates.column("query_index").to_numpy()
        width = self.identity.width
        lists = candidates.column(self.identity.column).combine_chunks()
        vectors = np.asarray(lists.flatten()).reshape(-1, width)
        score = candidates.column("score").to_numpy()
        taken = [np.zeros(0, dtype=np.int64)]
        for group in np.unique(groups):
            some = np.flatnonzero(groups == group)
            relevance = scaled(score[some])
            if self.query.mode is Mode.VECTOR and self.asked.reranker is None and self.asked.vectors is not None:
                relevance = directions(vectors[some]) @ directions(self.asked.vectors[start + int(group)][None])[0]
            taken.append(some[chosen_apart(relevance, vectors[some], self.query.k, float(self.query.mmr or 0.0))])
        return candidates.take(pa.array(np.concatenate(taken)))


def _worth(ranking: pa.Table, column: str, mode: Mode) -> np.ndarray:
    """What each row's place is worth; by itself, in mode fts, the text's score."""
    if mode is Mode.HYBRID:
        return reciprocal_ranks(ranking.column("query_index").to_numpy())
    return np.asarray(ranking.column(column).to_numpy(), dtype=np.float64)


def _scored(ranking: pa.Table, score: np.ndarray) -> pa.Table:
    return ranking.append_column("score", pa.array(score, pa.float64()))


def _fused(rankings: Sequence[pa.Table], key: str) -> pa.Table:
    """One row for each query and key: its scores added, its distance and text_score from the ranking that has them."""
    if len(rankings) == 1:
        return rankings[0]
    both = pa.concat_tables(rankings)
    codes = both.column(key).combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    pairs = both.column("query_index").to_numpy().astype(np.int64) * (both.num_rows + 1) + codes
    _, first, place = np.unique(pairs, return_index=True, return_inverse=True)
    score = np.zeros(len(first))
    np.add.at(score, place, both.column("score").to_numpy())
    fused = both.take(pa.array(first))
    for column in ("distance", "text_score"):
        values = np.full(len(first), np.nan, dtype=np.float32)
        there = both.column(column).is_valid().to_numpy()
        values[place[there]] = both.column(column).drop_null().to_numpy()
        known = np.zeros(len(first), dtype=bool)
        known[place[there]] = True
        fused = fused.set_column(fused.schema.get_field_index(column), column, pa.array(values, mask=~known))
    return fused.set_column(fused.schema.get_field_index("score"), "score", pa.array(score))


def _ordered(candidates: pa.Table, key: str, *, by_distance: bool) -> pa.Table:
    best = ("distance", "ascending") if by_distance else ("score", "descending")
    return candidates.take(pc.sort_indices(candidates, [("query_index", "ascending"), best, (key, "ascending")]))
