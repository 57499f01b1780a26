"""The nearest rows of a table that has no index: every row is compared. What is found is what an index would find.

Rows are streamed; those that meet the condition are held from the first search on where they take no more than `held_bytes`.
Beside them stand, for each query, the best rows so far. Queries are taken in groups, of which each reads the rows once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.errors import SchemaMismatch, UnknownName, UsageError, did_you_mean
from lakeflow.index.mask import columns_of, mask
from lakeflow.index.rows import TAKEN_BY_SEARCH
from lakeflow.index.vectors import METRICS, check_k, scores
from lakeflow.index.where import parse

Floats = np.ndarray
Batches = Callable[[Sequence[str]], Iterable[pa.RecordBatch]]
"""The rows of a table with these columns, from the first one on."""

HELD_BYTES = 64 << 20
BEST_ROWS = 100_000
"""Rows that are held as the best so far, for all queries of a group together."""

DISTANCES = 4 << 20
"""Distances that are computed at once."""


@dataclass(frozen=True, slots=True)
class Compared:
    """Rows that meet the condition and have a vector: the asked columns, and the vectors as float32 [rows, width]."""

    rows: pa.RecordBatch
    vectors: Floats

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return int(self.rows.nbytes) + int(self.vectors.nbytes)


class ExactSearch:
    """Searches the vectors in `column` of the rows that `batches` gives, by `metric`. Thread-safe.

    `columns`, of which there is one at the least, come with each hit. `name` is the table's, for messages; `where` is a
    condition as of a search of an index. Raises UsageError for a metric or a condition that is none, UnknownName for a column
    that is not there, SchemaMismatch where `column` holds no vectors.
    """

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        column: str,
        metric: str,
        batches: Batches,
        *,
        columns: Sequence[str],
        where: str | None = None,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        if metric not in METRICS:
            raise UsageError(f"the metric of a search of {name} is {metric!r}{did_you_mean(metric, METRICS)}")
        for each in (column, *columns):
            if each not in schema.names:
                raise UnknownName(f"column of {name}", each, schema.names)
        clash = sorted(TAKEN_BY_SEARCH.intersection(columns))
        if clash:
            raise UsageError(f"a search has its own column {clash[0]!r}, and {name} has one too: name the columns to return")
        _require_vectors(schema.field(column), name)
        self.name, self.column, self.metric = name, column, metric
        self._schema = pa.schema([schema.field(each).with_metadata(None) for each in columns])
        self._condition = None if where is None else parse(where, schema, schema.names, name)
        looked_at = () if self._condition is None else columns_of(self._condition)
        self._read = list(dict.fromkeys([column, *columns, *looked_at]))
        self._batches, self._held_bytes = batches, held_bytes
        self._held: list[Compared] | None = None
        self._lock = threading.Lock()

    def search(self, queries: Floats, k: int) -> pa.Table:
        """The `k` nearest rows to each of `queries`, float32 [queries, width], as `VectorIndex.search` gives them.

        Of rows that are equally near, the one that is read first comes first. Raises UsageError for a `k` out of 1..10,000 and
        for a query with a NaN, an infinity or (cosine) all zeros, SchemaMismatch for a vector of another width than the query.
        """
        check_k(k)
        self._check_queries(queries)
        group = max(1, BEST_ROWS // k)
        parts = [self._search(queries[start : start + group], k, start) for start in range(0, len(queries), group)]
        return pa.concat_tables(parts) if parts else self._result(Best(self._schema, 0, k), 0)

    def _search(self, queries: Floats, k: int, first: int) -> pa.Table:
        best = Best(self._schema, len(queries), k)
        wide = queries.astype(np.float64)
        for some in self._compared(queries.shape[1]):
            rows = max(1, DISTANCES // len(queries))
            for start in range(0, len(some.vectors), rows):
                piece = some.vectors[start : start + rows]
                best.meet(some.rows.slice(start, rows), distances(wide, piece, self.metric))
        return self._result(best, first)

    def _result(self, best: Best, first: int) -> pa.Table:
        rows, queries, found = best.found()
        near = np.asarray(found, dtype=np.float32)
        arrays = [pa.chunked_array([pa.array(queries + first, pa.int32())]), *rows.columns]
        arrays += [pa.chunked_array([pa.array(near)]), pa.chunked_array([pa.array(scores(near, self.metric))])]
        return pa.Table.from_arrays(arrays, names=["query_index", *rows.column_names, "distance", "score"])

    def _compared(self, width: int) -> Iterator[Compared]:
        """The rows to compare with, out of memory where they are held."""
        with self._lock:
            collected = self._collected(width) if self._held is None else self._held
        if collected is not None:
            self._check_width(collected, width)
            return iter(collected)
        return self._streamed(width)

    def _collected(self, width: int) -> list[Compared] | None:
        """All rows, where they take no more than may be held; that they do not is found out once."""
        if self._held_bytes <= 0:
            return None
        collected: list[Compared] = []
        size = 0
        for some in self._streamed(width):
            collected.append(some)
            size += some.nbytes
            if size > self._held_bytes:
                self._held_bytes = 0
                return None
        self._held = collected
        return collected

    def _streamed(self, width: int) -> Iterator[Compared]:
        for batch in self._batches(self._read):
            kept = batch if self._condition is None else batch.filter(mask(self._condition, batch))
            vectors, present = self._vectors(kept.column(self.column), width)
            yield Compared(kept.select(self._schema.names).filter(pa.array(present)), vectors)

    def _vectors(self, column: pa.Array, width: int) -> tuple[Floats, Floats]:
        """The vectors as float32 [present, width], and which rows have one."""
        present = np.asarray(column.is_valid())
        lists = column.drop_null()
        values = lists.flatten()
        lengths: Floats = np.asarray(pc.list_value_length(lists)) if len(lists) else np.zeros(0, dtype=np.int32)
        if (lengths != width).any():
            found = int(lengths[lengths != width][0])
            raise SchemaMismatch(f"column {self.column!r} of {self.name} has a vector of {found} elements, the query {width}")
        vectors = values.cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False).reshape(-1, width)
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", vectors, vectors)
        if values.null_count or not np.isfinite(squares).all():
            raise SchemaMismatch(
                f"column {self.column!r} of {self.name} has a vector with a null, a NaN, an infinity or a length out of a "
                "32-bit float's range",
                next_step="mend the row, or leave it out by 'filter' in CONFIG",
            )
        if self.metric != "cosine":
            return vectors, present
        directed = squares > 0
        present = present.copy()
        present[present] = directed
        return vectors[directed], present

    def _check_queries(self, queries: Floats) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("ij,ij->i", queries, queries)
        if not np.isfinite(squares).all():
            raise UsageError(f"a query of the search of {self.name} has a NaN or an infinity in it")
        if self.metric == "cosine" and not (squares > 0).all():
            raise UsageError(f"a query of the search of {self.name} is all zeros, which has no direction under cosine")

    def _check_width(self, held: Sequence[Compared], width: int) -> None:
        for some in held:
            if len(some.vectors) and some.vectors.shape[1] != width:
                there = some.vectors.shape[1]
                raise SchemaMismatch(
                    f"column {self.column!r} of {self.name} has a vector of {there} elements, the query {width}"
                )


class Best:
    """The `k` nearest rows to each query among those that were met."""

    def __init__(self, schema: pa.Schema, queries: int, k: int) -> None:
        self._k = k
        self._near = [np.zeros(0)] * queries
        self._ids = [np.zeros(0, dtype=np.int64)] * queries
        self._rows = pa.Table.from_batches([], schema)
        self._row_ids = np.zeros(0, dtype=np.int64)
        self._met = 0

    def meet(self, rows: pa.RecordBatch, near: Floats) -> None:
        """Rows, and the distance of each to each query [queries, rows]."""
        changed = [self._meet_one(query, found) for query, found in enumerate(near)]
        if any(changed):
            self._keep(rows)
        self._met += rows.num_rows

    def _keep(self, rows: pa.RecordBatch) -> None:
        """Hold the rows that are among the best now, and no others."""
        kept = np.unique(np.concatenate(self._ids))
        old = kept[kept < self._met]
        new = kept[kept >= self._met] - self._met
        before = self._rows.take(pa.array(np.searchsorted(self._row_ids, old)))
        added = pa.Table.from_batches([rows.take(pa.array(new))])
        self._rows = pa.concat_tables([before, added]).combine_chunks()
        self._row_ids = kept

    def _meet_one(self, query: int, found: Floats) -> bool:
        """Whether any of the rows is among the best of the query."""
        best, ids = self._near[query], self._ids[query]
        if len(best) == self._k:
            places = np.flatnonzero(found < best[-1])
        elif len(found) > self._k:
            places = np.flatnonzero(found <= np.partition(found, self._k - 1)[self._k - 1])
        else:
            places = np.arange(len(found))
        if not len(places):
            return False
        both = np.concatenate([best, found[places]])
        order = np.argsort(both, kind="stable")[: self._k]
        self._near[query] = both[order]
        self._ids[query] = np.concatenate([ids, places + self._met])[order]
        return True

    def found(self) -> tuple[pa.Table, Floats, Floats]:
        """The rows, the query that each is for and its distance: by query, the nearest first."""
        ids = np.concatenate([*self._ids, np.zeros(0, dtype=np.int64)])
        queries = np.repeat(np.arange(len(self._ids)), [len(one) for one in self._ids])
        places = pa.array(np.searchsorted(self._row_ids, ids))
        return self._rows.take(places), queries, np.concatenate([*self._near, np.zeros(0)])


def distances(queries: Floats, vectors: Floats, metric: str) -> Floats:
    """The distance of each query, float64 [queries, width], to each vector [rows, width], as `VectorIndex.search` has it."""
    rows = vectors.astype(np.float64)
    products = queries @ rows.T
    if metric == "dot":
        return np.asarray(1.0 - products)
    left, right = (np.einsum("ij,ij->i", each, each) for each in (queries, rows))
    if metric == "cosine":
        return np.asarray(1.0 - products / np.sqrt(np.outer(left, right)))
    return np.asarray(np.maximum(left[:, None] + right[None, :] - 2.0 * products, 0.0))


def _require_vectors(field: pa.Field, name: str) -> None:
    kind = field.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise SchemaMismatch(f"column {field.name!r} of {name} is {kind}; a search needs a list of FLOAT or DOUBLE")
