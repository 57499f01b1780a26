"""VECTOR_SEARCH while a query runs: in the index over the column where there is one, else by comparing every row.

Both give the same columns in the same order and score alike: higher is nearer (`lakeflow.index.vectors.scores`). A NULL query
has no hits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from lakeflow.declare import IndexSpec
from lakeflow.errors import SchemaMismatch, UnknownName, UsageError, did_you_mean
from lakeflow.index.exact import ExactSearch
from lakeflow.index.vectors import METRICS, check_k
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.runner.indexing import IndexRoom, embedded, query_model
from lakeflow.sql.compiled import Function, SearchCall

DEFAULT_METRIC: Final = "cosine"
DISTANCES: Final[Mapping[str, str]] = {"cosine": "cosine", "l2": "l2", "euclidean": "l2", "dot": "dot", "dot_product": "dot"}
"""What may be said of the metric, and which it is."""

MODES: Final = ("vector", "fts", "hybrid")
SETTINGS: Final = ("mode", "filter", "exact", "output_columns", "metric", "distance")
FLINKS: Final[Mapping[str, str]] = {
    "async": "true|false",
    "output_mode": "ordered|allow_unordered",
    "max_concurrent_operations": "[1-9][0-9]{0,8}",
}
"""Flink's settings that hold of a search in this process whatever they say, and what they may say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What CONFIG says of a search."""

    where: str | None = None
    exact: bool = False
    metric: str | None = None


Vectors = Callable[[np.ndarray], pa.Table]
"""Queries [queries, width] to what `VectorIndex.search` gives."""

Texts = Callable[[Sequence[str]], pa.Array]
"""Texts to vectors."""


def search_function(call: SearchCall, room: IndexRoom, indexes: Iterable[IndexSpec]) -> Function:
    """What stands behind a call. The index, or the snapshot of the table, is the same for all rows of the query.

    Raises UnknownName and UsageError for a setting that is none, a metric that is not the index's, columns that it does not
    keep, and a query of text where no model makes a vector of it; what `IndexRoom.open` and `query_model` raise.
    """
    check_k(call.k)
    asked = read_config(call)
    spec = index_over(call.table, call.column, indexes)
    text = pa.types.is_string(call.query) or pa.types.is_large_string(call.query)
    if spec is None:
        if text:
            raise UsageError(
                f"VECTOR_SEARCH over {call.table}: the query is text, and no index over {call.column!r} names a model for it",
                next_step="make the vector by ML_EMBED(MODEL m, text), or declare an index with 'model'",
            )
        nearest, embed = _by_rows(call, asked, room), None
    else:
        nearest = _by_index(call, asked, spec, room)
        embed = _embedding(spec, room) if text else None
    parameter = call.query if text else pa.list_(pa.float32())
    return Function(call.function, (parameter,), call.result, _Searching(call, nearest, embed))


def index_over(table: str, column: str, indexes: Iterable[IndexSpec]) -> IndexSpec | None:
    """The index over a column; of several the first by name."""
    found = sorted((one for one in indexes if (one.table, one.column) == (table, column)), key=lambda one: one.name)
    return found[0] if found else None


def read_config(call: SearchCall) -> Asked:
    """The settings of a call. Raises UnknownName and UsageError."""
    config = {name.lower().replace("-", "_"): value for name, value in call.config.items()}
    for name, value in config.items():
        if name in FLINKS and not re.fullmatch(FLINKS[name], value.lower()):
            raise UsageError(f"VECTOR_SEARCH over {call.table}: {name} is {value!r}; valid: {FLINKS[name].replace('|', ', ')}")
        if name == "timeout":
            raise UsageError(
                f"VECTOR_SEARCH over {call.table}: 'timeout' is about a search in a service; this one runs in this process",
                next_step="leave that setting out",
            )
        if name not in (*SETTINGS, *FLINKS):
            raise UnknownName(f"setting in CONFIG of VECTOR_SEARCH over {call.table}", name, SETTINGS)
    mode = config.get("mode", MODES[0]).lower()
    if mode not in MODES:
        raise UsageError(f"VECTOR_SEARCH over {call.table}: mode is {mode!r}{did_you_mean(mode, MODES)}")
    if mode != MODES[0]:
        raise UsageError(
            f"VECTOR_SEARCH over {call.table}: mode {mode!r} needs an index of words, and an index holds vectors alone; "
            f"valid: {MODES[0]}"
        )
    exact = config.get("exact", "false").lower()
    if exact not in ("true", "false"):
        raise UsageError(f"VECTOR_SEARCH over {call.table}: exact is {exact!r}; valid: true, false")
    return Asked(config.get("filter"), exact == "true", _metric(call.table, config))


