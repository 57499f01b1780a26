"""VECTOR_SEARCH while a query runs: in the index over the column where there is one, else by comparing every row.

By vectors both give the same columns in the same order and score alike: higher is nearer (`lakeflow.index.vectors.scores`).
Words are looked for in an index alone. The query is a vector, or a text: of that the index's model makes the vector, and its
words are looked for. Beside a vector the words come from CONFIG, 'text'. A NULL query has no hits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakeflow.declare import INDEX_SNAPSHOT, IndexSpec
from lakeflow.errors import SchemaMismatch, UnknownName, UsageError, did_you_mean
from lakeflow.index.exact import ExactSearch
from lakeflow.index.query import Mode, Query
from lakeflow.index.vectors import METRICS
from lakeflow.lake.catalog import arrow_schema
from lakeflow.lake.read import read, snapshot_at, splits_at
from lakeflow.runner.indexing import IndexRoom
from lakeflow.runner.searching import matrix, open_search
from lakeflow.runner.uses import index_over
from lakeflow.sql.compiled import Function, SearchCall

DEFAULT_METRIC: Final = "cosine"
DISTANCES: Final[Mapping[str, str]] = {"cosine": "cosine", "l2": "l2", "euclidean": "l2", "dot": "dot", "dot_product": "dot"}
"""What may be said of the metric, and which it is."""

SETTINGS: Final = (
    *("mode", "filter", "exact", "output_columns", "metric", "distance", "max_distance", "probes", "refine", "text"),
    *("candidates", "mmr", "rerank", "snapshot_id"),
)
OF_AN_INDEX: Final = ("probes", "refine", "candidates", "mmr", "rerank", "text")
"""Settings that mean nothing where every row is compared."""

FLINKS: Final[Mapping[str, str]] = {
    "async": "true|false",
    "output_mode": "ordered|allow_unordered",
    "max_concurrent_operations": "[1-9][0-9]{0,8}",
}
"""Flink's settings that hold of a search in this process whatever they say, and what they may say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What CONFIG says of a search: `text` stands for the words of queries that are vectors, `rerank` names a model."""

    query: Query
    metric: str | None = None
    text: str | None = None
    rerank: str | None = None
    named: frozenset[str] = frozenset()


Search = Callable[[pa.Array], pa.Table]
"""Queries, as they are given, to their hits with query_index, the asked columns, distance, text_score and score."""


def search_function(call: SearchCall, room: IndexRoom, indexes: Iterable[IndexSpec]) -> Function:
    """What stands behind a call. The index, or the snapshot of the table, is the same for all rows of the query.

    Raises UnknownName and UsageError for a setting that is none, a metric that is not the index's, columns that it does not
    keep, and a query of text where no model makes a vector of it; what `open_search` raises.
    """
    asked = read_config(call)
    spec = index_over(call.table, call.column, indexes)
    text = pa.types.is_string(call.query) or pa.types.is_large_string(call.query)
    if spec is None:
        _require_vectors_alone(call, asked, text=text)
        search = _by_rows(call, asked, room)
    else:
        search = _by_index(call, asked, spec, room, text=text)
    return Function(call.function, (call.query if text else pa.list_(pa.float32()),), call.result, _Searching(call, search))


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
    what = f"VECTOR_SEARCH over {call.table}"
    exact = config.get("exact", "false").lower()
    if exact not in ("true", "false"):
        raise UsageError(f"{what}: exact is {exact!r}; valid: true, false")
    if config.get("mode", "vector").lower() not in list(Mode):
        raise UsageError(
            f"{what}: mode is {config['mode']!r}{did_you_mean(config['mode'].lower(), [str(one) for one in Mode])}"
        )
    query = Query(
        call.k,
        Mode(config.get("mode", "vector").lower()),
        config.get("filter"),
        (*call.columns.names, *(name for name in call.measured if name == INDEX_SNAPSHOT)),
        exact == "true",
        _number(what, config, "max_distance"),
        _whole(what, config, "probes"),
        _whole(what, config, "refine"),
        _whole(what, config, "candidates"),
        _number(what, config, "mmr"),
        _snapshot(what, config),
    )
    return Asked(query, _metric(call.table, config), config.get("text"), config.get("rerank"), frozenset(config))


def _whole(what: str, config: Mapping[str, str], name: str) -> int | None:
    said = config.get(name)
    if said is not None and not re.fullmatch(r"[0-9]{1,9}", said.strip()):
        raise UsageError(f"{what}: {name} is {said!r}; valid: a whole number")
    return None if said is None else int(said)


def _snapshot(what: str, config: Mapping[str, str]) -> int | None:
    said = config.get("snapshot_id")
    if said is not None and not re.fullmatch(r"[0-9]{1,19}", said.strip()):
        raise UsageError(f"{what}: snapshot_id is {said!r}; valid: the id of a snapshot of the table")
    return None if said is None else int(said)