def _metric(table: str, config: Mapping[str, str]) -> str | None:
    said = [config[name] for name in ("metric", "distance") if name in config]
    if len(said) > 1:
        raise UsageError(f"VECTOR_SEARCH over {table}: 'metric' and 'distance' say the same; give one of them")
    if not said:
        return None
    metric = DISTANCES.get(re.sub(r"[\s-]+", "_", said[0].strip().lower()))
    if metric is None:
        raise UsageError(f"VECTOR_SEARCH over {table}: the distance is {said[0]!r}{did_you_mean(said[0].lower(), DISTANCES)}")
    return metric


def _by_rows(call: SearchCall, asked: Asked, room: IndexRoom) -> Vectors:
    """Every row of the table as of now is compared."""
    table = room.lake.table(call.table)
    splits = splits_at(table, snapshot_at(table))
    search = ExactSearch(
        call.table,
        arrow_schema(table).remove_metadata(),
        call.column,
        asked.metric or DEFAULT_METRIC,
        lambda columns: read(table, splits, columns),
        columns=call.columns.names or [call.column],
        where=asked.where,
    )
    return lambda queries: search.search(queries, call.k)


def _by_index(call: SearchCall, asked: Asked, spec: IndexSpec, room: IndexRoom) -> Vectors:
    if asked.metric not in (None, spec.metric):
        raise UsageError(
            f"VECTOR_SEARCH over {call.table}: the distance is {asked.metric!r}, and index {spec.name!r} has {spec.metric!r}; "
            f"valid: {', '.join(METRICS)}, each by an index of its own"
        )
    _require_kept(call, spec)
    index = room.open(spec)
    index.state()
    names = call.columns.names
    return lambda queries: index.search(queries, call.k, where=asked.where, columns=names, exact=asked.exact)


def _require_kept(call: SearchCall, spec: IndexSpec) -> None:
    """Raises UsageError where the index keeps columns of its own choice, and a hit is to have others."""
    kept = {spec.key, spec.column, *spec.columns}
    missing = [name for name in call.columns.names if spec.columns and name not in kept]
    if missing:
        raise UsageError(
            f"VECTOR_SEARCH over {call.table}: index {spec.name!r} keeps {', '.join(sorted(kept))}, and a hit is to have "
            f"{', '.join(missing)} too",
            next_step="name the columns by MAP['output_columns', 'a,b'], or keep them: 'columns' of the index, then "
            f"lakeflow index build {spec.name}",
        )


def _embedding(spec: IndexSpec, room: IndexRoom) -> Texts:
    model = query_model(spec, room, room.open(spec).state())
    return lambda texts: embedded(model, texts)


@dataclass(frozen=True, slots=True)
class _Searching:
    """A call, asked for the hits of some rows' queries."""

    call: SearchCall
    nearest: Vectors
    embed: Texts | None

    def __call__(self, given: pa.RecordBatch) -> pa.Array:
        queries = given.column(0)
        present = np.asarray(queries.is_valid())
        if self.embed is not None:
            vectors = self.embed(queries.drop_null().to_pylist())
            answered = np.asarray(vectors.is_valid())
            present = present.copy()
            present[present] = answered
        else:
            vectors = queries
        matrix = self._matrix(vectors.drop_null())
        if not len(matrix):
            return hits(self.call, None, np.zeros(len(queries), dtype=np.int64))
        found = self.nearest(matrix)
        counts = np.zeros(len(queries), dtype=np.int64)
        counts[present] = np.bincount(found.column("query_index").to_numpy(), minlength=len(matrix))
        return hits(self.call, found, counts)

    def _matrix(self, vectors: pa.Array) -> np.ndarray:
        """The queries as float32 [queries, width]."""
        values = vectors.flatten()
        if not len(vectors):
            return np.zeros((0, 0), dtype=np.float32)
        if values.null_count or len(values) % len(vectors):
            raise UsageError(f"VECTOR_SEARCH over {self.call.table}: queries need vectors of one width, without a NULL in them")
        width = len(values) // len(vectors)
        widths = {len(one) for one in vectors} if not pa.types.is_fixed_size_list(vectors.type) else {width}
        if widths != {width} or not width:
            raise UsageError(f"VECTOR_SEARCH over {self.call.table}: the queries have vectors of the widths {sorted(widths)}")
        return np.asarray(values.cast(pa.float32(), safe=False)).reshape(-1, width)


def hits(call: SearchCall, found: pa.Table | None, counts: np.ndarray) -> pa.Array:
    """The rows of a search as a list for each query, of which `counts` says how long each is."""
    structs = call.result.value_type
    if found is None:
        inside = pa.array([], structs)
    else:
        columns = [_fitted(found.column(field.name).combine_chunks(), field, call) for field in structs]
        inside = pa.StructArray.from_arrays(columns, fields=list(structs))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inside, type=call.result)


def _fitted(column: pa.Array, field: pa.Field, call: SearchCall) -> pa.Array:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SchemaMismatch(
            f"VECTOR_SEARCH over {call.table}: {field.name!r} comes as {column.type}, the table has {field.type}: {error}"
        ) from error