def _number(what: str, config: Mapping[str, str], name: str) -> float | None:
    said = config.get(name)
    if said is not None and not re.fullmatch(r"-?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?", said.strip()):
        raise UsageError(f"{what}: {name} is {said!r}; valid: a number")
    return None if said is None else float(said)


def _require_vectors_alone(call: SearchCall, asked: Asked, *, text: bool) -> None:
    """Raises UsageError where a search of a table without an index asks for what only one can do."""
    what, declare = f"VECTOR_SEARCH over {call.table}", f"CREATE VECTOR INDEX .. ON {call.table} ({call.column}) WITH"
    if asked.query.mode is not Mode.VECTOR:
        raise UsageError(
            f"{what}: mode {str(asked.query.mode)!r} looks words up in an index, and there is none over {call.column!r}; "
            "valid without one: vector",
            next_step=f"declare in tables/: {declare} ('key' = '..', 'text_columns' = '..'), then: lakeflow index update",
        )
    if text:
        raise UsageError(
            f"{what}: the query is text, and no index over {call.column!r} names a model for it",
            next_step="make the vector by ML_EMBED(MODEL m, text), or declare an index with 'model'",
        )
    useless = sorted(asked.named.intersection(OF_AN_INDEX))
    if useless:
        raise UsageError(
            f"{what}: {useless[0]!r} is about an index, and there is none over {call.column!r}: every row is compared",
            next_step=f"leave that setting out, or declare in tables/: {declare} ('key' = '..')",
        )


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


def _by_rows(call: SearchCall, asked: Asked, room: IndexRoom) -> Search:
    """Every row of the table as of now is compared, or as of the snapshot that CONFIG names."""
    table = room.lake.table(call.table)
    head = snapshot_at(table, snapshot_id=asked.query.snapshot_id)
    splits = splits_at(table, head)
    search = ExactSearch(
        call.table,
        arrow_schema(table).remove_metadata(),
        call.column,
        asked.metric or DEFAULT_METRIC,
        lambda columns: read(table, splits, columns),
        columns=call.columns.names or [call.column],
        where=asked.query.where,
    )

    def find(queries: pa.Array) -> pa.Table:
        vectors = matrix(queries.drop_null(), 0, f"VECTOR_SEARCH over {call.table}")
        found = search.search(vectors, call.k)
        if asked.query.max_distance is not None:
            found = found.filter(pc.less_equal(found.column("distance"), pa.scalar(asked.query.max_distance, pa.float64())))
        places = np.flatnonzero(np.asarray(queries.is_valid()))[found.column("query_index").to_numpy()]
        found = found.append_column("text_score", pa.nulls(found.num_rows, pa.float32()))
        if INDEX_SNAPSHOT in call.measured:
            snapshot = pa.array([head.snapshot_id if head else None] * found.num_rows, pa.int64())
            found = found.append_column(INDEX_SNAPSHOT, snapshot)
        return found.set_column(0, "query_index", pa.array(places, pa.int32()))

    return find


def _by_index(call: SearchCall, asked: Asked, spec: IndexSpec, room: IndexRoom, *, text: bool) -> Search:
    what = f"VECTOR_SEARCH over {call.table}"
    if asked.metric not in (None, spec.metric):
        raise UsageError(
            f"{what}: the distance is {asked.metric!r}, and index {spec.name!r} has {spec.metric!r}; "
            f"valid: {', '.join(METRICS)}, each by an index of its own"
        )
    _require_kept(call, spec)
    mode = asked.query.mode
    if text and asked.text is not None:
        raise UsageError(
            f"{what}: the query is a text, and 'text' gives another; valid: 'text' beside queries that are vectors"
        )
    if not text and mode is Mode.FTS:
        raise UsageError(f"{what}: mode 'fts' looks for words, and the query is a vector; valid: a text as the query")
    if not text and asked.text is None and (mode is Mode.HYBRID or asked.rerank):
        raise UsageError(
            f"{what}: {'mode hybrid' if mode is Mode.HYBRID else 'rerank'} needs words, and the query is a vector",
            next_step="give a text as the query, of which the index's model makes the vector, or add 'text', '..' to CONFIG",
        )
    searcher = open_search(spec, room, asked.query, by_text=text, rerank=asked.rerank)

    def find(queries: pa.Array) -> pa.Table:
        if text:
            return searcher.search(queries.to_pylist())
        return searcher.search(None if asked.text is None else [asked.text] * len(queries), queries)

    return find


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


@dataclass(frozen=True, slots=True)
class _Searching:
    """A call, asked for the hits of some rows' queries."""

    call: SearchCall
    search: Search

    def __call__(self, given: pa.RecordBatch) -> pa.Array:
        queries = given.column(0)
        if queries.null_count == len(queries):
            return hits(self.call, None, np.zeros(len(queries), dtype=np.int64))
        found = self.search(queries)
        return hits(self.call, found, np.bincount(found.column("query_index").to_numpy(), minlength=len(queries)))


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
